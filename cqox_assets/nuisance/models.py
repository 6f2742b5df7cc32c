"""Nuisance models: cross-fitted propensity and outcome predictions, made once per study and shared."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.overlap import effective_share, largest_weight, overlap_share
from cqox_assets.measures import Diagnostic, Status, judge
from cqox_assets.numerics.crossfit import Folded
from cqox_assets.numerics.folds import content_folds
from cqox_assets.result import Nuisance
from cqox_assets.spec import CommonParams, Context
from cqox_assets.study import Role, Study

CLIP = 0.01
SPLIT_ROWS = 2_000
_AGAIN = "again_"
_KEPT_BYTES = 64_000_000
_SEVERITY = (Status.PASS, Status.NOT_RUN, Status.WARN, Status.FAIL)


@dataclass(frozen=True)
class Data:
    """The arrays of a study with two arms.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    y : ndarray of shape (n,)
    d : ndarray of shape (n,)
        1 in the compared arm.
    weight : ndarray of shape (n,), optional
        Sampling weights of mean one.
    cluster : ndarray of int, shape (n,), optional
        Codes of the clusters, or of the units of a panel.
    """

    x: np.ndarray
    y: np.ndarray
    d: np.ndarray
    weight: np.ndarray | None
    cluster: np.ndarray | None

    @classmethod
    def of(cls, study: Study) -> "Data":
        """Read the columns of a study; units that repeat over time count as clusters unless clusters are mapped."""
        return cls(
            study.matrix(), study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.weights(), groups_of(study)
        )

    @property
    def sampling(self) -> np.ndarray:
        """Sampling weights, ones without any."""
        return np.ones(len(self.y)) if self.weight is None else self.weight

    def folded(self, fold: np.ndarray, seed: int = 0) -> Folded:
        """Return rows and folds for cross-fitting; covariates are ranked by correlation with outcome and treatment."""
        return Folded(self.x, fold, self.weight, importance(self.x, self.y, self.d), seed)

    def rows(self, chosen: np.ndarray) -> "Data":
        """Return the chosen rows (positions), with cluster codes as they are."""
        weight, cluster = (None if column is None else column[chosen] for column in (self.weight, self.cluster))
        return Data(self.x[chosen], self.y[chosen], self.d[chosen], weight, cluster)

    def content_folds(self, folds: int, seed: int) -> np.ndarray:
        """Assign folds by content; clusters stay together."""
        return content_folds(self.x, self.y, self.d, folds, seed=seed, group=self.cluster, weight=self.weight)


def groups_of(study: Study) -> np.ndarray | None:
    """Return codes of the clusters, else of repeated units, else None."""
    if study.has(Role.CLUSTER):
        return study.codes(Role.CLUSTER)
    if study.has(Role.UNIT):
        units = study.codes(Role.UNIT)
        if units is not None and int(units.max()) + 1 < len(units):
            return units
    return None


def fit_nuisance(study: Study, params: CommonParams | None = None) -> Nuisance:
    """Fit propensity and outcome models for every contrast of a study.

    Parameters
    ----------
    study : Study
        With arms; each compared arm gets models on its own rows and those of the reference arm.
    params : CommonParams, optional
        `nuisance` names the learner, `folds` and `seed` the folds:

        - `stack`: the mixture of `spline` and `boosting` with the least cross-validated loss, per model;
        - `spline`: hinges with pairwise interactions of the 14 most correlated covariates, adaptive ridge or
          ridge-logit with a cross-validated penalty; 60 covariates make 271 columns, and beyond 100,000 rows the
          penalty of the propensity is chosen on 50,000 evenly spaced rows;
        - `boosting`: at most 100 small trees, stopped early, each fit on at most 50,000 rows;
        - `linear`: least squares per arm and unpenalised logit;
        - `random_forest`: 200 trees with at least 10 rows per leaf.

    Returns
    -------
    Nuisance
        Propensities are moved to [0.01, 0.99]; `clipped` counts the rows. Up to 2,000 rows the predictions from a
        second assignment of rows to folds, that of the next seed, are there as well (columns `again_...`), so that
        every estimator can say what the folds do to it. Diagnostics: overlap, effective sample size and weight range
        of the inverse-propensity weights, the worst contrast each.

    Raises
    ------
    CqoxError
        If a model cannot be fitted: `perfect_separation`, `empty_fold_arm`.
    """
    params = CommonParams() if params is None else params
    predictions, judged, clipped, held = {}, [], {}, {}
    for arm, part in study.studied().contrasts():
        data = Data.of(part)
        fold = data.content_folds(params.folds, params.seed)
        held[arm] = data.folded(fold, params.seed)
        raw = predict_nuisances(data, held[arm], params.nuisance)
        clipped[arm] = int(np.sum((raw["propensity"] < CLIP) | (raw["propensity"] > 1 - CLIP)))
        predictions[arm] = raw.assign(propensity=raw["propensity"].clip(CLIP, 1 - CLIP))
        if len(part) <= SPLIT_ROWS:
            predictions[arm] = predictions[arm].join(_split_again(data, params).add_prefix(_AGAIN))
        judged.append(_judged(part, data, raw["propensity"].to_numpy(), arm if len(study.arms) > 2 else ""))
    total = sum(clipped.values())
    notices = (f"the propensity of {total} rows was moved to the bounds {CLIP} and {1 - CLIP}",) if total else ()
    return Nuisance(
        predictions=predictions,
        learner=params.nuisance,
        seed=params.seed,
        folds=params.folds,
        fingerprint=study.fingerprint,
        diagnostics=tuple(_worst(items) for items in zip(*judged, strict=True)),
        clipped=total,
        notices=notices,
        folded=held,
    )


def predict_nuisances(data: Data, folded: Folded, learner: str) -> pd.DataFrame:
    """Return cross-fitted predictions, one row per unit, with an unclipped propensity.

    Columns: `propensity` (of the compared arm), `outcome_reference`, `outcome_compared`, `best_reference`,
    `best_compared`, `fold`.

    Notes
    -----
    A doubly robust score is biased by the mean product of the errors of propensity and outcome models. Noise in the
    outcome models averages out of it and shrinkage does not, so `outcome_reference` and `outcome_compared` follow the
    data more closely than predicts best, which `best_reference` and `best_compared` do.
    """
    reference, compared = (folded.means(data.y, data.d == arm, learner) for arm in (0, 1))
    return pd.DataFrame(
        {
            "propensity": np.clip(folded.probability(data.d, learner), 0.0, 1.0),
            "outcome_reference": reference.close,
            "outcome_compared": compared.close,
            "best_reference": reference.best,
            "best_compared": compared.best,
            "fold": folded.fold,
        }
    )


class Fits:
    """Nuisance predictions by the content of what they were fitted to, those asked for last.

    Questions of sensitivity estimate again on changed data, by several estimators and on the same changes: each change
    is fitted once. A change of any value, weight, fold or learner is another content, so nothing stale is returned.

    Parameters
    ----------
    most_bytes : int
        How much is kept; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self._most, self._held = most_bytes, OrderedDict[bytes, pd.DataFrame]()

    def predicted(self, data: Data, fold: np.ndarray, learner: str, seed: int) -> pd.DataFrame:
        """Return what `predict_nuisances` says of the rows in their folds."""
        key = hashlib.blake2b(f"{learner} {seed}".encode(), digest_size=16)
        for column in (data.x, data.y, data.d, data.sampling, fold):
            key.update(f"{column.shape} {column.dtype}".encode())
            key.update(np.ascontiguousarray(column).tobytes())
        found = self._held.pop(key.digest(), None)
        if found is None:
            found = predict_nuisances(data, data.folded(fold, seed), learner)
        size = int(found.memory_usage(index=False).sum())
        while self._held and (len(self._held) + 1) * size > self._most:
            self._held.popitem(last=False)
        if size <= self._most:
            self._held[key.digest()] = found
        return found


