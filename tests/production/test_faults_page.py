"""The page of faults says what the records say, and every fault has one."""

import json

import pytest

from tests.conftest import ROOT
from tests.production.faults import FAULTS, record, render

RECORDS = json.loads((ROOT / "docs" / "faults.json").read_text("utf-8"))


def test_page_and_records_agree():
    assert (ROOT / "docs" / "faults.md").read_text("utf-8") == render(RECORDS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_was_made_and_lost_nothing(fault):
    found = [item for item in RECORDS if item["fault"] == fault.name]
    assert found, "no record; python -m tests.production.faults --out docs/faults.md"
    assert not [item for item in found if item["lost"]]


def test_a_loss_is_a_failure(monkeypatch):
    monkeypatch.delenv("CQOX_FAULT_RECORDS", raising=False)
    with pytest.raises(AssertionError, match="the old card"):
        record("disk_full", "1 write", ["the old card"], 0.0)
