"""Every kind of file that people deliver, good and bad, made here and read back."""

import datetime as dt
import gzip
import io
import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion import Limits, Table, read_partition, read_table

PEOPLE = "id,名前,年齢,収入\n007,山田太郎,34,1200.5\n008,鈴木花子,,980.25\n010,高橋ソノ表,51,NA\n"


def put(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def refusal(path: Path, **options: object) -> IngestionError:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(IngestionError) as caught:
        read_table(path, **options)
    assert caught.value.path == path
    assert path.name in caught.value.message
    assert "\n" not in caught.value.message
    assert sorted(path.parent.rglob("*")) == before
    return caught.value


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def column(tmp_path: Path, values: list[str], delimiter: str = "\t") -> tuple[Table, list[object]]:
    """Read one text column beside a plain one."""
    rows = "".join(f"r{place}{delimiter}{value}\n" for place, value in enumerate(values))
    table = read_table(put(tmp_path, "column.txt", f"key{delimiter}v\n{rows}"))
    return table, table.dataset.to_table().column("v").to_pylist()


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp932", "shift_jis", "euc_jp", "iso2022_jp"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("pack", ["plain", "gz", "zip"])
def test_japanese_files_in_every_encoding(tmp_path, encoding, pack):
    data = PEOPLE.encode(encoding)
    data = {"plain": data, "gz": gzip.compress(data), "zip": zipped({"__MACOSX/._x": b"?", "people.csv": data})}[pack]
    table = read_table(put(tmp_path, f"people.csv{'' if pack == 'plain' else '.' + pack}", data))
    assert table.encoding == {"shift_jis": "cp932"}.get(encoding, encoding)
    assert (table.format, table.delimiter, table.rows) == ("csv", ",", 3)
    assert table.columns == ("id", "名前", "年齢", "収入")
    frame = table.frame
    assert frame["id"].tolist() == ["007", "008", "010"]
    assert frame["名前"].tolist() == ["山田太郎", "鈴木花子", "高橋ソノ表"]
    assert frame["収入"].dropna().tolist() == [1200.5, 980.25]


WESTERN = {
    "latin-1": ["José", "Hélène", "Köln", "Ærø", "señor", "façade", "Zoë"],
    "cp1252": ["Müller – Söhne", "5 €", "l’été", "“quoted”", "Šárka"],
}


@pytest.mark.parametrize("encoding", WESTERN)
@pytest.mark.parametrize("padding", [0, 100_000])
def test_western_files(tmp_path, encoding, padding):
    words = ["plain"] * padding + WESTERN[encoding]
    table = read_table(put(tmp_path, "w.csv", "name;v\n" + "".join(f"{word};1\n" for word in words), encoding))
    assert table.encoding == encoding
    assert table.frame["name"].tolist() == words


@pytest.mark.parametrize("word", ["café", "Zürich", "naïve", "élève", "Ångström", "España", "Köln"])
def test_one_accented_word_is_not_taken_for_japanese(tmp_path, word):
    table = read_table(put(tmp_path, "w.csv", f"name,v\n{word},1\nb,2\n", "latin-1"))
    assert table.frame["name"][0] == word


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp"])
@pytest.mark.parametrize("word", ["東京", "表示", "テスト", "ひらがな", "売上高（円）", "新規顧客", "株式会社"])
@pytest.mark.parametrize("padding", [0, 300_000])
def test_japanese_words_that_appear_late(tmp_path, encoding, word, padding):
    text = "name,v\n" + "abc,1\n" * padding + f"{word},2\n"
    table = read_table(put(tmp_path, "w.csv", text, encoding))
    assert table.encoding == encoding
    assert table.frame["name"].iloc[-1] == word


def test_half_width_katakana(tmp_path):
    table = read_table(put(tmp_path, "w.csv", "name,v\nｶﾌﾞｼｷｶﾞｲｼｬ,1\nﾔﾏﾀﾞﾀﾛｳ,2\n", "cp932"))
    assert table.frame["name"].tolist() == ["ｶﾌﾞｼｷｶﾞｲｼｬ", "ﾔﾏﾀﾞﾀﾛｳ"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "^", "~", ":", " ", "\x01"])
