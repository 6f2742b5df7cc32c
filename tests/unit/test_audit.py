"""The audit chain shows every change."""

import hashlib
import json
from types import SimpleNamespace

import pytest
from upath import UPath

from cqox_assets.decisions.audit import FILE, GENESIS, follow, link, main, to_lines, verify
from cqox_assets.decisions.record import RunFacts, extend
from cqox_assets.declaration import Declaration
from cqox_resources import store
from cqox_resources.reports import ReportStore


@pytest.fixture
def chain():
    entries = []
    for number in range(4):
        facts = {"event": "decided", "verdict": "GO", "number": number}
        entries.append(link(facts, entries[-1]["hash"] if entries else GENESIS))
    return entries


@pytest.mark.parametrize("position", range(4))
def test_a_changed_entry_is_found(chain, position):
    chain[position]["verdict"] = "HOLD"
    assert verify(to_lines(chain)).line == position + 1


def test_a_removed_entry_is_found(chain):
    assert verify(to_lines(chain[1:])).line == 1
    assert verify(to_lines([chain[0], *chain[2:]])).line == 2


# The file


FACTS = {"event": "decided", "verdict": "GO"}


def head_of_lines(chain):
    return {"count": len(chain), "head": chain[-1]["hash"]}


def test_an_untouched_file_holds_with_and_without_what_the_store_keeps(chain):
    content = to_lines(chain)
    assert verify(content) is None
    assert verify(content, head_of_lines(chain)) is None
    assert verify(content, head_of_lines(chain[:3])) is None  # a run was killed before the store knew
    assert verify(b"") is None


@pytest.mark.parametrize(
    ("name", "line"), [("edited", 2), ("removed", 2), ("swapped", 2), ("inserted", 4), ("no JSON", 4), ("no entry", 1)]
)
def test_each_way_to_tamper_names_its_line(chain, name, line):
    lines = to_lines(chain).splitlines()
    if name == "edited":
        lines[1] = lines[1].replace(b'"GO"', b'"HOLD"')
    elif name == "removed":
        del lines[1]
    elif name == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif name == "inserted":
        lines.insert(
            2, to_lines([link(FACTS, chain[1]["hash"])]).strip()
        )  # it follows; the one after it no longer does
    elif name == "no JSON":
        lines[3] = lines[3][:-9]
    else:
        lines[0] = b"[]"
    found = verify(b"\n".join(lines) + b"\n")
    assert found is not None
    assert found.line == line


def test_a_rehashed_chain_is_found_by_what_the_store_keeps(chain):
    forged = []
    for entry in chain:
        facts = {key: value for key, value in entry.items() if key not in ("previous", "hash")}
        forged.append(link({**facts, "verdict": "HOLD"}, forged[-1]["hash"] if forged else GENESIS))
    assert verify(to_lines(forged)) is None
    found = verify(to_lines(forged), head_of_lines(chain))
    assert found is not None
    assert found.line == 4


@pytest.mark.parametrize("left", [3, 1, 0])
def test_lines_taken_off_the_end_are_counted(chain, left):
    found = verify(to_lines(chain[:left]), head_of_lines(chain))
    assert found is not None
    assert found.line == left + 1
    assert f"{4 - left} of 4" in found.reason


@pytest.mark.parametrize("tamper", [lambda lines: lines[:-1], lambda lines: [], lambda lines: [*lines[:-1], b"{}"]])
def test_a_break_stays_visible_after_the_next_entry(chain, tamper):
    content = b"".join(line + b"\n" for line in tamper(to_lines(chain).splitlines()))
    head = head_of_lines(chain)
    after = content + to_lines([link(FACTS, follow(content, head))])
    assert verify(after) is not None  # even without the store


CARD = {
    "verdict": "GO", "rule_verdict": "HOLD", "override": {"by": "Ann", "reason": "r", "verdict": "GO", "rule": "HOLD"},
    "study": {"fingerprint": "f"}, "basis": {"data": "d"},
    "provenance": {"created": "2025-01-31", "run_id": "run-1", "partition": "a|2025-01", "code_version": "1"},
}  # fmt: skip


def delivery_of(**declared):
    table = SimpleNamespace(sources=[{"name": "x.csv", "sha256": "0" * 64}])
    return SimpleNamespace(table=table, declaration=Declaration(**declared), declaration_sha256=str(sorted(declared)))


def extended(content=None, stored=None, delivery=None, tags=None):
    return extend(content, stored, CARD, delivery or delivery_of(), RunFacts("run-1", tags or {}, b"card"))


