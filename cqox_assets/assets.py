"""What every asset has in common: partitions, owner, freshness, checks and how values are shown in the UI."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

import dagster as dg
import pandas as pd
from pydantic import Field, create_model

from cqox_assets.measures import MEASURES, Diagnostic, Status
from cqox_assets.partitions import PARTITIONS
from cqox_assets.spec import CommonParams

OWNERS = ["team:analytics"]
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=62), warn_window=timedelta(days=35))


def _pod(cpu: str, memory: str) -> dict[str, Any]:
    size = {"cpu": cpu, "memory": memory}
    return {"dagster-k8s/config": {"container_config": {"resources": {"requests": size, "limits": size}}}}


# What a pod of an op asks for, by the cost that the catalogue states; and a pod that holds all ops of such a run, one
# after the other. Requests are limits, so that no pod is evicted for what another takes.
K8S_RESOURCES: Mapping[str, Mapping[str, Any]] = {"light": _pod("500m", "1Gi"), "heavy": _pod("2", "4Gi")}
RUN_RESOURCES: Mapping[str, Mapping[str, Any]] = {"light": _pod("1", "2Gi"), "heavy": _pod("2", "8Gi")}


def stage(name: str, *, cost: Literal["light", "heavy"] = "light", kinds: set[str] | None = None) -> dict[str, Any]:
    """Return the keyword arguments that every asset of a stage shares."""
    return {
        "group_name": name,
        "partitions_def": PARTITIONS,
        "owners": OWNERS,
        "freshness_policy": FRESHNESS,
        "kinds": kinds or {"python"},
        "tags": {"stage": name, "cost": cost},
        "op_tags": K8S_RESOURCES[cost],
        "pool": f"{name}_{cost}",
        "dagster_type": dg.Any,
    }


def check_of(item: Diagnostic, key: dg.AssetKey, *, blocking: bool = False) -> dg.AssetCheckResult:
    """Return a diagnostic as an asset check; only `pass` passes, and only what blocks is an error."""
    metadata: dict[str, Any] = {"status": item.status.value, "detail": item.detail, "severity": item.severity}
    if item.value is not None:
        metadata["value"] = float(item.value)
    if item.threshold is not None:
        metadata["threshold"] = float(item.threshold)
    if item.reference:
        metadata["reference"] = item.reference
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=item.name,
        passed=item.status is Status.PASS,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=item.detail,
        metadata=metadata,
    )


def told(key: dg.AssetKey, name: str, passed: bool, said: str) -> dg.AssetCheckResult:
    """Return a check that warns and never blocks."""
    return dg.AssetCheckResult(
        asset_key=key, check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=said
    )


def checks_of(names: Iterable[str], found: Iterable[Diagnostic], key: dg.AssetKey) -> list[dg.AssetCheckResult]:
    """Return one check per declared name; a diagnostic that is missing is `not_run`, which does not pass."""
    by_name = {item.name: item for item in found}
    missing = "not computed, because there is no estimate"
    return [check_of(by_name.get(name) or Diagnostic(name, None, None, Status.NOT_RUN, missing), key) for name in names]


def check_specs(names: Iterable[str], key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the declarations of the checks, described by their measures."""
    return [
        dg.AssetCheckSpec(name, asset=key, description=MEASURES[name].definition if name in MEASURES else None)
        for name in names
    ]


def numbers(values: Mapping[str, float | int | None]) -> dict[str, Any]:
    """Return those values that exist as metadata that plots over partitions."""
    return {
        name: float(value) if isinstance(value, float) else value for name, value in values.items() if value is not None
    }


def markdown_table(frame: pd.DataFrame, limit: int = 20) -> str:
    """Return a frame as a markdown table of at most `limit` rows; cell contents cannot break the table."""
    shown = frame.head(limit)
    head = [_cell(name) for name in shown.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.itertuples(index=False)]
    if len(frame) > limit:
        lines.append(f"\n{len(frame) - limit} more rows.")
    return "\n".join(lines)


def bullets(lines: Iterable[str]) -> str:
    """Return sentences as a markdown list."""
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"
    text = "" if value is None or value is pd.NA else str(value)
    for mark, safe in (("\n", " "), ("|", "\\|"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, safe)
    return text[:300]


def config_for(name: str, params: type[CommonParams]) -> type[dg.Config]:
    """Return the run configuration of a parameter class: every field optional, unset means `study.yaml` or default."""
    entries: dict[str, Any] = {}
    for item in fields(params):
        description, kind = f"default {item.default!r}", _config_type(item.type)
        if get_origin(item.type) is Literal:
            description = f"{' | '.join(map(str, get_args(item.type)))}; {description}"
        entries[item.name] = (kind | None, Field(default=None, description=description))
    return create_model(f"{name.title().replace('_', '')}Config", __base__=dg.Config, **entries)


def given(config: dg.Config) -> dict[str, Any]:
    """Return the parameters that a person has set."""
    return {name: value for name, value in config.model_dump().items() if value is not None}


def _config_type(kind: Any) -> Any:
    for plain in (bool, int, float, str):
        if kind is plain:
            return plain
    origin, arguments = get_origin(kind), [part for part in get_args(kind) if part is not type(None)]
    if origin is Literal:
        return str
    if origin in (tuple, list):
        nested = next((part for part in arguments if get_origin(part) in (tuple, list)), None)
        if nested is not None:
            return list[_config_type(nested)]  # type: ignore[misc]
        return list[str] if str in arguments else list[float]
    if origin in (dict, Mapping):
        return dict[str, Any]
    return _config_type(arguments[0]) if arguments else str


def load_stage_assets() -> list[dg.AssetsDefinition]:
    """Return the assets of every stage, found by walking the packages."""
    import pkgutil
    from importlib import import_module
    from importlib.util import find_spec

    import cqox_assets

    found: list[dg.AssetsDefinition] = []
    for package in pkgutil.iter_modules(cqox_assets.__path__):
        if package.ispkg and find_spec(f"cqox_assets.{package.name}.assets") is not None:
            found += import_module(f"cqox_assets.{package.name}.assets").ASSETS
    return found
