"""Counterfactual systems and policies as assets: what reaches the card, and what a study without arms says."""

from cqox_assets.results import Results
from cqox_resources.settings import Settings
from tests.graph.helpers import card, deliver, errors, run
from tests.graph.test_declared import study_frame

WANTED = ["synthesis/counterfactual_systems", "synthesis/policy_value"]
STAGES = [
    "ingestion/raw_table", "mapping/column_profile", "mapping/domain_match", "mapping/column_roles", "mapping/study",
    "gates/data_diagnostics", "gates/gated_study", "discovery/method_plan", "nuisance/nuisance_models",
    "estimates/t_learner", "estimates/aipw", *WANTED, "decisions/decision_card",
]  # fmt: skip


def analyse(home, key, *files, study=None):
    deliver(home, key, *files, study=study)
    result = run(key, selection=STAGES)
    assert result.success, errors(result)
    return card(home, key), Results(Settings.from_env().warehouse).present(key)


def test_patients_have_a_card_with_systems_and_money(home):
    found, present = analyse(home, "healthcare|2025-01")
    assert found["counterfactual"]["status"] == "computed"
    assert len(found["counterfactual"]["systems"]) == 3
    assert "counterfactual" not in found["not_computed"]
    policy = found["policy"]
    assert policy["measure"] == "net_benefit"
    assert policy["settings"]["cost_column"] == "cost_eur"
    assert abs(policy["contrasts"][0]["break_even"]["mean_cost"] - 1400) < 300
    assert policy["contrasts"][0]["fairness"]["status"] == "computed"
    assert any(reason["kind"] == "money" for reason in found["reasons"])
    assert "€" in policy["sentences"][0]
    assert policy["contrasts"][0]["effects_from"] == "t_learner"
    stored = present.find("synthesis/policy_value")
    assert {"curve", "grid", "trees", "segments", "fairness", "units"} <= set(stored.tables)
    units = present.find("synthesis/counterfactual_systems").tables["units"]
    assert len(units) == len(present.study)
    assert stored.tables["units"]["effect"].notna().all()


def test_yen_have_no_decimals(home):
    found, _ = analyse(home, "retail|2025-01")
    text = " ".join(found["policy"]["sentences"])
    assert "¥" in text
    assert "." not in text.split("net benefit of ¥")[1].split(" ")[0]


def test_a_dose_and_a_study_without_money_say_so(home, tmp_path):
    frame = study_frame().assign(treatment=lambda table: table["age"] + table["visits"].round(3))
    path = tmp_path / "dose.csv"
    frame.to_csv(path, index=False)
    found, _ = analyse(home, "retail|2025-03", path, study="roles: {treatment: treatment, outcome: outcome}\n")
    assert {found[key]["status"] for key in ("counterfactual", "policy")} == {"not_computed"}
    assert found["policy"]["remedy"]
    path = tmp_path / "plain.csv"
    study_frame().to_csv(path, index=False)
    declared = "roles: {treatment: treatment, outcome: outcome}\n"
    found, _ = analyse(home, "retail|2025-04", path, study=declared)
    assert found["policy"]["measure"] == "outcome"
    assert found["policy"]["missing"]
    assert not any(reason["kind"] == "money" for reason in found["reasons"])


def test_a_treatment_that_costs_more_than_it_brings_is_not_a_go(home, tmp_path):
    path = tmp_path / "dear.csv"
    study_frame(800).to_csv(path, index=False)
    text = "design: trial\ndirection: higher_is_better\nminimum_effect: 0.5\n"
    text += "money: {value_per_unit: 10, cost_per_treatment: %d}\n"
    dear, _ = analyse(home, "retail|2025-05", path, study=text % 500)
    cheap, _ = analyse(home, "retail|2025-06", path, study=text % 1)
    assert dear["verdict"] == "HOLD"
    assert "does not pay" in next(item["sentence"] for item in dear["reasons"] if item["kind"] == "money")
    assert [item["allows"] for item in cheap["reasons"] if item["kind"] == "money"] == ["GO"]


def test_each_runs_alone(home):
    analyse(home, "policy|2025-01")
    for key in WANTED:
        result = run("policy|2025-01", selection=[key])
        assert result.success, errors(result)
