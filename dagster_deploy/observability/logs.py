"""JSON logs: one object per line with run, partition and trace, from runs and servers alike.

`timestamp`, `level`, `logger` and `event` are named as in Dagster's own JSON format.
"""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from dagster_deploy.observability.identity import run_in, trace_id

#: Events of a run that are told at level info, though Dagster logs all of them at debug.
TOLD = {
    "PIPELINE_START", "PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED", "STEP_SUCCESS", "STEP_FAILURE",
    "STEP_UP_FOR_RETRY", "STEP_RESTARTED",
}  # fmt: skip
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "dagster_meta", "dagster_event",
                                                         "dagster_event_batch_metadata", "taskName"}  # fmt: skip


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object; records of a run's log say run, job, partition, step and trace.

    Parameters
    ----------
    component : str
        `web`, `daemon`, `code-server`, `run` or `exporter`.
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        meta = getattr(record, "dagster_meta", None)
        event = meta["orig_message"] if meta else record.getMessage()
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "component": self._component,
            "event": event,
            **(_of_run(meta) if meta else _of_line(event)),
            **{name: value for name, value in record.__dict__.items() if name not in _PLAIN},
        }
        error = _error(record, meta)
        if error:
            line["exception"] = error
        return json.dumps(line, ensure_ascii=False, default=str)


def _of_run(meta: Mapping[str, Any]) -> dict[str, Any]:
    run_id, event = meta["run_id"], meta["dagster_event"]
    return {
        "run_id": run_id,
        "partition": (meta["job_tags"] or {}).get("dagster/partition"),
        "trace_id": trace_id(run_id) if run_id else None,
        "job": meta["job_name"],
        "step": meta["step_key"],
        "event_type": event.event_type_value if event is not None else None,
    }


def _of_line(event: str) -> dict[str, Any]:
    run_id = run_in(event)
    return {"run_id": run_id, "partition": None, "trace_id": trace_id(run_id) if run_id else None}


def _error(record: logging.LogRecord, meta: Mapping[str, Any] | None) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info)).strip()
    event = meta["dagster_event"] if meta else None
    error = getattr(event.event_specific_data, "error", None) if event is not None else None
    return error.to_string().strip() if error is not None else None


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is now: Dagster puts another one in place while a step runs."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Where to write."""
        return sys.stderr


class RunLines(StandardError):
    """Writes the log of a run as JSON lines: messages from a level on, and the events that say where it is."""

    def __init__(self, level: str) -> None:
        super().__init__()
        self._from: int = logging.getLevelNamesMapping()[level.upper()]
        self.setFormatter(JsonFormatter("run"))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        return max(record.levelno, logging.INFO if _is_told(record) else 0) >= self._from

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the span of the op where the run is traced."""
        meta = getattr(record, "dagster_meta", None)
        added = {"levelname": "INFO"} if _is_told(record) and record.levelno < logging.INFO else {}
        tracing = sys.modules.get("dagster_deploy.observability.tracing")
        span = tracing.open_span_id(meta["run_id"], meta["step_key"]) if meta and tracing is not None else None
        if span:
            added["span_id"] = span
        return super().format(logging.makeLogRecord({**record.__dict__, **added}) if added else record)


def _is_told(record: logging.LogRecord) -> bool:
    meta = getattr(record, "dagster_meta", None)
    event = meta["dagster_event"] if meta else None
    return bool(event is not None and event.event_type_value in TOLD)


def write_json(component: str, level: str, loggers: tuple[str, ...] = ("", "dagster", "dagster-webserver")) -> None:
    """Let loggers of this process write JSON lines; what handlers they have keep their places."""
    formatter, wanted = JsonFormatter(component), logging.getLevelNamesMapping()[level.upper()]
    for name in loggers:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.setFormatter(formatter)
        if not logger.handlers:
            handler = StandardError()
            handler.setFormatter(formatter)
            logger.addHandler(handler)
            logger.propagate = False
        if not name:  # what libraries say at info is of no use to an operator
            logger.setLevel(max(wanted, logging.WARNING) if wanted > logging.DEBUG else wanted)
        elif logger.level == logging.NOTSET:
            logger.setLevel(wanted)
