"""Study preparation: arms, outcomes, missing values, dummies, dates; every decision is in the study's notices."""

import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import Declaration, parse_declaration
from cqox_assets.errors import DeclarationError, MappingError
from cqox_assets.mapping import load_domains, study_of
from cqox_assets.mapping.prepare import prepare
from cqox_assets.study import Role, Study, TreatmentKind


def arms_of(values, **contrast):
    """Prepare a study whose treatment has these values; return it."""
    frame = pd.DataFrame({"t": values, "y": np.arange(len(values), dtype=float)})
    declaration = Declaration.model_validate({"contrast": contrast})
    return prepare(frame, {"treatment": "t", "outcome": "y"}, declaration=declaration)


@pytest.mark.parametrize(
    ("values", "arms"),
    [
        (["yes", "no"], ("no", "yes")),
        (["はい", "いいえ"], ("いいえ", "はい")),
        (["あり", "なし"], ("なし", "あり")),
        (["ja", "nein"], ("nein", "ja")),
        (["treatment", "control"], ("control", "treatment")),
        (["treated", "untreated"], ("untreated", "treated")),
        (["drug", "placebo"], ("placebo", "drug")),
        (["Aspirin", "Placebo"], ("Placebo", "Aspirin")),
        (["処置群", "対照群"], ("対照群", "処置群")),
        (["Behandlung", "Kontrolle"], ("Kontrolle", "Behandlung")),
        (["erhalten", "nicht erhalten"], ("nicht erhalten", "erhalten")),
        ([True, False], ("control", "treated")),
        ([1, 0], ("control", "treated")),
        ([1.0, 0.0], ("control", "treated")),
        (["1", "0"], ("control", "treated")),
        (["old", "new"], ("old", "new")),
        (["B", "A"], ("A", "B")),
        ([2, 1], ("1", "2")),
        (["arm 10", "arm 2"], ("arm 2", "arm 10")),
        (["Womens E-Mail", "No E-Mail", "Mens E-Mail"], ("No E-Mail", "Mens E-Mail", "Womens E-Mail")),
        ([30, 10, 20], ("10", "20", "30")),
    ],
)
def test_arms_are_coded_reference_first(values, arms):
    study = arms_of(values * 20)
    assert study.arms == arms
    codes = study.column(Role.TREATMENT)[: len(values)]
    shown = {"0": "control", "0.0": "control", "False": "control", "1": "treated", "1.0": "treated", "True": "treated"}
    labels = [
        shown.get(str(value), str(value)) if "control" in arms and "treated" in arms else str(value) for value in values
    ]
    assert [arms[int(code)] for code in codes] == labels
    assert study.frame["t"].dtype == np.float64


def test_a_reference_chosen_by_order_is_announced_and_can_be_changed():
    assert any("'A' is taken as the reference arm" in notice for notice in arms_of(["B", "A"] * 5).notices)
    assert not any("reference arm" in notice for notice in arms_of(["no", "yes"] * 5).notices)
    changed = arms_of(["B", "A"] * 5, reference="B")
    assert changed.arms == ("B", "A")
    assert list(changed.column(Role.TREATMENT)[:2]) == [0.0, 1.0]
    assert not any("reference arm" in notice for notice in changed.notices)


def test_a_declared_reference_beats_the_words():
    assert arms_of(["control", "treated"] * 5, reference="treated").arms == ("treated", "control")
    assert arms_of([0, 1] * 5, reference=1).arms == ("treated", "control")
    yaml_no = parse_declaration("contrast: {reference: yes}")
    frame = pd.DataFrame({"t": ["yes", "no"] * 5, "y": range(10)})
    assert prepare(frame, {"treatment": "t", "outcome": "y"}, declaration=yaml_no).arms == ("yes", "no")


def test_compared_arms_drop_the_rows_of_others():
    study = arms_of(["none", "mail", "push"] * 10, compared=["push"])
    assert study.arms == ("none", "push")
    assert len(study) == 20
    assert study.dropped == {"another arm of 't' than those compared": 10}
    assert arms_of(["a", "b", "c"] * 10, compared=["b", "c"]).arms == ("b", "c")
    assert arms_of(["a", "b", "c"] * 10, reference="c", compared=["a"]).arms == ("c", "a")


def test_an_unknown_arm_is_pointed_out():
    with pytest.raises(
        DeclarationError, match="arm 'controll', which treatment 't' does not have; did you mean 'control'"
    ):
        arms_of(["control", "treated"] * 5, reference="controll")


