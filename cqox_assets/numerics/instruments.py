"""Linear instrumental variables with one treatment: two-stage least squares, LIML, two-step GMM and their tests.

Every row is scaled by the square root of its weight and the exogenous columns are partialled out once; what is left are
the outcome y, the treatment d and an orthonormal basis Q of the instruments, so P = QQ' and M = I - P.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import independent_columns
from cqox_assets.numerics.sample import CollinearTreatmentError, TooFewRowsError

_NOTHING_LEFT = 1e-10


class IrrelevantInstrumentError(CqoxError):
    """No instrument is left, or none moves the treatment."""

    code = "irrelevant_instrument"


@dataclass(frozen=True)
class Projected:
    """A linear model with instruments after its exogenous columns are partialled out.

    Parameters
    ----------
    y, d : ndarray of shape (n,)
        Outcome and treatment, in the units of the data times the square root of the weight.
    basis : ndarray of shape (n, q)
        Orthonormal basis of the instruments.
    exogenous : ndarray of shape (n, kw)
        Orthonormal basis of the constant and the covariates.
    slopes : ndarray of shape (2, q)
        Coefficients of outcome (reduced form) and treatment (first stage) on the instruments that were kept.
    kept : tuple of str
        Names of those instruments.
    dropped : tuple of str
        Names of exogenous columns and instruments that are linear combinations of others.
    cluster : ndarray of int, shape (n,), optional
    """

    y: np.ndarray
    d: np.ndarray
    basis: np.ndarray
    exogenous: np.ndarray
    slopes: np.ndarray
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    cluster: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.y.shape[0])

    @property
    def q(self) -> int:
        """Instruments that are left."""
        return int(self.basis.shape[1])

    @property
    def df_first(self) -> int:
        """Residual degrees of freedom of the first stage: n - kw - q."""
        return int(self.n - self.exogenous.shape[1] - self.q)

    @property
    def df_second(self) -> int:
        """Residual degrees of freedom of the equation of interest: n - kw - 1."""
        return int(self.n - self.exogenous.shape[1] - 1)

    def fitted(self, values: np.ndarray) -> np.ndarray:
        """Return the projection of y, d or a residual on the instruments, shape (n,)."""
        return np.asarray(self.basis @ (self.basis.T @ values))

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of scores summed within clusters; the rows themselves without clusters."""
        if self.cluster is None:
            return rows
        groups = int(self.cluster.max()) + 1
        flat = rows.reshape(self.n, -1)
        return np.column_stack([np.bincount(self.cluster, weights=column, minlength=groups) for column in flat.T])

    def factor(self, kind: str, df: int) -> float:
        """Return the small-sample factor with `df` residual degrees of freedom; 1 for HC0, CR0 and classical_n."""
        if kind in ("HC1", "classical"):
            return self.n / df
        if kind == "CR1" and self.cluster is not None:
            groups = int(self.cluster.max()) + 1
            return groups / (groups - 1) * (self.n - 1) / df
        return 1.0

    def moments(self, first: np.ndarray, second: np.ndarray, kind: str) -> np.ndarray:
        """Return the covariance of the sums Q'first and Q'second, shape (q, q); `kind` classical, HC or CR."""
        if kind.startswith("classical"):
            return np.eye(self.q) * float(first @ second / self.df_first)
        unclustered = kind.startswith("HC") or self.cluster is None
        left, right = self.basis * first[:, None], self.basis * second[:, None]
        if not unclustered:
            left, right = self.scores(left), self.scores(right)
        return np.asarray(left.T @ right * self.factor(kind, self.df_first))


