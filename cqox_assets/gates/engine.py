"""Runs Great Expectations: one context per process, one batch per frame."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from cqox_assets.errors import ContractError
from cqox_assets.measures import Status

LARGEST = 1.7e308
SEVERITY: Mapping[str, str] = {"block": "critical", "warn": "warning"}
RANK = {Status.PASS: 0, Status.NOT_RUN: 1, Status.WARN: 2, Status.FAIL: 3}  # from best to worst


@dataclass(frozen=True)
class Expected:
    """One expectation of a suite; `limit` says which limit of the gate it stands for: limit, fail or present."""

    gate: str
    limit: str
    kind: str
    severity: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The expectation as Great Expectations names it, with its arguments."""
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in self.kind).lstrip("_")
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


@dataclass(frozen=True)
class Answer:
    """Whether an expectation was met, and the value or the number of rows that was found."""

    success: bool
    value: float | None


@cache
def engine() -> tuple[Any, str]:
    """Import Great Expectations once per process; return a batch definition for any frame, and its version."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("study").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("rows"), f"Great Expectations {gx.__version__}"


def validate(frame: pd.DataFrame, suite: str, expected: Iterable[Expected]) -> dict[tuple[str, str], Answer]:
    """Validate a frame in one batch and return the answers by gate and limit.

    Raises
    ------
    ContractError
        If an expectation could not be evaluated: a bug, because the suites are built from the frame.
    """
    definition, _ = engine()
    import great_expectations as gx
    from great_expectations import expectations as kinds

    built = [
        getattr(kinds, item.kind)(
            **item.arguments, severity=item.severity, meta={"gate": item.gate, "limit": item.limit}
        )
        for item in expected
    ]
    if not built:
        return {}
    batch = definition.get_batch({"dataframe": frame})
    outcome = batch.validate(gx.ExpectationSuite(name=suite, expectations=built), result_format="BASIC")
    answers = {}
    for result in outcome.results:
        meta, found = result.expectation_config.meta, result.result
        problem = _exception(result.exception_info)
        if problem:
            raise ContractError(f"gate '{meta['gate']}' could not be evaluated by Great Expectations: {problem}")
        value = found.get("observed_value", found.get("unexpected_count"))
        plain = float(value) if isinstance(value, (int, float)) or hasattr(value, "item") else None
        answers[meta["gate"], meta["limit"]] = Answer(bool(result.success), plain)
    return answers


def _exception(info: Mapping[str, Any]) -> str:
    """Return the message of the first exception; one per metric or one for the whole expectation."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return ""
