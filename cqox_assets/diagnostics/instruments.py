"""How strong instruments are, whether they contradict one another, and which effects they cannot reject."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cqox_assets.numerics.instruments import InstrumentFit, Projected

_SURELY = 1e-12


@dataclass(frozen=True)
class Test:
    """A test statistic with its degrees of freedom and p-value; `df2` is None for a chi-squared statistic."""

    name: str
    statistic: float
    df1: float
    df2: float | None
    p_value: float


def f_test(name: str, statistic: float, df1: float, df2: float) -> Test:
    """Return an F test."""
    from scipy.special import fdtrc

    return Test(name, statistic, df1, df2, float(fdtrc(df1, df2, max(statistic, 0.0))))


def chi2_test(name: str, statistic: float, df: float) -> Test:
    """Return a chi-squared test."""
    from scipy.special import chdtrc

    return Test(name, statistic, df, None, float(chdtrc(df, max(statistic, 0.0))))


def first_stage(model: Projected, kind: str) -> Test:
    """Return the F test that the instruments do not move the treatment.

    `kind` classical gives the partial F, HC or CR the Wald statistic over q; both have q and n - kw - q (clusters - 1)
    degrees of freedom. A treatment that the instruments determine gives 1e308.
    """
    sums = model.basis.T @ model.d
    rest = model.d - model.basis @ sums
    df = float(model.cluster.max()) if kind.startswith("CR") and model.cluster is not None else float(model.df_first)
    if rest @ rest <= _SURELY * (model.d @ model.d):
        return f_test(f"first_stage_F_{kind}", 1e308, model.q, df)
    covariance = model.moments(rest, rest, kind)
    return f_test(f"first_stage_F_{kind}", float(sums @ np.linalg.pinv(covariance) @ sums / model.q), model.q, df)


def effective_f(model: Projected, kind: str) -> float:
    """Return the effective F statistic d'Pd / trace(Q' Var(v) Q); infinite if nothing of the first stage is noise.

    With orthonormal instruments it is the sum of squared first-stage coefficients over the sum of their variances
    (Montiel Olea & Pflueger 2013, doi:10.1080/00401706.2013.806694). It equals the robust F with one instrument.
    """
    sums = model.basis.T @ model.d
    rest = model.d - model.basis @ sums
    if rest @ rest <= _SURELY * (model.d @ model.d):
        return math.inf
    return float(sums @ sums / np.trace(model.moments(rest, rest, kind)))


def partial_r2(model: Projected) -> float:
    """Return the share of the partialled treatment's variation that the instruments explain."""
    sums = model.basis.T @ model.d
    return float(sums @ sums / (model.d @ model.d))


def wu_hausman(model: Projected) -> Test | None:
    """Return the F test that least squares would do: the first-stage residual added to the outcome equation.

    F(1, n - k - 1) (Wu 1973, doi:10.2307/1914093; Hausman 1978, doi:10.2307/1913827). None when the first-stage
    residual adds nothing or the outcome is fitted without error.
    """
    v = model.d - model.fitted(model.d)
    total = model.d @ model.d
    u = model.y - model.d * float(model.d @ model.y / total)
    v = v - model.d * float(model.d @ v / total)
    if v @ v <= _SURELY * total or model.df_second < 2:
        return None
    gained = float(v @ u) ** 2 / float(v @ v)
    rest = float(u @ u) - gained
    if rest <= _SURELY * float(model.y @ model.y):
        return None
    return f_test("wu_hausman", gained / (rest / (model.df_second - 1)), 1, model.df_second - 1)


def sargan(model: Projected, fit: InstrumentFit) -> Test | None:
    """Return n u'Pu / u'u against chi-squared(q - 1) (Sargan 1958, doi:10.2307/1907619); None if just identified."""
    u = fit.residuals
    if model.q < 2 or u @ u <= _SURELY * (model.y @ model.y):
        return None
    sums = model.basis.T @ u
    return chi2_test("sargan", float(model.n * (sums @ sums) / (u @ u)), model.q - 1)


