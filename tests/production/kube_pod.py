"""A container of the emulated cluster: a local process, what it may take and what it took."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}


@dataclass
class Pod:
    """A container that ran or runs as a process.

    Parameters
    ----------
    name, job : str
        Of the pod, and of the Job that made it.
    labels : dict
        Of the pod: run, op, job as Dagster names them.
    resources : dict
        Requests and limits of the container.
    """

    name: str
    job: str
    labels: Mapping[str, str]
    resources: Mapping[str, Any]
    log: Path
    started: float
    process: "subprocess.Popen[bytes] | None" = None
    exit_code: int | None = None
    reason: str = ""
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    seconds: float = 0.0
    told_to_stop: float | None = field(default=None, repr=False)

    @property
    def op(self) -> str | None:
        """Op of a step's pod; None for the pod of a run."""
        return self.labels.get("dagster/op")

    @property
    def memory(self) -> float:
        """Limit of the container's memory in bytes."""
        return bytes_of((self.resources.get("limits") or {}).get("memory", "1024Gi"))

    def output(self) -> str:
        """What the container has written."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process, or SIGKILL to all of them, as a kubelet does."""
        if self.process is None:
            raise ValueError(f"pod {self.name} has no process")
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                os.kill(self.process.pid, number)


def bytes_of(quantity: str) -> float:
    """Return a quantity of memory in bytes."""
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def resident(pid: int) -> int:
    """Return the resident memory of a process and its children in bytes."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)