def project(
    outcome: np.ndarray,
    treatment: np.ndarray,
    exogenous: np.ndarray,
    instruments: np.ndarray,
    names: Sequence[str],
    *,
    treated: str,
    weights: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
) -> Projected:
    """Partial the exogenous columns out of outcome, treatment and instruments.

    Parameters
    ----------
    outcome, treatment : ndarray of shape (n,)
    exogenous : ndarray of shape (n, k)
        The constant first.
    instruments : ndarray of shape (n, q)
    names : sequence of str
        Names of the exogenous columns and then of the instruments.
    treated : str
        Name of the treatment, for messages.

    Raises
    ------
    TooFewRowsError
        If there are no more rows of positive weight than columns.
    IrrelevantInstrumentError
        If every instrument is a linear combination of exogenous columns, or none moves the treatment at all.
    CollinearTreatmentError
        If the treatment is a linear combination of exogenous columns.
    """
    everything = np.column_stack([exogenous, instruments])
    rows = len(outcome) if weights is None else int((weights > 0).sum())
    if rows <= everything.shape[1] + 1:
        raise TooFewRowsError(
            f"{rows} rows for {everything.shape[1]} covariates and instruments; "
            "map fewer covariates or deliver more rows than columns"
        )
    columns = independent_columns(everything)
    own, lent = columns[columns < exogenous.shape[1]], columns[columns >= exogenous.shape[1]]
    if len(lent) == 0:
        listed = ", ".join(f"'{name}'" for name in names[exogenous.shape[1] :])
        raise IrrelevantInstrumentError(
            f"instrument {listed} is constant or a linear combination of covariates; "
            "map an instrument that varies given the covariates"
        )
    root = np.ones(len(outcome)) if weights is None else np.sqrt(weights)
    inside = np.linalg.qr(everything[:, own] * root[:, None])[0]
    stacked = np.column_stack([outcome, treatment, everything[:, lent]]) * root[:, None]
    for _ in range(2):  # the second pass removes what rounding left of the first
        stacked = stacked - inside @ (inside.T @ stacked)
    y, d = np.ascontiguousarray(stacked[:, 0]), np.ascontiguousarray(stacked[:, 1])
    if not d @ d > _NOTHING_LEFT * _spread(treatment * root):
        raise CollinearTreatmentError(
            f"treatment '{treated}' is a linear combination of the covariates; leave out the covariate that restates it"
        )
    basis, triangle = np.linalg.qr(stacked[:, 2:])
    sums = basis.T @ stacked[:, :2]
    if not sums[:, 1] @ sums[:, 1] > _NOTHING_LEFT**2 * (d @ d):
        raise IrrelevantInstrumentError(
            f"no instrument is related to treatment '{treated}' at all; map an instrument that moves it"
        )
    slopes = np.linalg.solve(triangle, sums).T
    stayed = set(columns.tolist())
    left_out = tuple(name for position, name in enumerate(names) if position not in stayed)
    return Projected(y, d, basis, inside, slopes, tuple(names[i] for i in lent), left_out, cluster)


def _spread(values: np.ndarray) -> float:
    return float(values @ values)


@dataclass(frozen=True)
class InstrumentFit:
    """A fitted coefficient.

    Parameters
    ----------
    estimate : float
        Outcome units per unit of treatment.
    kappa : float
        k of the k-class: 1 for two-stage least squares and GMM, the smallest eigenvalue for LIML.
    bread : float
        1 / d'(I - kappa M)d.
    residuals : ndarray of shape (n,)
        y - d times the estimate.
    """

    estimate: float
    kappa: float
    bread: float
    residuals: np.ndarray


def fit_k_class(model: Projected, form: str) -> InstrumentFit:
    """Fit two-stage least squares (`2sls`) or limited information maximum likelihood (`liml`).

    Raises
    ------
    IrrelevantInstrumentError
        If LIML has no finite solution.

    Notes
    -----
    b = d'(I - kM)y / d'(I - kM)d. For LIML k is the smallest eigenvalue of ([y d]'M[y d])^-1 [y d]'[y d]
    (Anderson & Rubin 1949, doi:10.1214/aoms/1177730090).
    """
    y, d = model.y, model.d
    kappa = 1.0
    pair = np.column_stack([y, d])
    total, within = pair.T @ pair, model.basis.T @ pair
    between = within.T @ within
    if form == "liml":
        kappa = _smallest_root(total, total - between)
    gram = (1 - kappa) * total + kappa * between
    if not abs(gram[1, 1]) > _NOTHING_LEFT**2 * total[1, 1]:
        raise IrrelevantInstrumentError("LIML has no finite solution for these instruments; use form 2sls")
    estimate = float(gram[0, 1] / gram[1, 1])
    return InstrumentFit(estimate, kappa, float(1 / gram[1, 1]), y - d * estimate)


