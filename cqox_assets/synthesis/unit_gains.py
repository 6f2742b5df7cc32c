"""What treating each unit brings and costs: predictions to rank by, and doubly robust scores to value with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.nuisance.models import CLIP, Data
from cqox_assets.numerics.allocation import Evaluation, Ranking
from cqox_assets.numerics.polynomial import Fold, Polynomial, crossfit_polynomials
from cqox_assets.numerics.sample import check_arms, check_clusters
from cqox_assets.result import EffectEstimate, Failure, Nuisance, Outcome, Refusal
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.synthesis.money import Prices

_NEEDED = {"row", "effect", "score"}
_FEWEST = 20


class NoGainsError(CqoxError):
    """Nothing says what treating a unit brings; the message ends with the remedy."""

    code = "no_unit_effects"


@dataclass(frozen=True)
class Contrast:
    """The rows of a compared arm and the reference arm, with where they stand in the study.

    Parameters
    ----------
    arm, label : str
        The compared arm, and the contrast in words.
    part : Study
    rows : ndarray of int, shape (n,)
        Position of each row in the study.
    held : DataFrame
        Cross-fitted nuisance predictions of these rows.
    """

    arm: str
    label: str
    part: Study
    rows: np.ndarray
    held: pd.DataFrame


@dataclass(frozen=True)
class UnitGains:
    """What is known of every unit of a contrast.

    Parameters
    ----------
    contrast : Contrast
    data : Data
    effect, score : ndarray of shape (n,)
        Predicted effect and doubly robust score, in units of the outcome.
    cost, cost_score : ndarray of shape (n,) or None
        Predicted cost of treating each unit, none below 0, and its doubly robust score, in money.
    source : str
        Estimator whose unit effects rank the units; `nuisance_models` where none has any.
    notices : tuple of str
    """

    contrast: Contrast
    data: Data
    effect: np.ndarray
    score: np.ndarray
    cost: np.ndarray | None
    cost_score: np.ndarray | None
    source: str
    notices: tuple[str, ...] = ()

    @property
    def fold(self) -> np.ndarray:
        """Fold of each unit, shape (n,)."""
        return self.contrast.held["fold"].to_numpy().astype(int)

    def benefit(self, prices: Prices) -> np.ndarray:
        """Return the score of each unit's benefit in the good direction: money less costs, money, or outcome."""
        worth = prices.sign * self.score * (1.0 if prices.value is None else prices.value)
        return worth - self.cost_score if prices.kind == "net" and self.cost_score is not None else worth

    def evaluation(self, prices: Prices) -> Evaluation:
        """Return the ranking by predicted benefit, with the scores that value it."""
        gain = prices.sign * self.effect * (1.0 if prices.value is None else prices.value)
        ranking = Ranking(gain, self.cost, self.data.sampling, prices.kind == "net")
        return Evaluation(ranking, self.benefit(prices), self.data.cluster)


def contrasts_of(study: Study, nuisance: Nuisance) -> Iterator[Contrast]:
    """Yield every contrast of the studied population with its nuisance predictions.

    Raises
    ------
    NoGainsError
        If the predictions are not those of this study's rows.
    """
    kept = np.arange(len(study))
    if len(study.names(Role.POPULATION)) == 1:
        kept = kept[study.column(Role.POPULATION) != 0]
    inside = study.studied()
    codes = inside.column(Role.TREATMENT)
    for code, (arm, part) in enumerate(inside.contrasts(), start=1):
        rows = kept if len(study.arms) == 2 else kept[(codes == 0) | (codes == code)]
        held = nuisance.predictions.get(arm)
        if held is None or len(held) != len(part):
            raise NoGainsError(
                f"the nuisance models do not cover the rows of arm '{arm}'; materialize nuisance/nuisance_models again"
            )
        yield Contrast(arm, f"{arm} - {study.arms[0]}", part, rows, held)


def refusal_of(study: Study, nuisance: Nuisance | Refusal | Failure | None) -> tuple[str, str] | None:
    """Return why a study has no potential outcomes per unit, and the remedy, or None."""
    if study.treatment_kind not in (TreatmentKind.BINARY, TreatmentKind.CATEGORICAL):
        wanted = "map a treatment with two or more arms in study.yaml"
        return f"potential outcomes per unit need arms, and the treatment is {study.treatment_kind}", wanted
    if len(study.names(Role.OUTCOME)) != 1:
        return "no single column plays the role 'outcome'", "map it in study.yaml: roles: {outcome: <column>}"
    if isinstance(nuisance, Refusal):
        return nuisance.reason, nuisance.remedy
    if isinstance(nuisance, Failure):
        return f"the nuisance models failed: {nuisance.exception}", "report the failure; see the run's log"
    if nuisance is None:
        return "no nuisance models exist for this study", "materialize nuisance/nuisance_models"
    return None


