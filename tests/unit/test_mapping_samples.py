"""The sample studies without their declarations: roles that the real tables themselves give away."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cqox_assets.mapping import study_of
from cqox_assets.study import Role

DATA = Path(__file__).parent.parent.parent / "data"


@pytest.mark.parametrize("domain", ["policy", "policy_cps", "policy_psid"])
def test_job_training(domain):
    path = next((DATA / domain / "2025-01").glob("*.csv"))
    frame = pd.read_csv(path)
    study, proposal, match, _ = study_of(frame)
    assert match.best == "policy"
    assert study.name(Role.TREATMENT) == "treat"
    assert study.name(Role.OUTCOME) == "re78"
    assert study.names(Role.PRE_OUTCOME) == ("re74", "re75")
    assert study.names(Role.COVARIATES) == (
        "age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75",
    )  # fmt: skip
    assert all(proposal.confidence[role] > 0.6 for role in (Role.TREATMENT, Role.OUTCOME))
    for name in frame.columns:
        assert np.array_equal(study.frame[name].to_numpy(), frame[name].to_numpy(dtype=np.float64))


def test_email_campaign_keeps_three_arms_and_asks_for_the_outcome():
    study, proposal, match, _ = study_of(pd.read_parquet(DATA / "marketing" / "2025-01" / "hillstrom.parquet"))
    assert match.best == "marketing"
    assert study.arms == ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
    assert proposal.confidence[Role.TREATMENT] > 0.9
    assert proposal.confidence[Role.OUTCOME] < 0.6
    assert not {"visit", "conversion", "spend"} & set(proposal.roles[Role.COVARIATES])
    assert {"history_segment", "zip_code", "mens", "womens"} <= set(proposal.roles[Role.COVARIATES])


def test_infant_health():
    study, proposal, *_ = study_of(pd.read_csv(DATA / "education" / "2025-01" / "ihdp.csv"))
    assert study.name(Role.TREATMENT) == "treatment"
    assert study.name(Role.OUTCOME) == "y_factual"
    assert len(proposal.roles[Role.COVARIATES]) == 25


def test_loans_with_a_cutoff():
    study, proposal, *_ = study_of(pd.read_csv(DATA / "finance" / "2025-01" / "loans.csv"), domain="finance")
    assert study.name(Role.TREATMENT) == "lower_rate"
    assert study.arms == ("no", "yes")
    assert study.name(Role.RUNNING_VARIABLE) == "credit_score"
    assert "650" in proposal.evidence[Role.RUNNING_VARIABLE]


def test_japanese_coupons_in_shift_jis():
    frame = pd.read_csv(DATA / "retail" / "2025-01" / "coupon.csv", encoding="cp932")
    study, proposal, match, profile = study_of(frame)
    assert match.best == "retail"
    assert study.name(Role.TREATMENT) == "クーポン"
    assert study.name(Role.OUTCOME) == "購入金額"
    assert study.arms == ("いいえ", "はい")
    assert proposal.confidence[Role.OUTCOME] > 0.6
    assert np.isfinite(study.matrix()).all()
    lost = frame[["クーポン", "購入金額"]].isna().any(axis=1).sum()
    assert len(study) == len(frame) - lost
    assert 50 < profile.score < 100
