"""The bias that a hidden confounder of given risk ratios can cause."""

import numpy as np


def needed_ratio(with_treatment: np.ndarray, bias: float) -> np.ndarray:
    """Return the risk ratio with the outcome that a confounder needs to cause a bias, given that with the treatment.

    Parameters
    ----------
    with_treatment : ndarray of shape (m,)
        Larger than `bias`.
    bias : float
        Factor on the risk ratio, at least 1.

    Notes
    -----
    The bounding factor a b / (a + b - 1) = bias solved for b (Ding & VanderWeele 2016,
    doi:10.1097/EDE.0000000000000457).
    """
    return np.asarray(bias * (with_treatment - 1) / (with_treatment - bias))
