"""Mean outcome over time of units that start treatment in the same period."""

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study


def paths_of(study: Study) -> pd.DataFrame:
    """Return one row per group and time: group, starts, time, mean, std_error, units.

    Groups are units by their first treated period, the never treated last; the error is that of a mean of
    independent units, unknown (NaN) for one unit.
    """
    frame = pd.DataFrame(
        {
            "unit": study.frame[study.name(Role.UNIT)].to_numpy(),
            "time": study.column(Role.TIME),
            "value": study.column(Role.OUTCOME),
            "weight": 1.0 if study.weights() is None else study.weights(),
        }
    )
    frame["starts"] = starts_of(study)
    frame["starts"] = frame.groupby("unit")["starts"].transform("min")
    grouped = frame.assign(
        moved=frame["value"] * frame["weight"], squared=frame["weight"] ** 2, one=1.0
    ).groupby(["starts", "time"], sort=True)  # fmt: skip
    sums = grouped[["moved", "weight", "squared", "one"]].sum()
    mean = sums["moved"] / sums["weight"]
    joined = frame.join(mean.rename("mean"), on=["starts", "time"])
    rest = (joined["weight"] * (joined["value"] - joined["mean"])) ** 2
    scatter = rest.groupby([joined["starts"], joined["time"]]).sum()
    units = sums["one"]
    error = np.sqrt(scatter * units / (units - 1).where(units > 1)) / sums["weight"]
    rows = pd.DataFrame({"mean": mean, "std_error": error, "units": units.astype(int)}).reset_index()
    rows["group"] = [f"treated from {start:g}" if np.isfinite(start) else "never treated" for start in rows["starts"]]
    return rows[["group", "starts", "time", "mean", "std_error", "units"]]


def starts_of(study: Study) -> np.ndarray:
    """Return the first treated period of each row's unit, infinite for the never treated, shape (n,)."""
    if study.has(Role.COHORT):
        cohort = study.column(Role.COHORT)
        return np.asarray(np.where(np.isfinite(cohort) & (cohort > 0), cohort, np.inf))
    treated = study.column(Role.TREATMENT) > 0
    time = np.where(treated, study.column(Role.TIME), np.inf)
    unit = pd.factorize(study.frame[study.name(Role.UNIT)])[0]
    first = np.full(int(unit.max(initial=-1)) + 1, np.inf)
    np.minimum.at(first, unit, time)
    return np.asarray(first[unit])
