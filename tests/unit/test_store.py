"""Stored results: the old one or the new one, never a mixture, on any file system."""

import json
import os

import pandas as pd
import pytest
from upath import UPath

from cqox_resources import store
from cqox_resources.store import DamagedResultError, Parts


class Codec:
    kind = "thing"

    def accepts(self, value):
        return isinstance(value, dict)

    def encode(self, value):
        return Parts("thing", {"text": value["text"]}, {"rows": value["rows"]})

    def decode(self, document, frames):
        return {"text": document["text"], "rows": frames["rows"]}


CODEC = Codec()
CODECS = {"thing": CODEC}


def thing(number: int) -> dict:
    return {"text": f"number {number} 日本", "rows": pd.DataFrame({"x": [number, number + 1], "名前": ["あ", None]})}


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    if request.param == "local":
        return UPath(tmp_path / "warehouse" / "estimates" / "ols" / "policy" / "2025-01")
    return UPath(f"memory://warehouse-{tmp_path.name}/estimates/ols/policy/2025-01")


def test_round_trip(folder):
    store.save(folder, CODEC.encode(thing(1)))
    back = store.load(folder, CODECS)
    assert back["text"] == "number 1 日本"
    pd.testing.assert_frame_equal(back["rows"], thing(1)["rows"], check_dtype=False)


def test_only_the_needed_columns_are_read(folder):
    store.save(folder, CODEC.encode(thing(1)))
    manifest = json.loads((folder / store.MANIFEST).read_bytes())
    assert list(store.LazyFrames(folder, manifest["frames"]).columns("rows", ["x"])) == ["x"]


def test_a_writer_that_dies_before_the_manifest_leaves_the_old_result(folder, monkeypatch):
    store.save(folder, CODEC.encode(thing(1)))
    real = store._replace

    def dies(target, content):
        if target.name == store.MANIFEST:
            raise KeyboardInterrupt
        real(target, content)

    monkeypatch.setattr(store, "_replace", dies)
    with pytest.raises(KeyboardInterrupt):
        store.save(folder, CODEC.encode(thing(2)))
    monkeypatch.undo()
    assert store.load(folder, CODECS)["text"] == "number 1 日本"
    store.save(folder, CODEC.encode(thing(3)))
    assert store.load(folder, CODECS)["text"] == "number 3 日本"


def test_a_reader_of_the_previous_manifest_still_finds_its_parts(folder):
    store.save(folder, CODEC.encode(thing(1)))
    held = json.loads((folder / store.MANIFEST).read_bytes())
    store.save(folder, CODEC.encode(thing(2)))
    assert store.LazyFrames(folder, held["frames"])["rows"]["x"].tolist() == [1, 2]


def test_parts_do_not_pile_up(folder):
    for number in range(6):
        store.save(folder, CODEC.encode(thing(number)))
    names = [path.name for path in folder.iterdir()]
    assert len(names) == 1 + 2 * 2, names


def test_the_same_value_again_changes_nothing(folder):
    first = store.save(folder, CODEC.encode(thing(1)))
    store.save(folder, CODEC.encode(thing(2)))
    again = store.save(folder, CODEC.encode(thing(1)))
    assert {first["document"], *first["frames"].values()} == {again["document"], *again["frames"].values()}
    assert store.load(folder, CODECS)["text"] == "number 1 日本"


def test_nothing_stored_is_said_in_words(folder):
    with pytest.raises(FileNotFoundError, match="materialize the asset first"):
        store.load(folder, CODECS)
    assert store.facts(folder) is None


def test_a_lost_part_is_named(folder):
    manifest = store.save(folder, CODEC.encode(thing(1)))
    (folder / manifest["frames"]["rows"]).unlink()
    with pytest.raises(DamagedResultError, match="'rows'"):
        store.load(folder, CODECS)["rows"]


def test_a_parquet_file_is_stored_without_reading_it(tmp_path, folder):
    source = tmp_path / "big.parquet"
    thing(7)["rows"].to_parquet(source)
    store.save(folder, Parts("thing", {"text": "file"}, {"rows": source}))
    assert store.load(folder, CODECS)["rows"]["x"].tolist() == [7, 8]


def test_a_remote_frame_becomes_a_local_file(folder):
    manifest = store.save(folder, CODEC.encode(thing(4)))
    frames = store.LazyFrames(folder, manifest["frames"])
    assert pd.read_parquet(frames.local("rows"))["x"].tolist() == [4, 5]


def test_scratch_files_of_a_killed_writer_are_swept(tmp_path):
    folder = UPath(tmp_path / "results")
    store.save(folder, CODEC.encode(thing(1)))
    old, fresh = tmp_path / "results" / ".a1.tmp", tmp_path / "results" / ".b2.tmp"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    store.save(folder, CODEC.encode(thing(2)))
    assert not old.exists()
    assert fresh.exists()