def _smallest_root(total: np.ndarray, rest: np.ndarray) -> float:
    """Return the smallest k with det(total - k rest) = 0; 1 where the instruments explain everything."""
    scale = np.sqrt(np.maximum(np.diag(total), 1e-300))
    a, b = total / np.outer(scale, scale), rest / np.outer(scale, scale)
    determinant = float(b[0, 0] * b[1, 1] - b[0, 1] ** 2)
    if determinant <= 1e-14:
        return 1.0
    # det(a - k b) = det(b) k^2 - middle k + det(a)
    middle = float(a[0, 0] * b[1, 1] + a[1, 1] * b[0, 0] - 2 * a[0, 1] * b[0, 1])
    last = float(a[0, 0] * a[1, 1] - a[0, 1] ** 2)
    gap = max(middle**2 - 4 * determinant * last, 0.0)
    return float(max(2 * last / (middle + np.sqrt(gap)), 1.0))


def variance(model: Projected, fit: InstrumentFit, kind: str) -> float:
    """Return the variance of a k-class estimate.

    Parameters
    ----------
    kind : str
        `classical` (residual variance over n - k), `classical_n` (over n), `HC0`, `HC1`, `CR0`, `CR1`.

    Notes
    -----
    Residuals are those with the actual treatment, the regressor is the fitted one (White 1982, doi:10.2307/1912631).
    """
    if kind.startswith("classical"):
        df = model.n if kind == "classical_n" else model.df_second
        return float(fit.bread * (fit.residuals @ fit.residuals) / df)
    rows = (model.fitted(model.d) * fit.residuals)[:, None]
    sums = model.scores(rows) if kind.startswith("CR") else rows
    return float(fit.bread**2 * (sums**2).sum() * model.factor(kind, model.df_second))


@dataclass(frozen=True)
class GmmFit:
    """Two-step GMM: estimate, its variance and Hansen's J at the same weight."""

    estimate: float
    variance: float
    hansen_j: float


def fit_gmm(model: Projected, first: InstrumentFit, kind: str) -> GmmFit:
    """Fit two-step GMM with the exogenous columns among the instruments.

    The weight is the inverse of the uncentred mean of zz'u^2 at the two-stage residuals (summed within clusters for
    CR); the variance evaluates it again at the own residuals (Hansen 1982, doi:10.2307/1912775).

    Raises
    ------
    TooFewRowsError
        If that matrix is singular.
    """
    z = np.column_stack([model.exogenous, model.basis])

    def meat(residuals: np.ndarray) -> np.ndarray:
        if kind.startswith("classical"):
            return np.eye(z.shape[1]) * float(residuals @ residuals / model.n)
        rows = z * residuals[:, None]
        sums = model.scores(rows) if kind.startswith("CR") else rows
        return np.asarray(sums.T @ sums)

    # In these bases the exogenous columns are unit vectors and the partialled treatment lies in the instruments only.
    k = model.exogenous.shape[1]
    right = np.zeros((z.shape[1], k + 1))
    right[:k, :k] = np.eye(k)
    right[k:, k] = model.basis.T @ model.d
    target = np.concatenate([np.zeros(k), model.basis.T @ model.y])
    try:
        weight = np.linalg.inv(meat(first.residuals))
        bread = np.linalg.inv(right.T @ weight @ right)
    except np.linalg.LinAlgError as error:
        raise TooFewRowsError(
            "the moments of two-step GMM are linearly dependent; use form 2sls, or deliver more rows or clusters"
        ) from error
    coef = bread @ (right.T @ weight @ target)
    rest = target - right @ coef
    residuals = model.y - model.exogenous @ coef[:k] - model.d * coef[k]
    half = bread @ right.T @ weight
    covariance = half @ meat(residuals) @ half.T * model.factor(kind, model.df_second)
    return GmmFit(float(coef[k]), float(covariance[k, k]), max(float(rest @ weight @ rest), 0.0))
