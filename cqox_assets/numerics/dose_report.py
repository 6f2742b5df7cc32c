"""From a fitted dose-response curve to effects and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.numerics.dose import BestDose, DoseData, band_quantile, best_dose
from cqox_assets.numerics.dose_fit import DoseFit
from cqox_assets.numerics.dose_gps import TERMS
from cqox_assets.numerics.dose_support import effective_rows, extrapolated_share
from cqox_assets.numerics.inference import wald
from cqox_assets.result import Effect, Estimand, Interval


class DoseReport:
    """Turns a fitted curve into effects and tables at one confidence level.

    Parameters
    ----------
    data : DoseData
    fit : DoseFit
    name : str
        Of the dose column.
    level : float
    draws, seed : int
        Of the band and of the best dose.
    """

    def __init__(self, data: DoseData, fit: DoseFit, name: str, level: float, draws: int, seed: int) -> None:
        self.data, self.fit, self.name, self.level, self.draws, self.seed = data, fit, name, level, draws, seed
        self.df = None if data.cluster is None else float(data.cluster.max())
        self.covariance = data.covariance(fit.curve.influence)
        self.covariance[np.diag_indices_from(self.covariance)] += fit.curve.spread

    def slope(self) -> Effect:
        """Return the average change of the outcome per unit of dose."""
        curve = self.fit.curve
        error = float(np.hypot(self.data.std_error(curve.slope_influence), np.sqrt(curve.slope_spread)))
        return self._wald(curve.slope, error, estimand=Estimand.SLOPE, contrast=f"one unit of {self.name}")

    def contrasts(self, pairs: Sequence[tuple[float, float]]) -> list[Effect]:
        """Return the mean outcome at the second dose of each pair minus that at the first."""
        effects = []
        for low, high in pairs:
            gap, influence, spread = self.fit.curve.between(low, high)
            error = float(np.hypot(self.data.std_error(influence), np.sqrt(spread)))
            words = f"{high:g} - {low:g} of {self.name}"
            at = {"dose": high} if len(pairs) > 1 else {}
            effects.append(self._wald(gap, error, estimand=Estimand.DOSE_CONTRAST, contrast=words, at=at))
        return effects

    def levels(self, doses: Sequence[float]) -> list[Effect]:
        """Return the mean outcome at each dose, without p-values: that a mean is zero is nobody's question."""
        curve, error = self.fit.curve, np.sqrt(np.diag(self.covariance))
        effects = []
        for dose in doses:
            at = int(np.flatnonzero(curve.doses == dose)[0])
            facts: dict[str, Any] = {"at": {"dose": dose}, "scale": "level", "estimand": Estimand.DOSE_RESPONSE}
            words = f"mean outcome at a dose of {self.name}"
            effect = self._wald(float(curve.estimate[at]), float(error[at]), contrast=words, **facts)
            effects.append(replace(effect, p_value=None))
        return effects

    def _wald(self, value: float, error: float, **facts: Any) -> Effect:
        return wald(value, error, level=self.level, df=self.df, **facts)

    def best(self, grid: np.ndarray) -> dict[str, BestDose]:
        """Return the doses with the `highest` and the `lowest` mean outcome among those of the grid."""
        curve = self.fit.curve
        inside = np.isin(curve.doses, grid)
        covariance = self.covariance[np.ix_(inside, inside)]
        return {
            word: best_dose(curve.doses[inside], curve.estimate[inside], covariance, sign, self.draws, self.seed)
            for word, sign in (("highest", 1.0), ("lowest", -1.0))
        }

    def optimum(self, best: BestDose) -> Effect:
        """Return the best dose, in units of the dose."""
        low, high, spread = self._ends(best)
        return Effect(
            Estimand.OPTIMAL_DOSE, f"best dose of {self.name}", best.dose, spread or None,
            Interval(low, high, self.level), scale="dose", interval_source="percentile of multiplier draws",
        )  # fmt: skip

    def _ends(self, best: BestDose) -> tuple[float, float, float]:
        low, high = np.quantile(best.draws, [0.5 - self.level / 2, 0.5 + self.level / 2])
        return float(low), float(high), float(best.draws.std(ddof=1))

    def optimum_table(self, best: Mapping[str, BestDose]) -> pd.DataFrame:
        """Return one row for the highest and one for the lowest outcome."""
        rows = []
        for word, item in best.items():
            low, high, spread = self._ends(item)
            rows.append(
                {"outcome": word, "dose": item.dose, "std_error": spread, "low": low, "high": high,
                 "mean_outcome": item.outcome, "at_edge": item.at_edge}
            )  # fmt: skip
        return pd.DataFrame(rows)

    def curve_table(self) -> pd.DataFrame:
        """Return one row per dose: estimate, pointwise interval, simultaneous band, and what it rests on."""
        from scipy.special import ndtri, stdtrit

        data, fit, curve = self.data, self.fit, self.fit.curve
        error, upper = np.sqrt(np.diag(self.covariance)), 0.5 + self.level / 2
        pointwise = float(ndtri(upper) if self.df is None else stdtrit(self.df, upper))
        band = max(band_quantile(self.covariance, self.level, self.draws, self.seed), pointwise)
        places = data.scale.place(curve.doses)
        return pd.DataFrame(
            {
                "dose": curve.doses,
                "estimate": curve.estimate,
                "std_error": error,
                "low": curve.estimate - pointwise * error,
                "high": curve.estimate + pointwise * error,
                "band_low": curve.estimate - band * error,
                "band_high": curve.estimate + band * error,
                "effective_rows": effective_rows(places, data.place, data.sampling * fit.ratio, fit.bandwidth),
                "extrapolated": extrapolated_share(places, fit.mean, fit.deviation, fit.residual, data.sampling),
            }
        )

    def gps_table(self) -> pd.DataFrame:
        """Return the coefficients of the GPS outcome model and, last, the variance of its dose model."""
        assert self.fit.gps is not None
        model, found = self.fit.gps
        unit = self.data.scale.unit
        error = self.data.std_error(model.influence[:, -1])
        # The score is the density of the working scale; in units of the dose it is smaller by the scale's unit.
        size = unit ** np.array([0.0, 0.0, 0.0, 1.0, 2.0, 1.0])
        values = [*(found.coef * size), model.variance * unit**2]
        errors = [*(found.std_error * size), error * unit**2]
        return pd.DataFrame(
            {
                "term": [*TERMS, "gps_variance"],
                "estimate": values,
                "std_error": [float(item) if item > 0 else None for item in errors],
            }
        )
