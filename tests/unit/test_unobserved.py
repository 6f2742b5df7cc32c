"""Rows of a panel that lack outcome or treatment stay part of their unit's history."""

import numpy as np
import pandas as pd
import pytest

from cqox_assets.mapping.prepare import prepare

ROLES = {"outcome": "y", "treatment": "d", "unit": "id", "time": "t", "covariates": ["x", "word"]}


def panel(ids, times):
    frame = pd.DataFrame({"id": np.repeat(ids, 3), "t": np.tile(times, len(ids))})
    frame["d"] = np.tile(["no", "no", "yes"], len(ids))
    frame["y"] = np.arange(len(frame)) * 1.0
    frame["x"] = np.arange(len(frame)) % 4 * 1.0
    frame["word"] = ["a", "b", "c"] * len(ids)
    return frame


def test_a_row_without_outcome_is_kept_beside_the_table_in_the_study_s_own_codes():
    frame = panel(["p", "q", "r", "s"], ["2020-01-01", "2020-02-01", "2020-03-01"])
    frame.loc[[0, 5], "y"] = np.nan
    frame.loc[5, "x"] = np.nan
    study = prepare(frame, ROLES)
    rows = study.tables["unobserved"]
    assert len(study) == 10
    assert rows["id"].tolist() == ["p", "q"]
    assert rows["t"].tolist() == [1.0, 3.0]
    assert rows["d"].tolist() == [0.0, 1.0]
    assert rows["y"].isna().all()
    assert rows["x"].tolist()[0] == 0.0
    assert np.isnan(rows["x"].tolist()[1])
    assert rows[[name for name in rows if name.startswith("word=")]].isna().all(axis=None)


def test_a_row_without_treatment_keeps_its_outcome():
    frame = panel([1, 2, 3, 4], [1, 2, 3])
    frame.loc[4, "d"] = None
    rows = prepare(frame, ROLES).tables["unobserved"]
    assert rows["id"].tolist() == [2]
    assert rows["id"].dtype == np.int64
    assert rows["d"].isna().all()
    assert rows["y"].tolist() == [4.0]


def test_a_row_that_lacks_its_unit_tells_nothing():
    frame = panel([1.0, 2.0, 3.0, 4.0], [1, 2, 3])
    frame.loc[4, ["y", "id"]] = np.nan
    assert "unobserved" not in prepare(frame, ROLES).tables or prepare(frame, ROLES).tables["unobserved"].empty


@pytest.mark.parametrize(
    "roles", [{"outcome": "y", "treatment": "d"}, {"outcome": "y", "treatment": "d", "unit": "id"}]
)
def test_a_cross_section_has_no_history(roles):
    frame = panel([1, 2, 3, 4], [1, 2, 3])
    frame.loc[3, "y"] = np.nan
    assert "unobserved" not in prepare(frame, roles).tables


def test_a_complete_panel_has_no_further_table():
    assert prepare(panel([1, 2, 3, 4], [1, 2, 3]), ROLES).tables == {}
