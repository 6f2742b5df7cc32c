"""One asset per figure of the catalogue, one op per family."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dagster as dg

from cqox_assets.alerts import write_alert
from cqox_assets.assets import stage
from cqox_assets.catalog import load_estimators, load_sensitivities, study_figures
from cqox_assets.figure_store import draw, draw_moving, forget
from cqox_assets.partitions import Partition
from cqox_assets.results import FINDINGS, Results
from cqox_assets.spec import FigureSpec, Inputs
from cqox_assets.stored import FigureRecord
from cqox_resources.reports import ReportStore
from cqox_resources.settings import Settings

DEPS = [
    dg.AssetDep(["gates", "gated_study"]),
    dg.AssetDep(["discovery", "method_plan"]),
    dg.AssetDep(["nuisance", "nuisance_models"]),
    *(dg.AssetDep(["estimates", name]) for name in load_estimators()),
    *(dg.AssetDep(["sensitivity", name]) for name in load_sensitivities()),
    *(dg.AssetDep(["synthesis", name]) for name in FINDINGS),
]
Drawer = Callable[[FigureSpec, Inputs, ReportStore, Partition], FigureRecord]


def family_assets(group: str, family: str, specs: list[FigureSpec], drawer: Drawer) -> dg.AssetsDefinition:
    """Wrap the figures of one family as one op whose figures can be drawn alone.

    Parameters
    ----------
    group : str
        `figures`, or `moving_figures` for what turns or moves; first part of the keys.
    family : str
    specs : list of FigureSpec
    drawer : callable
        Draws one figure and puts its files into the report store.
    """
    shared = stage(group, kinds={"python", "matplotlib"})
    per_figure = {name: shared[name] for name in ("group_name", "owners", "freshness_policy", "kinds", "tags")}
    keys = {spec.name: dg.AssetKey([group, spec.name]) for spec in specs}
    outs = {
        spec.name: dg.AssetOut(
            key=keys[spec.name],
            description=f"**{spec.title}.** {spec.question}\n\n{spec.reference}",
            code_version=spec.version,
            dagster_type=dg.Any,
            is_required=False,
            **per_figure,
        )
        for spec in specs
    }

    @dg.multi_asset(
        name=f"{group}_{family}",
        outs=outs,
        deps=DEPS,
        can_subset=True,
        partitions_def=shared["partitions_def"],
        op_tags=shared["op_tags"],
        pool=shared["pool"],
        check_specs=[
            dg.AssetCheckSpec("drawn", asset=key, description="The figure's needs were met.") for key in keys.values()
        ],
    )
    def _draw(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.MaterializeResult]:
        partition = Partition.parse(context.partition_key)
        present = Results(settings.warehouse).present(partition.key)
        inputs, reports = present.inputs(), ReportStore(settings.reports, settings.reports_url)
        for spec in specs:
            if keys[spec.name] in context.selected_asset_keys:
                if group == "figures" and spec.name not in present.moving:  # those of an earlier study
                    forget(reports, f"{partition.path}/figures", spec.name)
                record = drawer(spec, inputs, reports, partition)
                if record.status == "failed":
                    write_alert(settings, "bug", partition.key, context.run_id, f"{spec.name}: {record.reason}")
                yield _result(keys[spec.name], record, present.fingerprint, reports, partition)

    return _draw


def _result(
    key: dg.AssetKey, record: FigureRecord, fingerprint: str, reports: ReportStore, partition: Partition
) -> dg.MaterializeResult:
    metadata: dict[str, Any] = {
        "fingerprint": fingerprint,
        "status": record.status,
        "question": dg.MetadataValue.md(record.question),
    }
    if record.status == "drawn":
        links = {kind: reports.url(f"{partition.path}/{file}") for kind, file in record.files.items()}
        shown = links.get("svg") or links.get("gif")
        page = f"[Open the page]({links['html']})" if "html" in links else ""
        metadata |= {
            "figure": dg.MetadataValue.md(f"![{_inline(record.alt)}]({shown})" if shown else page),
            "caption": dg.MetadataValue.md(_inline(record.caption)),
            **{kind: dg.MetadataValue.url(link) for kind, link in links.items()},
        }
    else:
        metadata["reason"] = record.reason
    check = dg.AssetCheckResult(
        asset_key=key,
        check_name="drawn",
        passed=record.status == "drawn",
        severity=dg.AssetCheckSeverity.ERROR if record.status == "failed" else dg.AssetCheckSeverity.WARN,
        description=record.reason or record.caption,
    )
    return dg.MaterializeResult(asset_key=key, value=record, metadata=metadata, check_results=[check])


def _inline(text: str) -> str:
    """Return text that can stand between the brackets of a markdown image."""
    return "".join(" " if mark in "[]\n`<>" else mark for mark in text)


def _families(specs: Iterable[FigureSpec]) -> list[tuple[str, list[FigureSpec]]]:
    found: dict[str, list[FigureSpec]] = {}
    for spec in specs:
        found.setdefault(spec.family, []).append(spec)
    return sorted(found.items())


ASSETS = [
    *(family_assets("figures", family, specs, draw) for family, specs in _families(study_figures().values())),
    *(
        family_assets("moving_figures", family, specs, draw_moving)
        for family, specs in _families(spec for spec in study_figures().values() if spec.moving)
    ),
]
