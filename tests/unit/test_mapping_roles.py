"""Roles of schemas that no profile was written for: what a careful human finds is found, the rest is refused."""

# ruff: noqa: E501  (one schema per line reads like the table it describes)
import json

import numpy as np
import pandas as pd
import pytest

from cqox_assets.errors import DeclarationError, MappingError
from cqox_assets.mapping import infer_roles, load_domains, match_domain, profile_columns
from cqox_assets.mapping.roles import RoleProposal
from cqox_assets.study import Role

ROWS = 400


def table(**columns):
    """Build a frame from short recipes: 'id', 'bin', 'num', 'int', 'date', or a list of levels."""
    random = np.random.default_rng(5)
    recipes = {
        "id": lambda: [f"K{number:05d}" for number in range(ROWS)],
        "row": lambda: np.arange(1, ROWS + 1),
        "bin": lambda: random.integers(0, 2, ROWS),
        "num": lambda: random.normal(50, 10, ROWS),
        "pos": lambda: np.exp(random.normal(3, 1, ROWS)),
        "int": lambda: random.integers(18, 80, ROWS),
        "few": lambda: random.integers(1, 6, ROWS),
        "date": lambda: pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 200, ROWS), unit="D"),
        "cut": lambda: np.where(built["credit_score"] >= 55, "yes", "no"),
        "group40": lambda: random.integers(0, 40, ROWS),
    }
    built = {}
    for name, recipe in columns.items():
        built[name] = recipes[recipe]() if isinstance(recipe, str) else random.choice(recipe, ROWS)
    return pd.DataFrame(built)


def gaps(frame, name, share):
    """Blank a share of a column."""
    frame[name] = frame[name].mask(np.random.default_rng(1).random(len(frame)) < share)
    return frame


