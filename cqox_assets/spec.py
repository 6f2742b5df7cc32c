"""What a catalogue entry says about itself, the parameters it takes and the context it runs in."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, ContractError, NotDrawnError
from cqox_assets.measures import Diagnostic, Status, judge, limits_for
from cqox_assets.result import (
    Assumption,
    Effect,
    EffectEstimate,
    Failure,
    Findings,
    Nuisance,
    Outcome,
    Refusal,
    Sample,
    SensitivityResult,
)
from cqox_assets.study import Role, Study, TreatmentKind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CommonParams:
    """Parameters that every estimator has; an entry's own parameters extend it.

    Parameters
    ----------
    level : float
        Confidence level of intervals, between 0 and 1.
    inference : str
        `analytic` (the estimator's own), `bootstrap` (rows) or `cluster_bootstrap` (clusters).
    draws : int
        Bootstrap draws.
    seed : int
        Seed of everything random.
    folds : int
        Cross-fitting folds.
    repeats : int
        Repetitions of cross-fitting with different folds; the median is reported.
    nuisance : str
        Learner of propensity and outcome models.
    estimand : str, optional
        One of the entry's estimands; its first one by default.
    trim : float, optional
        Rows with a propensity below `trim` or above 1 - `trim` are left out; None leaves all in.
    """

    level: float = 0.95
    inference: Literal["analytic", "bootstrap", "cluster_bootstrap"] = "analytic"
    draws: int = 2000
    seed: int = 0
    folds: int = 5
    repeats: int = 1
    nuisance: Literal["stack", "linear", "spline", "boosting", "random_forest"] = "stack"
    estimand: str | None = None
    trim: float | None = None

    def __post_init__(self) -> None:
        checks = {
            "level": (0 < self.level < 1, "between 0 and 1"),
            "draws": (self.draws >= 2, "at least 2"),
            "folds": (self.folds >= 2, "at least 2"),
            "repeats": (self.repeats >= 1, "at least 1"),
            "trim": (self.trim is None or 0 <= self.trim < 0.5, "between 0 and 0.5"),
        }
        for name, (holds, wanted) in checks.items():
            if not holds:
                raise CatalogError(f"parameter '{name}' is {getattr(self, name)}; it must be {wanted}")
        for item in fields(self):
            allowed = getattr(item.type, "__args__", ()) if getattr(item.type, "__origin__", None) is Literal else ()
            if allowed and getattr(self, item.name) not in allowed:
                listed = ", ".join(map(str, allowed))
                raise CatalogError(f"parameter '{item.name}' is {getattr(self, item.name)!r}; allowed are {listed}")


def build_params(kind: type[CommonParams], values: Mapping[str, Any]) -> CommonParams:
    """Build parameters from keywords.

    Raises
    ------
    CatalogError
        If a keyword is not a parameter of the entry or a value is out of range.
    """
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise CatalogError(f"parameter '{unknown[0]}' is not known; known are {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise CatalogError(f"a parameter has a value of the wrong type: {error}") from error


class Fits(Protocol):
    """Nuisance predictions that are fitted once for equal data; `nuisance.models.Fits` keeps them."""

    def predicted(self, data: Any, fold: np.ndarray, learner: str, seed: int) -> pd.DataFrame:
        """Return cross-fitted predictions of the rows of `data` in their folds."""


@dataclass
class Context:
    """What an entry may use besides its study: shared nuisances, other entries and a time budget.

    Parameters
    ----------
    nuisance : mapping of str to DataFrame, or Nuisance, optional
        Shared cross-fitted predictions of this very study.
    runner : callable, optional
        Runs another estimator: name, study, parameter values -> outcome.
    budget_seconds : float, optional
        How much the entry may compute, in CPU seconds, so that what it does in them does not depend on what else the
        machine is doing; `left()` says what remains.
    arm : str
        Compared arm of the contrast that is being estimated; the key into shared nuisances.
    catalogue : callable, optional
        Every entry by name, those that suit a study best first: study -> mapping of str to EstimatorSpec.
    fits : Fits, optional
        Nuisance predictions of changed data that several estimators and questions share.
    """

    nuisance: Nuisance | None = None
    runner: "Callable[[str, Study, Mapping[str, Any]], Outcome] | None" = None
    budget_seconds: float | None = None
    arm: str | None = None
    catalogue: "Callable[[Study], Mapping[str, EstimatorSpec]] | None" = None
    fits: Fits | None = None
    started: float = field(default_factory=time.process_time)

    @classmethod
    def fresh(cls) -> "Context":
        """Return a context with nothing shared."""
        return cls()

    def left(self) -> float:
        """Seconds that remain of the budget; infinite without one."""
        if self.budget_seconds is None:
            return float("inf")
        return self.budget_seconds - (time.process_time() - self.started)

    def compared(self, study: Study) -> str:
        """Return the compared arm: that of the contrast that is estimated, else the study's first one."""
        return self.arm if self.arm is not None else (study.arms[1] if len(study.arms) > 1 else "")

    def shared(self, study: Study, params: CommonParams) -> pd.DataFrame | None:
        """Return the shared predictions for this contrast if they are what `params` asks for, else None."""
        held = self.nuisance
        if held is None or params.repeats != 1:
            return None
        if (held.learner, held.seed, held.folds) != (params.nuisance, params.seed, params.folds):
            return None
        frame = held.predictions.get(self.compared(study))
        return frame if frame is not None and len(frame) == len(study) else None


Run = Callable[[Study, Any, Context], EffectEstimate | Refusal]


class Replicates(Protocol):
    """An estimate that resampling weights recompute without running the estimator again.

    Weights multiply the sampling weights of the study's rows; `estimate` is the point on the rows as they are. What is
    drawn are groups of rows, given as codes 0..G-1, shape (n,).
    """

    estimate: float

    def influence(self, group: np.ndarray) -> np.ndarray:
        """Return the summed influence of each group on the estimate, shape (G,), in units of the estimate."""

    def draws(self, weights: np.ndarray, group: np.ndarray, *, errors: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return estimate and standard error for weights (B, G), shape (B,) each, NaN where it cannot be estimated.

        Without `errors` the standard errors are NaN.
        """


ASSUMPTIONS: Mapping[str, Assumption] = {
    item.name: item
    for item in (
        Assumption("random_assignment", "Treatment was assigned at random.", True, ("raw_smd", "assignment_p")),
        Assumption("no_interference", "One unit's treatment does not change another unit's outcome."),
        Assumption("unconfoundedness", "Given the covariates, treatment is as good as random."),
        Assumption("positivity", "Every unit could have had either treatment.", True, ("overlap",)),
        Assumption(
            "dose_positivity",
            "Every unit could have had every dose of the curve.",
            True,
            ("dose_overlap", "rows_near_dose", "dose_balance"),
        ),
        Assumption("smooth_curve", "The mean outcome changes smoothly with the dose."),
        Assumption(
            "propensity_model", "The propensity model balances the covariates.", True, ("adjusted_smd", "weight_range")
        ),
        Assumption(
            "outcome_model", "The outcome model is right on average over the target units.", True, ("specification_p",)
        ),
        Assumption(
            "linearity",
            "Outcome depends linearly on treatment and covariates, with one common effect.",
            True,
            ("specification_p",),
        ),
        Assumption(
            "common_effect", "The effect is the same for all units; else a variance-weighted average is estimated."
        ),
        Assumption("consistency", "The treatment is well defined: what was observed is what would be given."),
        Assumption("instrument_relevance", "The instruments move the treatment.", True, ("first_stage_f",)),
        Assumption("instrument_independence", "Given the covariates, the instruments are as good as random.", False),
        Assumption(
            "exclusion",
            "The instruments reach the outcome only through the treatment; with several, they can be compared.",
            True,
            ("overidentification_p",),
        ),
        Assumption(
            "continuity",
            "Without treatment the mean outcome would be continuous in the running variable at the cutoff.",
            True,
            ("covariate_continuity_p",),
        ),
        Assumption("no_manipulation", "Units cannot choose their side of the cutoff.", True, ("density_p",)),
        Assumption("monotonicity", "No unit takes less of the treatment because an instrument speaks for more of it."),
        Assumption(
            "parallel_trends",
            "Without treatment the treated would have changed as the untreated did.",
            True,
            ("pretrend_p",),
        ),
        Assumption(
            "shared_history",
            "Units with the same history of treatment and covariates, treated or not, would have changed alike.",
            True,
            ("matched_share", "adjusted_smd"),
        ),
        Assumption(
            "spatial_exogeneity",
            "Given the covariates, treatment is unrelated to what is not observed about a unit and its neighbours.",
        ),
        Assumption(
            "spatial_model",
            "Neighbours are who is said to be, and they matter as the model says.",
            True,
            ("spatial_model_p",),
        ),
        Assumption("no_anticipation", "Nobody reacts before treatment starts.", True, ("pretrend_p",)),
        Assumption(
            "stable_trend",
            "Without the intervention trend and season would have continued, and nothing else changed then.",
            True,
            ("durbin_watson",),
        ),
        Assumption(
            "sequential_ignorability",
            "Given covariates, treatment is as good as random; given treatment and covariates, so is the mediator.",
            True,
            ("mediator_confounding",),
        ),
        Assumption(
            "mediator_model",
            "The mediators and the outcome follow the fitted models.",
            True,
            ("mediator_interaction_p",),
        ),
        Assumption(
            "exposure_mapping",
            "Of all other units' treatments only the stated exposure through direct ties reaches an outcome.",
        ),
        Assumption(
            "known_assignment",
            "Units, or whole clusters, were treated independently with the stated probability.",
            True,
            ("design_p",),
        ),
        Assumption(
            "exposure_positivity",
            "Every unit could have had every exposure that is compared.",
            True,
            ("exposure_share", "exposure_probability"),
        ),
        Assumption(
            "randomised_among_studied",
            "Among the studied, treatment was assigned at random, or is so given the covariates.",
        ),
        Assumption(
            "selection_ignorability",
            "Given the covariates, studied and target units have the same average effect.",
        ),
        Assumption(
            "selection_positivity",
            "Every unit of the target population could have been studied.",
            True,
            ("target_overlap", "effective_sample_size"),
        ),
        Assumption(
            "selection_model",
            "The participation model makes the weighted studied units resemble the target population.",
            True,
            ("adjusted_smd",),
        ),
        Assumption(
            "proxy_exclusion",
            "Given the hidden confounder and the covariates, the treatment proxies do not move outcome or outcome "
            "proxies, and the treatment does not move the outcome proxies.",
            True,
            ("overidentification_p",),
        ),
        Assumption(
            "proxy_completeness",
            "The proxies vary with every side of the hidden confounder that moves treatment and outcome.",
            True,
            ("proxy_f",),
        ),
        Assumption(
            "bridge_model",
            "The outcome bridge, or the treatment bridge, has the stated form.",
        ),
        Assumption(
            "resampling",
            "Drawing from this sample varies the statistic as drawing from the population would: no single unit rules "
            "it, and it is smooth.",
            True,
            ("largest_influence", "draws_skewness", "bootstrap_bias"),
        ),
        Assumption(
            "donor_pool",
            "An average of the donors would have moved as the treated unit would have without treatment.",
            True,
            ("relative_pre_fit", "movable_weight"),
        ),
    )
}


@dataclass(frozen=True)
class Example:
    """A call on a data set of the repository; the entry's page shows it with its answer.

    Parameters
    ----------
    data : str
        File below the repository's root, such as `data/policy/2025-01/lalonde_nsw.csv`.
    roles : mapping of str to str or list of str
    params : mapping
        Parameters of the estimator.
    edges : str, optional
        File of the side table `edges`.
    """

    data: str
    roles: Mapping[str, str | Sequence[str]]
    params: Mapping[str, Any] = field(default_factory=dict)
    edges: str | None = None


@dataclass(frozen=True)
class EstimatorSpec:
    """One estimator of the catalogue.

    Parameters
    ----------
    name, title : str
        File name of the entry; the words that people read.
    family : str
        experiment, adjustment, weighting, matching, machine_learning, ...
    estimands : tuple of Estimand
        The first is the default; `params.estimand` chooses another.
    requires, accepts : frozenset of Role
        Roles without which it refuses; roles that it uses when they are there. `weight` and `cluster` are
        honoured when listed here and refused by name otherwise.
    side_tables : tuple of str
        Side tables whose units it is about, such as `edges`; the method plan looks for them.
    one_of : tuple of tuple of str
        Groups of roles or side tables of which one group must be there as well; empty if nothing more is needed.
    treatment : tuple of TreatmentKind
        Codings that it can run on; several arms are run as contrasts against the reference arm.
    joint_arms : bool
        Whether `run` takes several arms at once, because units of other arms cannot be left out (neighbours).
    invariances : tuple of str
        Changes of the input that must not change the answer: `row_order`, `affine_outcome`, `relabelled_arms`,
        `duplicated_rows`; the contract tests check them.
    diagnostics, tables : tuple of str
        Measures and named tables that an estimate carries.
    truths : tuple of str
        Simulated designs whose effect it must recover.
    breaks : tuple of str
        Simulated designs where its assumptions fail and a named diagnostic must warn.
    oracle : tuple of str
        Methods of the reference files that it is pinned to.
    applicable : callable, optional
        Study -> (fits, reason in words, rank 0 to 1); used by the method plan.
    replicates : callable, optional
        (study, params) -> what recomputes the estimate for many resampling weights at once, or None where these
        parameters do not allow it; the bootstrap uses it instead of running the entry once per draw.
    shares_nuisance : bool
        Whether it takes the shared nuisance predictions of its context by default.
    resamples : bool
        Whether `run` itself answers the bootstraps that `inference` asks for, because drawing rows and running it
        again would not be valid for it.
    cost : str
        `light` or `heavy`: the size of its pod and its pool.
    question : str
        The question that it answers, in an analyst's words.
    formula : str
        What is computed, in LaTeX without delimiters.
    reading : str
        How to read the answer, and when not to trust it.
    example : Example, optional
        A call on a data set of the repository.
    interval_claim : str
        What its default intervals are held to by simulation: `nominal` (bias below 0.1 standard errors, coverage of
        95% intervals 93 to 97%, size 3.5 to 6.5%), `conservative` (coverage at least 93%), `biased` (a bias of the
        order of the standard error is known) or `other` (not a standard error, such as a placebo distribution).
    claim_note : str
        What the interval claims instead where it is not `nominal`, and why.
    claim_bias : float
        Largest bias in standard deviations of the estimate; 0.1 unless the claim is `biased`.
    claim_coverage : tuple of two floats, optional
        Least and largest coverage of 95% intervals; by default what `interval_claim` says.
    claim_designs : mapping of str to tuple of two floats
        Designs of `truths` that are too hard for the claim at `coverage_rows`: the largest bias, in standard deviations
        of the estimate, and the least coverage that are claimed there instead; `claim_note` says why.
    claim_unanswered : float
        Share of draws that may be refused where the claim is held, because a choice of model that the data make leaves
        no such effect; `claim_note` says why. None by default.
    coverage_rows : int
        Rows of a simulated study at which the claim is held.
    headline_of : str
        Entry whose headline this one reports as well, to the last digit; its simulated coverage is that entry's, and
        the contract tests hold the two equal.
    """

    name: str
    title: str
    family: str
    estimands: tuple[str, ...]
    run: Run
    requires: frozenset[Role] = frozenset({Role.OUTCOME, Role.TREATMENT})
    accepts: frozenset[Role] = frozenset({Role.COVARIATES, Role.WEIGHT, Role.CLUSTER})
    side_tables: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    treatment: tuple[TreatmentKind, ...] = (TreatmentKind.BINARY, TreatmentKind.CATEGORICAL)
    joint_arms: bool = False
    aliases: tuple[str, ...] = ()
    invariances: tuple[str, ...] = ("row_order", "affine_outcome")
    assumptions: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    oracle: tuple[str, ...] = ()
    applicable: Callable[[Study], tuple[bool, str, float]] | None = None
    params: type[CommonParams] = CommonParams
    replicates: "Callable[[Study, Any], Replicates | None] | None" = None
    shares_nuisance: bool = False
    resamples: bool = False
    cost: Literal["light", "heavy"] = "light"
    version: str = "1"
    question: str = ""
    formula: str = ""
    reading: str = ""
    example: Example | None = None
    interval_claim: Literal["nominal", "conservative", "biased", "other"] = "nominal"
    claim_note: str = ""
    claim_bias: float = 0.1
    claim_coverage: tuple[float, float] | None = None
    claim_designs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    claim_unanswered: float = 0.0
    coverage_rows: int = 1000
    headline_of: str = ""

    @property
    def coverage_limits(self) -> tuple[float, float]:
        """Least and largest coverage of 95% intervals that the entry is held to."""
        if self.claim_coverage is not None:
            return self.claim_coverage
        return (0.93, 0.97) if self.interval_claim == "nominal" else (0.93, 1.0)

    def refuse(self, code: str, reason: str, remedy: str) -> Refusal:
        """Return a refusal in this entry's name."""
        return Refusal(self.name, code, reason, remedy)

    def refuse_known_propensity(self, study: Study, asked: str, otherwise: str) -> Refusal | None:
        """Return why known propensities cannot be used, or None.

        Parameters
        ----------
        study : Study
            The rows whose propensities are used.
        asked, otherwise : str
            The parameter that asks for them, such as `propensity: known`, and one that does without.
        """
        if not study.has(Role.PROPENSITY):
            return self.refuse(
                "missing_role",
                f"no column plays the role 'propensity', which {asked} needs",
                f"map it in study.yaml: roles: {{propensity: <column>}}, or use {otherwise}",
            )
        for name in study.names(Role.PROPENSITY):
            known = study.frame[name].to_numpy(dtype=float)
            outside = int((~((known > 0) & (known < 1))).sum())
            if outside:
                return self.refuse(
                    "bad_propensity",
                    f"column '{study.label(name)}' has {outside} values that are not strictly between 0 and 1",
                    f"correct the column, or use {otherwise}",
                )
        return None

    def estimand(self, params: CommonParams) -> str:
        """Return the estimand that the parameters ask for.

        Raises
        ------
        CatalogError
            If the entry does not offer it.
        """
        chosen = params.estimand or self.estimands[0]
        if chosen not in self.estimands:
            raise CatalogError(
                f"parameter 'estimand' of {self.name} is '{chosen}'; allowed are {', '.join(self.estimands)}"
            )
        return str(chosen)

    def judge(self, study: Study, name: str, value: float | None, detail: str = "") -> Diagnostic:
        """Judge a measure by the study's limits."""
        limits = limits_for(study.declaration.design, study.thresholds)
        return judge(name, value, thresholds=limits, severities=study.severities, detail=detail)

    def estimate(
        self,
        study: Study,
        effects: Sequence[Effect],
        *,
        inference: str,
        diagnostics: Sequence[Diagnostic] = (),
        tables: Mapping[str, pd.DataFrame] | None = None,
        notices: Sequence[str] = (),
        used: int | None = None,
        dropped: Mapping[str, int] | None = None,
        effective_size: float | None = None,
    ) -> EffectEstimate:
        """Assemble an estimate; what the study knows (arms, clusters, dropped rows) is filled in."""
        missing = sorted(set(self.diagnostics) - {item.name for item in diagnostics})
        if missing:
            raise ContractError(f"{self.name}: declared diagnostic '{missing[0]}' was not returned")
        clusters = study.codes(Role.CLUSTER)
        per_arm: dict[str, int] = {}
        if study.arms and study.treatment_kind in (TreatmentKind.BINARY, TreatmentKind.CATEGORICAL):
            codes = study.column(Role.TREATMENT)
            per_arm = {arm: int((codes == code).sum()) for code, arm in enumerate(study.arms)}
        return EffectEstimate(
            estimator=self.name,
            version=self.version,
            effects=tuple(effects),
            inference=inference,
            sample=Sample(
                used=len(study) if used is None else used,
                dropped={**study.dropped, **(dropped or {})},
                per_arm=per_arm,
                clusters=None if clusters is None else int(clusters.max()) + 1,
                effective_size=effective_size,
            ),
            diagnostics=tuple(diagnostics),
            assumptions=tuple(ASSUMPTIONS[name] for name in self.assumptions),
            tables=dict(tables or {}),
            notices=tuple(notices),
        )


@dataclass(frozen=True)
class SensitivitySpec:
    """One sensitivity question: `run(study, results, params, context)` answers it for one estimate of `results`.

    `applies_to` holds estimator names or estimands; empty means every estimate. `informs_in_trial`: the question is
    about unmeasured causes of the treatment, so in a declared trial its answer informs and does not hold.
    `most`: how many estimates are asked about, in the order of the method plan; None asks about all. `budget_seconds`:
    CPU seconds that the question may take for all of them together. `holds` and `breaks` say in one sentence each what
    it means for the conclusion when the answer passes, and when it does not.
    """

    name: str
    title: str
    question: str
    run: Callable[[Study, "EffectEstimate", Any, Context], SensitivityResult | Refusal]
    applies_to: tuple[str, ...] = ()
    informs_in_trial: bool = False
    most: int | None = None
    budget_seconds: float | None = None
    reference: str = ""
    params: type[CommonParams] = CommonParams
    cost: Literal["light", "heavy"] = "light"
    version: str = "1"
    holds: str = ""
    breaks: str = ""

    def told(self, study: Study, answer: SensitivityResult | Refusal, context: Context) -> SensitivityResult | Refusal:
        """Return an answer with its question, what it means, the time that it took and the time that it had."""
        spent = {"seconds": round(time.process_time() - context.started, 3), "budget_seconds": context.budget_seconds}
        answer = replace(answer, provenance={**answer.provenance, **spent})
        if isinstance(answer, Refusal):
            return answer
        implies = self.holds if answer.status is Status.PASS else self.breaks
        if self.informs_in_trial and study.declaration.design == "trial":
            implies = "Treatment was assigned at random, so no hidden cause of it is expected; this informs only."
        return replace(answer, asked=self.question, implies=answer.implies or implies)


@dataclass(frozen=True)
class Inputs:
    """What a figure may draw from: the study and the results that exist for it.

    `findings` holds what was found over all results by name: `quality_score`, `policy_value`,
    `counterfactual_systems`, `effect_summary`, `history` (effects of this and earlier periods) or, for figures over
    domains, `domain_network`.
    """

    study: Study
    estimates: Mapping[str, EffectEstimate | Refusal | Failure] = field(default_factory=dict)
    nuisance: Nuisance | None = None
    sensitivity: Mapping[str, SensitivityResult | Refusal | Failure] = field(default_factory=dict)
    plan: tuple[str, ...] = ()
    findings: Mapping[str, Any] = field(default_factory=dict)

    def found(self, name: str) -> Any | None:
        """Return what was found under a name, or None where there is nothing or it was not computed."""
        held = self.findings.get(name)
        return None if held is None or (isinstance(held, Findings) and not held.computed) else held

    def answered(self) -> dict[str, EffectEstimate]:
        """Estimates that are neither refusals nor failures, in plan order."""
        order = {name: rank for rank, name in enumerate(self.plan)}
        found = {name: item for name, item in self.estimates.items() if isinstance(item, EffectEstimate)}
        return dict(sorted(found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])))

    def first_with(self, table: str) -> EffectEstimate | None:
        """Return the first estimate in plan order that carries the table, or that of `estimator.table`."""
        estimator, _, name = table.rpartition(".")
        return next(
            (
                item
                for item in self.answered().values()
                if name in item.tables and len(item.tables[name]) and estimator in ("", item.estimator)
            ),
            None,
        )

    def asked(self, question: str) -> dict[str, SensitivityResult]:
        """Return the answers to a sensitivity question by estimator, in plan order."""
        order = {name: rank for rank, name in enumerate(self.plan)}
        found = {
            key.partition(": ")[2]: item
            for key, item in self.sensitivity.items()
            if isinstance(item, SensitivityResult) and key.partition(": ")[0] == question
        }
        return dict(sorted(found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])))


