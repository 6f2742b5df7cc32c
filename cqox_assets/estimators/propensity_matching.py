"""Matching on the propensity score (nearest, optimal, kernel) or on covariates (Mahalanobis)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.diagnostics.overlap import overlap_share
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.abadie_imbens import LocalDeviation, MatchedSample, equal_noise, estimated_score_term
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.matching import (
    Matches,
    first_of_ties,
    kernel_scores,
    nearest_points,
    nearest_scores,
    whiten,
)
from cqox_assets.numerics.pairing import greedy_pairs, optimal_pairs
from cqox_assets.numerics.propensity import PropensityScores, propensity_scores, within_trim
from cqox_assets.numerics.sample import check_arms
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_LISTED_PAIRS = 200_000


@dataclass(frozen=True)
class PropensityMatchingParams(CommonParams):
    """Parameters of the matching.

    Parameters
    ----------
    method : str
        `nearest` and `optimal` match on the logit of the propensity, `mahalanobis` on the covariates within the
        caliper of the score, `kernel` weighs all units within `bandwidth` on the score.
    ratio : int
        Matches per unit, at least 1.
    caliper : float, optional
        Largest distance on the logit score, in its standard deviations; None allows any. Not used by `kernel`.
    replacement : bool
        Whether a unit may be matched more than once; `optimal` never does.
    ties : str
        `average` over all units as close as the last match, or `first_in_file`.
    tie_tolerance : float
        Distances that differ by no more are tied, in units of the distance.
    order : str
        Who chooses first without replacement: `descending_score`, `ascending_score` or `file`.
    bias_adjustment : bool
        Correct matches for covariate differences by regression (Abadie & Imbens 2011).
    standard_error : str
        `abadie_imbens` (accounts for the estimated propensity), `abadie_imbens_known` (takes it as known),
        `abadie_imbens_homoskedastic` (known, one common variance), `paired` (without replacement); `auto` is paired
        without replacement and abadie_imbens otherwise (known for `mahalanobis`, whose distance is not estimated).
    bandwidth : float, optional
        Of the kernel, in standard deviations of the score; None is 2.34 n^(-1/5).
    """

    method: Literal["nearest", "optimal", "mahalanobis", "kernel"] = "nearest"
    ratio: int = 1
    caliper: float | None = 0.1
    replacement: bool = True
    ties: Literal["average", "first_in_file"] = "average"
    tie_tolerance: float = 1e-9
    order: Literal["descending_score", "ascending_score", "file"] = "descending_score"
    bias_adjustment: bool = False
    standard_error: Literal["auto", "abadie_imbens", "abadie_imbens_known", "abadie_imbens_homoskedastic", "paired"] = (
        "auto"
    )
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks = {
            "ratio": (self.ratio >= 1, "at least 1"),
            "caliper": (self.caliper is None or self.caliper > 0, "positive, or None for no caliper"),
            "tie_tolerance": (self.tie_tolerance >= 0, "at least 0"),
            "bandwidth": (self.bandwidth is None or self.bandwidth > 0, "positive, or None"),
            "replacement": (self.replacement or self.method in ("nearest", "optimal"), f"true for {self.method}"),
            "estimand": (self.reuses or self.estimand != Estimand.ATE, "ATT or ATC without replacement"),
        }
        for name, (holds, wanted) in checks.items():
            if not holds:
                raise CatalogError(f"parameter '{name}' is {getattr(self, name)}; it must be {wanted}")
        if self.standard_error == "paired" and self.reuses:
            raise CatalogError("parameter 'standard_error' is paired, which needs matching without replacement")

    @property
    def reuses(self) -> bool:
        """Whether a unit may stand in for several others."""
        return self.replacement and self.method != "optimal"

    @property
    def variance(self) -> str:
        """The standard error that `auto` stands for."""
        if self.standard_error != "auto":
            return self.standard_error
        if not self.reuses:
            return "paired"
        return "abadie_imbens_known" if self.method == "mahalanobis" else "abadie_imbens"


def run(study: Study, params: PropensityMatchingParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect on the treated (or all, or the controls) by matching.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional known propensity.
    params : PropensityMatchingParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `matches` (row positions and weight), `weights`, `balance`, `propensity`. Refused if nobody finds a
        match, or if a bootstrap is asked for where it is known to fail.

    Notes
    -----
    The mean over matched target units of own minus imputed outcome, treated minus control. The bootstrap is not valid
    for a fixed number of matches with replacement (Abadie & Imbens 2008, doi:10.3982/ECTA6474).

    References
    ----------
    Rosenbaum & Rubin (1983, doi:10.1093/biomet/70.1.41); Abadie & Imbens (2006, doi:10.1111/j.1468-0262.2006.00655.x;
    2011, doi:10.1198/jbes.2009.07333; 2016, doi:10.3982/ECTA11293).
    """
    estimand = SPEC.estimand(params)
    if params.inference != "analytic" and params.reuses and params.method != "kernel":
        return SPEC.refuse(
            "bootstrap_invalid", "the bootstrap is not valid for nearest-neighbour matching with replacement",
            "use inference: analytic (Abadie-Imbens), or method: kernel",
        )  # fmt: skip
    check_arms(study.column(Role.TREATMENT))
    known = study.column(Role.PROPENSITY) if study.has(Role.PROPENSITY) else None
    scores = propensity_scores(study.matrix(), study.column(Role.TREATMENT), None, known)
    kept = within_trim(scores.probability, params.trim)
    part = study if kept.all() else study.take(kept)
    check_arms(part.column(Role.TREATMENT))
    matching = _Matching(part, scores.linear[kept], params)
    sample = matching.sample(estimand)
    if not sample.target.any():
        return SPEC.refuse(
            "no_matches", f"no unit has a match within the caliper of {params.caliper} SD of the score",
            "widen the caliper, or set it to None",
        )  # fmt: skip
    error, notices = _std_error(matching, sample, scores if kept.all() else None, estimand)
    effect = wald(
        sample.estimate, error, estimand=estimand, contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level
    )
    units = pd.DataFrame({"row": np.flatnonzero(kept), "treated": sample.treated.astype(int)})
    units["propensity"] = scores.probability[kept]
    tables, diagnostics = _evidence(part, matching, sample, units, estimand, notices)
    return SPEC.estimate(
        part, [effect], inference=f"{params.variance.replace('_', ' ')} standard error; {scores.words}",
        diagnostics=diagnostics, tables=tables, notices=notices, used=int((sample.target | (sample.load > 0)).sum()),
        dropped={"trimmed": int((~kept).sum())} if params.trim is not None else None,
    )  # fmt: skip


