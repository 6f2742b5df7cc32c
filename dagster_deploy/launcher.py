"""Runs as processes of this machine that outlive code server, web server and daemon, and are missed when they die.

Dagster's own launcher starts runs inside the code server: who dies with it leaves a run that counts as started for
ever, and no later run of its partition leaves the queue. Here the daemon starts each run as a process of its own and
notes which one it is; run monitoring asks for it, whoever started it.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import DagsterRun, DagsterRunStatus
from dagster import _check as check
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value

if TYPE_CHECKING:
    from dagster._config.config_schema import UserConfigSchema

WORKER_TAG = "cqox/worker"
_LOOK_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


class ProcessRunLauncher(RunLauncher, ConfigurableClass):
    """Starts `dagster api execute_run` for each run; for one machine, as `K8sRunLauncher` is for a cluster."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What `dagster.yaml` says."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> "UserConfigSchema":
        """There is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Any:
        """Return a launcher."""
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process and note who it is."""
        run = context.dagster_run
        origin = check.not_none(run.job_code_origin, "the run does not say where its code is")
        arguments = ExecuteRunArgs(origin, run.run_id, self._instance.get_ref())
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "api", "execute_run", serialize_value(arguments)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._instance.add_run_tags(run.run_id, {WORKER_TAG: worker_name(process.pid)})
        threading.Thread(target=self._watch, args=(run.run_id, process), daemon=True).start()

    def terminate(self, run_id: str) -> bool:
        """Ask a run to stop; where the process is not ours to signal, the daemon that started it passes this on."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        name = run.tags.get(WORKER_TAG, "")
        if is_alive(name):
            os.kill(int(name.split(":")[1]), signal.SIGINT)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask for a run's process."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process that was noted for the run still exists."""
        name = run.tags.get(WORKER_TAG, "")
        if is_alive(name):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process ({name or 'never noted'}) is gone")

    def _watch(self, run_id: str, process: "subprocess.Popen[bytes]") -> None:
        """Wait for the end of a run's process, pass a wish to stop on, and report a death that it could not."""
        asked = False
        while (code := _ended(process)) is None:
            if not asked and self._status(run_id) is DagsterRunStatus.CANCELING:
                process.send_signal(signal.SIGINT)
                asked = True
        # The storage may be what ended the process: then the report waits until it is back.
        while not self._report_end(run_id, code):
            time.sleep(_LOOK_SECONDS)

    def _report_end(self, run_id: str, code: int) -> bool:
        try:
            run = self._instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                return True
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            message = f"The run's process ended with {how} before the run did."
            if run.status is DagsterRunStatus.CANCELING:
                self._instance.report_run_canceled(run, message)
            else:
                self._instance.report_run_failed(run, message)
        except Exception as error:  # whatever the storage raises while it is away
            _LOG.warning("the end of run %s is not reported yet: %s", run_id, error)
            return False
        return True

    def _status(self, run_id: str) -> DagsterRunStatus | None:
        try:
            run = self._instance.get_run_by_id(run_id)
        except Exception:  # the same; the next look asks again
            return None
        return run.status if run else None


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def worker_name(pid: int) -> str:
    """Return what tells a process from any other, also from a later one with its number: host, number and start."""
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def is_alive(name: str) -> bool:
    """Whether the process of a name runs on this machine."""
    host, _, rest = name.partition(":")
    pid, _, start = rest.partition(":")
    return host == socket.gethostname() and pid.isdigit() and _started(int(pid)) == start != ""


def _started(pid: int) -> str:
    """Return when a process was started, as the system says it; nothing for one that is gone or only waits to be."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "-".join(said.stdout.split()).replace(":", ".")
