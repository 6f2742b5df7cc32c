"""The inbox as an asset: every file of a partition, read into one typed table."""

import hashlib
import json
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from cqox_assets.assets import bullets, markdown_table, stage, told
from cqox_assets.declaration import Declaration
from cqox_assets.errors import CqoxError, IngestionError
from cqox_assets.ingestion.declared import read_declaration
from cqox_assets.ingestion.inbox import data_files, delivered, is_declaration, quarantine, side_table
from cqox_assets.ingestion.table import Table
from cqox_assets.partitions import Partition
from cqox_assets.stored import Delivery
from cqox_resources.settings import Settings
from cqox_resources.store import explaining

KEY = dg.AssetKey(["ingestion", "raw_table"])


@dg.asset(
    key=KEY,
    description="Every file of the partition in the inbox, read into one typed table, with the declaration beside it.",
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec("every_file_read", asset=KEY, description="No delivered file had to be moved to quarantine.")
    ],
    **stage("ingestion", kinds={"python", "parquet"}),
)
def raw_table(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Read the partition's inbox folder; what cannot be read moves to quarantine with its reason."""
    partition = Partition.parse(context.partition_key)
    folder = settings.inbox / partition.path
    declaration, digest = _declaration(folder)
    tables = _side_tables(folder)
    delivery, refused = _read(settings, partition, folder)
    value = Delivery(delivery, declaration, digest, tables, tuple(refused))
    return dg.MaterializeResult(
        value=value,
        metadata=_metadata(value),
        check_results=[
            told(KEY, "every_file_read", not refused, "; ".join(refused) or "every delivered file was read")
        ],
    )


def _read(settings: Settings, partition: Partition, folder: Path) -> tuple[Table, list[str]]:
    from cqox_assets.ingestion import read_partition

    refused: list[str] = []
    workdir = _workdir(settings)
    while files := data_files(folder):
        try:
            with explaining(workdir):
                table = read_partition(files, workdir)
        except IngestionError as error:
            bad = getattr(error, "path", None)
            quarantine(settings, Path(bad or files[0]), partition.path, error.code, error.message)
            refused.append(error.message)
            continue
        except BaseException:
            shutil.rmtree(workdir, ignore_errors=True)  # on a full disk this is the room that is missing
            raise
        # The I/O manager copies the rows after this function has returned, so the folder lives as long as the table.
        weakref.finalize(table, shutil.rmtree, workdir, ignore_errors=True)
        return table, refused
    shutil.rmtree(workdir, ignore_errors=True)
    if refused:
        raise _stop(
            "unreadable_file",
            f"No file of {partition.key} could be read; quarantine/{partition.path}/ has them: {'; '.join(refused)}",
        )
    raise _stop(
        "empty_inbox",
        f"The inbox folder '{folder.relative_to(settings.home)}' holds no data file; "
        f"put a CSV, JSON, Excel or Parquet file there and materialize {partition.key} again.",
    )


def _workdir(settings: Settings) -> Path:
    """Make a scratch folder, and clear those that a killed run has left more than a day ago."""
    scratch = settings.home / "scratch"
    with explaining(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=scratch))
    limit = made.stat().st_mtime - 86_400  # by the clock of the file system, which may be another machine's
    for old in scratch.iterdir():
        if old.stat().st_mtime < limit:
            shutil.rmtree(old, ignore_errors=True)
    return made


def _declaration(folder: Path) -> tuple[Declaration, str | None]:
    found = [path for path in delivered(folder) if is_declaration(path)]
    if not found:
        return Declaration(), None
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise _stop("several_declarations", f"there are {names}; keep one of them, called study.yaml")
    path = found[0]
    try:
        return read_declaration(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except CqoxError as error:
        # The file stays where it is: without it the study would run as something that nobody declared.
        raise _stop(error.code, error.message) from error


def _side_tables(folder: Path) -> dict[str, pd.DataFrame]:
    from cqox_assets.ingestion import read_table

    tables: dict[str, pd.DataFrame] = {}
    for path in delivered(folder):
        name = side_table(path)
        if name is None:
            continue
        if name in tables:
            raise _stop("several_side_tables", f"{path.name} is a second side table '{name}'; keep one of them")
        try:
            tables[name] = read_table(path).frame
        except IngestionError as error:
            raise _stop(error.code, f"side table {path.name}: {error.message}") from error
    return tables


def _stop(code: str, sentence: str) -> dg.Failure:
    return dg.Failure(description=sentence, metadata={"kind": "input", "code": code}, allow_retries=False)


def _metadata(value: Delivery) -> dict[str, Any]:
    table = value.table
    sources = pd.DataFrame([{**source, "sha256": str(source["sha256"])[:12]} for source in table.sources])
    return {
        "dagster/row_count": table.rows,
        "columns": len(table.columns),
        "sha256": table.sha256,
        "format": table.format,
        "encoding": table.encoding or "binary",
        "sources": dg.MetadataValue.md(markdown_table(sources)),
        "preview": dg.MetadataValue.md(markdown_table(table.preview(5), 5)),
        "notices": dg.MetadataValue.md(bullets(table.notices) or "none"),
        "declaration": dg.MetadataValue.json(json.loads(value.declaration.model_dump_json(exclude_defaults=True))),
        "declared": value.declaration_sha256 or "no study.yaml",
    }


ASSETS = [raw_table]
