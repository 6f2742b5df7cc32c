"""One place that compiles loops: kept on disk where a folder can be written, anew in each process where none can."""

from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with numba, without the interpreter lock.

    A module of compiled functions is imported inside functions only, because this imports numba.
    """
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba found no folder that it may write to
        return njit(nogil=True)(function)  # type: ignore[no-any-return]
