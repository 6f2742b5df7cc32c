"""What the assignment of rows to folds does to a cross-fitted estimate."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

_NOTICEABLE = 0.5


def combined(points: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Return the median over assignments, and its standard error.

    The standard error is the median of sqrt(se^2 + (point - median)^2) (Chernozhukov et al. 2018, definition 3.3,
    doi:10.1111/ectj.12097).
    """
    point = float(np.median(points))
    return point, float(np.median(np.hypot(errors, np.asarray(points) - point)))


def split_table(seeds: Sequence[int], points: Sequence[float], errors: Sequence[float]) -> pd.DataFrame:
    """Return one row per assignment of folds: `seed`, `estimate`, `std_error`."""
    return pd.DataFrame({"seed": list(seeds), "estimate": list(points), "std_error": list(errors)})


def split_notices(table: pd.DataFrame) -> list[str]:
    """Say how far other folds move the estimate; nothing where only one assignment was tried."""
    if len(table) < 2:
        return []
    widest = float(np.ptp(table["estimate"].to_numpy()))
    shares = widest / float(table["std_error"].median())
    words = f"estimates from {len(table)} assignments of rows to folds lie {widest:.3g} apart ({shares:.2f} SE)"
    if shares > _NOTICEABLE and len(table) == 2:
        words += "; repeats: 5 reports the median of five"
    return [words]
