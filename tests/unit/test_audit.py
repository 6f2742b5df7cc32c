"""The audit chain shows every change."""

import pytest

from cqox_assets.decisions.audit import append, broken_at


@pytest.fixture
def chain():
    entries = []
    for number in range(4):
        entries = append(entries, {"event": "decided", "verdict": "GO", "number": number})
    return entries


def test_an_untouched_chain_holds(chain):
    assert broken_at(chain) is None
    assert broken_at([]) is None


@pytest.mark.parametrize("position", range(4))
def test_a_changed_entry_is_found(chain, position):
    chain[position]["verdict"] = "HOLD"
    assert broken_at(chain) == position


def test_a_removed_entry_is_found(chain):
    assert broken_at(chain[1:]) == 0
    assert broken_at([chain[0], *chain[2:]]) == 1
