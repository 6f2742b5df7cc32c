"""Counterfactual systems and the value of policies as assets of one partition, down to the card."""

import json

import pytest

from cqox_assets.results import Results
from cqox_resources.settings import Settings
from tests.conftest import DATA
from tests.graph.helpers import card, deliver, errors, run

STAGES = [
    "ingestion/raw_table", "mapping/column_profile", "mapping/domain_match", "mapping/column_roles", "mapping/study",
    "gates/data_diagnostics", "gates/gated_study", "discovery/method_plan", "nuisance/nuisance_models",
    "estimates/aipw", "estimates/dr_learner", "synthesis/counterfactual_systems", "synthesis/policy_value",
    "decisions/decision_card",
]  # fmt: skip


def checks(result):
    events = [event for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    return {event.asset_check_evaluation_data.check_name: event.asset_check_evaluation_data for event in events}


def test_manufacturing_costs_clusters_alloys_and_wear_that_should_fall(home):
    key = "manufacturing|2025-01"
    deliver(home, key)
    result = run(key, selection=STAGES)
    assert result.success, errors(result)
    found = card(home, key)
    worth = found["policy"]["contrasts"][0]
    # 4 EUR for each of 2.9 micrometres less wear, and 3.2 EUR more for the coolant, on 4,000 batches.
    assert found["policy"]["kind"] == "net"
    assert worth["mean_cost"] == pytest.approx(3.2, abs=1e-6)
    assert worth["break_even_effect"] == pytest.approx(-0.8)
    expected = (4 * 2.9 - 3.2) * found["study"]["rows"]
    assert worth["everybody_low"] < expected < worth["everybody_high"]
    assert {row["segment"] for row in found["policy"]["segments"] if row["by"] == "alloy"} == {"A", "B", "C"}
    assert {row["group"] for row in found["policy"]["fairness"]} == {"A", "B", "C"}
    systems = found["counterfactual"]["systems"]
    assert {row["system"] for row in systems} == {"linear", "nonlinear", "machine_learned"}
    assert all(row["low"] < -2.9 < row["high"] for row in systems)
    assert [reason["allows"] for reason in found["reasons"] if reason["kind"] == "money"] == ["GO"]
    assert not {"counterfactual", "policy"} & set(found["not_computed"])
    assert checks(result)["agree"].passed
    assert checks(result)["pays"].passed
    present = Results(Settings.from_env().warehouse).present(key)
    tables = present.inputs().findings["policy_value"].tables
    assert {"coverage", "budget", "net_benefit", "shadow_price"} <= set(tables["grid"].columns)
    units = present.findings["counterfactual_systems"].tables["unit_counterfactuals"]
    assert len(units) == len(present.study)
    stored = Settings.from_env().warehouse / "synthesis" / "counterfactual_systems" / "manufacturing" / "2025-01"
    assert any(path.suffix == ".parquet" for path in stored.iterdir())


@pytest.mark.parametrize(
    ("money", "kind", "said"),
    [
        ("", "outcome", "value_per_unit"),
        ("money: {value_per_unit: 2, cost_per_treatment: 0, budget: 0, currency: JPY}", "net", "costs nothing"),
    ],
    ids=["no money", "zero cost and budget"],
)
def test_missing_and_zero_prices_give_a_card_that_says_so(home, money, kind, said):
    key = "policy|2025-01"
    text = (DATA / "policy" / "2025-01" / "study.yaml").read_text("utf-8").split("money:")[0] + money
    deliver(home, key, *(DATA / "policy" / "2025-01").glob("*.csv"), study=text)
    result = run(key, selection=STAGES)
    assert result.success, errors(result)
    found = card(home, key)["policy"]
    assert found["kind"] == kind
    assert said in " ".join(found["notices"])
    json.dumps(found, allow_nan=False)


def test_a_study_without_covariates_says_why_there_is_none(home):
    key = "policy|2025-01"
    text = "roles: {outcome: re78, treatment: treat, covariates: [], pre_outcome: null}\ndesign: trial\n"
    deliver(home, key, *(DATA / "policy" / "2025-01").glob("*.csv"), study=text)
    result = run(key, selection=STAGES)
    assert result.success, errors(result)
    found = card(home, key)
    assert (found["policy"], found["counterfactual"]) == (None, None)
    assert "covariates" in found["not_computed"]["policy"]
    assert "covariates" in found["not_computed"]["counterfactual"]
    assert not checks(result)["pays"].passed
    assert "covariates" in checks(result)["agree"].description
