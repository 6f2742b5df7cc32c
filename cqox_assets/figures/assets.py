"""One asset per figure of the catalogue, one op per family."""

import traceback
from collections.abc import Iterator
from typing import Any

import dagster as dg

from cqox_assets.alerts import write_alert
from cqox_assets.assets import stage
from cqox_assets.catalog import load_estimators, load_figures, load_sensitivities
from cqox_assets.errors import NotDrawnError
from cqox_assets.partitions import Partition
from cqox_assets.results import Results
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
]


def family_assets(family: str, specs: list[FigureSpec]) -> dg.AssetsDefinition:
    """Wrap the figures of one family as one op whose figures can be drawn alone."""
    shared = stage("figures", kinds={"python", "matplotlib"})
    per_figure = {name: shared[name] for name in ("group_name", "owners", "freshness_policy", "kinds", "tags")}
    keys = {spec.name: dg.AssetKey(["figures", spec.name]) for spec in specs}
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
        name=f"figures_{family}",
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
                record = draw(spec, inputs, reports, partition)
                if record.status == "failed":
                    write_alert(settings, "bug", partition.key, context.run_id, f"{spec.name}: {record.reason}")
                yield _result(keys[spec.name], record, present.fingerprint, reports, partition)

    return _draw


def draw(spec: FigureSpec, inputs: Inputs, reports: ReportStore, partition: Partition) -> FigureRecord:
    """Draw one figure in its forms and put its files into the report store; without needs, the record says why."""
    from cqox_assets.figures._files import kinds, render

    folder = f"{partition.path}/figures"
    try:
        drawings = [spec.made(inputs, form) for form in spec.forms]
        files: dict[str, str] = {}
        for drawing in drawings:
            for kind in kinds(drawing):
                if kind not in files:  # the first form is the printed page; the others add what moves or turns
                    reports.write(f"{folder}/{spec.name}.{kind}", render(drawing, kind))
                    files[kind] = f"figures/{spec.name}.{kind}"
    except NotDrawnError as error:
        reports.remove(folder, spec.name)
        return FigureRecord(spec.name, spec.title, spec.question, "not_drawn", error.message)
    except Exception as error:  # one figure that cannot be drawn must not take the card with it
        reports.remove(folder, spec.name)
        said = f"{type(error).__name__}: {error}"
        return FigureRecord(spec.name, spec.title, spec.question, "failed", said, alt=traceback.format_exc())
    first = drawings[0]
    return FigureRecord(spec.name, spec.title, spec.question, "drawn", "", first.caption, first.alt, files, first.data)


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
        metadata |= {
            "figure": dg.MetadataValue.md(f"![{_inline(record.alt)}]({links['svg']})"),
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


def _families() -> dict[str, list[FigureSpec]]:
    found: dict[str, list[FigureSpec]] = {}
    for spec in load_figures().values():
        found.setdefault(spec.family, []).append(spec)
    return found


ASSETS = [family_assets(family, specs) for family, specs in sorted(_families().items())]
