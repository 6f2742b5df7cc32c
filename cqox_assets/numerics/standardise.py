"""Outcome models and their averages over target units, with influence functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import fit_linear, independent_columns, with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.numerics.sample import CollinearTreatmentError, TooFewRowsError

Influence = Callable[[np.ndarray], np.ndarray]


class NotBinaryError(CqoxError):
    """A logistic outcome model was asked for an outcome that is not 0 and 1."""

    code = "outcome_not_binary"


class ScaleError(CqoxError):
    """A ratio of means is not defined for these means."""

    code = "scale_undefined"


@dataclass(frozen=True)
class OutcomeModel:
    """A fitted outcome model and its predictions under both arms.

    Parameters
    ----------
    prediction : tuple of two ndarray of shape (n,)
        Under the reference arm and under the compared arm.
    gradient : tuple of two ndarray of shape (n, k)
        Derivative of each prediction in the coefficients of that arm's model.
    influence : tuple of two callables
        Direction of shape (k,) -> influence of each unit on that combination of those coefficients, shape (n,).
    dropped : tuple of str
        Columns that were left out as linear combinations of others.
    """

    prediction: tuple[np.ndarray, np.ndarray]
    gradient: tuple[np.ndarray, np.ndarray]
    influence: tuple[Influence, Influence]
    dropped: tuple[str, ...]


def fit_outcome(
    covariates: np.ndarray,
    treated: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None,
    *,
    kind: str,
    moderators: Sequence[int],
    names: Sequence[str],
) -> OutcomeModel:
    """Fit an outcome model and predict every unit under both arms.

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    treated, outcome : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    kind : str
        `ols_per_arm`, `ols_pooled_interacted`, `logit_per_arm` or `logit_pooled`.
    moderators : sequence of int
        Covariates that interact with the treatment in `ols_pooled_interacted`.
    names : sequence of str
        Of the covariates, for messages.

    Raises
    ------
    NotBinaryError, TooFewRowsError, SeparationError
    """
    n = len(treated)
    logit = kind.startswith("logit")
    if logit and not np.isin(outcome, (0.0, 1.0)).all():
        other = outcome[~np.isin(outcome, (0.0, 1.0))][0]
        raise NotBinaryError(
            f"the outcome holds {other:g}, a logistic model needs 0 and 1; use outcome_model ols_per_arm"
        )
    design = with_constant(covariates, treated)
    _check_identified(design)
    if kind.endswith("_per_arm"):
        design = np.ascontiguousarray(design[:, :-1])
        parts = [_fit(design, outcome, weights, treated == arm, logit, ["const", *names]) for arm in (0, 1)]
        designs = [design, design]
    else:
        moderating = covariates[:, list(moderators)] if kind == "ols_pooled_interacted" else covariates[:, :0]

        def under(arm: np.ndarray | float) -> np.ndarray:
            d = np.full(n, arm) if np.isscalar(arm) else np.asarray(arm)
            return np.column_stack([np.ones(n), d, covariates, moderating * d[:, None]])

        columns = ["const", "treatment", *names, *(f"treatment:{names[p]}" for p in moderators)]
        pooled = _fit(under(treated), outcome, weights, np.ones(n, dtype=bool), logit, columns)
        parts, designs = [pooled, pooled], [under(0.0), under(1.0)]
    predictions, gradients = zip(
        *(_predict(_columns(design, part.kept), part.coef, logit) for design, part in zip(designs, parts, strict=True)),
        strict=True,
    )
    dropped = tuple(dict.fromkeys(name for part in parts for name in part.dropped))
    return OutcomeModel(predictions, gradients, (parts[0].influence, parts[1].influence), dropped)


def _check_identified(design: np.ndarray) -> None:
    """Refuse a treatment, the last column, that is a combination of covariates: one arm could only be extrapolated."""
    kept = independent_columns(design)
    last = design.shape[1] - 1
    # with fewer rows anything is a combination; the fit says that rows are too few
    if last not in kept and len(design) > len(kept) + 1:
        raise CollinearTreatmentError(
            "the treatment is a linear combination of covariates, so no unit of one arm resembles one of the other; "
            "leave out the covariates that restate the treatment"
        )


@dataclass(frozen=True)
class _Part:
    coef: np.ndarray
    kept: np.ndarray
    influence: Influence
    dropped: tuple[str, ...]


def _fit(
    design: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None,
    rows: np.ndarray,
    logit: bool,
    names: Sequence[str],
) -> _Part:
    weight = None if weights is None else weights[rows]
    fit = (fit_logit if logit else fit_linear)(design[rows], outcome[rows], weight)
    counted = int(rows.sum() if weight is None else (weight > 0).sum())
    if counted <= len(fit.coef):
        raise TooFewRowsError(
            f"{counted} rows for {len(fit.coef)} coefficients of the outcome model; "
            "map fewer covariates or deliver more rows per arm"
        )

    def influence(direction: np.ndarray) -> np.ndarray:
        # The fit's influence is scaled to its own rows; the stacked equations count all rows.
        full = np.zeros(len(rows))
        full[rows] = fit.influence(direction) * (len(rows) / rows.sum())
        return full

    left_out = tuple(name for position, name in enumerate(names) if position not in set(fit.kept.tolist()))
    return _Part(fit.coef, fit.kept, influence, left_out)


def _columns(design: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return design if len(kept) == design.shape[1] else design[:, kept]


def _predict(design: np.ndarray, coef: np.ndarray, logit: bool) -> tuple[np.ndarray, np.ndarray]:
    linear = design @ coef
    if not logit:
        return linear, design
    from scipy.special import expit

    probability = np.asarray(expit(linear))
    return probability, design * (probability * (1 - probability))[:, None]


def standardised_mean(model: OutcomeModel, arm: int, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean prediction under an arm over the target, and its influence function.

    Parameters
    ----------
    model : OutcomeModel
    arm : int
        1 is the compared arm, 0 the reference arm.
    target : ndarray of shape (n,)
        Weight of each unit in the average.
    """
    prediction, share = model.prediction[arm], target / target.mean()
    mean = float(np.mean(share * prediction))
    slope = share @ model.gradient[arm] / len(target)
    return mean, share * (prediction - mean) + model.influence[arm](slope)


def on_scale(scale: str, means: Sequence[float], influences: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the contrast of the compared (first) and the reference (second) mean on a scale, and its influence.

    Raises
    ------
    ScaleError
        If a ratio is not defined for these means.
    """
    one, zero = means
    if scale == "difference":
        return one - zero, influences[0] - influences[1]
    odds = scale == "log_odds_ratio"
    if min(one, zero) <= 0 or (odds and max(one, zero) >= 1):
        wanted = "strictly between 0 and 1" if odds else "above 0"
        raise ScaleError(
            f"the standardised means are {one:g} and {zero:g}, {scale} needs them {wanted}; use scale difference"
        )

    def link(mean: float) -> float:
        return float(np.log(mean / (1 - mean)) if odds else np.log(mean))

    def slope(mean: float) -> float:
        return 1 / (mean * (1 - mean)) if odds else 1 / mean

    return link(one) - link(zero), slope(one) * influences[0] - slope(zero) * influences[1]