def test_delimiters(tmp_path, delimiter):
    rows = [["city", "n", "share"], ["Rome", "1", "0.5"], ["Oslo", "2", "0.25"]]
    table = read_table(put(tmp_path, "t.txt", "\n".join(delimiter.join(row) for row in rows)))
    assert table.delimiter == delimiter
    assert table.frame.to_dict("list") == {"city": ["Rome", "Oslo"], "n": [1, 2], "share": [0.5, 0.25]}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_quotes_and_line_breaks_inside_cells(tmp_path, newline):
    text = newline.join(["a,b", f'1,"x{newline}y, ""z"""', "2,plain", ""])
    assert read_table(put(tmp_path, "q.csv", text)).frame["b"].tolist() == [f'x{newline}y, "z"', "plain"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_columns_set_apart_by_runs_of_blanks(tmp_path, newline):
    lines = ["name     age     x", *(f"bob{place:<6} {place % 90:>3}  {place / 8:>9}  " for place in range(90_000)), ""]
    frame = read_table(put(tmp_path, "t.txt", newline.join(lines))).frame
    assert list(frame.columns) == ["name", "age", "x"]
    assert frame["x"].tolist() == [place / 8 for place in range(90_000)]
    bare = read_table(put(tmp_path, "u.txt", "  1.0e+00  3.7e+01\n  0.0e+00  2.2e+01\n"))
    assert bare.frame.to_dict("list") == {"column_1": [1.0, 0.0], "column_2": [37.0, 22.0]}


def test_free_text_with_commas_in_a_semicolon_file(tmp_path):
    table = read_table(put(tmp_path, "q.csv", "name;remark\nx;a, b\ny;c, d\n"))
    assert table.delimiter == ";"
    assert table.frame["remark"].tolist() == ["a, b", "c, d"]


NUMBERS = [
    (["1", "2", ""], ["1", "2", None], pa.int64()),
    (["1.5", "2", "NA"], [1.5, 2.0, None], pa.float64()),
    (["007", "008"], ["007", "008"], pa.string()),
    (["0", "0.5", "-0.25"], [0.0, 0.5, -0.25], pa.float64()),
    (["0x1F", "3"], ["0x1F", "3"], pa.string()),
    (["9007199254740993", "-1"], [9007199254740993, -1], pa.int64()),
    (["9007199254740993", "1.5"], ["9007199254740993", "1.5"], pa.string()),
    (["12345678901234567890", "1"], ["12345678901234567890", "1"], pa.string()),
    (["0.1234567890123456789", "2"], ["0.1234567890123456789", "2"], pa.string()),
    (["0.12345678901234567", "2"], [0.12345678901234567, 2.0], pa.float64()),
    (["1.500000000000000000000", "2"], [1.5, 2.0], pa.float64()),
    (["1.234,56", "12,5", "-3"], [1234.56, 12.5, -3.0], pa.float64()),
    (["1,234.50", "2"], [1234.5, 2.0], pa.float64()),
    (["1,234,567", "2"], [1234567, 2], pa.int64()),
    (["1 234,5", "2 000"], [1234.5, 2000.0], pa.float64()),
    (["1\u00a0234", "2\u202f000"], [1234, 2000], pa.int64()),
    (["1'234.5", "2"], [1234.5, 2.0], pa.float64()),
    (["$5", "$1,200.50", "-$3"], [5.0, 1200.5, -3.0], pa.float64()),
    (["5,00 €", "1.200,50 €"], [5.0, 1200.5], pa.float64()),
    (["¥1,200", "¥300"], [1200, 300], pa.int64()),
    (["1,200円", "300円"], [1200, 300], pa.int64()),
    (["12%", "3.5%", ""], [12.0, 3.5, None], pa.float64()),
    (["$5", "6"], ["$5", "6"], pa.string()),
    (["１２３", "▲５"], [123, -5], pa.int64()),
    (["+5", "-3"], [5, -3], pa.int64()),
    (["1e5", "2E-3"], [1e5, 2e-3], pa.float64()),
    (["1e999", "2"], ["1e999", "2"], pa.string()),
    (["inf", "-1.5"], [float("inf"), -1.5], pa.float64()),
    ([" 5 ", "6", " "], [5, 6, None], pa.int64()),
    (["true", "FALSE", ""], [True, False, None], pa.bool_()),
    (["yes", "no"], ["yes", "no"], pa.string()),
]


@pytest.mark.parametrize(("values", "wanted", "kind"), NUMBERS, ids=[" ".join(case[0]) for case in NUMBERS])
def test_numbers_lose_no_digit(tmp_path, values, wanted, kind):
    table, found = column(tmp_path, values)
    assert table.dataset.schema.field("v").type == kind
    assert found == [int(item) if kind == pa.int64() and item is not None else item for item in wanted]


def test_ambiguous_commas_follow_the_rest_of_the_file(tmp_path):
    table = read_table(put(tmp_path, "a.csv", "x;y\n1,234;2,5\n5,678;3,25\n"))
    assert table.frame["x"].tolist() == [1.234, 5.678]
    assert any("leave open" in notice for notice in table.notices)
    quoted = read_table(put(tmp_path, "b.csv", 'x,y\n"1,234",2.5\n"5,678",3.25\n'))
    assert quoted.frame["x"].tolist() == [1234, 5678]


def test_a_late_value_decides_the_type(tmp_path):
    rows = "".join(f"{value},{value}\n" for value in range(900_000))
    table = read_table(put(tmp_path, "late.csv", f"a,b\n{rows}007,2.5\n"))
    assert [str(kind) for kind in table.dataset.schema.types] == ["string", "double"]
    assert table.frame["a"].iloc[[0, -1]].tolist() == ["0", "007"]


MISSING = [
    "NA",
    "N/A",
    "n/a",
    "null",
    "None",
    "-",
    ".",
    "?",
    "missing",
    "欠損",
    "不明",
    "なし",
    "k.A.",
    "NaN",
    "#N/A",
    "",
]


@pytest.mark.parametrize("word", MISSING)
@pytest.mark.parametrize(
    "others", [["1", "2"], ["x", "y"], ["2024-01-31", "2024-02-01"]], ids=["number", "text", "date"]
)
def test_words_for_missing_values(tmp_path, word, others):
    table, found = column(tmp_path, [others[0], word, others[1]])
    assert [item is None for item in found] == [False, True, False]
    assert not word or any(f"'{word}'" in notice for notice in table.notices)


@pytest.mark.parametrize(("word", "opposite"), [("なし", "あり"), ("-", "+")])
def test_a_word_beside_its_opposite_is_a_level(tmp_path, word, opposite):
    table, found = column(tmp_path, [word, opposite, word])
    assert found == [word, opposite, word]
    assert any("kept as a level" in notice for notice in table.notices)


def test_sentinel_numbers_are_reported_and_kept(tmp_path):
    table, found = column(tmp_path, ["30", "-999", "41", "9999", "9999"])
    assert found == [30, -999, 41, 9999, 9999]
    assert [notice.split()[0] for notice in table.notices] == ["-999", "9999"]
    plain, _ = column(tmp_path, ["-998", "-999", "-1000", "9999", "10000"])
    assert plain.notices == ()


NEW_YEAR = dt.datetime(2024, 12, 31)
DATES = [
    (["2024-12-31", ""], NEW_YEAR),
    (["2024-12-31 00:00:00", "2024-01-01 10:20:30.5"], NEW_YEAR),
    (["2024-12-31T01:00:00+01:00", "2024-01-01T00:00:00Z"], NEW_YEAR),
    (["2024/12/31", "2024/1/5"], NEW_YEAR),
    (["31.12.2024", "1.2.2024"], NEW_YEAR),
    (["31.12.24", "01.02.24"], NEW_YEAR),
    (["12/31/2024", "1/2/2024"], NEW_YEAR),
    (["31/12/2024", "1/2/2024"], NEW_YEAR),
    (["12/31/2024 12:00 AM", "1/2/2024 1:30 PM"], NEW_YEAR),
    (["31-Dec-2024", "1-feb-2024"], NEW_YEAR),
    (["December 31, 2024", "May 1, 2024"], NEW_YEAR),
    (["2024年12月31日", "２０２４年1月1日"], NEW_YEAR),
]


@pytest.mark.parametrize(("values", "first"), DATES, ids=[case[0][0] for case in DATES])
def test_dates(tmp_path, values, first):
    _, found = column(tmp_path, values)
    assert found[0] == first
    assert all(item is None or isinstance(item, dt.datetime) for item in found)


@pytest.mark.parametrize("values", [["2024-01-31", "2024-02-30"], ["2024-01-31", "soon"], ["13/13/2024", "1/1/2024"]])
def test_one_bad_date_keeps_the_column_text(tmp_path, values):
    assert column(tmp_path, values)[1] == values


def test_ambiguous_dates_follow_the_other_columns_and_are_reported(tmp_path):
    alone, found = column(tmp_path, ["1/2/2024", "3/4/2024"])
    assert any("ambiguous" in notice for notice in alone.notices)
    assert found[0] == dt.datetime(2024, 1, 2)
    table = read_table(put(tmp_path, "d.csv", "a,b\n1/2/2024,25/12/2023\n3/4/2024,1/1/2024\n"))
    assert table.frame["a"][0] == pd.Timestamp(2024, 2, 1)


def test_headers(tmp_path):
    plain = read_table(put(tmp_path, "a.csv", "1,2.5,3\n4,5.5,6\n"))
    assert plain.columns == ("column_1", "column_2", "column_3")
    assert plain.rows == 2
    assert any("no header" in notice for notice in plain.notices)
    assert read_table(put(tmp_path, "b.csv", ",x,\n0,1,5\n1,2,6\n")).columns == ("column_1", "x", "column_3")
    assert read_table(put(tmp_path, "c.csv", "Unnamed: 0, x ,y\n0,1,5\n")).columns == ("column_1", "x", "y")
    assert read_table(put(tmp_path, "d.csv", "country,2019,2020\nA,5,6\n")).columns == ("country", "2019", "2020")
    mixed = read_table(put(tmp_path, "e.csv", "john,34,5.6\nmary,28,4.5\n"))
    assert mixed.rows == 2
    titled = read_table(put(tmp_path, "f.csv", "Sales 2024\n\nid,x,y\n1,2,3\n"))
    assert titled.columns == ("id", "x", "y")


def test_empty_columns_and_rows_at_the_end_are_dropped(tmp_path):
    table = read_table(put(tmp_path, "a.csv", "a,b,,\n1,2,,\n,3,,\n,,,\n,,,\n"))
    assert (table.columns, table.rows) == (("a", "b"), 2)
    assert any("2 empty row(s)" in notice for notice in table.notices)
    assert any("2 empty column(s)" in notice for notice in table.notices)


RECORDS = [{"a": 1, "b": "x", "big": 9007199254740993}, {"a": 2.5, "b": None, "big": 1}]
JSONS = {
    "records": RECORDS,
    "columns": {"a": [1, 2.5], "b": ["x", None], "big": [9007199254740993, 1]},
    "wrapped": {"data": RECORDS, "meta": {"source": "x"}},
    "pandas": {"a": {"0": 1, "1": 2.5}, "b": {"0": "x", "1": None}, "big": {"0": 9007199254740993, "1": 1}},
    "split": {"columns": ["a", "b", "big"], "index": [0, 1], "data": [[1, "x", 9007199254740993], [2.5, None, 1]]},
    "rows": [["a", "b", "big"], [1, "x", 9007199254740993], [2.5, None, 1]],
}


@pytest.mark.parametrize("shape", JSONS)
def test_json_documents(tmp_path, shape):
    table = read_table(put(tmp_path, "t.json", json.dumps(JSONS[shape], indent=1)))
    assert table.format == "json"
    assert table.frame["a"].tolist() == [1.0, 2.5]
    assert table.frame["b"].fillna("-").tolist() == ["x", "-"]
    assert table.frame["big"].tolist() == [9007199254740993, 1]


def test_json_lines(tmp_path):
    lines = [*RECORDS, {"a": "NA", "c": {"k": [1]}, "when": "2024-01-31"}]
    table = read_table(put(tmp_path, "t.jsonl", "\n".join(json.dumps(line) for line in lines)))
    assert (table.format, table.rows) == ("jsonl", 3)
    got = table.dataset.to_table().to_pydict()
    assert got["a"] == [1.0, 2.5, None]
    assert got["big"] == [9007199254740993, 1, None]
    assert got["c"] == [None, None, '{"k": [1]}']
    assert got["when"][2] == dt.datetime(2024, 1, 31)


def test_json_lines_of_many_blocks(tmp_path):
    lines = (json.dumps({"id": f"{i:06d}", "x": i / 7, "when": "2024-01-31"}) for i in range(300_000))
    table = read_table(put(tmp_path, "t.jsonl", "\n".join(lines) + '\n{"id": "z", "x": 1, "new": 5}\n'))
    frame = table.frame
    assert frame["x"][:300_000].tolist() == [i / 7 for i in range(300_000)]
    assert frame["id"].iloc[[0, -1]].tolist() == ["000000", "z"]
    assert str(frame["when"].dtype) == "datetime64[us]"
    assert table.columns == ("id", "x", "when", "new")


def workbook(titles: int = 0) -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Read me"
    book.active.append(["These are the data of 2024."])
    sheet = book.create_sheet("Data")
    for place in range(titles):
        sheet.append([f"Title {place}"])
    sheet.append(["id", "n", "x", "when", "flag", None])
    sheet.append(["007", 1, 1.5, dt.date(2024, 1, 31), True])
    sheet.append(["008", 2, "NA", dt.datetime(2024, 2, 1), False])
    sheet.append([])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("titles", [0, 3])
@pytest.mark.parametrize("name", ["t.xlsx", "t.csv"])
def test_excel(tmp_path, titles, name):
    table = read_table(put(tmp_path, name, workbook(titles)))
    assert (table.format, table.encoding, table.columns) == ("excel", None, ("id", "n", "x", "when", "flag"))
    got = table.dataset.to_table().to_pydict()
    assert got["id"] == ["007", "008"]
    assert got["n"] == [1, 2]
    assert got["x"] == [1.5, None]
    assert got["when"] == [dt.datetime(2024, 1, 31), dt.datetime(2024, 2, 1)]
    assert got["flag"] == [True, False]
    assert any("Read me" in notice for notice in table.notices)
    assert any("suffix" in notice for notice in table.notices) == (name == "t.csv")


def parquet() -> bytes:
    table = pa.table(
        {
            "id": pa.array(["007", None]),
            "n": pa.array([1, None], pa.int32()),
            "big": pa.array([2**53 + 1, None]),
            "d": pa.array([dt.date(2024, 1, 31), None]),
            "level": pa.array(["a", "b"]).dictionary_encode(),
            "list": pa.array([[1], [2, 3]]),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.parquet.gz", "t.zip"])
def test_parquet(tmp_path, name):
    data = parquet()
    data = gzip.compress(data) if name.endswith("gz") else zipped({"t.parquet": data}) if name == "t.zip" else data
    table = read_table(put(tmp_path, name, data))
    assert table.format == "parquet"
    frame = table.frame
    assert frame["id"][0] == "007"
    assert frame["big"][0] == 2**53 + 1
    assert frame["d"][0] == pd.Timestamp(2024, 1, 31)
    assert frame["list"].tolist() == ["[1]", "[2, 3]"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.xlsx", b"a,b\n1,2\n"),
        ("t.json", b"a,b\n1,2\n"),
        ("t", gzip.compress(b"a,b\n1,2\n", mtime=0)),
        ("t.csv", gzip.compress(b"a,b\n1,2\n", mtime=0)),
        ("t.csv", zipped({"inner.dat": b"a,b\n1,2\n"})),
        ("t.csv", b'{"a": 1, "b": 2}'),
        ("t.csv", b'[{"a": 1, "b": 2}]'),
        ("t.zip", zipped({"x.zip": zipped({"t.csv.gz": gzip.compress(b"a,b\n1,2\n", mtime=0)})})),
        ("t.csv.gz", gzip.compress(b"a,b\n", mtime=0) + gzip.compress(b"1,2\n", mtime=0)),
    ],
)
def test_the_content_decides_not_the_suffix(tmp_path, name, data):
    assert read_table(put(tmp_path, name, data)).frame.to_dict("list") == {"a": [1], "b": [2]}


def noise(size: int) -> bytes:
    return np.random.default_rng(5).integers(0, 256, size, dtype=np.uint8).tobytes()


LONG = "a,b\n" + "".join(f"{place},x{place}\n" for place in range(5000))
REFUSED = {
    "empty": ("t.csv", b"", "empty_file"),
    "blank": ("t.csv", b" \n\r\n", "empty_file"),
    "bom only": ("t.csv", b"\xef\xbb\xbf", "empty_file"),
    "empty gz": ("t.csv.gz", gzip.compress(b"", mtime=0), "empty_file"),
    "header only": ("t.csv", b"a,b\n", "header_only"),
    "header and empty rows": ("t.csv", b"a,b\n,\n,\n", "header_only"),
    "empty json": ("t.json", b"[]", "header_only"),
    "short row": ("t.csv", b"a,b\n1,2\n3\n", "ragged_rows"),
    "long row": ("t.csv", b"a,b\n1,2\n3,4,5\n", "ragged_rows"),
    "ragged columns": ("t.json", b'{"a": [1, 2], "b": [1]}', "ragged_rows"),
    "unclosed quote": ("t.csv", b'a,b\n1,2\n3,"x\n4,5\n', "unclosed_quote"),
    "noise": ("t.csv", noise(4000), "binary_noise"),
    "truncated gz": ("t.csv.gz", gzip.compress(LONG.encode())[:-30], "truncated_gzip"),
    "damaged gz": ("t.csv.gz", b"\x1f\x8b\x08" + noise(500), "damaged_archive"),
    "truncated zip": ("t.zip", zipped({"t.csv": LONG.encode()})[:-40], "damaged_archive"),
    "truncated parquet": ("t.parquet", parquet()[:-20], "truncated_parquet"),
    "damaged parquet": ("t.parquet", b"PAR1" + noise(300) + b"PAR1", "damaged_parquet"),
    "truncated excel": ("t.xlsx", workbook()[:-300], "damaged_archive"),
    "damaged old excel": ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + noise(2000), "damaged_excel"),
    "encrypted excel": (
        "t.xlsx",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600),
        "encrypted",
    ),
    "html": ("t.csv", b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "html_page"),
    "html snippet": ("t.csv", b"<script>\nlocation = '/login'\n</script>", "html_page"),
    "html table": ("t.xls", b"<html><table><tr><td>1</td></tr></table></html>", "html_page"),
    "xml": ("t.csv", b"<?xml version='1.0'?><rows/>", "unknown_format"),
    "duplicate names": ("t.csv", b"a, b,a \n1,2,3\n", "duplicate_columns"),
    "duplicate keys": ("t.json", b'[{"a": 1, "a": 2}]', "duplicate_columns"),
    "broken json": ("t.json", b'[{"a": 1}, {"a": ', "broken_json"),
    "broken json lines": ("t.jsonl", b'{"a": 1}\n{"a": \n{"a": 3}\n', "broken_json"),
    "json without table": ("t.json", b'{"a": [1, 2], "c": {"x": 5}}', "no_table"),
    "nul bytes": ("t.csv", b"a,b\n1,2\x00\n3,4\n", "nul_bytes"),
    "nul bytes late": ("t.csv", LONG.encode() + b"\x00", "nul_bytes"),
    "pdf": ("t.csv", b"%PDF-1.7\n...", "unknown_format"),
    "png": ("t.csv", b"\x89PNG\r\n\x1a\n" + noise(100), "unknown_format"),
    "word": ("t.xlsx", zipped({"word/document.xml": b"<w/>"}), "unknown_format"),
    "pickle": ("t.csv", b"\x80\x04\x95" + noise(50), "unknown_format"),
    "broken utf-8": ("t.csv", ("a,b\n" + "東京都,1\n" * 50).encode() + b"\xff\xfe\xe6,2\n", "broken_encoding"),
    "several tables": ("t.zip", zipped({"a.csv": b"a\n1\n", "b.csv": b"a\n1\n"}), "several_tables"),
    "zip without table": ("t.zip", zipped({".hidden": b"x", "__MACOSX/y": b"x"}), "no_table"),
    "zip bomb": ("t.zip", zipped({"a.csv": b"a,b\n" + b"1,1\n" * 20_000_000}), "archive_bomb"),
    "gz bomb": ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,1\n" * 20_000_000, mtime=0), "archive_bomb"),
    "nested bomb": (
        "t.zip",
        zipped({"b.zip": zipped({"a.csv.gz": gzip.compress(bytes(60_000_000))})}),
        "archive_bomb",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_one_sentence(tmp_path, kind):
    name, data, code = REFUSED[kind]
    assert refusal(put(tmp_path, name, data)).code == code


def test_ragged_rows_name_the_line_below_quoted_line_breaks(tmp_path):
    error = refusal(put(tmp_path, "t.csv", 'a,b\n1,"x\ny\nz"\n2,ok\n3\n'))
    assert "line 6: found 1 field, expected 2" in error.message


def test_limits(tmp_path):
    plain = put(tmp_path, "t.csv", LONG)
    packed = put(tmp_path, "t.csv.gz", gzip.compress(LONG.encode()))
    document = put(tmp_path, "t.json", json.dumps([{"a": 1}] * 1000))
    many = put(tmp_path, "many.zip", zipped({f".x{place}": b"" for place in range(30)}))
    assert refusal(plain, limits=Limits(max_file_bytes=1000)).code == "too_large"
    assert refusal(packed, limits=Limits(max_unpacked_bytes=1000)).code == "archive_bomb"
    assert refusal(packed, limits=Limits(max_ratio=1.5, ratio_floor=0)).code == "archive_bomb"
    assert refusal(document, limits=Limits(max_document_bytes=1000)).code == "too_large"
    assert refusal(many, limits=Limits(max_members=10)).code == "archive_bomb"
    deep = gzip.compress(gzip.compress(gzip.compress(LONG.encode())))
    assert refusal(put(tmp_path, "deep.gz", deep), limits=Limits(max_depth=2)).code == "archive_bomb"
    assert read_table(packed).rows == 5000


def test_encrypted_zip_is_named(tmp_path):
    data = bytearray(zipped({"t.csv": b"a,b\n1,2\n"}))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    assert refusal(put(tmp_path, "t.zip", bytes(data))).code == "encrypted"


def test_a_column_may_be_named_like_a_tag(tmp_path):
    table = read_table(put(tmp_path, "t.csv", b"<script>alert(1)</script>,b\n1,2\n3,4\n"))
    assert list(table.columns) == ["<script>alert(1)</script>", "b"]


def test_missing_file(tmp_path):
    assert refusal(tmp_path / "nowhere.csv").code == "missing_file"


def test_table_facts_round_trip_and_home(tmp_path):
    table = read_table(put(tmp_path, "t.csv", PEOPLE), workdir=tmp_path / "work")
    assert table.path.parent == tmp_path / "work"
    assert [item.name for item in (tmp_path / "work").iterdir()] == [table.path.name]
    again = Table.from_facts(json.loads(json.dumps(table.facts())), table.path)
    assert again == table
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert table.preview(2)["id"].tolist() == ["007", "008"]
    assert list(table.read(["収入", "id"]).columns) == ["収入", "id"]
    loose = read_table(tmp_path / "t.csv")
    folder = loose.path.parent
    assert folder.exists()
    del loose
    assert not folder.exists()


def test_partition_appends_in_name_order_and_widens(tmp_path):
    b = put(tmp_path, "b.csv", "y,x,z,e\nq,2.5,05,1\n")
    a = put(tmp_path, "a.json", '[{"x": 1, "y": "p", "z": 7, "e": null}]')
    table = read_partition([b, a], tmp_path / "work")
    assert table.columns == ("x", "y", "z", "e")
    got = table.dataset.to_table().to_pydict()
    assert got == {"x": [1.0, 2.5], "y": ["p", "q"], "z": ["7", "05"], "e": [None, 1]}
    assert [source["name"] for source in table.sources] == ["a.json", "b.csv"]
    assert [source["rows"] for source in table.sources] == [1, 1]
    assert table.format == "mixed"
    assert any("'z' became string" in notice for notice in table.notices)
    assert [item.name for item in (tmp_path / "work").iterdir()] == ["table.parquet"]


def test_partition_names_the_file_that_does_not_fit(tmp_path):
    files = [put(tmp_path, f"{name}.csv", "x,y\n1,2\n") for name in "bc"]
    odd = put(tmp_path, "a.csv", "x,other\n1,2\n")
    with pytest.raises(IngestionError) as caught:
        read_partition([*files, odd], tmp_path / "work")
    assert (caught.value.code, caught.value.path) == ("schema_mismatch", odd)
    assert all(word in caught.value.message for word in ("'y'", "'other'", "domain of its own"))
    assert not list((tmp_path / "work").iterdir())
    bad = put(tmp_path, "d.csv", "x,y\n1\n")
    with pytest.raises(IngestionError) as caught:
        read_partition([*files, bad], tmp_path / "work")
    assert (caught.value.code, caught.value.path) == ("ragged_rows", bad)


def test_big_integers_of_a_partition_are_never_rounded(tmp_path):
    a = put(tmp_path, "a.csv", "x,y\n9007199254740993,1\n")
    b = put(tmp_path, "b.csv", "x,y\n1.5,2\n")
    table = read_partition([a, b], tmp_path / "work")
    assert table.frame["x"].tolist() == ["9007199254740993", "1.5"]


MEASURE = """
import resource, sys
import pyarrow.parquet, pyarrow.csv, pyarrow.dataset, numpy, pandas
from cqox_assets.ingestion import read_table
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = read_table(sys.argv[1])
print(table.rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl"])
def test_a_large_file_needs_little_memory(tmp_path, kind):
    rng = np.random.default_rng(3)
    text = kind == "jsonl"
    block = "".join(
        json.dumps({"id": f"{i:07d}", "x": float(x), "name": "東京 west"}) + "\n"
        if text
        else f"{i:07d},{x},{-x},東京 west\n"
        for i, x in enumerate(rng.normal(size=150_000))
    ).encode()
    path = tmp_path / f"large.{kind}"
    repeats = 160_000_000 // len(block)
    with gzip.open(path, "wb", compresslevel=1) if kind.endswith("gz") else path.open("wb") as sink:
        sink.write(b"" if text else b"id,x,y,name\n")
        for _ in range(repeats):
            sink.write(block)
    code = textwrap.dedent(MEASURE)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    rows, megabytes = done.stdout.split()
    assert int(rows) == 150_000 * repeats
    assert float(megabytes) < 300
