"""Bridge functions of proximal inference: what outcome proxies and treatment proxies say about a hidden confounder.

y outcome, d treatment, x covariates, w outcome proxies, z treatment proxies. The outcome bridge h is linear with
E[y - h(w, d, x) | z, d, x] = 0; the treatment bridge q of arm a solves E[1(d = a) q(z, x) - 1 | w, x] = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import independent_columns
from cqox_assets.numerics.sample import CollinearTreatmentError, TooFewRowsError

_NOTHING_LEFT = 1e-8


class ProxyError(CqoxError):
    """The proxies cannot identify the effect."""

    code = "irrelevant_proxy"


@dataclass(frozen=True)
class Proxies:
    """Rows with proxies, each scaled by nothing; weights have mean one.

    Parameters
    ----------
    y, d : ndarray of shape (n,)
    x : ndarray of shape (n, k)
        Covariates without the constant.
    w, z : ndarray of shape (n, p), (n, q)
        Outcome and treatment proxies that are no combination of the constant, treatment, covariates and each other.
    weight : ndarray of shape (n,)
    cluster : ndarray of int, shape (n,), optional
    names : tuple of tuple of str
        Of the kept outcome proxies, treatment proxies and covariates.
    dropped : tuple of str
        Columns that were left out as linear combinations of others.
    """

    y: np.ndarray
    d: np.ndarray
    x: np.ndarray
    w: np.ndarray
    z: np.ndarray
    weight: np.ndarray
    cluster: np.ndarray | None
    names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    dropped: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.y)

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Return rows summed within clusters; the rows themselves without clusters."""
        if self.cluster is None:
            return rows
        groups = int(self.cluster.max()) + 1
        return np.column_stack([np.bincount(self.cluster, weights=column, minlength=groups) for column in rows.T])


def arrange(
    columns: dict[str, np.ndarray],
    names: dict[str, Sequence[str]],
    weight: np.ndarray,
    cluster: np.ndarray | None,
    treated: str,
) -> Proxies:
    """Leave out collinear columns and check that the proxies are enough.

    Parameters
    ----------
    columns : dict of str to ndarray
        `y`, `d` of shape (n,); `x`, `w`, `z` of shape (n, k).
    names : dict of str to sequence of str
        Of `x`, `w` and `z`.
    treated : str
        Name of the treatment, for messages.

    Raises
    ------
    CollinearTreatmentError, TooFewRowsError
    ProxyError
        `irrelevant_proxy`: no proxy varies by itself; `too_few_proxies`: fewer treatment than outcome proxies;
        `proxies_coincide`: an outcome proxy is a treatment proxy, or a linear combination of them.
    """
    n, rows = len(columns["y"]), weight > 0
    one, d = np.ones((n, 1)), columns["d"][:, None]
    base = np.column_stack([one, columns["x"]])
    kept_x = independent_columns(base[rows])
    base, total = base[:, kept_x], 2 + columns["x"].shape[1] + columns["w"].shape[1] + columns["z"].shape[1]
    if rows.sum() <= total:
        raise TooFewRowsError(
            f"{int(rows.sum())} rows for {total} columns of treatment, covariates and proxies; "
            "map fewer covariates or deliver more rows than columns"
        )
    exogenous = np.column_stack([base, d])
    if len(independent_columns(exogenous[rows])) < exogenous.shape[1]:
        raise CollinearTreatmentError(
            f"treatment '{treated}' is a linear combination of the covariates; leave out the covariate that restates it"
        )
    kept: dict[str, np.ndarray] = {"x": kept_x[1:] - 1}
    for key in ("w", "z"):
        found = independent_columns(np.column_stack([exogenous, columns[key]])[rows]) - exogenous.shape[1]
        kept[key] = found[found >= 0]
    w_names, z_names, x_names = (tuple(names[key][j] for j in kept[key]) for key in ("w", "z", "x"))
    for own, role, key in ((w_names, "outcome_proxy", "w"), (z_names, "treatment_proxy", "z")):
        if not own:
            listed = ", ".join(f"'{name}'" for name in names[key])
            raise ProxyError(
                f"{role} {listed} is constant or a linear combination of treatment and covariates; "
                f"map a {role} that varies given them"
            )
    if len(z_names) < len(w_names):
        raise ProxyError(
            f"{len(w_names)} outcome proxies need at least as many treatment proxies, and there are {len(z_names)}; "
            "map more treatment proxies or fewer outcome proxies",
            code="too_few_proxies",
        )
    _refuse_copies(
        exogenous[rows], columns["z"][:, kept["z"]][rows], columns["w"][:, kept["w"]][rows], (z_names, w_names)
    )
    lost = [name for key in ("x", "w", "z") for j, name in enumerate(names[key]) if j not in set(kept[key].tolist())]
    return Proxies(
        columns["y"], columns["d"], base[:, 1:], columns["w"][:, kept["w"]], columns["z"][:, kept["z"]], weight,
        cluster, (w_names, z_names, x_names), tuple(lost),
    )  # fmt: skip