def test_spellings_of_one_word_are_one_arm():
    study = arms_of(["Control", "control ", "TREATED", "treated", "treated", "control"] * 3)
    assert study.arms == ("control", "treated")
    assert list(study.column(Role.TREATMENT)[:6]) == [0, 0, 1, 1, 1, 0]


def test_continuous_treatments_stay_continuous():
    assert arms_of(list(np.linspace(0, 1, 40))).treatment_kind == TreatmentKind.CONTINUOUS
    assert arms_of(list(range(11)) * 5).arms == ()
    assert arms_of([0.0, 0.5, 1.0] * 10).arms == ("0", "0.5", "1")
    assert arms_of([0.1, 0.7, 0.9, 1.4]).arms == ()


def test_repeated_treatments_share_their_codes():
    frame = pd.DataFrame({"a0": ["no", "no", "yes"], "a1": ["no", "yes", "yes"], "y": [1.0, 2, 3]})
    study = prepare(frame, {"treatment": ["a0", "a1"], "outcome": "y"})
    assert study.arms == ("no", "yes")
    assert study.matrix(Role.TREATMENT).tolist() == [[0, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("values", "coded", "said"),
    [
        (["yes", "no", "yes"], [1, 0, 1], "'yes' counts as 1, 'no' as 0"),
        (["はい", "いいえ", "いいえ"], [1, 0, 0], "'はい' counts as 1"),
        (["died", "survived", "died"], [1, 0, 1], "'died' counts as 1"),
        (["red", "blue", "red"], [1, 0, 1], "the words do not say which is which"),
        (["1,5", "2", "x"], None, "cannot be the outcome"),
        (["1.5", "2", "3"], [1.5, 2, 3], "numbers as text"),
        ([True, False, True], [1, 0, 1], ""),
    ],
)
def test_outcomes_become_numbers(values, coded, said):
    frame = pd.DataFrame({"t": [0, 1, 1], "y": values})
    if coded is None:
        with pytest.raises(MappingError, match=f"column 'y' {said}"):
            prepare(frame, {"treatment": "t", "outcome": "y"})
        return
    study = prepare(frame, {"treatment": "t", "outcome": "y"})
    assert study.column(Role.OUTCOME).tolist() == coded
    assert said in " ".join(study.notices)


@pytest.fixture
def holes():
    return pd.DataFrame(
        {
            "t": [0, 1, None, 1, 0, 1, 0, 1],
            "y": [1.0, np.nan, 3, 4, np.inf, 6, 7, 8],
            "x": [1.0, 2, 3, np.nan, 5, 6, 9, 100],
            "c": ["a", "b", "a", None, "b", "b", "b", "b"],
            "full": [1, 2, 3, 4, 5, 6, 7, 8],
        }
    )


ROLES = {"treatment": "t", "outcome": "y", "covariates": ["x", "c", "full"]}


def test_missing_values_are_imputed_with_indicators(holes):
    study = prepare(holes, ROLES)
    assert study.dropped == {"treatment 't' is missing": 1, "outcome 'y' is missing": 2}
    assert study.names(Role.COVARIATES) == ("x", "x (missing)", "c=a", "c (missing)", "full")
    assert study.frame["x"].tolist() == [1, 7.5, 6, 9, 100]  # median of 1, 6, 9, 100
    assert study.frame["x (missing)"].tolist() == [0, 1, 0, 0, 0]
    assert study.frame["c=a"].tolist() == [1, 0, 0, 0, 0]
    assert study.frame["c (missing)"].tolist() == [0, 1, 0, 0, 0]
    assert study.missing == pytest.approx({"t": 1 / 8, "y": 2 / 8, "x": 1 / 8, "c": 1 / 8, "full": 0})
    said = " ".join(study.notices)
    assert "'y': 1 infinite values count as missing" in said
    assert "'c' became dummies against its most frequent level 'b'" in said
    assert study.label("c=a") == "c: a (vs b)"
    assert np.isfinite(study.matrix()).all()


def test_missing_rows_can_be_dropped(holes):
    study = prepare(holes, ROLES, declaration=Declaration(missing="drop"))
    assert len(study) == 4
    assert study.dropped["covariate 'x' is missing"] == 1
    assert study.names(Role.COVARIATES) == ("x", "c=a", "full")


def test_equal_gaps_share_one_indicator():
    frame = pd.DataFrame({"t": [0, 1] * 4, "y": range(8), "a": [np.nan, *range(7)], "b": [np.nan, 2, 1, 4, 3, 5, 6, 7]})
    study = prepare(frame, {"treatment": "t", "outcome": "y", "covariates": ["a", "b"]})
    assert study.names(Role.COVARIATES) == ("a", "a (missing)", "b")
    assert any("'b' is missing where 'a' is" in notice for notice in study.notices)


def test_numeric_complete_columns_keep_their_bits():
    random = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "treat": random.integers(0, 2, 300),
            "re78": np.exp(random.normal(size=300) * 9),
            "age": random.integers(18, 60, 300),
            "black": random.integers(0, 2, 300),
            "re75": random.normal(size=300) / 3,
            "code": random.integers(1, 3, 300),
        }
    )
    given = frame.copy(deep=True)
    names = ["age", "black", "re75", "code"]
    study = prepare(frame, {"treatment": "treat", "outcome": "re78", "covariates": names})
    pd.testing.assert_frame_equal(frame, given)
    assert study.names(Role.COVARIATES) == tuple(names)
    for name in frame.columns:
        assert study.frame[name].to_numpy().tobytes() == frame[name].to_numpy(dtype=np.float64).tobytes()
    again = prepare(study.frame, study.roles)
    assert again.fingerprint == study.fingerprint


