"""The column profile: types, shares, candidates and the quality score with its parts."""

import json

import numpy as np
import pandas as pd
import pytest

from cqox_assets.mapping import ColumnProfile, profile_columns
from cqox_assets.mapping.columns import Kind
from cqox_assets.mapping.profile import outlier_mask


@pytest.fixture
def frame():
    rows = 200
    values = np.linspace(0, 1, rows)
    values[:4] = 50.0
    return pd.DataFrame(
        {
            "key": [f"K{number}" for number in range(rows)],
            "treated": np.arange(rows) % 2,
            "score": values,
            "passed": (np.arange(rows) >= 120).astype(int),
            "rank": np.arange(rows) * 1.5,
            "hole": [None] * rows,
            "fixed": 7,
            "day": pd.date_range("2024-01-01", periods=rows),
            "部門": ["営業", "開発"] * (rows // 2),
            "gap": [np.nan if number % 4 == 0 else float(number) for number in range(rows)],
        }
    )


def test_every_column_has_its_facts(frame):
    profile = profile_columns(frame)
    kinds = {facts.name: facts.kind for facts in profile.columns}
    assert kinds == {
        "key": Kind.TEXT, "treated": Kind.INTEGER, "score": Kind.NUMBER, "passed": Kind.INTEGER, "rank": Kind.NUMBER,
        "hole": Kind.EMPTY, "fixed": Kind.INTEGER, "day": Kind.DATE, "部門": Kind.TEXT, "gap": Kind.INTEGER,
    }  # fmt: skip
    assert profile["score"].outliers == pytest.approx(4 / 200)
    assert profile["gap"].missing == 0.25
    assert (profile["gap"].minimum, profile["gap"].maximum) == (1.0, 199.0)
    assert profile["部門"].top == (("営業", 100), ("開発", 100))
    assert profile["key"].id_like
    assert "constant" in profile["fixed"].notes
    assert "has no values" in profile["hole"].notes
    assert any("never decreases" in note for note in profile["rank"].notes)
    assert any("cutoff candidate: passed is 1 exactly when rank >= 180" in note for note in profile["rank"].notes)
    assert "treatment (two values)" in profile["treated"].candidates
    assert profile["day"].minimum == "2024-01-01T00:00:00"


def test_the_score_is_the_documented_formula(frame):
    profile = profile_columns(frame)
    numeric = [facts.outliers for facts in profile.columns if facts.outliers is not None]
    parts = {
        "completeness": 1 - (1 + 0.25) / 10,
        "variation": 8 / 10,
        "cleanliness": 1 - sum(numeric) / len(numeric),
        "uniqueness": 1.0,
    }
    assert profile.parts == pytest.approx(parts)
    weights = {"completeness": 0.4, "variation": 0.2, "cleanliness": 0.2, "uniqueness": 0.2}
    assert profile.score == pytest.approx(100 * sum(weights[name] * parts[name] for name in parts), abs=0.01)


def test_repeated_rows_lower_the_score():
    frame = pd.DataFrame({"a": [1, 2, 1, 2], "b": ["x", "y", "x", "y"], "c": [np.nan, 1.0, np.nan, 1.0]})
    assert profile_columns(frame).parts["uniqueness"] == 0.5


def test_a_clean_table_scores_100():
    frame = pd.DataFrame({"a": np.arange(50) % 7, "b": np.arange(50) % 11})
    assert profile_columns(frame).score == 100


def test_table_has_one_row_per_column_and_survives_parquet(frame, tmp_path):
    table = profile_columns(frame).table
    assert list(table["column"]) == list(frame.columns)
    table.to_parquet(tmp_path / "p.parquet")
    assert pd.read_parquet(tmp_path / "p.parquet").shape == table.shape


def test_json_comes_back_equal(frame):
    profile = profile_columns(frame)
    assert ColumnProfile.from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False))) == profile


def test_storage_does_not_matter(frame, tmp_path):
    frame.drop(columns="hole").to_parquet(tmp_path / "t.parquet")
    plain = pd.read_parquet(tmp_path / "t.parquet")
    arrow = pd.read_parquet(tmp_path / "t.parquet", dtype_backend="pyarrow")
    nullable = pd.read_parquet(tmp_path / "t.parquet", dtype_backend="numpy_nullable")
    expected = profile_columns(plain).to_json()
    assert profile_columns(arrow).to_json() == expected
    assert profile_columns(nullable).to_json() == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False, None], Kind.BOOLEAN),
        (pd.Categorical(["a", "b", "a"]), Kind.TEXT),
        (pd.Categorical([1, 2, 1]), Kind.INTEGER),
        (["2024-01-05", "2024-02-01", None], Kind.DATE),
        (["2024年1月5日", "2024年2月1日", "2024年2月2日"], Kind.DATE),
        (["2024-13-45", "2024-02-01", "2024-02-02"], Kind.TEXT),
        (["001", "002", "003"], Kind.TEXT),
        (pd.period_range("2024-01", periods=3, freq="M"), Kind.DATE),
        (pd.to_timedelta([1, 2, 3], unit="D"), Kind.INTEGER),
        ([[1], [2], [1]], Kind.TEXT),
        ([1 + 2j, 2j, 3], Kind.TEXT),
        ([1.0, np.inf, 2.0], Kind.INTEGER),
        ([None, np.nan, None], Kind.EMPTY),
    ],
)
def test_kinds_of_odd_columns(values, kind):
    profile = profile_columns(pd.DataFrame({"x": values}))
    assert profile["x"].kind == kind


def test_outliers_follow_three_interquartile_ranges():
    values = np.concatenate([np.arange(100.0), [99 + 3 * 49.5 + 100, -1000.0, np.nan, np.inf]])
    low, high = np.percentile(values[np.isfinite(values)], [25, 75])
    expected = np.isfinite(values) & ((values < low - 3 * (high - low)) | (values > high + 3 * (high - low)))
    assert np.array_equal(outlier_mask(values), expected)
    assert outlier_mask(values).sum() == 2
    assert outlier_mask(np.array([0.0] * 99 + [5.0])).sum() == 0, "quartiles that coincide say nothing about outliers"
