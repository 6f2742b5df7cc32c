"""Random tables survive the way through any text file; damaged files give a table or a refusal, nothing else."""

import csv
import gzip
import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion import Limits, read_table

ALPHABETS = {
    "utf-8": st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\ufeff"),
    "utf-8-sig": st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\ufeff"),
    "utf-16": st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\ufeff"),
    "cp932": st.sampled_from("日本語東京都大阪府売上高顧客男性女性あいうえおかきくけこアイウエオカキクケコ表示ソ能"),
    "euc_jp": st.sampled_from("日本語東京都大阪府売上高顧客男性女性あいうえおかきくけこアイウエオカキクケコ表示ソ能"),
    "ascii": st.sampled_from("abcXYZ ,;|\t'\"\n()_/#"),
}


@st.composite
def tables(draw):
    encoding = draw(st.sampled_from(sorted(ALPHABETS)))
    rows = draw(st.integers(1, 12))
    texts = st.text(ALPHABETS[encoding], min_size=1, max_size=8).map(
        lambda text: f"値{text}列" if encoding in ("cp932", "euc_jp") else f"w{text.strip()}e"
    )
    makers = {
        "whole": st.integers(-(2**63), 2**63 - 1),
        "real": st.floats(allow_nan=False, allow_infinity=False),
        "text": texts,
        "flag": st.booleans(),
        "day": st.dates().map(str),
    }
    kinds = draw(st.lists(st.sampled_from(sorted(makers)), min_size=1, max_size=4))
    content = {
        f"c{place}_{kind}": draw(st.lists(st.none() | makers[kind], min_size=rows, max_size=rows))
        for place, kind in enumerate(kinds)
    }
    content["key"] = [f"k{place}" for place in range(rows)]
    return encoding, draw(st.sampled_from(",;\t|")), content


def write(encoding, delimiter, content) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerow(content)
    for row in zip(*content.values(), strict=True):
        writer.writerow(["" if cell is None else str(cell) for cell in row])
    return buffer.getvalue().encode(encoding)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_random_tables_come_back_equal(case):
    encoding, delimiter, content = case
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(write(encoding, delimiter, content))
        table = read_table(path)
        got = table.dataset.to_table().to_pydict()
    assert list(got) == list(content)
    for name, values in content.items():
        back = got[name]
        assert [item is None for item in back] == [item is None for item in values], name
        for was, now in zip(values, back, strict=True):
            if was is None:
                continue
            if name.endswith("_day"):
                assert str(now)[:10] == was
            elif name.endswith("_real"):
                assert float(now) == was
            else:
                assert now == was


def _samples() -> list[bytes]:
    text = "id,名前,x\n" + "".join(f"{place:03d},山田{place},{place}.5\n" for place in range(60))
    book = openpyxl.Workbook()
    for row in (["a", "b"], ["x", 1], ["y", 2.5]):
        book.active.append(row)
    excel, parquet, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    book.save(excel)
    pq.write_table(pa.table({"a": ["x", "y"] * 20, "b": [1.5, None] * 20}), parquet)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", text)
    plain = [text.encode(name) for name in ("utf-8", "cp932", "euc_jp", "utf-16")]
    lines = "".join(f'{{"a": {place}, "b": "x{place}", "c": [1, 2]}}\n' for place in range(40)).encode()
    document = b'{"data": [{"a": 1, "b": "x"}, {"a": 2.5, "b": null}]}'
    return [*plain, gzip.compress(plain[0]), packed.getvalue(), excel.getvalue(), parquet.getvalue(), lines, document]


SAMPLES = _samples()


def survives(data: bytes, name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        work = Path(folder) / "work"
        table, refusal = None, None
        try:
            table = read_table(path, workdir=work, limits=Limits(max_document_bytes=20_000_000))
        except IngestionError as error:
            refusal = error
        left = list(work.iterdir()) if work.exists() else []
        if table is None:
            assert refusal is not None
            assert (refusal.path, left) == (path, [])
            assert refusal.message
        else:
            assert len(table.frame) == table.rows > 0
            assert left == [table.path]


NAMES = st.sampled_from(["t.csv", "t.json", "t.jsonl", "t.xlsx", "t.parquet", "t.gz", "t"])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), NAMES)
def test_random_bytes(data, name):
    survives(data, name)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='ab1,;.\t"\n\r {}[]:-$%', max_size=60), NAMES)
def test_random_text(text, name):
    survives(text.encode(), name)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(SAMPLES), st.floats(0, 1), NAMES)
def test_truncated_files(data, share, name):
    survives(data[: int(len(data) * share)], name)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=4),
    NAMES,
)
def test_flipped_bytes(data, flips, name):
    damaged = bytearray(data)
    for where, change in flips:
        damaged[int(len(data) * where)] ^= change
    survives(bytes(damaged), name)
