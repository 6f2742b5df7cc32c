"""Spans of runs: run -> op -> stage (load, compute, store), made from the events that every run logs anyway.

Nothing is handed from process to process: the trace is the run's id and the run's span has an id that follows from
it, so the ops of a run in other pods find their parent. A run worker that is killed leaves the spans of its ops, and no
span of the run.
"""

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

from dagster_deploy.observability.identity import is_traced, run_span_id, trace_id

_ENDS = {"PIPELINE_SUCCESS": "success", "PIPELINE_FAILURE": "failure", "PIPELINE_CANCELED": "canceled"}
_STEP_ENDS = {"STEP_SUCCESS": "success", "STEP_FAILURE": "failure", "STEP_UP_FOR_RETRY": "up_for_retry"}
#: A collector that is away holds the end of a run back for so long, once; `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
_TIMEOUT_SECONDS = 3
_PAUSE_SECONDS = 60.0


class _Ids(IdGenerator):
    """Random span ids, except for the span that is told which it has."""

    def __init__(self) -> None:
        self.told: tuple[int, int] | None = None

    def generate_span_id(self) -> int:
        """Return the id that was told, or a random one."""
        return self.told[1] if self.told else secrets.randbits(64) or 1

    def generate_trace_id(self) -> int:
        """Return the trace that was told; spans with a parent do not ask."""
        return self.told[0] if self.told else secrets.randbits(128) or 1


class PatientExporter(SpanExporter):
    """Posts spans over OTLP/HTTP; after one that failed it drops what comes for a minute, and tries no longer."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        named = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{kind}TIMEOUT") for kind in ("", "TRACES_"))
        self._inner = OTLPSpanExporter(timeout=None if named else _TIMEOUT_SECONDS)
        self._failed = -math.inf

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Post the spans, or drop them."""
        if time.monotonic() - self._failed < _PAUSE_SECONDS:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._failed = time.monotonic()
        return result

    def shutdown(self) -> None:
        """Close the connections."""
        self._inner.shutdown()


@dataclass
class _Op:
    span: Span
    since: int  # when the stage began, in Unix nanoseconds
    yielded: int | None = None  # when the value that is stored now was returned


@dataclass
class _Run:
    run_id: str
    started: int
    ops: dict[str, _Op] = field(default_factory=dict)


