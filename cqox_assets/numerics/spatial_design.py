"""Regressors of a map: scaled, of full rank, with their neighbours' means where a model asks for them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cqox_assets.numerics.linear import dropped_names, independent_columns
from cqox_assets.numerics.sample import CollinearTreatmentError, check_arms, collinear_notice, regress
from cqox_assets.study import Role, Study

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Design:
    """Scaled regressors and the way back: x = raw T, so coefficients of the raw columns are T b.

    Parameters
    ----------
    names : list of str
        Of the columns: constant, covariates, treatment, and with `W_` before them their neighbours' means.
    pairs : dict of str to (int, int or None)
        Regressor to its position and that of its neighbours' mean.
    treated : list of (str, str)
        Label of each treatment column and its name.
    """

    x: np.ndarray
    turn: np.ndarray
    names: list[str]
    pairs: dict[str, tuple[int, int | None]]
    instruments: np.ndarray
    treated: list[tuple[str, str]]
    notices: list[str]


def read_design(study: Study, matrix: "csr_matrix", *, durbin: bool) -> Design:
    """Return the regressors: constant, covariates, treatment, and their neighbours' means for a Durbin model."""
    treatment, covariates = study.column(Role.TREATMENT), study.matrix()
    name = study.name(Role.TREATMENT)
    if study.arms:
        codes = range(1, len(study.arms))
        columns = np.column_stack([(treatment == code) * 1.0 for code in codes])
        treated = [(study.arms[code], name if len(study.arms) == 2 else f"{name}={study.arms[code]}") for code in codes]
        for code in codes:
            check_arms((treatment[(treatment == 0) | (treatment == code)] == code) * 1.0, least=2)
    else:
        columns, treated = treatment[:, None], [("", name)]
    raw = np.column_stack([np.ones(len(study)), covariates, columns])
    names = ["const", *study.names(Role.COVARIATES), *(column for _, column in treated)]
    fit = regress(raw, study.column(Role.OUTCOME), None, names, term=raw.shape[1] - 1, treatment=name)
    lost = [column for _, column in treated if names.index(column) not in fit.kept]
    if lost:
        raise CollinearTreatmentError(
            f"treatment '{lost[0]}' is a linear combination of covariates and other arms; "
            "leave out the covariates that restate it"
        )
    notices = collinear_notice(dropped_names(fit, names))
    raw, names = raw[:, fit.kept], [names[k] for k in fit.kept]
    scale = np.where(raw.std(axis=0) > 0, raw.std(axis=0), 1.0)
    instruments = matrix @ (raw[:, 1:] / scale[1:])
    pairs: dict[str, tuple[int, int | None]] = {column: (k, None) for k, column in enumerate(names) if k}
    if durbin:
        near = matrix @ raw[:, 1:]
        both = np.column_stack([raw, near])
        kept = independent_columns(both)
        own = len(names)
        more = [k for k in kept if k >= own]
        for place, k in enumerate(more):
            pairs[names[k - own + 1]] = (k - own + 1, own + place)
        left = [f"W_{names[k - own + 1]}" for k in range(own, both.shape[1]) if k not in kept]
        notices += collinear_notice(left)
        raw, names = both[:, [*range(own), *more]], [*names, *(f"W_{names[k - own + 1]}" for k in more)]
        instruments = matrix @ instruments
    turn = _scaling(raw)
    return Design(raw @ turn, turn, names, pairs, instruments, treated, notices)


def _scaling(raw: np.ndarray) -> np.ndarray:
    """Return T with raw T centred and of unit spread beside the constant, so that units cannot spoil the arithmetic."""
    spread = raw[:, 1:].std(axis=0)
    turn = np.diag(np.concatenate([[1.0], 1 / spread]))
    turn[0, 1:] = -raw[:, 1:].mean(axis=0) / spread
    return turn
