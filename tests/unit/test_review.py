"""The quality score follows its formulas; the reviewer follows its rules, and significance is not one of them."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_sensitivities
from cqox_assets.decisions.evidence import gather
from cqox_assets.decisions.rule import decide
from cqox_assets.declaration import Declaration
from cqox_assets.discovery.plan import MethodPlan, plan_methods
from cqox_assets.measures import Status
from cqox_assets.result import (
    Assumption,
    Effect,
    EffectEstimate,
    Failure,
    Interval,
    Outcome,
    Refusal,
    Sample,
    SensitivityResult,
)
from cqox_assets.study import Role, Study
from cqox_assets.synthesis import critique as review_module
from cqox_assets.synthesis.critique import APPROVE, ITERATE, REJECT, Critique, review
from cqox_assets.synthesis.effect_summary import summarise
from cqox_assets.synthesis.quality_change import compare_quality
from cqox_assets.synthesis.quality_score import WEIGHTS, QualityScore, score_quality
from cqox_assets.synthesis.remedies import MOST_ROUNDS, REMEDIES

UNCONFOUNDED = Assumption("unconfoundedness", "Given the covariates, treatment is as good as random.")


def study_of(n: int = 400, confounding: float = 0.3, **declared: object) -> Study:
    generator = np.random.default_rng(7)
    x, z, noise = generator.standard_normal((3, n))
    d = (generator.random(n) < 1 / (1 + np.exp(-confounding * x))) * 1.0
    frame = pd.DataFrame({"y": d + x + noise, "d": d, "x": x, "z": z})
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x", "z")}
    return Study(frame, roles, arms=("a", "b"), declaration=Declaration(**declared))  # type: ignore[arg-type]


def estimates_of(
    value: float = 1.0, error: float = 0.1, names: tuple[str, ...] = ("aipw", "ipw")
) -> dict[str, Outcome]:
    return {
        name: EffectEstimate(
            name, "1",
            (Effect("ATE", "b - a", value + 0.01 * k, error, Interval(value + 0.01 * k - 1.96 * error,
                                                                     value + 0.01 * k + 1.96 * error)),),
            "stated", Sample(400), (), (UNCONFOUNDED,), provenance={"seconds": 0.1},
        )
        for k, name in enumerate(names)
    }  # fmt: skip


def gate(measure: str, status: str, estimator: str = "", **facts: object) -> dict[str, object]:
    stage = "estimates" if estimator else str(facts.pop("stage", "data"))
    name = f"{estimator}: {measure}" if estimator else measure
    return {"name": name, "measure": measure, "status": status, "value": 0.5, "estimator": estimator, "stage": stage}


def answered(status: Status = Status.PASS, name: str = "e_value") -> dict[str, SensitivityResult]:
    return {f"{name}: aipw": SensitivityResult(name, "aipw", "ATE", 2.0, "risk ratio", status, "Came out.", "Do.")}


def plan_for(study: Study) -> MethodPlan:
    return plan_methods(study)


def scored(
    gates: list[dict[str, object]], estimates: dict[str, Outcome] | None = None, **facts: object
) -> QualityScore:
    study = facts.pop("study", study_of())
    estimates = estimates_of() if estimates is None else estimates
    summary = summarise(plan_for(study), estimates, gates)  # type: ignore[arg-type]
    return score_quality(gates, summary, facts.get("sensitivity", answered()), estimates, study)  # type: ignore[arg-type]


def test_the_five_axes_follow_their_formulas() -> None:
    study = study_of()
    gates = [gate("rows", "pass"), gate("overlap", "warn"), gate("adjusted_smd", "pass", "aipw")]
    found = scored(gates, study=study)
    assert set(found.axes) == set(WEIGHTS)
    # data 1, support 0.5, comparability 1, assumptions (untested) 0.5
    assert found.axes["validity"] == pytest.approx(10 * (1 + 0.5 + 1 + 0.5) / 4)
    group = summarise(plan_for(study), estimates_of(), gates).targets()[0]
    assert group.low is not None
    assert group.high is not None
    width = (group.high - group.low) / 2 / study.column(Role.OUTCOME).std(ddof=1)
    assert found.axes["precision"] == pytest.approx(10 * (1 - width / 0.5), abs=0.01)
    assert found.axes["robustness"] == pytest.approx(10 * (1 + 1) / 2)
    assert found.axes["interpretability"] == pytest.approx(10 * 2 / 7, abs=0.01)  # the estimand and an interval
    assert found.axes["scalability"] == 10
    total = sum(WEIGHTS[axis] * value for axis, value in found.axes.items() if value is not None)
    assert found.score == pytest.approx(10 * total, abs=0.1)
    assert QualityScore.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))).axes == found.axes


def test_a_failing_gate_fails_validity_and_the_score_whatever_else() -> None:
    many = [gate(name, "pass") for name in ("rows", "arms", "rows_per_arm", "vif")]
    assert scored(many).zones["validity"] == "pass"
    found = scored([*many, gate("overlap", "fail")])
    assert (found.zones["validity"], found.zone) == ("fail", "fail")
    three = estimates_of(names=("aipw", "ipw", "double_ml"))
    own = [gate("adjusted_smd", status, name) for name, status in zip(three, ("fail", "pass", "pass"), strict=True)]
    assert scored([*many, *own], three).zones["validity"] != "fail"  # one of three
    assert scored([*many, own[0], gate("adjusted_smd", "fail", "ipw")], three).zones["validity"] == "fail"
    assert scored([*many, gate("raw_smd", "fail")]).axes == scored(many).axes


def test_precision_knows_no_significance_and_an_open_interval_is_worth_nothing() -> None:
    assert scored([], estimates_of(0.0)).axes["precision"] == scored([], estimates_of(5.0)).axes["precision"]
    wide, narrow = scored([], estimates_of(error=0.3)), scored([], estimates_of(error=0.02))
    assert wide.axes["precision"] < narrow.axes["precision"]  # type: ignore[operator]
    effect = Effect("ATE", "b - a", 4.0, None, Interval(-math.inf, 9.0))
    opened: dict[str, Outcome] = {"bounds": EffectEstimate("bounds", "1", (effect,), "inverted", Sample(400))}
    assert scored([], opened).axes["precision"] == 0


def test_scalability_is_the_share_on_all_rows_within_budget() -> None:
    estimates = estimates_of()
    slow = replace(estimates["ipw"], provenance={"seconds": 60.0})
    part = replace(estimates["ipw"], sample=Sample(100))
    assert scored([], {**estimates, "ipw": slow}).axes["scalability"] == 5
    assert scored([], {**estimates, "ipw": part}).axes["scalability"] == 5
    bug = Failure("ipw", "ValueError: x", "trace")
    assert scored([], {**estimates, "ipw": bug}).axes["scalability"] == 5
    assert scored([], {**estimates, "iv": Refusal("iv", "missing_role", "no", "map")}).axes["scalability"] == 10


def test_without_any_estimate_the_score_fails_and_nothing_is_invented() -> None:
    found = scored([gate("rows", "pass")], {"iv": Refusal("iv", "missing_role", "no", "map")}, sensitivity={})
    assert found.zone == "fail"
    assert found.axes["precision"] is None
    assert found.axes["robustness"] is None
    assert json.dumps(found.to_json(), allow_nan=False)


def test_two_periods_are_compared() -> None:
    before, after = scored([gate("overlap", "warn")]), scored([gate("overlap", "pass")], estimates_of(1.5))
    found = compare_quality(before, after, ("2025-01", "2025-02"))
    assert found["score"]["change"] == pytest.approx(after.score - before.score)  # type: ignore[operator]
    assert found["axes"]["validity"]["change"] > 0
    assert found["axes"]["precision"]["change"] == pytest.approx(0, abs=0.05)
    assert found["effects"][0]["change"] == pytest.approx(0.5)
    assert "2025-01" in found["sentence"]
    assert "validity" in found["sentence"]
    nothing = compare_quality(QualityScore(None, {}), after)
    assert "cannot be compared" in nothing["sentence"]


def reviewed(gates: list[dict[str, object]], study: Study | None = None, **facts: object) -> Critique:
    study = study_of() if study is None else study
    estimates = facts.get("estimates", estimates_of())
    return review(study, plan_for(study), estimates, gates, facts.get("sensitivity", answered()))  # type: ignore[arg-type]


def test_a_sound_analysis_is_approved() -> None:
    found = reviewed([gate("rows", "pass"), gate("overlap", "pass")])
    assert found.verdict == APPROVE
    assert len(found.rounds) == 1
    assert {item.topic for item in found.rounds[0].objections} >= {"significance", "effect_size", "sensitivity"}


@pytest.mark.parametrize("gates", [[], [gate("overlap", "warn")], [gate("adjusted_smd", "warn", "aipw")]])
def test_significance_never_asks_for_a_round(gates: list[dict[str, object]]) -> None:
    """The same analysis with effects of any sign, size and width is reviewed in the same rounds."""
    paths = set()
    for value, error in ((1.0, 0.1), (0.0, 0.1), (0.15, 0.1), (-1.0, 0.1), (0.0, 5.0)):
        found = reviewed(gates, estimates=estimates_of(value, error))
        paths.add((found.verdict, tuple(item.remedy for item in found.rounds)))
    assert len(paths) == 1
    assert not any("p_value" in measure or "interval" in measure for item in REMEDIES for measure in item.answers)
    shown = reviewed(gates, estimates=estimates_of(0.0))
    assert any("covers no effect" in item.sentence for item in shown.rounds[0].objections)
    assert all(not item.remedy for part in shown.rounds for item in part.objections if item.topic == "significance")


def test_poor_overlap_is_trimmed_and_every_round_is_shown() -> None:
    study = study_of(600, confounding=2.0)
    found = reviewed([gate("overlap", "fail", stage="nuisance"), gate("overlap", "warn", "aipw")], study)
    first = found.rounds[1]
    assert first.remedy == "trim"
    assert first.rows < len(study)
    assert set(first.estimates) <= {"aipw", "ipw"}
    assert first.targets[0]["consensus"] != found.rounds[0].targets[0]["consensus"]
    assert len(found.rounds) <= MOST_ROUNDS + 1
    assert found.verdict in (ITERATE, REJECT)
    assert found.headline_round == 0
    assert "round 0" in found.sentence or found.verdict == REJECT
    again = Critique.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert json.dumps(again.to_json()) == json.dumps(found.to_json())
    assert "summary" not in found.for_card()["rounds"][1]
    assert "trim" in found.markdown() or "propensity below" in found.markdown()


def test_rounds_end_at_three_and_at_the_time_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(600, confounding=2.0)
    twins = replace(study, frame=study.frame.assign(w=study.frame["x"] + 1e-3 * study.frame["z"]))
    twins = replace(twins, roles={**study.roles, Role.COVARIATES: ("x", "z", "w")})
    gates = [gate(name, "warn") for name in ("overlap", "adjusted_smd", "vif")]
    real = review_module._round
    monkeypatch.setattr(review_module, "_round", lambda s, u, e, rows, a, used: real(s, u, e, gates, a, used))
    found = reviewed(gates, twins)
    assert [item.remedy for item in found.rounds] == ["", "trim", "richer_covariates", "fewer_covariates"]
    cut = review(twins, plan_for(twins), estimates_of(), gates, answered(), budget_seconds=-1.0)  # type: ignore[arg-type]
    assert len(cut.rounds) == 1
    assert "time budget" in cut.sentence


def test_a_declaration_may_adopt_a_round_that_cures_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    real = review_module._round

    def cured(study, summary, estimates, rows, asked, used):  # type: ignore[no-untyped-def]
        return real(study, summary, estimates, [] if used else rows, asked, used)

    monkeypatch.setattr(review_module, "_round", cured)
    gates = [gate("overlap", "warn")]
    shown = reviewed(gates, study_of(600, confounding=2.0))
    adopted = reviewed(gates, study_of(600, confounding=2.0, remedies="adopt"))
    assert (shown.headline_round, adopted.headline_round) == (0, 1)
    summary = summarise(plan_for(study_of()), estimates_of(), gates)
    assert shown.decisive(summary, gates) == (summary, gates)
    used, rows = adopted.decisive(summary, gates)
    assert used.targets()[0].consensus == adopted.rounds[1].targets[0]["consensus"]
    assert "as study.yaml allows" in used.notices[-1]
    assert rows == adopted.rounds[1].gates


@pytest.mark.parametrize(
    ("gates", "estimates"),
    [
        ([gate("treated_clusters", "fail")], estimates_of()),
        ([gate("pretrend_p", "fail", "aipw"), gate("pretrend_p", "fail", "ipw")], estimates_of()),
        ([], {"iv": Refusal("iv", "missing_role", "no instrument", "map one")}),
        ([], {}),
    ],
)
def test_what_cannot_stand_is_rejected_and_holds_the_decision(
    gates: list[dict[str, object]], estimates: dict[str, Outcome]
) -> None:
    study = study_of(minimum_effect=0.1)
    found = reviewed(gates, study, estimates=estimates)
    assert found.verdict == REJECT
    assert found.rejects
    summary = summarise(plan_for(study), estimates, gates)
    assert decide(gather(study, [], estimates, summary, {}, (), found.for_rule())).verdict == "HOLD"


def test_only_a_critique_that_rejects_holds() -> None:
    study, estimates = study_of(minimum_effect=0.1, direction="higher_is_better"), estimates_of()
    summary = summarise(plan_for(study), estimates, [])
    found = reviewed([gate("overlap", "warn")], study)
    assert found.verdict == ITERATE
    heard = answered() | answered(name="placebo_outcome")
    assert decide(gather(study, [], estimates, summary, heard, (), found.for_rule())).verdict == "GO"


def test_an_unasked_assumption_and_a_huge_effect_are_concerns() -> None:
    found = reviewed([], sensitivity={})
    assert any(item.topic == "sensitivity" and item.severity == "concern" for item in found.rounds[0].objections)
    huge = reviewed([], estimates=estimates_of(50.0))
    assert any(item.topic == "effect_size" and item.severity == "concern" for item in huge.rounds[0].objections)
    assert huge.verdict == APPROVE


def test_disagreeing_estimators_are_told_apart_by_an_assumption() -> None:
    linear = Assumption("linearity", "Outcome depends linearly on treatment and covariates.")
    others = estimates_of(-1.0, 0.05, ("ols", "regression_adjustment"))
    assumed = {name: replace(item, assumptions=(UNCONFOUNDED, linear)) for name, item in others.items()}  # type: ignore[type-var]
    estimates = estimates_of(1.0, 0.05) | assumed
    group = summarise(plan_for(study_of()), estimates).targets()[0]
    assert group.agreement == "strong_disagreement"
    assert "linearity" in group.parting
    assert all(name in group.parting for name in assumed)
    assert "aipw" not in group.parting
    assert group.parting in group.sentence
    assert summarise(plan_for(study_of()), estimates_of()).targets()[0].parting == ""


@pytest.mark.parametrize("spec", load_sensitivities().values(), ids=lambda spec: spec.name)
def test_every_question_says_four_sentences_and_its_time(spec) -> None:  # type: ignore[no-untyped-def]
    from cqox_assets.spec import Context

    assert spec.question.endswith("?")
    for sentence in (spec.holds, spec.breaks):
        assert sentence.endswith(".")
    result = SensitivityResult(spec.name, "aipw", "ATE", 1.0, "unit", Status.PASS, "Came out.", "Do.")
    told = spec.told(study_of(), result, Context(budget_seconds=2.0))
    assert (told.asked, told.implies) == (spec.question, spec.holds)
    assert told.provenance["seconds"] >= 0
    assert told.provenance["budget_seconds"] == 2.0
    broken = spec.told(study_of(), replace(result, status=Status.WARN), Context())
    assert broken.implies == spec.breaks
    assert SensitivityResult.from_json(told.to_json()).implies == spec.holds
    trial = spec.told(study_of(design="trial"), result, Context())
    assert ("at random" in trial.implies) is spec.informs_in_trial