def _refuse_copies(
    exogenous: np.ndarray, z: np.ndarray, w: np.ndarray, names: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Refuse outcome proxies that the treatment proxies tell exactly: one variable is no two witnesses."""
    before = exogenous.shape[1] + z.shape[1]
    together = independent_columns(np.column_stack([exogenous, z, w]))
    copied = np.setdiff1d(np.arange(w.shape[1]), together - before)
    if not len(copied):
        return
    alike = [
        name
        for j, name in enumerate(names[0])
        if len(independent_columns(np.column_stack([exogenous, z[:, j], w[:, copied[0]]]))) == exogenous.shape[1] + 1
    ]
    listed, own = ", ".join(f"'{name}'" for name in alike or names[0]), names[1][copied[0]]
    words = "is the same as" if alike else "is a linear combination of"
    raise ProxyError(
        f"outcome_proxy '{own}' {words} treatment_proxy {listed}, given treatment and covariates, so both cannot be "
        "proxies of their own kind; map an outcome proxy and a treatment proxy that are different measurements",
        code="proxies_coincide",
    )


@dataclass(frozen=True)
class Strength:
    """How well the treatment proxies tell the outcome proxies, given treatment and covariates.

    Parameters
    ----------
    correlations : ndarray of shape (p,)
        Canonical correlations, largest first; the smallest is the smallest singular value of the link.
    f_weakest : float
        Effective F of the treatment proxies in the weakest direction of the outcome proxies.
    p_value : float or None
        Of the test that surplus treatment proxies agree; None without a surplus.
    surplus : int
    """

    correlations: np.ndarray
    f_weakest: float
    p_value: float | None
    surplus: int


def _residual(data: Proxies, exogenous: np.ndarray, values: np.ndarray) -> np.ndarray:
    root = np.sqrt(data.weight)[:, None]
    inside = np.linalg.qr(exogenous * root)[0]
    rest = values * root
    spread = np.sqrt((rest**2).sum(axis=0))
    for _ in range(2):  # the second pass removes what rounding left of the first
        rest = rest - inside @ (inside.T @ rest)
    return np.asarray(rest / np.where(spread > 0, spread, 1.0))


def strength(data: Proxies, residuals: np.ndarray, kind: str) -> Strength:
    """Return canonical correlations, the F of the weakest direction and the test of surplus proxies.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Of the pooled outcome bridge, times the square root of the weight.
    kind : str
        `classical`, HC or CR.

    Notes
    -----
    With one outcome proxy the F is the effective first-stage F (Montiel Olea & Pflueger 2013,
    doi:10.1080/00401706.2013.806694); with several it is that of their combination which the treatment proxies tell
    least, as in Cragg & Donald (1993, doi:10.1017/S0266466600007519).
    """
    from scipy.special import chdtrc

    exogenous = np.column_stack([np.ones(data.n), data.x, data.d])
    outer = np.linalg.qr(_residual(data, exogenous, data.w))[0]
    inner = np.linalg.qr(_residual(data, exogenous, data.z))[0]
    left, found, right = np.linalg.svd(inner.T @ outer, full_matrices=True)
    p, q = outer.shape[1], inner.shape[1]
    weakest = outer @ right[-1]
    sums = inner.T @ weakest
    rest = weakest - inner @ sums
    noise = _trace(data, inner, rest, kind, exogenous.shape[1])
    f_value = float(sums @ sums / noise) if noise > 1e-12 * float(sums @ sums) else np.inf
    surplus, p_value = q - p, None
    if surplus and residuals @ residuals > 1e-24 * float(data.weight @ data.y**2):
        apart = inner @ left[:, p:]  # spans what the treatment proxies say beyond the fitted outcome proxies
        moments = apart.T @ residuals
        if kind.startswith("classical"):
            statistic = float(moments @ moments / (residuals @ residuals / data.n))
        else:
            rows = data.sums(apart * residuals[:, None]) if kind.startswith("CR") else apart * residuals[:, None]
            statistic = float(moments @ np.linalg.pinv(rows.T @ rows, hermitian=True) @ moments)
        p_value = float(chdtrc(surplus, max(statistic, 0.0)))
    return Strength(np.clip(found[:p], 0.0, 1.0), f_value, p_value, surplus)


def _trace(data: Proxies, basis: np.ndarray, rest: np.ndarray, kind: str, columns: int) -> float:
    """Trace of the covariance of basis' v, with the small-sample factor of the covariance."""
    q, df = basis.shape[1], max(data.n - columns - basis.shape[1], 1)
    if kind.startswith("classical"):
        return float(q * (rest @ rest) / df)
    rows = basis * rest[:, None]
    factor = data.n / df
    if kind.startswith("CR") and data.cluster is not None:
        groups = int(data.cluster.max()) + 1
        rows, factor = data.sums(rows), groups / (groups - 1) * (data.n - 1) / df
    return float((rows**2).sum() * factor)


@dataclass(frozen=True)
class OutcomeBridge:
    """A linear outcome bridge by two-stage least squares.

    Parameters
    ----------
    coef : ndarray of shape (k,)
        Of the regressors: constant, covariates, treatment if it is among them, outcome proxies.
    fitted : ndarray of shape (n, k)
        Regressors with fitted outcome proxies, times the square root of the weight.
    bread : ndarray of shape (k, k)
        Inverse of fitted'fitted.
    residuals : ndarray of shape (n,)
        With the actual outcome proxies, times the square root of the weight.
    """

    coef: np.ndarray
    fitted: np.ndarray
    bread: np.ndarray
    residuals: np.ndarray

    def influence(self) -> np.ndarray:
        """Return the influence of each row on the coefficients, shape (n, k)."""
        return np.asarray(len(self.residuals) * (self.fitted * self.residuals[:, None]) @ self.bread)

    def variance(self, data: Proxies, position: int, kind: str) -> float:
        """Return the variance of one coefficient: `classical`, `classical_n`, HC0, HC1, CR0 or CR1."""
        n, k = self.fitted.shape
        if kind.startswith("classical"):
            df = n if kind == "classical_n" else n - k
            return float(self.bread[position, position] * (self.residuals @ self.residuals) / df)
        rows = (self.fitted @ self.bread[:, [position]]) * self.residuals[:, None]
        factor = n / (n - k) if kind == "HC1" else 1.0
        if kind.startswith("CR") and data.cluster is not None:
            groups = int(data.cluster.max()) + 1
            rows = data.sums(rows)
            factor = groups / (groups - 1) * (n - 1) / (n - k) if kind == "CR1" else 1.0
        return float((rows**2).sum() * factor)


def fit_outcome_bridge(data: Proxies, rows: np.ndarray | None = None) -> OutcomeBridge:
    """Fit y on constant, covariates, treatment and outcome proxies with treatment proxies as instruments.

    Parameters
    ----------
    data : Proxies
    rows : ndarray of bool, shape (n,), optional
        One arm; the treatment is then no regressor, and what other rows add is zero.

    Raises
    ------
    ProxyError
        If the treatment proxies do not move the outcome proxies at all.
    TooFewRowsError
    """
    root = np.sqrt(data.weight if rows is None else data.weight * rows)[:, None]
    blocks = [np.ones(data.n), data.x] + ([data.d] if rows is None else [])
    exogenous = np.column_stack(blocks) * root
    w, z, y = data.w * root, data.z * root, data.y * root[:, 0]
    counted, columns = int((root > 0).sum()), exogenous.shape[1] + data.z.shape[1]
    if counted <= columns:
        raise TooFewRowsError(f"{counted} rows of an arm for {columns} columns; map fewer covariates or proxies")
    scale = np.sqrt((np.column_stack([exogenous, w]) ** 2).sum(axis=0))
    scale[scale == 0] = 1.0
    basis = np.linalg.qr(np.column_stack([exogenous, z / np.sqrt((z**2).sum(axis=0).clip(1e-300))]))[0]
    regressors = np.column_stack([exogenous, w]) / scale
    fitted = np.column_stack([exogenous, basis @ (basis.T @ w)]) / scale
    if np.linalg.cond(fitted) > 1 / _NOTHING_LEFT:
        raise ProxyError(
            "the treatment proxies do not move the outcome proxies, or not all of them, given treatment and "
            "covariates; map treatment proxies that the hidden confounder moves as well"
        )
    q, r = np.linalg.qr(fitted)
    inverse = np.linalg.inv(r)
    coef = inverse @ (q.T @ y)
    residuals = y - regressors @ coef
    return OutcomeBridge(coef / scale, fitted * scale, (inverse @ inverse.T) / np.outer(scale, scale), residuals)
