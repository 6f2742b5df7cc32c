"""What the image runs: ``python -m dagster_deploy.production.entrypoint ROLE`` checks the settings, then becomes it.

The pods of runs and ops have no role: Dagster writes their command, which begins with `dagster`, and it is run after
the same check.
"""

import os
import sys
from pathlib import Path

from dagster_deploy.production.check import ROLES, require

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE / "workspace.yaml"
#: A server waits so long for Postgres before it gives up; Kubernetes starts it again.
WAIT_SECONDS = 60.0
DEFAULTS = {
    "CQOX_CODE_HOST": "cqox-code-server",
    "CQOX_CODE_PORT": "4000",
    "CQOX_PORT": "3000",
    "GX_ANALYTICS_ENABLED": "false",
    "DAGSTER_DISABLE_TELEMETRY": "yes",
}


def command(role: str) -> list[str]:
    """Return the command that a role becomes once its settings are good."""
    python = [sys.executable, "-m"]
    listen = ["--host", "0.0.0.0", "--port", os.environ["CQOX_CODE_PORT"]]
    code = ["--module-name", "dagster_deploy.definitions", "--attribute", "defs"]
    # Servers of one image have one identity, or whoever asks them would load the definitions anew at every change of
    # server behind the service.
    name = os.environ.get("CQOX_IMAGE")
    image = ["--container-image", name, "--fixed-server-id", name] if name else []
    return {
        "web": [*python, "dagster_deploy.production.web"],
        "daemon": [*python, "dagster_deploy.observability", "daemon", "-w", str(WORKSPACE)],
        "code-server": [*python, "dagster_deploy.observability", "code-server", *listen, *code, *image],
        "exporter": [*python, "dagster_deploy.observability", "exporter"],
        "migrate": [*python, "dagster", "instance", "migrate"],
    }[role]


def main() -> None:
    """Check the settings and become the role, or the command of a run or an op."""
    arguments = sys.argv[1:]
    role = arguments[0] if arguments else ""
    if role not in {*ROLES, "dagster"} - {"run"}:
        wanted = "web, daemon, code-server, migrate or a command of Dagster"
        print(f"found '{role}'; expected {wanted}", file=sys.stderr)
        raise SystemExit(2)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if role == "dagster":
        require("run")
        os.execv(sys.executable, [sys.executable, "-m", *arguments])
    require(role, WAIT_SECONDS)
    if role == "daemon":
        from dagster_deploy.production.limits import main as set_limits

        set_limits()
    os.execv(sys.executable, command(role))


if __name__ == "__main__":
    main()
