"""The seeded studies: reproducible, with the effect that they state, and with the damage that they state."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cqox_assets.simulate import finance, healthcare, manufacturing, retail_jp
from cqox_assets.simulate.__main__ import STUDIES, main

DATA = Path(__file__).resolve().parents[2] / "data"


def regress(y, first, *others):
    """Return the coefficient of `first` and its heteroskedasticity-robust standard error."""
    x = np.column_stack([np.ones(len(y)), first, *others]).astype(float)
    bread = np.linalg.inv(x.T @ x)
    coefficients = bread @ x.T @ y
    residual = y - x @ coefficients
    covariance = bread @ (x.T * residual**2) @ x @ bread
    return coefficients[1], np.sqrt(covariance[1, 1])


def dummies(frame, *names):
    return pd.get_dummies(frame[list(names)], drop_first=True).to_numpy(float)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__.rsplit(".", 1)[-1])
def test_committed_files_are_what_the_script_draws(study):
    files = study.files()
    assert files
    for name, content in files.items():
        assert (DATA / name).read_bytes() == content, f"{name} differs; run python -m cqox_assets.simulate"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__.rsplit(".", 1)[-1])
def test_same_seed_same_rows_and_another_seed_other_rows(study):
    pd.testing.assert_frame_equal(study.draw(500, 7), study.draw(500, 7))
    assert not study.draw(500, 7).equals(study.draw(500, 8))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__.rsplit(".", 1)[-1])
def test_card_states_seed_and_truth(study):
    domain = next(iter(study.files())).split("/")[0]
    card = (DATA / domain / "CARD.md").read_text(encoding="utf-8")
    assert f"default_rng({study.SEED})" in card
    values = study.truth().values()
    numbers = [value for item in values for value in (item.values() if isinstance(item, dict) else [item])]
    for number in numbers:
        assert any(text in card for text in (f"{number:.2f}", f"{number:.3f}", f"{number:.0f}")), number


def test_command_writes_every_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["simulate", "--out", str(tmp_path)])
    main()
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {name for study in STUDIES for name in study.files()}
    assert "retail/2025-01/coupon.csv" in capsys.readouterr().out


def test_healthcare_has_the_stated_effect_in_every_month():
    patients = healthcare.draw(240_000, 11, hidden=True)
    d, y = patients["programme"].to_numpy(), patients["recovery_score"].to_numpy()
    month = pd.to_datetime(patients["admission_date"]).dt.strftime("%Y-%m").to_numpy()
    names = ["severity", "age", "baseline_score", "frailty"]
    others = np.column_stack([patients[names], dummies(patients, "source_hospital")])
    for period, truth in healthcare.truth().items():
        rows = month == period
        estimate, spread = regress(y[rows], d[rows], others[rows])
        assert abs(estimate - truth["ATE"]) < 4 * spread, period
        assert spread < 0.15


def test_healthcare_is_confounded_and_the_instrument_is_valid():
    patients = healthcare.draw(200_000, 12, hidden=True)
    effect = patients["admission_date"].str[:7].map({key: item["LATE"] for key, item in healthcare.truth().items()})
    d, z = patients["programme"].to_numpy(), patients["distance_km"].to_numpy()
    net = (patients["recovery_score"] - effect * patients["programme"]).to_numpy()
    measured = np.column_stack([patients[["severity", "age", "baseline_score"]], dummies(patients, "source_hospital")])
    bias, _ = regress(net, d, measured)
    assert -0.43 < bias < -0.23
    assert net[d == 1].mean() - net[d == 0].mean() < -3
    direct, spread = regress(net, z, measured)
    assert abs(direct) < 4 * spread
    first, spread = regress(d, z, measured)
    assert (first / spread) ** 2 > 10_000
    assert abs(np.corrcoef(z, patients["frailty"])[0, 1]) < 0.01


def test_healthcare_has_5000_patients_in_12_months():
    patients = healthcare.draw()
    assert len(patients) == 5000
    assert patients["patient_id"].is_unique
    assert patients["admission_date"].str[:7].value_counts().loc[list(healthcare.MONTHS)].min() > 350
    assert "frailty" not in patients


def test_finance_jumps_by_the_stated_effect_at_650():
    loans = finance.draw(400_000, 13)
    near = loans[(loans["credit_score"] - finance.CUTOFF).abs() < 15]
    distance = (near["credit_score"] - finance.CUTOFF).to_numpy()
    lower = (near["lower_rate"] == "yes").to_numpy(float)
    estimate, spread = regress(near["result_eur"].to_numpy(), lower, distance, distance * lower)
    assert abs(estimate - finance.truth()["LATE"]) < 4 * spread
    assert spread < 5


def test_finance_follows_the_rule_and_is_smooth_in_everything_else():
    loans = finance.draw(400_000, 14)
    assert ((loans["credit_score"] >= finance.CUTOFF) == (loans["lower_rate"] == "yes")).all()
    near = loans[(loans["credit_score"] - finance.CUTOFF).abs() < 15]
    distance = (near["credit_score"] - finance.CUTOFF).to_numpy()
    above = (distance >= 0).astype(float)
    for name in ("monthly_income_eur", "amount_eur", "age", "years_employed"):
        jump, spread = regress(near[name].to_numpy(float), above, distance, distance * above)
        assert abs(jump) < 4 * spread, name
    assert abs((above == 1).mean() - 0.5) < 0.02


def test_manufacturing_has_the_stated_effect_on_every_alloy():
    batches = manufacturing.draw(200_000, 15)
    new, wear = (batches["coolant"] == "new").to_numpy(float), batches["tool_wear_um"].to_numpy()
    others = batches[["feed_m_min", "spindle_hours", "temperature_c"]].to_numpy()
    machines = dummies(batches, "machine", "shift")
    for alloy, effect in zip(manufacturing.ALLOYS, manufacturing.EFFECTS, strict=True):
        rows = (batches["alloy"] == alloy).to_numpy()
        estimate, spread = regress(wear[rows], new[rows], others[rows], machines[rows])
        assert abs(estimate - effect) < 4 * spread
    share = batches["alloy"].value_counts(normalize=True)[list(manufacturing.ALLOYS)].to_numpy()
    assert manufacturing.truth()["ATE"] == pytest.approx(share @ np.array(manufacturing.EFFECTS), abs=0.02)
    treated = batches[batches["coolant"] == "new"]["alloy"].value_counts(normalize=True)
    expected = treated[list(manufacturing.ALLOYS)].to_numpy() @ np.array(manufacturing.EFFECTS)
    assert manufacturing.truth()["ATT"] == pytest.approx(expected, abs=0.02)


def test_retail_effect_survives_the_damage_and_the_raw_difference_does_not():
    customers = retail_jp.draw(200_000, 16).dropna(subset=["クーポン", "購入金額"])
    coupon = (customers["クーポン"] == "はい").to_numpy(float)
    amount = customers["購入金額"].to_numpy(float)
    estimate, spread = regress(amount, coupon, dummies(customers, "会員ランク"))
    assert abs(estimate - retail_jp.truth()["ATE"]) < 4 * spread
    assert spread < 40
    assert amount[coupon == 1].mean() - amount[coupon == 0].mean() > estimate + 400


def test_retail_file_is_shift_jis_with_15_percent_missing_cells_and_5_percent_outliers():
    content = (DATA / "retail/2025-01/coupon.csv").read_bytes()
    with pytest.raises(UnicodeDecodeError):
        content.decode("utf-8")
    assert content.decode("shift_jis").startswith("顧客番号,来店日")
    customers = retail_jp.draw()
    assert customers.isna().to_numpy().mean() == pytest.approx(0.15, abs=1e-9)
    assert customers[["顧客番号", "会員ランク"]].notna().all(axis=None)
    clean = customers["購入金額"].dropna().to_numpy(float)
    low, high = np.quantile(clean, [0.25, 0.75])
    assert 0.03 < (clean > high + 1.5 * (high - low)).mean() < 0.06
    assert 0.03 < (customers["年齢"].dropna() > 120).mean() < 0.07