def design_notices(study: Study) -> tuple[str, ...]:
    """Return what a reader must know where the declared design does not rest on the covariates."""
    design = study.declaration.design
    if design in ("cutoff", "instrument", "panel", "time_series", "network", "spatial"):
        return (
            f"these numbers compare units of equal covariates; the declared design '{design}' does not rest on that, "
            "so read them beside its own estimates",
        )
    return ()


def gains_of(contrast: Contrast, estimates: Mapping[str, Outcome], prices: Prices) -> UnitGains:
    """Return predicted effects and scores of a contrast's units; nothing is fitted again but the costs.

    Parameters
    ----------
    contrast : Contrast
    estimates : mapping of str to EffectEstimate, Refusal or Failure
        In the order of the method plan; the first with cross-fitted unit effects and scores ranks the units, else the
        difference of the nuisance models' outcome predictions does.
    prices : Prices

    Raises
    ------
    CqoxError
        If an arm has too few rows or the clusters cannot carry a variance.
    """
    data = Data.of(contrast.part)
    check_arms(data.d, data.weight, least=max(2, _FEWEST // 2))
    check_clusters(data.cluster)
    held, notices = contrast.held, list[str]()
    named = next(((name, found) for name, found in _tables(contrast, estimates)), None)
    if named is None:
        source = "nuisance_models"
        effect = (held["best_compared"] - held["best_reference"]).to_numpy()
        score = _score(data, data.y, held["outcome_reference"].to_numpy(), held["outcome_compared"].to_numpy(), held)
        notices.append("no estimator gave unit effects, so units are ranked by the nuisance models' predictions")
    else:
        source, table = named
        effect, score = table["effect"].to_numpy(dtype=float), table["score"].to_numpy(dtype=float)
    cost, cost_score, said = _costs(contrast, data, prices)
    return UnitGains(contrast, data, effect, score, cost, cost_score, source, (*notices, *said))


def _tables(contrast: Contrast, estimates: Mapping[str, Outcome]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the unit effects that are about the contrast's very rows, in the order given."""
    for name, answer in estimates.items():
        if not isinstance(answer, EffectEstimate) or "unit_effects" not in answer.tables:
            continue
        if not dict(answer.provenance.get("params", {})).get("cross_fit", True):
            continue  # effects predicted from the unit's own outcome would flatter whoever they choose
        table = answer.tables["unit_effects"]
        if not set(table.columns) >= _NEEDED:
            continue
        own = table[table["arm"] == contrast.arm] if "arm" in table.columns else table
        if len(own) == len(contrast.part) and np.isfinite(own[["effect", "score"]].to_numpy(dtype=float)).all():
            yield name, own.sort_values("row", kind="stable")


def _score(data: Data, y: np.ndarray, reference: np.ndarray, compared: np.ndarray, held: pd.DataFrame) -> np.ndarray:
    """Return the doubly robust score of each unit's effect on y, shape (n,); where y is missing it is predicted."""
    e = held["propensity"].to_numpy().clip(CLIP, 1 - CLIP)
    known = np.isfinite(y)
    left = np.where(data.d == 1, (y - compared) / e, -(y - reference) / (1 - e))
    return np.asarray(compared - reference + np.where(known, left, 0.0))


def _costs(
    contrast: Contrast, data: Data, prices: Prices
) -> tuple[np.ndarray | None, np.ndarray | None, tuple[str, ...]]:
    """Return predicted costs of treating each unit, their scores and notices.

    A cost column holds what was spent on each row, so what treating costs is how much more is spent on a treated unit
    than on one like it in the reference arm.
    """
    if not prices.cost_columns:
        fixed = None if prices.cost is None else np.full(len(data.y), float(prices.cost))
        return fixed, fixed, ()
    spent = contrast.part.matrix(Role.COST).sum(axis=1)
    known = np.isfinite(spent)
    filled, fold = np.where(known, spent, 0.0), contrast.held["fold"].to_numpy().astype(int)
    rows = Fold(data.x, fold, data.sampling, Polynomial.of(data.x, np.zeros(data.x.shape[1])))
    fit = crossfit_polynomials(rows, [(filled, (data.d == arm) & known) for arm in (0, 1)], degree=1)
    reference, compared = fit.linear.T
    score = _score(data, spent, reference, compared, contrast.held)
    names = ", ".join(f"'{contrast.part.label(name)}'" for name in prices.cost_columns)
    said = [f"what treating a unit costs is how much more {names} is for a treated unit than for one like it"]
    if not known.all():
        said.append(f"{names} is missing in {int((~known).sum())} rows; their costs are predicted")
    if (compared < reference).any():
        count = int((compared < reference).sum())
        said.append(f"treating {count} rows is predicted to save costs; they count as free where a budget is spent")
    cost = np.maximum(compared - reference, 0.0)
    size = float(np.abs(spent[known]).max(initial=0.0)) or 1.0
    return np.round(cost / size, 9) * size, score, tuple(said)  # equal costs stay equal but for rounding