class AndersonRubin:
    """Test and set of Anderson & Rubin (1949, doi:10.1214/aoms/1177730090), valid however weak instruments are.

    Parameters
    ----------
    model : Projected
    kind : str
        `classical`, or an HC or CR covariance of the moments with the residuals of the same regression.
    scale : float
        A number in units of the estimate, such as its standard error: the set is found in these units around `centre`.

    Notes
    -----
    With s(b) = Q'(y - bd) and V(b) its covariance, quadratic in b, the statistic is s'V^-1 s / q against F(q, df). The
    set is where det(c V(b) - s(b)s(b)') >= 0 with V positive definite: a polynomial in b whose real roots are its ends.
    """

    def __init__(self, model: Projected, kind: str, centre: float, scale: float) -> None:
        y, d = (model.y - centre * model.d) / scale, model.d
        rest_y, rest_d = y - model.fitted(y), d - model.fitted(d)
        self.centre, self.scale, self.q, self.kind = centre, scale, model.q, kind
        clustered = kind.startswith("CR") and model.cluster is not None
        self.df = float(model.cluster.max()) if clustered and model.cluster is not None else float(model.df_first)
        self._sy, self._sd = model.basis.T @ y, model.basis.T @ d
        cross = model.moments(rest_y, rest_d, kind)
        self._v0 = model.moments(rest_y, rest_y, kind)
        self._v1 = -(cross + cross.T)
        self._v2 = model.moments(rest_d, rest_d, kind)

    def _statistic(self, position: float) -> float:
        """Return s'V^-1 s / q at an effect of `centre + position * scale`; infinite positions are the limit."""
        if math.isinf(position):
            sums, covariance = self._sd, self._v2
        else:
            sums = self._sy - position * self._sd
            covariance = self._v0 + position * self._v1 + position**2 * self._v2
        if not np.trace(covariance) > 0:
            return 0.0 if not sums.any() else 1e308
        return float(sums @ np.linalg.pinv(covariance, hermitian=True) @ sums / self.q)

    def test(self, effect: float) -> Test:
        """Test that the effect is `effect`."""
        return f_test("anderson_rubin", self._statistic((effect - self.centre) / self.scale), self.q, self.df)

    def region(self, level: float) -> tuple[tuple[float, float], ...]:
        """Return the effects that are not rejected: pairs in order, possibly none or several, ends maybe infinite."""
        from scipy.special import fdtri

        critical = float(fdtri(self.q, self.df, level))
        ends = [-math.inf, *self._roots(critical * self.q), math.inf]
        pieces: list[tuple[float, float]] = []
        for low, high in pairwise(ends):
            if self._statistic(_inside(low, high)) > critical:
                continue
            if pieces and pieces[-1][1] == low:
                low = pieces.pop()[0]
            pieces.append((low, high))
        return tuple((self.centre + low * self.scale, self.centre + high * self.scale) for low, high in pieces)

    def _roots(self, critical: float) -> list[float]:
        """Return the real roots of det(critical V(b) - s(b)s(b)'), sorted."""
        if self.kind.startswith("classical"):
            # V is a multiple of the identity, so that the determinant is one quadratic times powers of V.
            a = [critical * v[0, 0] for v in (self._v2, self._v1, self._v0)]
            a[0] -= self._sd @ self._sd
            a[1] += 2 * (self._sd @ self._sy)
            a[2] -= self._sy @ self._sy
            found = np.roots(a) if any(a) else np.empty(0)
        else:
            found = self._eigenvalues(critical)
        real = np.isfinite(found) & (np.abs(found.imag) <= 1e-8 * (1 + np.abs(found.real)))
        return sorted(set(found[real].real.tolist()))

    def _eigenvalues(self, critical: float) -> np.ndarray:
        from scipy.linalg import eigvals

        m0 = critical * self._v0 - np.outer(self._sy, self._sy)
        m1 = critical * self._v1 + np.outer(self._sy, self._sd) + np.outer(self._sd, self._sy)
        m2 = critical * self._v2 - np.outer(self._sd, self._sd)
        one, none = np.eye(self.q), np.zeros((self.q, self.q))
        left, right = np.block([[none, one], [-m0, -m1]]), np.block([[one, none], [none, m2]])
        top, bottom = eigvals(left, right, homogeneous_eigvals=True)
        finite = np.abs(bottom) > 1e-13 * np.abs(top)
        return np.asarray(top[finite] / bottom[finite])


def _inside(low: float, high: float) -> float:
    if math.isinf(low) and math.isinf(high):
        return 0.0
    if math.isinf(low):
        return high - 1 - abs(high)
    return low + 1 + abs(low) if math.isinf(high) else (low + high) / 2
