"""From influence functions of a panel to effects, tables by cohort or time, and bands over all of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cqox_assets.numerics.group_time import Aggregate, Cells, unit_covariance
from cqox_assets.numerics.inference import wald
from cqox_assets.result import Effect, Estimand


class PanelEffects:
    """Turns estimates and their influence into effects of one contrast.

    Parameters
    ----------
    contrast : str
    level : float
    df : float, optional
        Degrees of freedom of intervals; None is the normal distribution.
    cluster : ndarray of int, shape (N,), optional
        Codes of the units' clusters; None if units are independent.
    """

    def __init__(self, contrast: str, level: float, df: float | None, cluster: np.ndarray | None) -> None:
        self.contrast, self.level, self.df, self.cluster = contrast, level, df, cluster

    def effect(self, value: float, influence: np.ndarray, at: Mapping[str, float] | None = None) -> Effect:
        """Return the effect of an estimate with influence values of shape (N,)."""
        error = float(np.sqrt(unit_covariance(influence[:, None], self.cluster)[0, 0]))
        return self.known(float(value), error, at)

    def known(self, value: float, std_error: float, at: Mapping[str, float] | None = None) -> Effect:
        """Return the effect of an estimate with a known standard error; 0 means that there is none."""
        return wald(
            value, std_error, estimand=Estimand.ATT, contrast=self.contrast, level=self.level, df=self.df, at=at or {}
        )

    def cells(self, cells: Cells) -> pd.DataFrame:
        """Return one row per cohort and period: `group`, `time` and the columns of :func:`columns_of`."""
        places = zip(cells.group, cells.time, cells.estimate, cells.influence.T, strict=True)
        return pd.DataFrame([{"group": g, "time": t, **columns_of(self.effect(e, psi))} for g, t, e, psi in places])

    def parts(self, item: Aggregate) -> list[tuple[float, Effect]]:
        """Return the parts of an aggregate by cohort, period or time since treatment."""
        place = {"group": "cohort", "calendar": "time", "dynamic": "event_time"}.get(item.kind, "")
        triples = zip(item.at, item.estimate, item.influence.T, strict=True)
        return [(float(at), self.effect(value, psi, {place: float(at)})) for at, value, psi in triples]

    def aggregations(self, kinds: Sequence[Aggregate]) -> pd.DataFrame:
        """Return overall means (`at` empty) and their parts: `aggregation`, `at` and the columns of an effect."""
        rows: list[dict[str, object]] = []
        for item in kinds:
            overall = self.effect(item.overall, item.overall_influence)
            rows.append({"aggregation": item.kind, "at": None, **columns_of(overall)})
            rows += [{"aggregation": item.kind, "at": at, **columns_of(part)} for at, part in self.parts(item)]
        return pd.DataFrame(rows)


def columns_of(effect: Effect) -> dict[str, float | None]:
    """Return an effect as the columns `estimate`, `std_error`, `low`, `high` and `p_value`."""
    interval = effect.interval
    return {
        "estimate": effect.estimate,
        "std_error": effect.std_error,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p_value": effect.p_value,
    }


def band_table(parts: Sequence[tuple[float, Effect]], quantile: float) -> pd.DataFrame:
    """Return effects by time since treatment with a band of `quantile` standard errors around each."""
    ordered = sorted(parts, key=lambda pair: pair[0])
    table = pd.DataFrame([{"event_time": at, **columns_of(effect)} for at, effect in ordered])
    spread = table["std_error"].astype(float).fillna(0.0)
    return table.assign(band_low=table["estimate"] - quantile * spread, band_high=table["estimate"] + quantile * spread)


def covariance_table(times: Sequence[float] | np.ndarray, covariance: np.ndarray) -> pd.DataFrame:
    """Return the covariance of effects by time since treatment, shape (k, k), as one row per pair of times."""
    first, second = np.repeat(times, len(times)), np.tile(times, len(times))
    return pd.DataFrame({"event_time": first, "other_event_time": second, "covariance": np.ravel(covariance)})