def _split_again(data: Data, params: CommonParams) -> pd.DataFrame:
    """Predictions from the folds of the next seed."""
    seed = params.seed + 1
    held = predict_nuisances(data, data.folded(data.content_folds(params.folds, seed), seed), params.nuisance)
    return held.assign(propensity=held["propensity"].clip(CLIP, 1 - CLIP))


def splits_of(held: pd.DataFrame, seed: int) -> dict[int, pd.DataFrame]:
    """Return the predictions of each assignment of folds that was tried, by seed."""
    again = held[[name for name in held if str(name).startswith(_AGAIN)]]
    first = {seed: held[[name for name in held if name not in again]]}
    return first if again.empty else first | {seed + 1: again.rename(columns=lambda name: name.removeprefix(_AGAIN))}


def importance(x: np.ndarray, y: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Largest absolute correlation of each covariate with outcome and treatment, shape (p,)."""
    spread = x.std(0)
    z = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    scores = [np.abs(z.T @ (v - v.mean())) / (len(v) * (v.std() or 1.0)) for v in (y, d)]
    return np.asarray(np.round(np.maximum(*scores), 10))


def _judged(study: Study, data: Data, propensity: np.ndarray, arm: str) -> list[Diagnostic]:
    kept = np.clip(propensity, CLIP, 1 - CLIP)
    weights = data.sampling * np.where(data.d == 1, 1 / kept, 1 / (1 - kept))
    return judge_weights(study, data.d, propensity, weights, prefix=f"arm '{arm}': " if arm else "")


def judge_weights(
    study: Study,
    treated: np.ndarray,
    propensity: np.ndarray,
    weights: np.ndarray,
    *,
    overlap_limit: float | None = None,
    prefix: str = "",
) -> list[Diagnostic]:
    """Judge overlap, effective sample size and weight range by the study's limits.

    Parameters
    ----------
    study : Study
    treated, propensity, weights : ndarray of shape (n,)
    overlap_limit : float, optional
        Limit of the overlap where neither profile nor declaration states one (0.9 for weighting).
    prefix : str
        Put before each detail.
    """
    limits = dict(study.thresholds) if overlap_limit is None else {"overlap": overlap_limit, **study.thresholds}
    values = {
        "overlap": (overlap_share(propensity, treated), "share of units within the propensity range of both arms"),
        "effective_sample_size": (effective_share(weights, treated), "of the weights, in the arm where it is smaller"),
        "weight_range": (largest_weight(weights, treated), "largest weight over the mean weight of its arm"),
    }
    return [
        judge(name, value, thresholds=limits, severities=study.severities, detail=prefix + detail)
        for name, (value, detail) in values.items()
    ]


def shared_or_own(
    study: Study, params: CommonParams, context: Context, *, seed: int | None = None, clip: float = CLIP
) -> pd.DataFrame:
    """Return the shared predictions if they are what is asked for, else fit them; propensities are clipped at `clip`.

    `seed` replaces the one of `params` (for repeated cross-fitting); it, and a `clip` below the shared one, rule the
    shared predictions out.
    """
    held = context.shared(study, params) if seed is None and clip >= CLIP else None
    if held is None:
        data, chosen = Data.of(study), params.seed if seed is None else seed
        fits = Fits(0) if context.fits is None else context.fits
        held = fits.predicted(data, data.content_folds(params.folds, chosen), params.nuisance, chosen)
    return held.assign(propensity=held["propensity"].clip(clip, 1 - clip))


def shared_folded(study: Study, params: CommonParams, context: Context, fold: np.ndarray) -> Folded:
    """Return the rows in their folds, with the designs of the shared nuisances where those have these folds."""
    if context.shared(study, params) is not None and context.nuisance is not None:
        held: Folded | None = context.nuisance.folded.get(context.compared(study))
        if held is not None and np.array_equal(held.fold, fold):
            return held
    return Data.of(study).folded(fold, params.seed)


def _worst(items: Sequence[Diagnostic]) -> Diagnostic:
    return max(items, key=lambda item: _SEVERITY.index(item.status))


def unused_propensity(study: Study, chosen: str, asking: str = "the parameter propensity: known") -> list[str]:
    """Return the notice that a mapped known propensity did not enter, or nothing.

    Parameters
    ----------
    chosen : str
        The estimator's `propensity` parameter, or anything else where it does not read one.
    asking : str
        How it is asked for.
    """
    if chosen == "known" or not study.has(Role.PROPENSITY):
        return []
    name = study.label(study.name(Role.PROPENSITY))
    return [f"the known propensity in '{name}' was not used; ask for it with {asking}"]