@dataclass(frozen=True)
class Drawing:
    """A drawn figure: the figure, the tidy frame that was drawn, a caption with the numbers, and alt text.

    Parameters
    ----------
    page : str
        Self-contained interactive page (HTML), for the form `3d`.
    frames : callable, optional
        Position 0..FRAMES-1 -> the figure at that moment, for the form `animated`. It may be one figure that changes.
    """

    figure: "Figure"
    data: pd.DataFrame
    caption: str
    alt: str
    page: str = ""
    frames: "Callable[[int], Figure] | None" = None


Form = Literal["2d", "3d", "animated"]
FRAMES = 30


@dataclass(frozen=True)
class FigureSpec:
    """One figure: the question it answers, what it needs and how it is drawn.

    `needs` holds stages (`estimates`, `nuisance`), roles, sensitivity questions, table names or, for the table of one
    estimator, `estimator.table`, or names of findings; an entry with `|` needs one of several. Unmet needs give no
    figure and a reason, as does a NotDrawnError of `draw`. `forms` are those that `draw` offers, the one of the printed
    page first. `scope` says whether it is about one study or about all domains together.
    """

    name: str
    title: str
    question: str
    draw: Callable[[Inputs, str], Drawing]
    needs: tuple[str, ...] = ("estimates",)
    family: str = "diagnostics"
    forms: tuple[Form, ...] = ("2d",)
    scope: Literal["study", "domains"] = "study"
    reference: str = ""
    version: str = "1"

    @property
    def moving(self) -> tuple[Form, ...]:
        """Forms that turn or move; they are drawn apart from the printed one."""
        return tuple(form for form in self.forms if form != "2d")

    def unmet(self, inputs: Inputs) -> str | None:
        """Return why the figure cannot be drawn from these inputs, or None."""
        for need in self.needs:
            if not any(self._met(part, inputs) for part in need.split("|")):
                return self._reason(need.split("|"), inputs)
        return None

    def made(self, inputs: Inputs, form: str | None = None) -> Drawing:
        """Draw the figure in one of its forms, the first one by default.

        Raises
        ------
        NotDrawnError
            If its needs are unmet or there is nothing to draw.
        CatalogError
            If the figure does not offer the form.
        """
        chosen = form or self.forms[0]
        if chosen not in self.forms:
            raise CatalogError(f"figure '{self.name}' has no form '{chosen}'; it offers {', '.join(self.forms)}")
        reason = self.unmet(inputs)
        if reason is not None:
            raise NotDrawnError(reason)
        return self.draw(inputs, chosen)

    @staticmethod
    def _met(need: str, inputs: Inputs) -> bool:
        if need == "estimates":
            return bool(inputs.answered())
        if need == "nuisance":
            return inputs.nuisance is not None
        if need in list(Role):
            return inputs.study.has(Role(need))
        return inputs.found(need) is not None or inputs.first_with(need) is not None or bool(inputs.asked(need))

    @staticmethod
    def _reason(needs: Sequence[str], inputs: Inputs) -> str:
        """Say what is missing; where one estimator or question would have it, what that one said."""
        for need in needs:
            held: Any = inputs.estimates.get(need.partition(".")[0]) if "." in need else None
            held = held or next((item for key, item in inputs.sensitivity.items() if key.startswith(f"{need}: ")), None)
            if isinstance(held, Refusal):
                return f"needs {_in_words(need)}, but: {held.reason}"
            told = inputs.findings.get(need)
            if isinstance(told, Findings):
                return f"needs {_in_words(need)}, but: {told.content['reason']}"
            if isinstance(held, Failure):
                return f"needs {_in_words(need)}, which failed: {held.exception}"
        return f"needs {' or '.join(map(_in_words, needs))}, which no result of this study has"


def _in_words(need: str) -> str:
    estimator, _, table = need.rpartition(".")
    return f"{table.replace('_', ' ')} of {estimator.replace('_', ' ')}" if estimator else need.replace("_", " ")