def test_each_analysis_adds_its_lines_and_says_who():
    first = extended(tags={"cqox/user": "ann"})
    assert (first.count, first.broken, first.who) == (2, None, "ann")
    stored = {"count": first.count, "head": first.head}
    second = extended(first.new_lines, stored)
    content = first.new_lines + second.new_lines
    assert verify(content, {"count": second.count, "head": second.head}) is None
    entries = [json.loads(line) for line in content.splitlines()]
    assert [entry["event"] for entry in entries] == ["declared", "decided", "decided"]
    assert entries[1]["override"]["reason"] == "r"
    assert (entries[1]["rule_verdict"], entries[1]["basis"], entries[1]["who_from"]) == (
        "HOLD", {"data": "d"}, "run tag cqox/user",
    )  # fmt: skip
    assert entries[2]["who"]
    changed = extended(content, {"count": 3, "head": second.head}, delivery_of(design="trial"))
    assert [json.loads(line)["event"] for line in changed.new_lines.splitlines()] == ["declared", "decided"]


def test_entries_of_the_earlier_format_become_the_first_lines(chain):
    upgraded = extended(None, {"partition": "a|2025-01", "entries": chain})
    assert upgraded.count == len(chain) + 2
    assert verify(upgraded.new_lines, {"count": upgraded.count, "head": upgraded.head}) is None
    assert upgraded.new_lines.startswith(to_lines(chain))


def test_a_deleted_file_is_not_begun_anew():
    first = extended()
    again = extended(None, {"count": first.count, "head": first.head})
    assert again.broken is not None
    assert verify(again.new_lines) is not None


def test_a_line_that_was_cut_short_does_not_swallow_the_next(chain):
    content = to_lines(chain)[:-20]
    after = content + extended(content).new_lines
    assert len(after.splitlines()) == len(chain) + 2
    found = verify(after)
    assert found is not None
    assert found.line == 4


def test_the_command_has_an_exit_code_and_names_the_line(chain, tmp_path, capsys):
    path = tmp_path / "reports" / "a" / "2025-01" / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(to_lines(chain))
    assert main(["verify", str(tmp_path)]) == 0
    assert "unbroken, 4 entries" in capsys.readouterr().out
    path.write_bytes(to_lines(chain).replace(b'"number": 2', b'"number": 7'))
    assert main(["verify", str(path)]) == 1
    assert "broken at line 3" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert main(["verify", str(path.parent.parent)]) == 1


def test_the_command_reads_what_the_warehouse_keeps(chain, tmp_path, capsys):
    path = tmp_path / "reports" / "a" / "2025-01" / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(to_lines(chain[:2]))
    folder = UPath(tmp_path / "warehouse") / "decisions" / "audit_record" / "a" / "2025-01"
    store.save(folder, store.Parts("document", {"partition": "a|2025-01", **head_of_lines(chain)}))
    assert main(["verify", str(path)]) == 1
    assert "line 3: 2 of 4 entries are missing at the end" in capsys.readouterr().out
    path.write_bytes(to_lines(chain))
    assert main(["verify", str(path)]) == 0


def test_nothing_is_written_twice(tmp_path):
    reports = ReportStore(UPath(tmp_path))
    reports.append("a/audit.jsonl", b"one\n")
    place = (tmp_path / "a" / "audit.jsonl").stat().st_ino
    reports.append("a/audit.jsonl", b"two\n")
    assert (tmp_path / "a" / "audit.jsonl").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "a" / "audit.jsonl").stat().st_ino == place
    assert reports.read("a/nothing") is None


def test_a_record_that_is_gone_is_noticed_among_others(chain, tmp_path, capsys):
    for period in ("2025-01", "2025-02"):
        (tmp_path / "warehouse" / "decisions" / "audit_record" / "policy" / period).mkdir(parents=True)
        folder = tmp_path / "reports" / "policy" / period
        folder.mkdir(parents=True)
        (folder / FILE).write_bytes(b"")
    reports = tmp_path / "reports"
    (reports / "policy" / "2025-02" / FILE).unlink()
    for place in (reports, reports / "policy", reports / "policy" / "2025-02"):
        assert main(["verify", str(place)]) == 1
        assert f"2025-02/{FILE}: the record is not there" in capsys.readouterr().out
    assert main(["verify", str(reports / "policy" / "2025-01")]) == 0
    assert main(["verify", str(reports), "--warehouse", str(tmp_path / "warehouse")]) == 1


def test_the_card_must_be_the_one_that_was_recorded(tmp_path, capsys):
    card = b'{"verdict": "HOLD"}'
    folder = tmp_path / "policy" / "2025-01"
    folder.mkdir(parents=True)
    facts = {"event": "decided", "verdict": "HOLD", "card_sha256": hashlib.sha256(card).hexdigest()}
    (folder / FILE).write_bytes(to_lines([link(facts, GENESIS)]))
    (folder / "decision_card.json").write_bytes(card)
    assert main(["verify", str(folder)]) == 0
    (folder / "decision_card.json").write_bytes(card.replace(b"HOLD", b"GO"))
    assert main(["verify", str(folder)]) == 1
    assert "not the card that was recorded" in capsys.readouterr().out
