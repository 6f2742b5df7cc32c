"""The typed table that ingestion makes of one or several files."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cqox_assets.ingestion.numbers import EXACT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Rows on disk as one typed Parquet file, and where they came from.

    Parameters
    ----------
    format : str
        csv, tsv, delimited, json, jsonl, excel or parquet; `mixed` if the files of a partition differ.
    encoding, delimiter : str or None
        How the text was written; None where the format has none or the files differ.
    sha256 : str
        Hash of the delivered file; of names and hashes of all files if there are several.
    notices : tuple of str
        What a careful reader should know about how the values were read.
    rows : int
        Number of rows.
    columns : tuple of str
        Names of the columns.
    path : Path
        Parquet file (snappy) with the rows.
    sources : tuple of dict
        Per delivered file: name, sha256, format, encoding, delimiter, rows.
    """

    format: str
    encoding: str | None
    delimiter: str | None
    sha256: str
    notices: tuple[str, ...]
    rows: int
    columns: tuple[str, ...]
    path: Path
    sources: tuple[dict[str, Any], ...]
    home: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.rows

    @property
    def dataset(self) -> Any:
        """The rows as a `pyarrow.dataset.Dataset`, for reading without loading everything."""
        import pyarrow.dataset

        return pyarrow.dataset.dataset(self.path, format="parquet")

    @property
    def frame(self) -> "pd.DataFrame":
        """All rows as a pandas frame, read on demand."""
        return self.read(self.columns)

    def read(self, columns: Sequence[str]) -> "pd.DataFrame":
        """Return some columns of all rows as a pandas frame, in the order given."""
        return to_frame(self.dataset.to_table(columns=list(columns)))

    def preview(self, n: int = 10) -> "pd.DataFrame":
        """Return the first `n` rows as a pandas frame."""
        return to_frame(self.dataset.head(n))

    def facts(self) -> dict[str, Any]:
        """Return everything but the rows, ready for JSON."""
        return {
            "format": self.format,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "sha256": self.sha256,
            "notices": list(self.notices),
            "rows": self.rows,
            "columns": list(self.columns),
            "sources": [dict(source) for source in self.sources],
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], path: Path) -> "Table":
        """Rebuild a table from `facts` and the Parquet file that holds its rows."""
        return cls(
            format=facts["format"],
            encoding=facts["encoding"],
            delimiter=facts["delimiter"],
            sha256=facts["sha256"],
            notices=tuple(facts["notices"]),
            rows=int(facts["rows"]),
            columns=tuple(facts["columns"]),
            path=Path(path),
            sources=tuple(dict(source) for source in facts["sources"]),
        )


def to_frame(table: Any) -> "pd.DataFrame":
    """Turn an Arrow table into a pandas frame without losing a digit.

    Whole numbers with gaps become float64 as long as that is exact and Int64 otherwise; booleans with gaps become
    pandas' nullable boolean.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    nullable: dict[int, Any] = {}
    for place, column in enumerate(table.columns):
        if column.null_count and pa.types.is_boolean(column.type):
            nullable[place] = pd.BooleanDtype()
        if column.null_count and pa.types.is_integer(column.type):
            ends = pc.min_max(column).as_py()
            if ends["min"] is not None and (ends["min"] < -EXACT or ends["max"] > EXACT):
                nullable[place] = pd.Int64Dtype()
    frame: pd.DataFrame = table.to_pandas()
    for place, kind in nullable.items():
        frame[table.schema.names[place]] = pd.array(table.column(place).to_pylist(), dtype=kind)
    return frame
