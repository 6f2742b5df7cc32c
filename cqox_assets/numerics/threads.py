"""One place that decides how many threads linear algebra may use."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

ONE_THREAD_BELOW = 20_000


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread inside the block when there are fewer than 20,000 rows.

    Small matrices gain nothing from a second thread, and on a busy machine threads that wait for one another were
    measured to take tens of times longer than one alone.
    """
    if rows >= ONE_THREAD_BELOW:
        yield
        return
    with _controller(len(sys.modules)).limit(limits=1):
        yield


def workers_for(rows: int) -> int:
    """Return how many threads of our own compiled kernels may run: one below 20,000 rows, else one per CPU."""
    if rows < ONE_THREAD_BELOW:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@lru_cache(maxsize=1)
def _controller(modules: int) -> Any:
    """Return the thread pools of the process; looking for them takes milliseconds, so only after an import."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
