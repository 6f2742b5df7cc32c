"""CPU, wall time and memory of a block of code in this process."""

import ctypes
import gc
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEGABYTE = 2**20


@dataclass
class Cost:
    """What a block of code took.

    Parameters
    ----------
    cpu_s, wall_s : float
        Seconds of this process and the children that it waited for; seconds on the clock.
    peak_mb : float
        How far the resident memory rose above where it stood before the block, in MiB.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0


def cpu_seconds() -> float:
    """CPU seconds, user and system, of this process since it began, and of its finished children."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def memory_method() -> str:
    """How the peak of a block is found on this machine."""
    if os.access(_RESET, os.W_OK):
        return "rise of VmHWM, which is reset before each call, over the resident memory before it"
    return "growth of the largest resident memory of the process (cannot be reset here, so it may be too small)"


def resident_mb() -> float:
    """Resident memory of this process now, in MiB; its largest so far where the system does not say."""
    return _status("VmRSS")


def largest_mb() -> float:
    """Largest resident memory of this process since it began or was last reset, in MiB."""
    return _status("VmHWM")


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block; freed memory is first given back to the system, so that its reuse counts."""
    cost = Cost()
    gc.collect()
    _give_back()
    with suppress(OSError):
        _RESET.write_text("5")
    before, cpu, clock = resident_mb(), cpu_seconds(), time.perf_counter()
    try:
        yield cost
    finally:
        cost.wall_s, cost.cpu_s = time.perf_counter() - clock, cpu_seconds() - cpu
        cost.peak_mb = max(largest_mb() - before, 0.0)


def _status(field: str) -> float:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (_MEGABYTE if sys.platform == "darwin" else 1024)


def _give_back() -> None:
    """Ask the C library to return freed pages; what it keeps would hide what the next block needs."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
