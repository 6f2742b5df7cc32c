"""What study.yaml states reaches the card, and what it gets wrong is said before anything is computed."""

import numpy as np
import pandas as pd

from tests.graph.helpers import card, deliver, errors, run


def study_frame(n=400, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    d = (rng.random(n) < 1 / (1 + np.exp(-x[:, 0] / 2))).astype(int)
    frame = pd.DataFrame(x, columns=["age", "visits", "score"])
    return frame.assign(treatment=d, outcome=2 * d + x.sum(axis=1) / 2 + rng.normal(size=n))


def analyse(home, tmp_path, frame, study, key="retail|2025-03"):
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    deliver(home, key, path, study=study)
    return run(key)


def test_a_declared_guardrail_is_measured_and_judged_on_the_card(home, tmp_path):
    frame = study_frame()
    frame["complaints"] = frame["treatment"] + np.random.default_rng(2).normal(size=len(frame))
    study = """
roles: {treatment: treatment, outcome: outcome, covariates: [age, visits, score]}
methods: [ols]
guardrails: {complaints: {margin: 0.1, direction: lower_is_better}}
"""
    result = analyse(home, tmp_path, frame, study)
    assert result.success, errors(result)
    found = card(home, "retail|2025-03")
    (rail,) = found["guardrails"]
    assert rail["estimator"] == "ols"
    assert 0.5 < rail["estimate"] < 1.5
    assert found["verdict"] == "HOLD"
    assert "complaints" in next(item["sentence"] for item in found["reasons"] if item["kind"] == "guardrail")
    page = (home / "reports" / "retail" / "2025-03" / "decision_card.html").read_text("utf-8")
    assert "it does." in page


def test_a_continuous_treatment_becomes_a_card(home, tmp_path):
    rng = np.random.default_rng(3)
    frame = study_frame().assign(treatment=lambda table: table["age"] + rng.normal(size=len(table)))
    result = analyse(home, tmp_path, frame, "roles: {treatment: treatment, outcome: outcome}\n")
    assert result.success, errors(result)
    found = card(home, "retail|2025-03")
    assert [row["estimator"] for row in found["estimates"]] == ["ols"]
    assert {row["code"] for row in found["refusals"]} == {"treatment_kind", "missing_role"}