def test_wide_words_rare_levels_and_constants():
    rows = 1000
    frame = pd.DataFrame({"t": np.arange(rows) % 2, "y": np.arange(rows, dtype=float)})
    frame["free"] = [f"text {number}" for number in range(rows)]
    frame["many"] = [f"v{number % 400}" for number in range(rows)]
    frame["city"] = ["tokyo"] * 500 + ["osaka"] * 480 + ["kyoto"] * 8 + ["nara"] * 7 + ["kobe"] * 5
    frame["fixed"] = "same"
    frame["one"] = 1.0
    frame["nothing"] = None
    names = ["free", "many", "city", "fixed", "one", "nothing"]
    study = prepare(frame, {"treatment": "t", "outcome": "y", "covariates": names})
    assert study.names(Role.COVARIATES) == ("city=osaka", "city=(other)")
    assert study.frame["city=(other)"].sum() == 20
    said = " ".join(study.notices)
    for part in ("3 rare levels of 'city'", "left out: free, many", "left out: fixed, one", "left out: nothing"):
        assert part in said


def test_outliers_are_reported_and_kept():
    frame = pd.DataFrame({"t": [0, 1] * 50, "y": [*np.linspace(0, 1, 99), 1e6], "x": [-1e6, *np.linspace(0, 1, 99)]})
    study = prepare(frame, {"treatment": "t", "outcome": "y", "covariates": ["x"]})
    assert "'y' (1), 'x' (1)" in " ".join(study.notices)
    assert study.frame["y"].max() == 1e6


