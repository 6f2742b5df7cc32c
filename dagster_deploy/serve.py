"""Start the product on one machine: our web server and the daemon on loopback.

``python -m dagster_deploy.serve [--samples]`` initialises `CQOX_HOME`, starts both and says where to look.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cqox_resources.settings import Settings
from dagster_deploy.observability.settings import Observing

ROOT = Path(__file__).resolve().parent.parent
FIRST_SAMPLE = "policy|2025-01"
_WAIT_FOR_CARD_SECONDS = 600


def prepare_home(settings: Settings) -> Path:
    """Create `CQOX_HOME` and `DAGSTER_HOME` where they are missing; return the latter."""
    settings.initialise()
    dagster_home = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").absolute()
    dagster_home.mkdir(parents=True, exist_ok=True)
    if not (dagster_home / "dagster.yaml").exists():
        shutil.copy(Path(__file__).parent / "local" / "dagster.yaml", dagster_home / "dagster.yaml")
    os.environ.update(
        CQOX_HOME=str(settings.home),
        DAGSTER_HOME=str(dagster_home),
        GX_ANALYTICS_ENABLED="false",
        DAGSTER_DISABLE_TELEMETRY="yes",
        PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return dagster_home


def free_port(host: str, wanted: int) -> int:
    """Return the wanted port, or one that is free when somebody else has it."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit(f"no port is free on {host}")


def create_storage() -> None:
    """Create Dagster's tables before two processes would do so at the same time."""
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.get_run_records(limit=1)


def start_daemon(workspace: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start the daemon that runs sensors, schedules and the queue; what it and its runs say goes to a file."""
    command = [sys.executable, "-m", "dagster_deploy.observability", "daemon", "-w", str(workspace)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        return subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)


def keep_daemon(workspace: Path, log: Path, stopping: threading.Event) -> None:
    """Run the daemon until it is to stop; start it again when it ends by itself or is killed."""
    while not stopping.is_set():
        daemon = start_daemon(workspace, log)
        while daemon.poll() is None and not stopping.wait(1):
            pass
        if daemon.poll() is None:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
        elif not stopping.wait(2):
            print(f"  The daemon ended (code {daemon.returncode}) and is started again; its log: {log}", flush=True)


def serve_web(host: str, port: int, workspace: Path) -> None:
    """Serve the UI until the process is told to stop."""
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    from dagster_deploy.web import Webserver

    observing = Observing.required()
    if observing.log_format == "json":
        from dagster_deploy.observability.logs import write_json

        write_json("web", observing.log_level)
    with (
        DagsterInstance.get() as instance,
        WorkspaceProcessContext(
            instance, WorkspaceFileTarget([str(workspace)]), code_server_log_level="warning"
        ) as context,
    ):
        app = Webserver(context).create_asgi_app()
        options: dict[str, Any] = {"host": host, "port": port, "log_level": "warning"}
        if observing.log_format == "json":
            options["log_config"] = None  # what uvicorn says goes where the other logs go
        uvicorn.run(app, **options)


def _deliver(settings: Settings, url: str) -> None:
    """Deliver the first sample study, say when its card is there, then deliver the others."""
    from dagster_deploy.samples import deliver

    domain, period = FIRST_SAMPLE.split("|")
    card = Path(str(settings.reports)) / domain / period / "decision_card.html"
    fresh = deliver(settings.home, [FIRST_SAMPLE])
    if fresh or not card.exists():
        print(f"  The study '{FIRST_SAMPLE}' is in the inbox; the sensor takes it within half a minute.", flush=True)
    deadline = time.monotonic() + _WAIT_FOR_CARD_SECONDS
    while not card.exists() and time.monotonic() < deadline:
        time.sleep(1)
    if card.exists():
        print(f"  Decision card: {url}/reports/{domain}/{period}/decision_card.html", flush=True)
    else:
        print(f"  No card yet; look at the runs: {url}/runs", flush=True)
    others = deliver(settings.home)
    if others:
        print(f"  The other sample studies are in the inbox now; all cards: {url}/reports/", flush=True)


def main() -> None:
    """Parse the command line, start web server and daemon, stop both together."""
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("CQOX_PORT") or 3000))
    parser.add_argument("--samples", action="store_true", help="drop the sample studies into the inbox")
    parser.add_argument("--no-daemon", action="store_true", help="only the web server; nothing is picked up or queued")
    options = parser.parse_args()
    settings = Settings.from_env()
    Observing.required()
    prepare_home(settings)
    port, workspace = free_port(options.host, options.port), ROOT / "workspace.yaml"
    url = f"http://{options.host}:{port}"
    if options.samples:
        # The domain profiles of the samples must be there before the definitions are loaded.
        from dagster_deploy.samples import deliver_profiles

        deliver_profiles(settings.home)
    log = settings.home / "logs" / "daemon.log"
    create_storage()
    stopping = threading.Event()
    keeper = threading.Thread(target=keep_daemon, args=(workspace, log, stopping))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if not options.no_daemon:
            keeper.start()
        print(f"\n  CQOx is starting: {url}", flush=True)
        print(f"  Inbox: {settings.inbox}/<domain>/<YYYY-MM>/\n  Log of the runs: {log}\n", flush=True)
        if options.samples:
            threading.Thread(target=_deliver, args=(settings, url), daemon=True).start()
        serve_web(options.host, port, workspace)
    finally:
        stopping.set()
        if keeper.is_alive():
            keeper.join()


if __name__ == "__main__":
    main()
