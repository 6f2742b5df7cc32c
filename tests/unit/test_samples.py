"""The sample studies: what is in them, that they are declared well, and how they reach the inbox."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import parse_declaration
from cqox_assets.errors import CqoxError
from cqox_assets.mapping.domains import load_domains
from cqox_assets.study import Role
from dagster_deploy import samples

DATA = samples.SOURCE
KEYS = samples.partitions()


def folder_of(key):
    return DATA.joinpath(*key.split("|"))


def table_of(key):
    (path,) = (path for path in folder_of(key).iterdir() if path.name not in ("study.yaml", "edges.csv"))
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, encoding="shift_jis" if key.startswith("retail") else "utf-8")


def declaration_of(key):
    return parse_declaration((folder_of(key) / "study.yaml").read_text(encoding="utf-8"), f"{key} study.yaml")


def difference(frame, outcome, treatment):
    frame = frame.dropna(subset=[outcome])
    return frame.loc[frame[treatment] == 1, outcome].mean() - frame.loc[frame[treatment] == 0, outcome].mean()


def test_every_promised_study_is_there():
    months = [f"healthcare|2025-{month:02d}" for month in range(1, 13)]
    others = ["education", "finance", "labour", "manufacturing", "marketing", "policy", "policy_cps", "policy_psid"]
    assert sorted(KEYS) == sorted(months + [f"{name}|2025-01" for name in [*others, "retail"]])


@pytest.mark.parametrize("key", KEYS)
def test_declaration_names_only_columns_of_the_table(key):
    declaration, columns = declaration_of(key), set(table_of(key).columns)
    assert declaration.question
    assert declaration.design
    assert declaration.minimum_effect is not None
    for role, names in declaration.roles.items():
        assert role in list(Role)
        assert {names} if isinstance(names, str) else set(names or ()) <= columns, role
    assert declaration.roles["outcome"] in columns
    assert declaration.roles["treatment"] in columns
    assert set(declaration.guardrails) <= columns


@pytest.mark.parametrize("key", KEYS)
def test_no_role_reads_what_happens_after_the_treatment(key):
    roles = declaration_of(key).roles
    later = {"visit", "conversion", "spend", "cost_eur", "coolant_cost_eur", "fte_after", "fte_change", "re78"}
    assert not later & set(roles["covariates"])


@pytest.mark.parametrize("domain", sorted({key.split("|")[0] for key in KEYS}))
def test_every_domain_has_a_profile_and_a_card_that_explains_every_column(domain):
    assert domain in load_domains(DATA / "domains")
    card = (DATA / domain / "CARD.md").read_text(encoding="utf-8")
    for word in ("source", "terms", "unit", "role", "correct analysis finds"):
        assert word in card
    if "policy_" in domain:
        card += (DATA / "policy" / "CARD.md").read_text(encoding="utf-8")
    table = table_of(next(key for key in KEYS if key.startswith(f"{domain}|")))
    for column in table.columns:
        ranged = domain == "education" and re.fullmatch(r"x\d+", column)
        assert ranged or re.search(rf"(?<!\w){column}(?!\w)", card), column


def test_stated_sizes_are_those_of_the_tables():
    for key in KEYS:
        rows = len(table_of(key))
        card = (folder_of(key).parent / "CARD.md").read_text(encoding="utf-8")
        if not key.startswith("healthcare"):
            assert f"{rows:,} rows" in card or f"{rows} rows" in card, key
        else:
            assert 386 <= rows <= 463


def test_published_numbers_come_out_of_the_tables():
    assert difference(table_of("policy|2025-01"), "re78", "treat") == pytest.approx(1794.34, abs=0.005)
    assert difference(table_of("policy_psid|2025-01"), "re78", "treat") == pytest.approx(-15205, abs=1)
    assert difference(table_of("policy_cps|2025-01"), "re78", "treat") == pytest.approx(-8498, abs=1)
    visits = table_of("marketing|2025-01").groupby("segment")["visit"].mean()
    assert visits["Mens E-Mail"] - visits["No E-Mail"] == pytest.approx(0.0766, abs=5e-5)
    assert visits["Womens E-Mail"] - visits["No E-Mail"] == pytest.approx(0.0452, abs=5e-5)
    assert difference(table_of("labour|2025-01"), "fte_change", "nj") == pytest.approx(2.75, abs=1e-6)


def test_ihdp_keeps_the_truth_out_of_the_inbox():
    table = table_of("education|2025-01")
    assert len(table) == 747
    assert not {"replication", "y_cfactual", "mu0", "mu1"} & set(table.columns)
    truth = pd.read_csv(DATA / "education/truth/ihdp_truth.csv")
    assert np.array_equal(truth["unit"], table["unit"])
    assert (truth["mu1"] - truth["mu0"]).mean() == pytest.approx(4.016066896, abs=1e-8)
    noise = table["y_factual"] - np.where(table["treatment"] == 1, truth["mu1"], truth["mu0"])
    assert noise.std() == pytest.approx(1, abs=0.1)


def test_change_per_store_is_made_from_the_long_file():
    long = pd.read_csv(DATA / "labour/original/card_krueger.csv").pivot(index="store_id", columns="wave", values="fte")
    table = table_of("labour|2025-01").set_index("store_id")
    assert np.allclose(long[1] - long[0], table["fte_change"], atol=1e-4, equal_nan=True)
    assert np.array_equal(long[0], table["fte_before"], equal_nan=True)
    assert table["fte_change"].notna().sum() == 384


def test_only_the_study_reaches_the_inbox(tmp_path):
    written = samples.deliver(tmp_path)
    inbox = tmp_path / "inbox"
    assert sorted(f"{path.parent.name}|{path.name}" for path in inbox.glob("*/*")) == sorted(KEYS)
    assert {path.name for path in (inbox / "education/2025-01").iterdir()} == {"ihdp.csv", "study.yaml"}
    assert not [
        path for path in tmp_path.rglob("*") if path.name.endswith((".part", "CARD.md")) or "truth" in path.name
    ]
    assert {path.name for path in (tmp_path / "domains").iterdir()} == {
        "labour.yaml",
        "policy_cps.yaml",
        "policy_psid.yaml",
    }
    for path in written:
        assert path.read_bytes() == (DATA / path.relative_to(inbox if "inbox" in path.parts else tmp_path)).read_bytes()


def test_profiles_and_declarations_are_delivered_before_data(tmp_path, monkeypatch):
    home = tmp_path / "home"
    source = tmp_path / "source"
    (source / "domains").mkdir(parents=True)
    (source / "domains" / "web.yaml").write_text("extends: marketing\n")
    study = source / "web" / "2025-02"
    study.mkdir(parents=True)
    for name in ("a.csv", "edges.csv", "study.yaml"):
        (study / name).write_text(name)
    seen = []
    original = Path.replace

    def spy(self, target):
        seen.append((self.name, sorted(path.name for path in target.parent.iterdir())))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    written = samples.deliver(home, source=source)
    assert [path.name for path in written] == ["web.yaml", "study.yaml", "edges.csv", "a.csv"]
    assert [name for name, _ in seen] == ["web.yaml.part", "study.yaml.part", "edges.csv.part", "a.csv.part"]
    assert seen[-1][1] == ["a.csv.part", "edges.csv", "study.yaml"]


def test_delivering_again_touches_nothing_and_a_change_is_delivered(tmp_path):
    samples.deliver(tmp_path, ["policy|2025-01"])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert samples.deliver(tmp_path, ["policy|2025-01"]) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
    changed = tmp_path / "inbox/policy/2025-01/study.yaml"
    changed.write_text("question: another\n")
    assert samples.deliver(tmp_path, ["policy|2025-01"]) == [changed]


def test_only_takes_the_named_study_and_refuses_an_unknown_one(tmp_path):
    samples.deliver(tmp_path, ["retail|2025-01"])
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["retail"]
    with pytest.raises(CqoxError, match=r"'retail\|2031-01' is not a sample study; there are .*retail\|2025-01"):
        samples.deliver(tmp_path, ["retail|2031-01"])
    with pytest.raises(CqoxError, match="part of the repository"):
        samples.deliver(tmp_path, source=tmp_path / "nowhere")


def test_profiles_can_be_delivered_before_any_study(tmp_path):
    written = samples.deliver_profiles(tmp_path)
    assert {path.name for path in written} == {"labour.yaml", "policy_cps.yaml", "policy_psid.yaml"}
    assert samples.deliver_profiles(tmp_path) == []
    assert not (tmp_path / "inbox").exists()


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "dagster_deploy.samples", "--home", str(tmp_path), "--only"]
    done = subprocess.run([*command, "policy|2025-01"], capture_output=True, text=True, check=True)
    assert "lalonde_nsw.csv" in done.stdout
    wrong = subprocess.run([*command, "policy"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "'policy' is not a sample study" in wrong.stderr
    assert "Traceback" not in wrong.stderr