def test_dates_become_days_months_and_periods():
    months = pd.date_range("2023-11-01", periods=6, freq="MS").repeat(2)
    frame = pd.DataFrame({"unit": ["a", "b"] * 6, "month": months, "y": range(12), "t": [0, 1] * 6})
    frame["start"] = [pd.NaT, pd.Timestamp("2024-02-01")] * 6
    frame["birth"] = pd.Timestamp("2000-01-01") + pd.to_timedelta(range(12), unit="D")
    roles = {
        "unit": "unit",
        "time": "month",
        "cohort": "start",
        "outcome": "y",
        "treatment": "t",
        "covariates": ["birth"],
    }
    study = prepare(frame, roles, declaration=Declaration(intervention_time="2024-02-01"))
    assert study.frame["month"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert study.label("month") == "month (month, 1 = 2023-11)"
    assert study.frame["start"].tolist() == [0, 4] * 6
    assert study.declaration.intervention_time == 4
    assert study.frame["birth"].tolist() == list(range(12))
    assert study.frame["unit"].tolist() == ["a", "b"] * 6
    daily = prepare(frame.assign(month=frame["birth"]), {"time": "month", "outcome": "y"})
    assert daily.frame["month"].tolist() == list(range(1, 13))
    text = prepare(frame.assign(month=months.strftime("%Y-%m")), {"time": "month", "outcome": "y"})
    assert text.frame["month"].tolist() == study.frame["month"].tolist()


def test_words_of_time_are_ordered():
    frame = pd.DataFrame({"wave": ["post", "pre"] * 3, "y": range(6)})
    study = prepare(frame, {"time": "wave", "outcome": "y"}, declaration=Declaration(intervention_time="post"))
    assert study.frame["wave"].tolist() == [1, 0] * 3
    assert study.declaration.intervention_time == 1
    with pytest.raises(DeclarationError, match="intervention_time is 'soon', but 'wave' needs one of pre, post"):
        prepare(frame, {"time": "wave", "outcome": "y"}, declaration=Declaration(intervention_time="soon"))


def test_target_population_rows_need_no_outcome():
    frame = pd.DataFrame({"s": [1, 1, 0, 0], "a": [0, 1, None, None], "y": [1.0, 2, None, None], "w": [1, 2, 3, 4]})
    study = prepare(frame, {"population": "s", "treatment": "a", "outcome": "y", "covariates": ["w"]})
    assert len(study) == 4
    assert not study.dropped


def test_one_column_may_be_group_and_covariate():
    frame = pd.DataFrame({"t": [0, 1] * 6, "y": range(12), "school": ["a", "b", "c"] * 4, "size": [1, 2, 3, 4] * 3})
    roles = {
        "treatment": "t",
        "outcome": "y",
        "cluster": "school",
        "subgroup": "size",
        "covariates": ["school", "size"],
    }
    study = prepare(frame, roles)
    assert study.frame["school"].tolist() == ["a", "b", "c"] * 4
    assert study.names(Role.COVARIATES) == ("school=b", "school=c", "size")
    assert study.codes(Role.CLUSTER).max() == 2


def test_long_ids_keep_their_digits():
    ids = [2**53 + 1, 2**53 + 2, 2**64 - 1, None]
    for series in (pd.Series(ids, dtype=object), pd.Series(ids[:3], dtype="uint64"), pd.Series(ids, dtype="UInt64")):
        frame = pd.DataFrame({"id": series, "y": 1.0})
        study = prepare(frame, {"unit": "id", "outcome": "y"})
        assert len(study) == 3
        assert study.frame["id"].nunique() == 3


def test_roles_read_as_numbers():
    frame = pd.DataFrame(
        {"t": [0, 1] * 4, "y": range(8), "quarter": ["q1", "q2", "q3", "q4"] * 2, "z": ["yes", "no"] * 4}
    )
    study = prepare(frame, {"treatment": "t", "outcome": "y", "instruments": ["quarter", "z"]})
    assert study.names(Role.INSTRUMENTS) == ("quarter=q2", "quarter=q3", "quarter=q4", "z")
    assert study.frame["z"].tolist() == [1, 0] * 4
    with pytest.raises(MappingError, match="column 'quarter' cannot be the running_variable"):
        prepare(frame, {"treatment": "t", "outcome": "y", "running_variable": "quarter"})


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"outcom": "y"}, "role 'outcom' is not known; did you mean 'outcome'"),
        ({"outcome": "yy"}, "role 'outcome' names column 'yy', which the table lacks; did you mean 'y'"),
        ({"outcome": ["y", "x"]}, "role 'outcome' takes one column"),
        ({"outcome": "y", "covariates": ["y"]}, "'y' cannot be both outcome and covariates"),
        ({"outcome": "y", "treatment": "t", "covariates": ["t"]}, "'t' cannot be both treatment and covariate"),
    ],
)
def test_a_wrong_mapping_is_named(roles, said):
    with pytest.raises(MappingError, match=said):
        prepare(pd.DataFrame({"y": [1, 2], "t": [0, 1], "x": [1, 3]}), roles)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"t": [1, 1], "y": [1, 2]}),
        pd.DataFrame({"t": [0, 1], "y": [3, 3]}),
        pd.DataFrame({"t": [0, 1], "y": [None, None]}),
        pd.DataFrame({"t": [None, None], "y": [1, 2]}),
        pd.DataFrame({"t": [1], "y": [1]}),
        pd.DataFrame({"t": [], "y": []}),
    ],
)
def test_what_cannot_be_analysed_is_still_a_study(frame):
    study = prepare(frame, {"treatment": "t", "outcome": "y"})
    assert isinstance(study, Study)
    assert study.fingerprint
    assert sum(study.dropped.values()) + len(study) == len(frame)
    assert len(prepare(frame, {"outcome": "y"})) == study.frame["y"].size + study.dropped.get(
        "treatment 't' is missing", 0
    )


def test_limits_of_profile_and_declaration():
    domain = load_domains()["retail"].model_copy(update={"thresholds": {"vif": 5, "overlap": 0.7}})
    declaration = Declaration(thresholds={"overlap": 0.9}, severities={"vif": "block"})
    frame = pd.DataFrame({"coupon": [0, 1] * 5, "売上": range(10)})
    study = prepare(frame, {"treatment": "coupon", "outcome": "売上"}, declaration=declaration, domain=domain)
    assert study.thresholds == {"vif": 5, "overlap": 0.9}
    assert study.severities == {"vif": "block"}
    assert (study.domain, study.declaration.direction) == ("retail", "higher_is_better")
    assert study.confidence == {Role.TREATMENT: 1.0, Role.OUTCOME: 1.0}


