"""Gives the log of every run our handlers: JSON lines in place of Dagster's coloured ones, and spans.

Dagster makes the log of a run in one place, `DagsterLogManager.create`, in run workers, step pods and tests alike; its
`python_logs` setting could add handlers, but not take the coloured console away. What is asked for is read from the
environment when a run begins; where nothing is asked for, a run's log is Dagster's own.
"""

import logging
import sys
from collections.abc import Sequence
from functools import wraps
from typing import Any

from dagster_deploy.observability.settings import Observing, SettingError

_MARK = "cqox_attached"


def attach() -> None:
    """Attach once; loading the definitions calls this, so every process that runs code of ours has it."""
    from dagster._core.log_manager import DagsterLogManager

    original = DagsterLogManager.create
    if not getattr(original, _MARK, False):

        @wraps(original)
        def create(
            loggers: Sequence[logging.Logger], handlers: Sequence[logging.Handler] | None = None, **others: Any
        ) -> Any:
            if others.get("dagster_run") is not None:
                settings = settings_of_run()
                loggers = [] if settings.log_format == "json" else loggers
                handlers = [*(handlers or ()), *run_handlers(settings, others["dagster_run"].run_id)]
            return original(loggers, handlers, **others)

        setattr(create, _MARK, True)
        DagsterLogManager.create = staticmethod(create)  # type: ignore[method-assign, assignment]
    _write_json_in_code_server()


def settings_of_run() -> Observing:
    """Return the settings; a wrong one is named and everything is off, because a run must not be lost over its log."""
    try:
        return Observing.from_env()
    except SettingError as error:
        print(f"CQOx tells nothing of this run; correct these settings: {error}", file=sys.stderr, flush=True)
        return Observing()


def run_handlers(settings: Observing, run_id: str) -> list[logging.Handler]:
    """Return what a run is told to; a library of traces is imported for a run that is traced, and no other."""
    from dagster_deploy.observability.identity import is_traced

    found: list[logging.Handler] = []
    if settings.log_format == "json":
        from dagster_deploy.observability.logs import RunLines

        found.append(RunLines(settings.log_level))
    if settings.endpoint and is_traced(run_id, settings.trace_ratio):
        from dagster_deploy.observability.tracing import handler

        found.append(handler(settings.trace_ratio))
    return found


def _write_json_in_code_server() -> None:
    """Change the logs of a code server, which has set them up before it loads us."""
    if "grpc" in sys.argv[1:3] or "code-server" in sys.argv[1:2]:
        settings = settings_of_run()
        if settings.log_format == "json":
            from dagster_deploy.observability.logs import write_json

            write_json("code-server", settings.log_level)