FOUND = {
    "healthcare": (
        dict(patient_id="id", age="int", gender=["f", "m"], bmi="num", smoker=["yes", "no"], new_drug="bin",
             readmission_30d="bin", hospital=["A", "B", "C", "D"]),
        {"treatment": "new_drug", "outcome": "readmission_30d", "unit": "patient_id"},
        {"age", "gender", "bmi", "smoker", "hospital"}, "healthcare",
    ),
    "healthcare camel": (
        dict(PatientID="id", AgeYears="int", Sex=["F", "M"], StudyArm=["placebo", "drug"], SystolicBP="num",
             BaselineSystolicBP="num", CharlsonIndex="few"),
        {"treatment": "StudyArm", "outcome": "SystolicBP", "unit": "PatientID", "pre_outcome": "BaselineSystolicBP"},
        {"AgeYears", "Sex", "CharlsonIndex", "BaselineSystolicBP"}, "healthcare",
    ),
    "healthcare japanese": (
        {"患者番号": "id", "年齢": "int", "性別": ["男", "女"], "投薬": ["あり", "なし"], "収縮期血圧": "num", "喫煙": "bin",
         "糖尿病": "bin"},
        {"treatment": "投薬", "outcome": "収縮期血圧", "unit": "患者番号"}, {"年齢", "性別", "喫煙", "糖尿病"}, "healthcare",
    ),
    "healthcare german": (
        {"Patientennummer": "id", "Alter": "int", "Geschlecht": ["m", "w"], "Behandlungsgruppe": ["Kontrolle", "Therapie"],
         "Verweildauer": "num", "Vorerkrankung": "bin", "Aufnahmedatum": "date"},
        {"treatment": "Behandlungsgruppe", "outcome": "Verweildauer", "unit": "Patientennummer", "time": "Aufnahmedatum"},
        {"Alter", "Geschlecht", "Vorerkrankung"}, "healthcare",
    ),
    "finance": (
        dict(loan_id="id", fico="num", annual_income="pos", dti="num", limit_increase="bin", default_flag="bin",
             application_date="date", employment_length="few"),
        {"treatment": "limit_increase", "outcome": "default_flag", "unit": "loan_id", "time": "application_date"},
        {"fico", "annual_income", "dti", "employment_length"}, "finance",
    ),
    "finance german": (
        {"Kreditnummer": "row", "Einkommen": "pos", "Bonität": "num", "Beratung": ["ja", "nein"], "Zahlungsausfall": "bin",
         "Laufzeit": "few"},
        {"treatment": "Beratung", "outcome": "Zahlungsausfall", "unit": "Kreditnummer"},
        {"Einkommen", "Bonität", "Laufzeit"}, "finance",
    ),
    "marketing": (
        dict(user_id="id", age_group=["18-25", "26-40", "41+"], device=["ios", "android"], saw_ad=["yes", "no"],
             converted="bin", sessions_last_month="few", country=["JP", "DE", "US"]),
        {"treatment": "saw_ad", "outcome": "converted", "unit": "user_id"},
        {"age_group", "device", "sessions_last_month", "country"}, "marketing",
    ),
    "marketing three arms": (
        dict(customerId="id", campaign=["none", "email", "push"], spend_30d="pos", spend_prev_30d="pos", tenure="few"),
        {"treatment": "campaign", "outcome": "spend_30d", "unit": "customerId", "pre_outcome": "spend_prev_30d"},
        {"spend_prev_30d", "tenure"}, "marketing",
    ),
    "marketing japanese": (
        {"顧客ID": "id", "年代": "few", "性別": ["男性", "女性"], "メール配信フラグ": "bin", "購入額": "pos", "過去購入回数": "few",
         "流入チャネル": ["検索", "広告経由", "直接"]},
        {"treatment": "メール配信フラグ", "outcome": "購入額", "unit": "顧客ID"},
        {"年代", "性別", "過去購入回数"}, "marketing",
    ),
    "education": (
        dict(student_id="row", school_id="group40", tutoring="bin", final_score="num", baseline_score="num",
             parent_education="few", gender="bin", free_lunch="bin"),
        {"treatment": "tutoring", "outcome": "final_score", "unit": "student_id", "pre_outcome": "baseline_score"},
        {"baseline_score", "parent_education", "gender", "free_lunch"}, "education",
    ),
    "education german": (
        {"Schülernummer": "row", "Nachhilfe": "bin", "Testergebnis": "num", "Testergebnis_vorher": "num", "Alter": "few",
         "Muttersprache": ["de", "tr", "ar"]},
        {"treatment": "Nachhilfe", "outcome": "Testergebnis", "unit": "Schülernummer",
         "pre_outcome": "Testergebnis_vorher"},
        {"Alter", "Testergebnis_vorher", "Muttersprache"}, "education",
    ),
    "policy": (
        dict(household_id="id", region=["n", "s", "e"], cash_transfer="bin", consumption="pos", hh_size="few",
             survey_weight="pos", head_age="int"),
        {"treatment": "cash_transfer", "outcome": "consumption", "unit": "household_id", "weight": "survey_weight"},
        {"region", "hh_size", "head_age"}, "policy",
    ),
    "policy years": (
        dict(id="row", training="bin", wage2018="pos", wage2019="pos", wage2021="pos", sex="bin"),
        {"treatment": "training", "outcome": "wage2021", "unit": "id", "pre_outcome": ("wage2018", "wage2019")},
        {"wage2018", "wage2019", "sex"}, None,
    ),
    "manufacturing": (
        dict(lot_id="id", line=["L1", "L2"], predictive_maintenance="bin", defect_rate="num", temperature="num",
             operator_experience="few", shift=["day", "night"]),
        {"treatment": "predictive_maintenance", "outcome": "defect_rate", "unit": "lot_id"},
        {"line", "temperature", "operator_experience", "shift"}, "manufacturing",
    ),
    "manufacturing japanese": (
        {"製造番号": "id", "工場": ["東", "西"], "新工程": ["はい", "いいえ"], "歩留まり": "num", "温度": "num", "湿度": "num"},
        {"treatment": "新工程", "outcome": "歩留まり", "unit": "製造番号"}, {"工場", "温度", "湿度"}, "manufacturing",
    ),
    "retail japanese": (
        {"顧客ID": "id", "店舗": ["渋谷", "新宿", "横浜"], "日付": "date", "年齢": "int", "クーポン": "bin", "売上": "pos",
         "前期売上": "pos"},
        {"treatment": "クーポン", "outcome": "売上", "unit": "顧客ID", "time": "日付", "pre_outcome": "前期売上"},
        {"店舗", "年齢", "前期売上"}, "retail",
    ),
    "retail german": (
        {"Kundennummer": "row", "Filiale": ["Nord", "Süd"], "Gutschein": ["erhalten", "nicht erhalten"], "Umsatz": "pos",
         "Umsatz_Vorjahr": "pos", "Alter": "int"},
        {"treatment": "Gutschein", "outcome": "Umsatz", "unit": "Kundennummer", "pre_outcome": "Umsatz_Vorjahr"},
        {"Filiale", "Umsatz_Vorjahr", "Alter"}, "retail",
    ),
    "cutoff": (
        dict(loan_id="id", credit_score="num", lower_rate="cut", loss="num", dti="num"),
        {"treatment": "lower_rate", "outcome": "loss", "running_variable": "credit_score"}, {"dti", "credit_score"}, "finance",
    ),
    "endings that say nothing": (
        {"口座番号": "id", "金利優遇": ["有", "無"], "延滞日数": "few", "年収": "pos", "信用スコア": "num"},
        {"treatment": "金利優遇", "outcome": "延滞日数", "unit": "口座番号"}, {"年収", "信用スコア"}, "finance",
    ),
    "before and after": (
        {"Teilnehmer": "row", "Gruppe": ["Versuchsgruppe", "Kontrollgruppe"], "Blutdruck_nachher": "num",
         "Blutdruck_vorher": "num", "Raucher": ["ja", "nein"]},
        {"treatment": "Gruppe", "outcome": "Blutdruck_nachher", "pre_outcome": "Blutdruck_vorher"},
        {"Blutdruck_vorher", "Raucher"}, "healthcare",
    ),
    "another domain's words": (
        {"企業コード": "id", "補助金受給": "bin", "売上高_翌年": "pos", "売上高_前年": "pos", "従業員数": "int"},
        {"treatment": "補助金受給", "outcome": "売上高_翌年", "pre_outcome": "売上高_前年", "unit": "企業コード"},
        {"売上高_前年", "従業員数"}, None,
    ),
    "values speak": (
        dict(cell=["control", "treatment"], outcome="num", x1="num", x2="num"),
        {"treatment": "cell", "outcome": "outcome"}, {"x1", "x2"}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_finds_what_a_careful_human_finds(name):
    columns, wanted, covariates, domain = FOUND[name]
    frame = table(**columns)
    proposal = infer_roles(frame)
    for role, names in wanted.items():
        expected = (names,) if isinstance(names, str) else names
        assert proposal.roles.get(Role(role)) == expected, proposal.evidence.get(Role(role), proposal.warnings)
    for role in (Role.TREATMENT, Role.OUTCOME):
        assert proposal.confidence[role] > 0.6, proposal.evidence[role]
        assert wanted[str(role)] in proposal.evidence[role]
    assert covariates <= set(proposal.roles[Role.COVARIATES])
    assert not set(proposal.roles[Role.COVARIATES]) & {wanted["treatment"], wanted["outcome"], wanted.get("unit")}
    if domain is not None:
        assert proposal.domain == domain


UNSURE = {
    "two outcomes": (dict(coupon="bin", sales="pos", profit="pos", age="int"), "retail", Role.OUTCOME, ("sales", "profit")),
    "two treatments": (dict(coupon="bin", discount="bin", sales="pos"), "retail", Role.TREATMENT, ("coupon", "discount")),
    "three funnel steps": (
        dict(campaign=["none", "mail"], visit="bin", conversion="bin", spend="pos"), "marketing", Role.OUTCOME,
        ("visit", "conversion", "spend"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSURE)
def test_a_tie_has_low_confidence_and_names_both(name):
    columns, domain, role, rivals = UNSURE[name]
    proposal = infer_roles(table(**columns), domain)
    assert proposal.confidence[role] < 0.6
    assert all(f"'{rival}'" in proposal.evidence[role] for rival in rivals)
    assert any("confirm it in study.yaml" in warning for warning in proposal.warnings)


@pytest.mark.parametrize(
    "columns",
    [
        dict(age_group="bin", gender="bin", y="num"),
        dict(id="id", blood_group=["A", "B", "0"], sex="bin", response="num"),
        dict(income_group=["low", "high"], region="few", y="num"),
        dict(treatment_date="date", treatment_cost="pos", y="num"),
        dict(prior_treatment="bin", y="num"),
        dict(a1="num", a2="num", y="num"),
    ],
)
def test_what_is_no_treatment_is_not_taken_for_one(columns):
    proposal = infer_roles(table(**columns))
    assert proposal.confidence.get(Role.TREATMENT, 0.0) < 0.6
    assert proposal.roles[Role.OUTCOME] in (("y",), ("response",))
    assert any("treatment" in warning for warning in proposal.warnings)


def test_what_may_come_after_treatment_is_no_covariate():
    columns = dict(customer_id="id", treated="bin", outcome="num", spend="pos", visit="bin", visit_before="bin", mu0="num",
                   score_followup="num", y_cfactual="num", customer_email="id")  # fmt: skip
    proposal = infer_roles(table(**columns), "marketing")
    assert proposal.roles[Role.COVARIATES] == ("visit_before",)
    said = " ".join(proposal.warnings)
    assert all(
        f"'{name}'" in said for name in ("spend", "visit", "mu0", "score_followup", "y_cfactual", "customer_email")
    )


def test_a_step_function_of_a_number_is_a_cutoff():
    frame = table(loan_id="id", credit_score="num", approved="bin", repaid="bin", dti="num")
    frame["approved"] = (frame["credit_score"] >= 52).astype(int)
    proposal = infer_roles(frame, "finance")
    assert proposal.roles[Role.TREATMENT] == ("approved",)
    assert proposal.roles[Role.RUNNING_VARIABLE] == ("credit_score",)
    above = frame.loc[frame["credit_score"] >= 52, "credit_score"].min()
    assert f"{above:g}" in proposal.evidence[Role.RUNNING_VARIABLE]


def test_a_dose_that_is_zero_for_the_untreated_is_no_running_variable():
    frame = table(treated="bin", prize="pos", outcome="num")
    frame["prize"] *= frame["treated"]
    assert Role.RUNNING_VARIABLE not in infer_roles(frame).roles


def test_panel_is_recognised_by_its_shape():
    frame = pd.DataFrame(
        [(place, year) for place in range(30) for year in range(2010, 2020)], columns=["gebiet", "year"]
    )
    frame["y"] = np.arange(len(frame)) % 7 + 0.5
    frame["treated"] = ((frame["gebiet"] < 10) & (frame["year"] > 2015)).astype(int)
    frame["first_treated"] = np.where(frame["gebiet"] < 10, 2016, 0)
    proposal = infer_roles(frame)
    assert proposal.roles[Role.UNIT] == ("gebiet",)
    assert proposal.roles[Role.TIME] == ("year",)
    assert proposal.roles[Role.COHORT] == ("first_treated",)


def test_repeated_customers_without_periods_are_a_cluster():
    frame = table(treated="bin", outcome="num")
    frame["customer_id"] = np.repeat(np.arange(100), 4)
    proposal = infer_roles(frame)
    assert Role.UNIT not in proposal.roles
    assert proposal.roles[Role.CLUSTER] == ("customer_id",)


def test_groups_that_are_treated_as_a_whole_are_clusters():
    frame = table(student="row", final_score="num", treatment="bin")
    frame["school"] = np.arange(ROWS) % 20
    mixed = infer_roles(frame, "education")
    assert Role.CLUSTER not in mixed.roles
    assert "school" in mixed.roles[Role.COVARIATES]
    frame["treatment"] = frame["school"] % 2
    assert infer_roles(frame, "education").roles[Role.CLUSTER] == ("school",)


def test_an_assignment_is_the_instrument_beside_uptake_and_the_treatment_alone():
    both = infer_roles(table(assigned="bin", treated="bin", y="num"))
    assert (both.roles[Role.TREATMENT], both.roles[Role.INSTRUMENTS]) == (("treated",), ("assigned",))
    alone = infer_roles(table(assigned="bin", y="num", x="num"))
    assert alone.roles[Role.TREATMENT] == ("assigned",)
    assert Role.INSTRUMENTS not in alone.roles


def test_special_names_play_their_roles():
    frame = table(id="row", treatment="bin", y="num", latitude="num", longitude="num", outcome_proxy="num",
                  treatment_proxy="num", mediator="num", pair_id="group40", weight="num")  # fmt: skip
    frame["propensity_score"] = np.linspace(0.1, 0.9, ROWS)
    roles = infer_roles(frame).roles
    for role, name in {Role.LATITUDE: "latitude", Role.OUTCOME_PROXY: "outcome_proxy", Role.MEDIATOR: "mediator",
                       Role.TREATMENT_PROXY: "treatment_proxy", Role.PAIR: "pair_id",
                       Role.PROPENSITY: "propensity_score"}.items():  # fmt: skip
        assert roles[role] == (name,)
    assert Role.WEIGHT not in roles, "a bare 'weight' may be kilograms"


def test_declared_roles_win_and_say_so():
    frame = table(coupon="bin", sales="pos", profit="pos", age="int", sales_before="pos")
    declared = {"outcome": "profit", "covariates": ["age"], "pre_outcome": None}
    proposal = infer_roles(frame, "retail", declared=declared)
    assert proposal.roles[Role.OUTCOME] == ("profit",)
    assert proposal.confidence[Role.OUTCOME] == 1.0
    assert proposal.evidence[Role.OUTCOME] == "declared in study.yaml"
    assert proposal.roles[Role.COVARIATES] == ("age",)
    assert Role.PRE_OUTCOME not in proposal.roles, "null means that nothing plays it"
    assert proposal.roles[Role.TREATMENT] == ("coupon",)


def test_wrong_names_are_pointed_out():
    frame = table(coupon="bin", sales="pos")
    with pytest.raises(MappingError, match="role 'treatmnt' is not known; did you mean 'treatment'"):
        infer_roles(frame, declared={"treatmnt": "coupon"})
    with pytest.raises(MappingError, match="column 'coupn', which the table lacks; did you mean 'coupon'"):
        infer_roles(frame, declared={"treatment": "coupn"})
    with pytest.raises(DeclarationError, match="domain 'retial' is not known; did you mean 'retail'"):
        infer_roles(frame, "retial")
    with pytest.raises(MappingError, match="'coupon' appears more than once"):
        infer_roles(pd.concat([frame, frame], axis=1))


def test_an_inferred_side_role_never_costs_many_rows():
    frame = gaps(table(id="id", treatment="bin", y="num", date="date", instrument="num"), "date", 0.2)
    proposal = infer_roles(gaps(frame, "instrument", 0.2))
    assert Role.TIME not in proposal.roles
    assert Role.INSTRUMENTS not in proposal.roles
    assert any("'date' is not taken as time because" in warning for warning in proposal.warnings)
    declared = infer_roles(frame, declared={"time": "date"})
    assert declared.roles[Role.TIME] == ("date",)


def test_a_constant_treatment_is_still_mapped():
    frame = table(treatment="bin", y="num").assign(treatment=1)
    assert infer_roles(frame).roles[Role.TREATMENT] == ("treatment",)


def test_row_order_and_storage_do_not_matter(tmp_path):
    columns, *_ = FOUND["healthcare"]
    frame = table(**columns)
    frame.to_parquet(tmp_path / "t.parquet")
    stored = pd.read_parquet(tmp_path / "t.parquet", dtype_backend="pyarrow")
    shuffled = frame.sample(frac=1, random_state=3)
    assert infer_roles(stored).roles == infer_roles(frame).roles == infer_roles(shuffled).roles


def test_profile_given_or_made_is_the_same_and_json_comes_back():
    frame = table(**FOUND["retail japanese"][0])
    profile = profile_columns(frame)
    proposal = infer_roles(frame, profile=profile)
    assert proposal == infer_roles(frame)
    assert RoleProposal.from_json(json.loads(json.dumps(proposal.to_json()))) == proposal
    assert match_domain(profile, load_domains()).best == proposal.domain


@pytest.mark.parametrize("cohorts", [[0, 2004], [0, 2004, 2006]])
def test_the_first_treated_period_is_a_cohort_and_never_the_treatment(cohorts):
    rng = np.random.default_rng(0)
    first = np.repeat(rng.choice(cohorts, 50), 10)
    year = np.tile(range(2000, 2010), 50)
    frame = pd.DataFrame(
        {
            "state": np.repeat([f"s{k}" for k in range(50)], 10),
            "year": year,
            "policy_active": ((first > 0) & (year >= first)).astype(int),
            "unemployment_rate": rng.normal(5, 1, 500),
            "first_treated": first,
        }
    )
    found = infer_roles(frame, "policy").roles
    assert found[Role.COHORT] == ("first_treated",)
    assert found[Role.TREATMENT] == ("policy_active",)
    assert infer_roles(frame.drop(columns="policy_active"), "policy").roles[Role.COHORT] == ("first_treated",)


def test_japanese_endings_say_before_and_after():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "患者ID": range(300),
            "投薬群": rng.choice(["投与", "非投与"], 300),
            "収縮期血圧_投与後": rng.normal(130, 10, 300),
            "収縮期血圧_投与前": rng.normal(140, 10, 300),
        }
    )
    found = infer_roles(frame, "healthcare")
    assert found.roles[Role.OUTCOME] == ("収縮期血圧_投与後",)
    assert found.roles[Role.PRE_OUTCOME] == ("収縮期血圧_投与前",)
    assert found.confidence[Role.OUTCOME] > 0.6
