"""Whatever table arrives, mapping gives a profile, roles and a study, or one sentence of ours; never a crash."""

# ruff: noqa: E501
import datetime
import json

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqox_assets.declaration import Declaration
from cqox_assets.errors import CqoxError
from cqox_assets.mapping import ColumnProfile, infer_roles, profile_columns, study_of
from cqox_assets.mapping.prepare import prepare
from cqox_assets.study import Role, Study

NAMES = st.sampled_from(
    ["id", "treatment", "y", "y_bin", "age", "売上", "クーポン", "日付", "前期売上", "店舗", "Umsatz", "Behandlung", "Alter",
     "x1", "x2", "re74", "re78", "date", "weight", "segment", "顧客ID", "score", "", " ", "a=b", "x (missing)", "=", "0"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["yes", "no", "はい", "いいえ", "control", "a", "b", "", " ", "12", "3.5", "2024-01-02", "1,5", "x" * 90]
)
FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)
CELLS = {
    "float": FLOATS,
    "int": st.integers(-(2**62), 2**62),
    "small": st.integers(0, 3),
    "bool": st.booleans(),
    "bit": st.sampled_from([0, 1, None]),
    "word": st.one_of(WORDS, st.none()),
    "date": st.one_of(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)), st.none()),
    "day": st.one_of(st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1)), st.none()),
    "mixed": st.one_of(st.integers(-5, 5), FLOATS, WORDS, st.booleans(), st.none()),
    "list": st.one_of(st.lists(st.integers(0, 2), max_size=2), st.none()),
    "empty": st.none(),
    "same": st.just(7),
}


@st.composite
def frames(draw):
    rows = draw(st.sampled_from([0, 1, 2, 3, 12, 40]))
    names = draw(st.lists(NAMES, min_size=1, max_size=7, unique=True))
    columns = {}
    for name in names:
        cells = CELLS[draw(st.sampled_from(sorted(CELLS)))]
        few = draw(st.lists(cells, min_size=1, max_size=8))
        columns[name] = [few[draw(st.integers(0, len(few) - 1))] for _ in range(rows)]
    frame = pd.DataFrame(columns)
    storage = draw(st.sampled_from(["numpy", "arrow", "nullable", "categorical"]))
    try:
        if storage == "arrow":
            frame = frame.convert_dtypes(dtype_backend="pyarrow")
        elif storage == "nullable":
            frame = frame.convert_dtypes(dtype_backend="numpy_nullable")
        elif storage == "categorical":
            frame = frame.astype("category")
    except (TypeError, ValueError, NotImplementedError, OverflowError):
        pass  # pandas itself cannot store these cells that way
    return frame


CALM = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@CALM
@given(frames())
def test_any_table_becomes_a_study(frame):
    before = frame.copy(deep=True)
    study, proposal, match, profile = study_of(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert 0 <= profile.score <= 100
    assert ColumnProfile.from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False))) == profile
    json.dumps([proposal.to_json(), match.to_json(), study.facts()], allow_nan=False)
    assert all(0 <= value <= 1 for value in proposal.confidence.values())
    assert set(proposal.confidence) == set(proposal.roles) == set(proposal.evidence)
    assert sum(study.dropped.values()) + len(study) == len(frame)
    check(study)


@CALM
@given(frames(), st.data())
def test_any_mapping_is_a_study_or_one_sentence(frame, data):
    roles = data.draw(
        st.dictionaries(st.sampled_from([str(role) for role in Role]), st.sampled_from(list(frame.columns)), max_size=5)
    )
    covariates = data.draw(st.lists(st.sampled_from(list(frame.columns)), unique=True))
    declaration = Declaration(missing=data.draw(st.sampled_from([None, "drop", "impute_indicator"])))
    try:
        study = prepare(frame, {**roles, "covariates": covariates}, declaration=declaration)
        infer_roles(frame, declared=roles)
    except CqoxError as error:
        if not error.message:
            raise
        return
    check(study)


def check(study: Study) -> None:
    assert np.isfinite(study.matrix()).all()
    assert study.fingerprint
    population = study.has(Role.POPULATION)
    for role in (Role.OUTCOME, Role.TREATMENT):
        if study.has(role) and not population:
            assert np.isfinite(study.matrix(role)).all()
    if study.has(Role.TREATMENT) and study.arms:
        codes = study.matrix(Role.TREATMENT)
        codes = codes[np.isfinite(codes)]
        assert np.array_equal(codes, np.floor(codes))
        assert codes.size == 0 or (codes.min() >= 0 and codes.max() < len(study.arms))
    assert Study.from_facts(json.loads(json.dumps(study.facts())), study.frame, {}).facts() == study.facts()


@CALM
@given(frames())
def test_profile_never_depends_on_the_order_of_rows_for_its_counts(frame):
    turned = frame.iloc[::-1]
    for one, other in zip(profile_columns(frame).columns, profile_columns(turned).columns, strict=True):
        assert (one.kind, one.missing, one.distinct) == (other.kind, other.missing, other.distinct)
