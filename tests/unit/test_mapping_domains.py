"""Domain profiles: the shipped seven, the user's own, and what is said about a bad file."""

import json

import pandas as pd
import pytest

from cqox_assets.errors import DeclarationError
from cqox_assets.mapping import load_domains, match_domain, profile_columns
from cqox_assets.mapping.domains import DomainMatch, common_words, direction_of
from cqox_assets.study import Role

SEVEN = {"healthcare", "finance", "marketing", "education", "policy", "manufacturing", "retail"}
OF_SAMPLES = {"labour", "policy_cps", "policy_psid"}


def test_seven_profiles_speak_three_languages():
    domains = load_domains()
    assert set(domains) == SEVEN
    for profile in domains.values():
        for role in (Role.TREATMENT, Role.OUTCOME):
            words = "".join(profile.words[role])
            assert any("぀" <= sign <= "鿿" for sign in words), f"{profile.name} has no Japanese {role}"
            assert any(word[0].isupper() for word in profile.words[role]), f"{profile.name} has no German {role}"
            assert any(word.isascii() and word.islower() for word in profile.words[role])
    assert {"売上", "割引", "購入", "クーポン", "Umsatz"} <= {
        word for role in (Role.TREATMENT, Role.OUTCOME) for word in domains["retail"].words[role]
    }
    assert "Ergebnis" in common_words()[Role.OUTCOME]


def test_a_profile_inherits_and_its_own_values_win(tmp_path):
    (tmp_path / "clinic_a.yaml").write_text(
        "extends: healthcare\ntitle: Clinic A\ndirection: lower_is_better\nwords: {treatment: [zeta_protocol]}\n"
        "thresholds: {overlap: 0.9}\nmoney: {currency: EUR}\n"
    )
    (tmp_path / "clinic_b.yaml").write_text("extends: clinic_a\nthresholds: {vif: 5}\nmoney: {value_per_unit: 3}\n")
    domains = load_domains(tmp_path)
    assert set(domains) == SEVEN | OF_SAMPLES | {"clinic_a", "clinic_b"}
    base, own, child = domains["healthcare"], domains["clinic_a"], domains["clinic_b"]
    assert own.words[Role.TREATMENT][0] == "zeta_protocol"
    assert set(base.words[Role.TREATMENT]) < set(own.words[Role.TREATMENT])
    assert (own.direction, base.direction) == ("lower_is_better", None)
    assert child.thresholds == {"overlap": 0.9, "vif": 5}
    assert (child.money.currency, child.money.value_per_unit, child.direction) == ("EUR", 3, "lower_is_better")


def test_a_profile_may_replace_the_shipped_one_that_it_extends(tmp_path):
    (tmp_path / "retail.yaml").write_text("extends: retail\ntitle: Our shops\n")
    profile = load_domains(tmp_path)["retail"]
    assert profile.title == "Our shops"
    assert profile.words == load_domains()["retail"].words


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("shop.yaml", "tresholds: {}", "shop.yaml: key 'tresholds' is not known; did you mean 'thresholds'"),
        ("shop.yaml", "extends: retial", "shop.yaml: 'extends' names domain 'retial'; did you mean 'retail'"),
        ("shop.yaml", "thresholds: {overlp: 1}", "shop.yaml: 'thresholds'.*'overlp' is not a measure"),
        ("shop.yaml", "words: {treatmnt: [x]}", "shop.yaml: 'words'.*'treatmnt' is not a role"),
        ("shop.yaml", "direction: up", "shop.yaml: 'direction' is 'up'"),
        ("shop.yaml", "name: other", "shop.yaml: 'name' is 'other'; name and file must agree"),
        ("shop.yaml", "- a\n- b", "shop.yaml must be a mapping"),
        ("shop.yaml", "a: [", "shop.yaml is not valid YAML"),
        ("My Shop.yaml", "title: x", "My Shop.yaml: a domain's name may hold"),
        ("shop.yaml", "extends: shop2", "shop.yaml: 'extends' names domain 'shop2'"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, name, text, wanted):
    (tmp_path / name).write_text(text)
    with pytest.raises(DeclarationError, match=wanted):
        load_domains(tmp_path)


def test_a_circle_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b")
    (tmp_path / "b.yaml").write_text("extends: a")
    with pytest.raises(DeclarationError, match="circle"):
        load_domains(tmp_path)


def test_a_missing_folder_and_an_empty_file_are_fine(tmp_path):
    assert set(load_domains(tmp_path / "none")) == SEVEN | OF_SAMPLES
    (tmp_path / "labs.yaml").write_text("")
    assert load_domains(tmp_path)["labs"].title == "Labs"


@pytest.mark.parametrize(
    ("columns", "best"),
    [
        (["patient_id", "diagnosis", "bmi", "admission_type"], "healthcare"),
        (["loan_amount", "interest_rate", "fico", "default"], "finance"),
        (["campaign", "channel", "clicks", "user_id"], "marketing"),
        (["student", "school", "teacher", "gpa"], "education"),
        (["municipality", "unemployment", "program", "household"], "policy"),
        (["machine", "temperature", "vibration", "scrap"], "manufacturing"),
        (["店舗", "商品", "売上", "在庫"], "retail"),
        (["Filiale", "Artikel", "Umsatz", "Rabatt"], "retail"),
        (["Maschine", "Drehzahl", "Ausschuss"], "manufacturing"),
        (["a", "b", "c"], "general"),
    ],
)
def test_a_table_is_matched_by_its_columns(columns, best):
    profile = profile_columns(pd.DataFrame({name: [1, 2, 3] for name in columns}))
    match = match_domain(profile, load_domains())
    assert match.best == best
    assert set(match.scores) == SEVEN
    if best != "general":
        assert sum(match.scores.values()) == pytest.approx(1, abs=1e-3)
        assert match.scores[best] == max(match.scores.values())
        assert sum(name in match.evidence for name in columns) >= 2
    assert DomainMatch.from_json(json.loads(json.dumps(match.to_json()))) == match


def test_a_domain_that_extends_does_not_dilute_its_parent(tmp_path):
    for number in range(4):
        (tmp_path / f"policy_{number}.yaml").write_text("extends: policy")
    profile = profile_columns(pd.DataFrame({"household": [1], "wage": [2], "interest": [3]}))
    assert match_domain(profile, load_domains(tmp_path)).best == "policy"


@pytest.mark.parametrize(
    ("outcome", "domain", "direction"),
    [
        ("readmission_30d", "healthcare", "lower_is_better"),
        ("recovery_score", "healthcare", None),
        ("解約", "marketing", "lower_is_better"),
        ("売上", "retail", "higher_is_better"),
        ("Ausschussrate", "manufacturing", "lower_is_better"),
        ("yield", "manufacturing", None),
    ],
)
def test_less_of_a_harm_is_good(outcome, domain, direction):
    assert direction_of(outcome, load_domains()[domain]) == direction