class _Matching:
    """Matches of one study in either direction."""

    def __init__(self, study: Study, score: np.ndarray, params: PropensityMatchingParams) -> None:
        self.params, self.score = params, score
        self.outcome, self.treated = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
        self.covariates = study.matrix()
        self.points = whiten(self.covariates) if params.method == "mahalanobis" else score
        self.rows = {arm: np.flatnonzero(self.treated == arm) for arm in (0, 1)}
        if params.method in ("nearest", "kernel") and params.replacement and params.ties == "average":
            # The order of the file does not matter here, and sorted scores are several times faster to search.
            self.rows = {arm: rows[np.argsort(score[rows], kind="stable")] for arm, rows in self.rows.items()}
        spread = float(score.std(ddof=1))
        self.radius = np.inf if params.caliper is None or spread == 0 else params.caliper * spread
        self.bandwidth = (params.bandwidth or 2.34 * len(score) ** -0.2) * (spread or 1.0)
        self.found: dict[int, Matches] = {}

    def of(self, arm: int) -> Matches:
        """Return the matches of the units of an arm to the other arm's."""
        if arm not in self.found:
            self.found[arm] = self._find(self.score[self.rows[arm]], self.score[self.rows[1 - arm]], arm)
        return self.found[arm]

    def _find(self, source: np.ndarray, target: np.ndarray, arm: int) -> Matches:
        params = self.params
        if params.method == "kernel":
            return kernel_scores(source, target, self.bandwidth)
        if params.method == "optimal":
            return optimal_pairs(source, target, params.ratio, radius=self.radius)
        if params.method == "mahalanobis":
            limit = None if np.isinf(self.radius) else (source, target, self.radius)
            here, there = self.points[self.rows[arm]], self.points[self.rows[1 - arm]]
            return nearest_points(here, there, params.ratio, tolerance=params.tie_tolerance, scores=limit)
        if not params.replacement:
            return greedy_pairs(
                source, target, params.ratio, order=params.order, tolerance=params.tie_tolerance, radius=self.radius
            )
        matches = nearest_scores(source, target, params.ratio, tolerance=params.tie_tolerance, radius=self.radius)
        return matches if params.ties == "average" else first_of_ties(matches, source, target, params.ratio)

    def sample(self, estimand: str) -> MatchedSample:
        """Return the matched sample; differences of units outside the estimand come without their load."""
        n = len(self.outcome)
        difference, load, load2 = np.full(n, np.nan), np.zeros(n), np.zeros(n)
        arms = {Estimand.ATT: (1,), Estimand.ATC: (0,)}.get(Estimand(estimand), (0, 1))
        needed = (0, 1) if self.params.variance == "abadie_imbens" else arms
        for arm in needed:
            rows, others = self.rows[arm], self.rows[1 - arm]
            matches = self.of(arm)
            values = self._adjusted(matches, rows, others) if self.params.bias_adjustment else self.outcome
            sign = 1.0 if arm == 1 else -1.0
            difference[rows] = sign * (values[rows] - matches.impute(values[others]))
            if arm in arms:
                load[others], load2[others] = matches.load()
        target = np.isfinite(difference) & np.isin(self.treated, arms)
        return MatchedSample(self.outcome, self.treated, difference, target, load, load2)

    def _adjusted(self, matches: Matches, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return outcomes less the regression of the matched units' outcomes on the covariates."""
        load = matches.load()[0]
        used = load > 0
        if used.sum() <= self.covariates.shape[1] + 1:
            return self.outcome
        fit = fit_linear(with_constant(self.covariates[others][used]), self.outcome[others][used], load[used])
        return np.asarray(self.outcome - with_constant(self.covariates)[:, fit.kept] @ fit.coef)


def _std_error(
    matching: _Matching, sample: MatchedSample, scores: PropensityScores | None, estimand: str
) -> tuple[float, list[str]]:
    """Return the standard error that the parameters ask for and notices; `scores` only if no row was trimmed."""
    kind = matching.params.variance
    values = sample.difference[sample.target]
    if kind == "paired":
        return (float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0), []
    if kind == "abadie_imbens_homoskedastic":
        imputed, square = (np.full(len(sample.outcome), np.nan) for _ in range(2))
        centre = sample.outcome.mean()
        centred = MatchedSample(
            sample.outcome - centre, sample.treated, sample.difference, sample.target, sample.load, sample.load2
        )
        for arm, matches in matching.found.items():
            others = centred.outcome[matching.rows[1 - arm]]
            imputed[matching.rows[arm]] = matches.impute(others)
            square[matching.rows[arm]] = matches.impute(others**2)
        return float(np.sqrt(centred.variance(equal_noise(centred, imputed, square)))), []
    deviation = LocalDeviation(matching.treated, matching.points, matching.params.tie_tolerance)
    variance = sample.variance(deviation.of(sample.outcome) ** 2)
    if kind == "abadie_imbens_known":
        return float(np.sqrt(variance)), []
    if scores is None:
        return float(np.sqrt(variance)), [
            "The standard error takes the propensity as known, because rows were trimmed."
        ]
    if scores.fit is None:
        return float(np.sqrt(variance)), []
    adjusted = variance + estimated_score_term(sample, scores.fit, deviation, estimand)
    if adjusted <= 0.1 * variance:
        return float(np.sqrt(variance)), [
            "The standard error takes the propensity as known: the correction for its estimation is too large to trust."
        ]
    return float(np.sqrt(adjusted)), []


def _evidence(
    study: Study, matching: _Matching, sample: MatchedSample, units: pd.DataFrame, estimand: str, notices: list[str]
) -> tuple[dict[str, pd.DataFrame], list[Diagnostic]]:
    weight = sample.target + sample.load
    balance = balance_table(study, weight) if _both(weight, sample.treated) else balance_table(study)
    after, worst = worst_difference(balance)
    eligible = {Estimand.ATT: sample.treated == 1, Estimand.ATC: sample.treated == 0}.get(
        Estimand(estimand), sample.treated >= 0
    )
    share, number = sample.target.sum() / eligible.sum(), int(eligible.sum())
    tables = {
        "balance": balance,
        "matches": _pairs(matching, sample, units["row"].to_numpy(), notices),
        "weights": units[["row", "treated"]].assign(weight=weight),
        "propensity": units,
    }
    return tables, [
        SPEC.judge(study, "adjusted_smd", after, worst),
        SPEC.judge(study, "overlap", overlap_share(units["propensity"].to_numpy(), sample.treated)),
        SPEC.judge(study, "matched_share", float(share), f"{int(sample.target.sum())} of {number} units were matched"),
    ]


def _both(weight: np.ndarray, treated: np.ndarray) -> bool:
    return bool(weight[treated == 1].sum() > 0 and weight[treated == 0].sum() > 0)


def _pairs(matching: _Matching, sample: MatchedSample, row: np.ndarray, notices: list[str]) -> pd.DataFrame:
    """Return row positions of pairs of target units; a very long list is cut, which a notice says."""
    parts, listed = [], 0
    for arm, matches in sorted(matching.found.items()):
        if not sample.target[matching.rows[arm]].any():
            continue
        for source, other, weight in matches.chunks():
            rows, others = matching.rows[arm][source], matching.rows[1 - arm][other]
            parts.append(pd.DataFrame({"row": row[rows], "match": row[others], "weight": weight}))
            listed += len(source)
            if listed > _LISTED_PAIRS:
                break
        if listed > _LISTED_PAIRS:
            notices.append(f"The table of matches lists {_LISTED_PAIRS} pairs only.")
            break
    found = pd.concat(parts, ignore_index=True).head(_LISTED_PAIRS)
    return found.sort_values("row", kind="stable", ignore_index=True)


SPEC = EstimatorSpec(
    name="propensity_matching",
    title="Propensity score matching",
    family="matching",
    estimands=(Estimand.ATT, Estimand.ATE, Estimand.ATC),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.PROPENSITY}),
    aliases=("PSM", "psm_nearest_neighbour", "matching"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "propensity_model", "no_interference", "consistency"),
    references=(
        "Rosenbaum & Rubin 1983, doi:10.1093/biomet/70.1.41",
        "Abadie & Imbens 2006, doi:10.1111/j.1468-0262.2006.00655.x",
        "Abadie & Imbens 2011, doi:10.1198/jbes.2009.07333",
        "Abadie & Imbens 2016, doi:10.3982/ECTA11293",
    ),
    diagnostics=("adjusted_smd", "overlap", "matched_share"),
    tables=("balance", "matches", "weights", "propensity"),
    truths=("randomised_trial", "confounded_linear", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("propensity_matching", "propensity_score"),
    applicable=lambda study: (
        (True, "pairs treated units with the controls most like them", 0.5)
        if study.has(Role.COVARIATES)
        else (False, "needs covariates to match on", 0.0)
    ),
    params=PropensityMatchingParams,
    question="How do the treated compare with the untreated who were as likely to be treated?",
    formula=r"\begin{aligned}"
    r"\hat\tau_{\mathrm{ATT}} &= \frac{1}{n_1} \sum_{d_i = 1} \Bigl(y_i - \sum_{j \in M_i} k_{ij} y_j\Bigr),"
    r"\qquad \hat\tau_{\mathrm{ATC}} = \frac{1}{n_0} \sum_{d_i = 0} \Bigl(\sum_{j \in M_i} k_{ij} y_j - y_i\Bigr),"
    r"\qquad \hat\tau_{\mathrm{ATE}} = \frac{n_1 \hat\tau_{\mathrm{ATT}} + n_0 \hat\tau_{\mathrm{ATC}}}{n} \\"
    r"M_i &= \{j : d_j \ne d_i,\ |\ell_j - \ell_i| \ \text{smallest}\},\ k_{ij} = \tfrac{1}{|M_i|}; \qquad"
    r" \text{kernel: } k_{ij} \propto K\bigl(\tfrac{\ell_j - \ell_i}{h}\bigr); \qquad"
    r" \text{bias\_adjustment: } y_j + \hat m(x_i) - \hat m(x_j) \ \text{for}\ y_j"
    r"\end{aligned}",
    reading="Read balance first: adjusted_smd below 0.1 for every covariate, matched_share near one. Units without a "
    "match are left out, so the effect is that of the matched. One neighbour is simple and noisy; matching on "
    "several covariates at once (mahalanobis) needs bias_adjustment.",
    coverage_rows=2000,
    interval_claim="other",
    claim_note="The standard error of one neighbour on an estimated score holds in large samples only (Abadie & Imbens "
    "2016); on 2,000 rows intervals of the ATT cover about 93%, those of the ATE 95%. Matching on one score has no "
    "bias of first order, matching on covariates has.",
    claim_bias=0.15,
    claim_coverage=(0.91, 0.97),
    example=Example(
        data="data/policy_psid/2025-01/lalonde_psid.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
