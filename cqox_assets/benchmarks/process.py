"""The parent's side of a worker process: start it, give it tasks, end it when it takes too long."""

import json
import os
import queue
import subprocess
import sys
import threading
from typing import Any

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
_START_SECONDS = 300.0


def environment(threads: int, cache: str | None = None) -> dict[str, str]:
    """Return the variables of a worker: so many threads, byte code written, numba's kernels kept in `cache`."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    if cache is not None:
        variables["NUMBA_CACHE_DIR"] = cache
    return variables


class Worker:
    """A process that measures; it is started at the first task and again after it was ended or died.

    Parameters
    ----------
    threads : int
    timeout : float
        Seconds that one task may take.
    cache : str, optional
        Folder of numba's kernels; its own choice by default.
    """

    def __init__(self, threads: int, timeout: float, cache: str | None = None) -> None:
        self.variables, self.timeout = environment(threads, cache), timeout
        self.hello: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start the process and wait until its imports are done.

        Raises
        ------
        RuntimeError
            If it does not start; the message is the end of what it printed.
        """
        command = [sys.executable, "-m", "cqox_assets.benchmarks.worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=self.variables, bufsize=1,
        )  # fmt: skip
        self._lines = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        line = self._next(_START_SECONDS)
        if not line:
            self.end()
            raise RuntimeError(f"the measuring process did not start; run it to see why: {' '.join(command)}")
        self.hello = json.loads(line)

    def ask(self, task: str, **details: Any) -> dict[str, Any]:
        """Have one task measured; one that takes too long or kills the process is a row that says so."""
        if self._process is None:
            self.start()
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError("the measuring process is not there")
        try:
            process.stdin.write(json.dumps({"task": task, **details}) + "\n")
            process.stdin.flush()
            line = self._next(self.timeout)
        except BrokenPipeError:
            line = ""
        if line:
            return dict(json.loads(line))
        died = process.poll()
        self.end()
        if line is None:
            return {"status": "timed_out", "detail": f"ended after {self.timeout:g} seconds"}
        return {"status": "died", "detail": f"the process ended with exit code {died}"}

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _next(self, seconds: float) -> str | None:
        """Return the next line, an empty one when the process has ended, None when it takes too long."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    if process.stdout is not None:
        try:
            for line in process.stdout:
                lines.put(line)
        except ValueError:  # closed while reading, because the worker was ended
            pass
    lines.put("")