class SpanHandler(logging.Handler):
    """Turns the events of runs into spans.

    Parameters
    ----------
    ratio : float
        Share of the runs that are traced.
    """

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self._ratio = ratio
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(_service()), id_generator=self._ids, shutdown_on_exit=True
        )
        self._provider.add_span_processor(BatchSpanProcessor(PatientExporter()))
        self._tracer = self._provider.get_tracer("cqox")
        self._runs: dict[str, _Run] = {}
        self._guard = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        """Follow one event; an error here is reported by logging and never reaches the run."""
        try:
            meta: Mapping[str, Any] | None = getattr(record, "dagster_meta", None)
            event = meta["dagster_event"] if meta else None
            if meta is None or event is None or not meta["run_id"] or not is_traced(meta["run_id"], self._ratio):
                return
            with self._guard:
                self._follow(meta, event, int(record.created * 1e9))
        except Exception:  # tracing must not fail a run
            self.handleError(record)

    def span_id(self, run_id: str, step: str | None) -> str | None:
        """Return the span of an op that is under way."""
        run = self._runs.get(run_id)
        op = run.ops.get(step) if run and step else None
        return f"{op.span.get_span_context().span_id:016x}" if op else None

    def _follow(self, meta: Mapping[str, Any], event: Any, now: int) -> None:
        kind, step = event.event_type_value, event.step_key
        run = self._runs.setdefault(meta["run_id"], _Run(meta["run_id"], now))
        if kind == "PIPELINE_START":
            run.started = now
        elif kind in ("STEP_START", "STEP_RESTARTED"):
            run.ops[step] = _Op(self._begin(step, _parent(run.run_id), now, _attributes(meta, step)), now)
        elif step in run.ops:
            self._follow_op(run.ops[step], event, now)
            if kind in _STEP_ENDS:
                _end(run.ops.pop(step).span, _STEP_ENDS[kind], _reason(event), now)
        elif kind in _ENDS:
            self._end_run(run, meta, event, now)

    def _follow_op(self, op: _Op, event: Any, now: int) -> None:
        """End a stage with the event that ends it; what lies between checks belongs to none."""
        kind = event.event_type_value
        if kind == "LOADED_INPUT":
            self._stage(op, "load", op.since, now, {"cqox.input": event.event_specific_data.input_name})
        elif kind == "STEP_OUTPUT":
            op.yielded = now
            return
        elif kind == "HANDLED_OUTPUT":
            returned = op.yielded or now
            self._stage(op, "compute", op.since, returned, {})
            self._stage(op, "store", returned, now, {"cqox.output": event.event_specific_data.output_name})
        elif kind == "STEP_FAILURE":
            self._stage(op, "compute", op.since, now, {}, failed=_reason(event))
        elif kind != "ASSET_CHECK_EVALUATION":
            return
        op.since, op.yielded = now, None

    def _stage(
        self, op: _Op, name: str, start: int, end: int, facts: Mapping[str, str], failed: str | None = None
    ) -> None:
        span = self._begin(name, op.span.get_span_context(), start, facts)
        _end(span, "failure" if failed else "success", failed, end)

    def _begin(self, name: str, parent: SpanContext, start: int, facts: Mapping[str, Any]) -> Span:
        context = set_span_in_context(NonRecordingSpan(parent))
        return self._tracer.start_span(name, context, attributes=facts, start_time=start)  # type: ignore[return-value]

    def _end_run(self, run: _Run, meta: Mapping[str, Any], event: Any, now: int) -> None:
        for op in run.ops.values():
            _end(op.span, "failure", "the run ended first", now)
        self._ids.told = (int(trace_id(run.run_id), 16), run_span_id(run.run_id))
        try:
            span = self._tracer.start_span(
                f"run {meta['job_name']}", set_span_in_context(NonRecordingSpan(_NOBODY)), start_time=run.started,
                attributes=_attributes(meta),
            )  # fmt: skip
        finally:
            self._ids.told = None
        _end(span, _ENDS[event.event_type_value], _reason(event), now)
        self._runs.pop(run.run_id, None)
        self._provider.force_flush()


_NOBODY = SpanContext(0, 0, is_remote=False)


def _parent(run_id: str) -> SpanContext:
    return SpanContext(
        int(trace_id(run_id), 16), run_span_id(run_id), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _attributes(meta: Mapping[str, Any], step: str | None = None) -> dict[str, str]:
    tags = meta["job_tags"] or {}
    found = {
        "cqox.run_id": meta["run_id"],
        "cqox.job": meta["job_name"],
        "cqox.partition": tags.get("dagster/partition"),
        "cqox.step": step,
        "cqox.stage": step.partition("__")[0] if step else None,
    }
    return {name: value for name, value in found.items() if value}


def _end(span: Any, status: str, reason: str | None, now: int) -> None:
    span.set_attribute("cqox.status", status)
    if status not in ("success", "canceled"):
        span.set_status(StatusCode.ERROR, reason)
    span.end(now)


def _reason(event: Any) -> str | None:
    error = getattr(event.event_specific_data, "error", None)
    return error.message.strip()[:500] if error is not None else None


def _service() -> dict[str, str]:
    return {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "cqox"}


_HANDLER: SpanHandler | None = None


def handler(ratio: float) -> SpanHandler:
    """Return the one handler of this process."""
    global _HANDLER
    if _HANDLER is None:
        _HANDLER = SpanHandler(ratio)
    return _HANDLER


def open_span_id(run_id: str, step: str | None) -> str | None:
    """Return the span of an op that is under way in this process, if the run is traced."""
    return _HANDLER.span_id(run_id, step) if _HANDLER is not None else None