def test_guardrails_are_no_covariates():
    frame = pd.DataFrame({"campaign": ["none", "mail"] * 20, "spend": range(40), "age": [20, 30, 40, 50] * 10})
    frame["unsubscribes"] = [0, 1, 0, 0] * 10
    declaration = Declaration.model_validate(
        {"guardrails": {"unsubscribes": {"margin": 0.1, "direction": "lower_is_better"}}}
    )
    study, proposal, *_ = study_of(frame, domain="marketing", declaration=declaration)
    assert study.names(Role.GUARDRAILS) == ("unsubscribes",)
    assert study.names(Role.COVARIATES) == ("age",)
    direct = prepare(
        frame,
        {"treatment": "campaign", "outcome": "spend", "covariates": ["age", "unsubscribes"]},
        declaration=declaration,
    )
    assert direct.names(Role.COVARIATES) == ("age",)
    assert proposal.confidence[Role.GUARDRAILS] == 1.0


def test_a_japanese_table_with_holes_goes_through():
    random = np.random.default_rng(8)
    rows = 500
    frame = pd.DataFrame(
        {
            "顧客ID": [f"C{number}" for number in range(rows)],
            "店舗": random.choice(["渋谷", "新宿", "横浜"], rows),
            "クーポン": random.choice(["あり", "なし"], rows),
            "年齢": random.integers(18, 80, rows).astype(float),
            "売上": np.exp(random.normal(8, 1, rows)),
        }
    )
    for name in frame.columns[1:]:
        frame.loc[random.random(rows) < 0.15, name] = None
    study, proposal, match, profile = study_of(frame)
    assert match.best == "retail"
    assert study.arms == ("なし", "あり")
    assert set(study.names(Role.COVARIATES)) >= {"年齢", "年齢 (missing)", "店舗 (missing)"}
    assert np.isfinite(study.matrix()).all()
    lost = frame[["クーポン", "売上"]].isna().any(axis=1).sum()
    assert len(study) == rows - lost
    assert study.missing["年齢"] == pytest.approx(frame["年齢"].isna().mean())
    assert all(proposal.confidence[role] > 0.6 for role in (Role.TREATMENT, Role.OUTCOME))
    rebuilt = Study.from_facts(study.facts(), study.frame, {})
    assert rebuilt.fingerprint == study.fingerprint
    assert profile.parts["completeness"] < 0.95


def test_a_treatment_of_few_numbers_is_an_amount_if_declared() -> None:
    frame = pd.DataFrame({"d": [0, 1, 2, 3] * 5, "y": np.arange(20.0) ** 2})
    roles = {"treatment": "d", "outcome": "y"}
    coded = prepare(frame, roles)
    assert coded.arms == ("0", "1", "2", "3")
    assert any("state treatment_kind: continuous" in notice for notice in coded.notices)
    amount = prepare(frame, roles, declaration=Declaration(treatment_kind="continuous"))
    assert amount.treatment_kind == "continuous"
    assert amount.arms == ()
    assert amount.notices == ()
    assert amount.frame["d"].tolist() == frame["d"].tolist()
    binary = prepare(frame.assign(d=frame["d"] % 2), roles, declaration=Declaration(treatment_kind="continuous"))
    assert binary.treatment_kind == "continuous"


@pytest.mark.parametrize(
    ("treatment", "extra", "match"),
    [(["a", "b"] * 10, {}, "'d' does not hold numbers"), ([1, 2] * 10, {"contrast": {"reference": 1}}, "no arms")],
)
def test_an_amount_has_numbers_and_no_arms(treatment: list[object], extra: dict[str, object], match: str) -> None:
    frame = pd.DataFrame({"d": treatment, "y": np.arange(20.0)})
    declaration = Declaration(treatment_kind="continuous", **extra)
    with pytest.raises(DeclarationError, match=match):
        prepare(frame, {"treatment": "d", "outcome": "y"}, declaration=declaration)


def test_a_cohort_of_numbers_is_not_on_a_scale_of_dates():
    frame = pd.DataFrame({"u": ["a", "b"] * 6, "y": range(12), "first": [0, 2003] * 6})
    frame["year"] = pd.to_datetime(pd.Series(range(2000, 2006)).repeat(2).astype(str).to_numpy() + "-01-01")
    roles = {"unit": "u", "time": "year", "outcome": "y", "cohort": "first"}
    with pytest.raises(MappingError, match="'first' cannot be the cohort: it holds numbers such as 2003"):
        prepare(frame, roles)
    assert prepare(frame.assign(first=0), roles).frame["first"].eq(0).all()
    study = prepare(frame.assign(first=[None, pd.Timestamp("2003-01-01")] * 6), roles)
    assert study.frame["first"].max() == study.frame["year"].iloc[6]
