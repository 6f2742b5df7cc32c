"""An installation of a test's own: code server, daemon and web server as processes, on a database that is given."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from cqox_resources import store
from tests.conftest import ROOT
from tests.production.servers import answers, free_port, stop, wait_for

_INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
storage: {postgres: {postgres_url: {env: CQOX_POSTGRES_URL}}}
run_launcher: {module: dagster_deploy.launcher, class: ProcessRunLauncher}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
concurrency:
  runs:
    max_concurrent_runs: 4
    tag_concurrency_limits: [{key: dagster/partition, value: {applyLimitPerUniqueValue: true}, limit: 1}]
run_retries: {enabled: true, max_retries: 1, retry_on_asset_or_op_failure: false}
run_monitoring: {enabled: true, start_timeout_seconds: 180, poll_interval_seconds: 1}
"""
_WORKSPACE = (
    "load_from: [{{grpc_server: {{host: 127.0.0.1, port: {port}, location_name: dagster_deploy.definitions}}}}]\n"
)
_WEB = """
import pathlib, sys
from dagster_deploy.serve import serve_web
serve_web("127.0.0.1", int(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""
_DONE = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Installation:
    """Processes of one installation under supervision: those that were started and then die are started again.

    Parameters
    ----------
    root : Path
        Empty folder.
    url : str
        Database, as SQLAlchemy reads it.
    module : str
        Code location.
    """

    def __init__(self, root: Path, url: str, module: str = "tests.production.small") -> None:
        self.home, self.dagster_home = root / "home", root / "dagster"
        for folder in (self.home / "control", self.home / "inbox", self.dagster_home):
            folder.mkdir(parents=True)
        (self.dagster_home / "dagster.yaml").write_text(_INSTANCE, "utf-8")
        self.ports = {"code": free_port(), "web": free_port()}
        self.workspace = root / "workspace.yaml"
        self.workspace.write_text(_WORKSPACE.format(port=self.ports["code"]), "utf-8")
        self.environment = {
            **os.environ, "CQOX_HOME": str(self.home), "DAGSTER_HOME": str(self.dagster_home), "CQOX_POSTGRES_URL": url,
            "CQOX_FIRST_PERIOD": "2015-01",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }  # fmt: skip
        listen = ["--host", "127.0.0.1", "--port", str(self.ports["code"])]
        self.commands = {
            "code": ["-m", "dagster", "api", "grpc", *listen, "--module-name", module, "--attribute", "defs"],
            "daemon": ["-m", "dagster_deploy.daemon", "-w", str(self.workspace)],
            "daemon2": ["-m", "dagster_deploy.daemon", "-w", str(self.workspace)],
            "web": ["-c", _WEB, str(self.ports["web"]), str(self.workspace)],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        os.environ["CQOX_POSTGRES_URL"] = url  # the tests' own view of the instance reads it
        self.instance = dg.DagsterInstance.from_config(str(self.dagster_home))

    @property
    def web(self) -> str:
        """Address of the web server."""
        return f"http://127.0.0.1:{self.ports['web']}"

    def start(self, *names: str) -> None:
        """Start processes, in a group each, and wait until the servers among them answer."""
        for name in names:
            with (self.home.parent / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, *self.commands[name]],
                    cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        if "code" in names:
            wait_for(lambda: self.code_answers() or self._ended("code"), 90, lambda: self.log("code"))
        if "web" in names:
            wait_for(lambda: answers(f"{self.web}/server_info") or self._ended("web"), 90, lambda: self.log("web"))

    def _ended(self, name: str) -> bool:
        if self.processes[name].poll() is not None:
            raise RuntimeError(f"'{name}' ended at its start: {self.log(name)}")
        return False

    def code_answers(self) -> bool:
        """Whether the code server answers."""
        from dagster._grpc.client import DagsterGrpcClient

        try:
            return DagsterGrpcClient(port=self.ports["code"], host="127.0.0.1").ping("x") is not None
        except Exception:
            return False

    def kill(self, name: str) -> None:
        """SIGKILL a process and its group, as a container that ends."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart_dead(self) -> list[str]:
        """Start again what has died, as Compose and Kubernetes do; return the names."""
        dead = [name for name, process in self.processes.items() if process.poll() is not None]
        if dead:
            self.start(*dead)
        return dead

    def close(self) -> None:
        """Stop every process, the workers of runs as well."""
        for process in self.processes.values():
            stop(process, 10)
        for said in (self.home / "control").glob("*.here"):
            for line in said.read_text("utf-8").splitlines():
                _kill_worker(int(line.split()[1]))
        self.instance.dispose()

    def log(self, name: str) -> str:
        """Return the end of a process's log."""
        path = self.home.parent / f"{name}.log"
        return path.read_text("utf-8", "replace")[-4000:] if path.exists() else ""

    # What a test does and sees

    def deliver(self, key: str, rows: int = 60, name: str = "data.csv", age_seconds: float = 60) -> Path:
        """Put a small table into the inbox, as one that arrived a while ago."""
        folder = self.home / "inbox" / key.replace("|", "/")
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.part"
        part.write_text("unit,treated,outcome\n" + "".join(f"{i},{i % 2},{i % 7 + i % 2}\n" for i in range(rows)))
        old = time.time() - age_seconds
        os.utime(part, (old, old))
        part.replace(folder / name)
        return folder / name

    def hold(self, key: str) -> None:
        """Let the runs of a partition wait in the middle."""
        self.control(key, "hold").touch()

    def release(self, key: str) -> None:
        """Let them go on."""
        self.control(key, "hold").unlink()

    def control(self, key: str, what: str) -> Path:
        """Return the file that controls or records a partition's runs."""
        return self.home / "control" / f"{key.replace('|', '_')}.{what}"

    def in_the_middle(self, key: str) -> list[int]:
        """Return the process numbers of the runs that came to the middle, in order."""
        said = self.control(key, "here")
        return [int(line.split()[1]) for line in said.read_text("utf-8").splitlines()] if said.exists() else []

    def wait_for_middle(self, key: str, times: int = 1) -> int:
        """Wait until a run of a partition is held in the middle; return its process number."""
        self.wait(lambda: len(self.in_the_middle(key)) >= times, 90)
        return self.in_the_middle(key)[-1]

    def runs(self, key: str) -> list[dg.DagsterRun]:
        """Return the runs of a partition, oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}))))

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition while dead processes are started again; the database may be away."""

        def holds() -> bool:
            self.restart_dead()
            try:
                return condition()
            except Exception:  # the database is away
                return False

        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s:\n{self.log('daemon')}\n{self.log('code')}")
            time.sleep(0.5)  # each look asks the database, and starting a process costs seconds of CPU anyway

    def wait_for_end(self, *keys: str, seconds: float = 120) -> float:
        """Wait until the last run of every partition ended well and the queue is empty; return seconds waited."""
        begun = time.monotonic()

        def ended() -> bool:
            last: dict[str, dg.DagsterRunStatus] = {}
            for run in reversed(self.instance.get_runs()):
                key = run.tags.get("dagster/partition", "")
                last[key] = run.status if run.status in _DONE else dg.DagsterRunStatus.STARTED
            return all(last.get(key) is dg.DagsterRunStatus.SUCCESS for key in keys)

        self.wait(ended, seconds)
        return time.monotonic() - begun

    def lost(self, *keys: str, rows: int = 60) -> list[str]:
        """Return a sentence for everything that is missing: files, results, rows, parts, runs that never ended."""
        found = []
        for key in keys:
            folder = key.replace("|", "/")
            if not list((self.home / "inbox" / folder).glob("data*.csv")):
                found.append(f"{key}: the delivered file is gone")
            for name in ("ingestion/raw_table", "mapping/column_profile", "probe/end"):
                found += self._broken(self.home / "warehouse" / name / folder)
            delivery = self.home / "warehouse" / "ingestion" / "raw_table" / folder
            if not found and (held := len(_frames(delivery)["rows"])) != rows:
                found.append(f"{key}: {held} of {rows} rows are stored")
            found += [f"{key}: run {run.run_id} never ended" for run in self.runs(key) if run.status not in _DONE]
        return found

    @staticmethod
    def _broken(folder: Path) -> list[str]:
        try:
            frames = _frames(folder)
            for name in frames:
                _ = frames[name]
            manifest = json.loads((folder / store.MANIFEST).read_text("utf-8"))
            json.loads((folder / manifest["document"]).read_text("utf-8"))
        except Exception as error:
            return [f"{folder}: {error!r}"]
        return []

    def ask(self, query: str) -> dict[str, Any]:
        """Ask the web server by GraphQL."""
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.web}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read())["data"])


def _frames(folder: Path) -> store.LazyFrames:
    manifest = json.loads((folder / store.MANIFEST).read_text("utf-8"))
    return store.LazyFrames(store.UPath(folder), manifest["frames"])


def _kill_worker(pid: int) -> None:
    """Kill a run's process if that number is still one."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if b"execute_run" in command:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def installation(root: Path, url: str, names: Sequence[str] = ("code", "daemon")) -> Iterator[Installation]:
    """Run an installation with these processes."""
    made = Installation(root, url)
    try:
        made.start(*names)
        yield made
    finally:
        made.close()
