"""Means of two arms in a target population, from studied units and the target's covariates, with influences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import dropped_names, fit_linear, independent_columns, with_constant
from cqox_assets.numerics.logit import LogitFit, SeparationError, expit, fit_logit
from cqox_assets.numerics.sample import CollinearTreatmentError, TooFewRowsError
from cqox_assets.numerics.standardise import NotBinaryError


class NoOverlapError(CqoxError):
    """Weights do not exist because some probability is 0 or 1."""

    code = "no_overlap"


@dataclass(frozen=True)
class Populations:
    """Studied and target units.

    Parameters
    ----------
    x : ndarray of shape (n, k)
    studied : ndarray of bool, shape (n,)
    target : ndarray of bool, shape (n,)
        Units whose mean is wanted: those not studied (transport), or all (generalize).
    treated, outcome : ndarray of shape (n,)
        Read for studied units only.
    sampling : ndarray of shape (n,)
        Sampling weights of mean one.
    names : sequence of str
        Of the covariates.
    """

    x: np.ndarray
    studied: np.ndarray
    target: np.ndarray
    treated: np.ndarray
    outcome: np.ndarray
    sampling: np.ndarray
    names: Sequence[str]

    @property
    def generalizes(self) -> bool:
        """Whether the studied units are part of the target population."""
        return bool((self.target & self.studied).any())

    def arm(self, code: int) -> np.ndarray:
        """Return the studied units of an arm that count, shape (n,)."""
        return np.asarray(self.studied & (self.treated == code) & (self.sampling > 0))

    def check(self) -> None:
        """Check that each arm has rows and that the treatment is no combination of covariates among the studied.

        Raises
        ------
        TooFewRowsError, CollinearTreatmentError
        """
        for code, word in ((1, "compared"), (0, "reference")):
            if self.arm(code).sum() < 2:
                raise TooFewRowsError(
                    f"the {word} arm has {int(self.arm(code).sum())} studied rows; deliver at least 2 of that arm"
                )
        inside = with_constant(self.x[self.studied])
        rank = len(independent_columns(inside))
        joint = independent_columns(np.column_stack([inside, self.treated[self.studied]]))
        if len(inside) > rank + 1 and len(joint) == rank:
            raise CollinearTreatmentError(
                "the treatment is a linear combination of the covariates among the studied; "
                "leave out the covariate that restates it"
            )
        if not np.isfinite(self.x).all():
            bad = self.names[int(np.argmin(np.isfinite(self.x).all(axis=0)))]
            raise CqoxError(
                f"covariate '{bad}' has missing values; fill them or leave it out", code="missing_covariate"
            )


@dataclass(frozen=True)
class Weighting:
    """Weights that make the studied units resemble the target, and what they rest on.

    Parameters
    ----------
    probability : ndarray of shape (n,)
        P(studied | x).
    selection : ndarray of shape (n,)
        Sampling weight times odds or inverse of it; 0 for units not studied.
    weight : ndarray of shape (n,)
        `selection` over the probability of the own arm.
    slopes : tuple of two ndarray of shape (n,)
        Derivative of `weight` in the linear predictors of participation and of treatment.
    fits : tuple of (design, influence) or None
        Design (n, k) and influence of each unit on the coefficients (n, k) of both models.
    dropped : tuple of str
    """

    probability: np.ndarray
    selection: np.ndarray
    weight: np.ndarray
    slopes: tuple[np.ndarray, np.ndarray]
    fits: tuple[tuple[np.ndarray, np.ndarray] | None, tuple[np.ndarray, np.ndarray] | None]
    dropped: tuple[str, ...]


def weigh(data: Populations, treatment_model: str, known: np.ndarray | None = None) -> Weighting:
    """Weigh studied units by (1 - p) / p (transport) or 1 / p (generalize) over the probability of their arm.

    Parameters
    ----------
    data : Populations
    treatment_model : str
        `marginal`: the arm's share; `logit`: main effects, fitted to the studied; `known`: the column `known` (n,).

    Raises
    ------
    TooFewRowsError, SeparationError, NoOverlapError
    """
    n, design = len(data.x), with_constant(data.x)
    if int((data.sampling > 0).sum()) <= design.shape[1]:
        raise TooFewRowsError(
            f"{n} rows cannot carry a participation model with {design.shape[1]} columns; map fewer covariates"
        )
    try:
        fit = fit_logit(design, data.studied.astype(float), data.sampling)
    except SeparationError as error:
        raise SeparationError(
            "the covariates tell studied and target units apart perfectly, so no studied unit stands for the target; "
            "leave out the covariate that decides who was studied, or restrict the target to units like the studied"
        ) from error
    with np.errstate(over="ignore"):
        odds = np.exp(-fit.linear) * data.studied
    base = odds + data.generalizes * data.studied
    inverse, arm_slope, arm_fit = _arm_weights(data, design, treatment_model, known)
    selection = base * data.sampling
    weight = selection * inverse
    if not np.isfinite(weight).all() or min(weight[data.arm(code)].sum() for code in (0, 1)) <= 0:
        raise NoOverlapError(
            "some weights are infinite or all of an arm are zero; leave out the covariate that decides participation "
            "or treatment, or restrict the target to units like the studied"
        )
    left_out = tuple(dropped_names_of(fit, ["const", *data.names]))
    slopes = (-odds * data.sampling * inverse, selection * arm_slope)
    return Weighting(fit.probability, selection, weight, slopes, ((fit.design, fit.influence()), arm_fit), left_out)


def dropped_names_of(fit: LogitFit, names: Sequence[str]) -> list[str]:
    """Return the names of the design's columns that a logit left out."""
    stayed = set(fit.kept.tolist())
    return [name for position, name in enumerate(names) if position not in stayed]


