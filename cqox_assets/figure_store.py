"""Figures into the report store: what was drawn, or why not; a figure that fails takes nothing with it."""

import traceback
from collections.abc import Callable

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures._files import PRINTED, moving_files, render
from cqox_assets.partitions import Partition
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.stored import FigureRecord
from cqox_resources.reports import ReportStore
from cqox_resources.store import UnreachableStoreError

MOVING = ("html", "gif")


def draw(spec: FigureSpec, inputs: Inputs, reports: ReportStore, partition: Partition) -> FigureRecord:
    """Draw the printed form of a figure and store its files; without needs, the record says why."""

    def _stored(folder: str) -> tuple[Drawing, dict[str, str]]:
        drawing = spec.made(inputs)
        for kind in PRINTED:
            reports.write(f"{folder}/{spec.name}.{kind}", render(drawing, kind))
        return drawing, {kind: f"figures/{spec.name}.{kind}" for kind in PRINTED}

    return recorded(spec, reports, f"{partition.path}/figures", _stored)


def draw_moving(spec: FigureSpec, inputs: Inputs, reports: ReportStore, partition: Partition) -> FigureRecord:
    """Draw the forms of a figure that turn or move and store page, animation and single frames."""

    def _stored(folder: str) -> tuple[Drawing, dict[str, str]]:
        files: dict[str, str] = {}
        for form in spec.moving:
            drawing = spec.made(inputs, form)
            for ending, content in moving_files(drawing).items():
                reports.write(f"{folder}/{spec.name}{ending}", content)
                if ending.startswith("."):
                    files[ending[1:]] = f"figures/{spec.name}{ending}"
        return drawing, files

    return recorded(spec, reports, f"{partition.path}/figures", _stored, MOVING)


def forget(reports: ReportStore, folder: str, name: str, kinds: tuple[str, ...] = MOVING) -> None:
    """Remove a figure's files of these kinds, and the single frames with its film."""
    reports.remove(folder, name, kinds)
    if "gif" in kinds:
        reports.clear(f"{folder}/{name}_frames")


def recorded(
    spec: FigureSpec,
    reports: ReportStore,
    folder: str,
    stored: Callable[[str], tuple[Drawing, dict[str, str]]],
    kinds: tuple[str, ...] = (*PRINTED, *MOVING),
) -> FigureRecord:
    """Return what was drawn and stored, or why not; then nothing that was drawn before is left to be shown."""
    try:
        drawing, files = stored(folder)
    except NotDrawnError as error:
        forget(reports, folder, spec.name, kinds)
        return FigureRecord(spec.name, spec.title, spec.question, "not_drawn", error.message)
    except UnreachableStoreError:  # says nothing about the figure, and must not take the one that was drawn before
        raise
    except Exception as error:  # one figure that cannot be drawn must not take the card with it
        forget(reports, folder, spec.name, kinds)
        said = f"{type(error).__name__}: {error}"
        return FigureRecord(spec.name, spec.title, spec.question, "failed", said, alt=traceback.format_exc())
    return FigureRecord(
        spec.name, spec.title, spec.question, "drawn", "", drawing.caption, drawing.alt, files, drawing.data
    )