def _arm_weights(
    data: Populations, design: np.ndarray, model: str, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Return 1 / P(own arm), its derivative in the treatment's linear predictor, and that model's design, influence."""
    n, one, zero, inside = len(data.x), data.arm(1), data.arm(0), data.studied
    fit = None
    if model == "logit":
        found = fit_logit(design[inside], data.treated[inside], data.sampling[inside])
        e, influence = np.zeros(n), np.zeros((n, len(found.coef)))
        e[inside], influence[inside] = found.probability, found.influence() * (n / inside.sum())
        fit = (design[:, found.kept], influence)
    elif model == "known" and known is not None:
        e = np.where(inside, known, 0.5)
    else:
        e = np.full(n, data.sampling[one].sum() / data.sampling[inside].sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(one, 1 / e, np.where(zero, 1 / (1 - e), 0.0))
        slope = np.where(one, -(1 - e) / e, np.where(zero, e / (1 - e), 0.0))
    return inverse, slope if fit is not None else np.zeros(n), fit


@dataclass(frozen=True)
class ArmModel:
    """Predicted outcomes of one arm for every unit, their gradient and the influence on the coefficients."""

    prediction: np.ndarray
    gradient: np.ndarray
    influence: np.ndarray
    dropped: tuple[str, ...]


def fit_arm(data: Populations, code: int, kind: str) -> ArmModel:
    """Fit the outcome on the covariates in one arm of the studied; `kind` is `ols_per_arm` or `logit_per_arm`.

    Raises
    ------
    NotBinaryError, TooFewRowsError, SeparationError
    """
    rows, design, n = data.arm(code), with_constant(data.x), len(data.x)
    y = data.outcome[rows]
    logit = kind == "logit_per_arm"
    if logit and not np.isin(y, (0.0, 1.0)).all():
        other = y[~np.isin(y, (0.0, 1.0))][0]
        raise NotBinaryError(
            f"the outcome holds {other:g}, a logistic model needs 0 and 1; use outcome_model ols_per_arm"
        )
    rank = len(independent_columns(design[rows]))
    if rows.sum() <= rank:
        word = "compared" if code else "reference"
        raise TooFewRowsError(
            f"the {word} arm has {int(rows.sum())} studied rows for {rank} coefficients of the outcome model; "
            "map fewer covariates, use method ipsw, or deliver more rows"
        )
    if logit and np.ptp(y) == 0:
        raise SeparationError(
            f"the outcome is {y[0]:g} in every studied row of an arm, so a logistic model has no finite fit; "
            "use outcome_model ols_per_arm"
        )
    influence_rows: np.ndarray
    if logit:
        fit = fit_logit(design[rows], y, data.sampling[rows])
        coef, kept, influence_rows = fit.coef, fit.kept, fit.influence()
        left_out = dropped_names_of(fit, ["const", *data.names])
    else:
        line = fit_linear(design[rows], y, data.sampling[rows])
        coef, kept, influence_rows = line.coef, line.kept, line.influence()
        left_out = dropped_names(line, ["const", *data.names])
    influence = np.zeros((n, len(coef)))
    influence[rows] = influence_rows * (n / rows.sum())
    linear, gradient = design[:, kept] @ coef, design[:, kept]
    if not logit:
        return ArmModel(linear, gradient, influence, tuple(left_out))
    prediction = expit(linear)
    return ArmModel(prediction, gradient * (prediction * (1 - prediction))[:, None], influence, tuple(left_out))


def target_mean(
    data: Populations, code: int, weights: Weighting | None, model: ArmModel | None, *, stacked: bool = True
) -> tuple[float, np.ndarray]:
    """Return the mean outcome under an arm in the target population, and its influence function, shape (n,).

    Parameters
    ----------
    weights : Weighting, optional
        Adds the weighted mean of the studied outcomes, or residuals if there is a model.
    model : ArmModel, optional
        Adds the mean prediction over the target.
    stacked : bool
        Whether the influence counts the estimation of the models (stacked estimating equations).
    """
    n, mean, influence = len(data.x), 0.0, np.zeros(len(data.x))
    slope = np.zeros(0 if model is None else model.gradient.shape[1])
    if model is not None:
        share = data.sampling * data.target
        share = share / share.mean()
        mean = float(np.mean(share * model.prediction))
        influence = share * (model.prediction - mean)
        slope = share @ model.gradient / n
    if weights is not None:
        rows = data.arm(code)
        own, total = np.where(rows, weights.weight, 0.0), weights.weight[rows].sum()
        rest = np.where(rows, data.outcome - (0.0 if model is None else model.prediction), 0.0)
        average = float(own @ rest / total)
        mean += average
        influence = influence + n * own * np.where(rows, rest - average, 0.0) / total
        if model is not None:
            slope = slope - own @ model.gradient / total
        if stacked:
            for change, fit in zip(weights.slopes, weights.fits, strict=True):
                if fit is not None:
                    design, of_coef = fit
                    pull = np.where(rows, change * (rest - average), 0.0) / total
                    influence = influence + of_coef @ (pull @ design)
    if model is not None and stacked:
        influence = influence + model.influence @ slope
    return mean, influence
