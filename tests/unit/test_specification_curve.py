"""The specification curve refits every choice, keeps estimands apart and says what it left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.declaration import Declaration
from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.runner import run_estimator, runner_for
from cqox_assets.spec import Context
from cqox_assets.study import Role, Study
from cqox_assets.variants import bent, common_support, covariate_sets, not_collinear, samples

SPEC = load_sensitivities()["specification_curve"]
WANTED = {"estimator", "estimand", "covariate_set", "sample", "estimate", "low", "high", "p_value", "n", "code"}


def study_of(n: int = 600, confounding: float = 1.0, effect: float = 1.0, design: str | None = None) -> Study:
    generator = np.random.default_rng(2)
    x, z, u, noise = generator.standard_normal((4, n))
    d = (generator.random(n) < 1 / (1 + np.exp(-confounding * x))) * 1.0
    frame = pd.DataFrame({"y": effect * d + 2 * confounding * x + noise, "d": d, "x": x, "z": z, "u": u})
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x", "z", "u")}
    return Study(frame, roles, arms=("a", "b"), declaration=Declaration(design=design))


def estimate_of(study: Study, name: str = "ols") -> EffectEstimate:
    found = run_estimator(load_estimators()[name], study)
    assert isinstance(found, EffectEstimate)
    return found


def ask(study: Study, estimate: EffectEstimate, context: Context | None = None, **values: object) -> SensitivityResult:
    found = SPEC.run(study, estimate, replace(SPEC.params(), **values), runner_for(context))
    assert isinstance(found, SensitivityResult), found
    return found


def test_every_combination_is_a_row_and_is_what_the_estimator_says() -> None:
    study = study_of()
    found = ask(study, estimate_of(study))
    table = found.table
    assert set(table.columns) >= WANTED
    assert not table.duplicated(["estimator", "covariate_set", "sample", "learner"]).any()
    sets, rows = covariate_sets(study), samples(study)
    assert {"all", "without x", "without z", "without u"} <= set(sets)
    assert len(rows) >= 2
    ols = table[table["estimator"] == "ols"]
    assert len(ols) == len(sets) * len(rows)
    chosen = ols[(ols["covariate_set"] == "without x") & (ols["sample"] == "common support")].iloc[0]
    part = study.take(rows["common support"])
    own = estimate_of(replace(part, roles={**part.roles, Role.COVARIATES: ("z", "u")}))
    assert chosen["estimate"] == pytest.approx(own.estimate, rel=1e-12)
    assert chosen["n"] == len(part)
    assert {"aipw", "double_ml", "ipw", "propensity_matching"} <= set(table["estimator"])


def test_estimands_are_kept_apart() -> None:
    study = study_of()
    spec = load_estimators()["regression_adjustment"]
    treated = run_estimator(spec, study, replace(spec.params(), estimand="ATT"))
    assert isinstance(treated, EffectEstimate)
    found = ask(study, treated)
    assert set(found.table["estimand"]) >= {"ATE", "ATT"}
    same = found.table[(found.table["status"] == "estimated") & (found.table["estimand"] == "ATT")]
    side = np.sign(treated.estimate)
    digits = same["estimate"].map("{:.10g}".format)
    once = same[~same.assign(digits=digits).duplicated(["covariate_set", "sample", "digits"])]
    assert found.value == pytest.approx((np.sign(once["estimate"]) == side).mean())
    assert f"{len(once)} specifications of the ATT" in found.meaning


def test_a_sign_that_hangs_on_the_covariates_is_noticed() -> None:
    study = study_of(2000, confounding=1.0, effect=-0.5)
    found = ask(study, estimate_of(study))
    assert found.status is Status.WARN, found.meaning
    assert ask(study_of(), estimate_of(study_of())).status is Status.PASS


def test_nuisances_are_refitted_in_each_specification() -> None:
    study = study_of()
    held = Context(nuisance=None)
    first = ask(study, estimate_of(study, "aipw"), held).table
    rows = first[(first["estimator"] == "aipw") & (first["status"] == "estimated")]
    assert rows["estimate"].nunique() == len(rows) > 4


def test_the_time_budget_is_kept_and_reported() -> None:
    study = study_of()
    found = ask(study, estimate_of(study), Context(budget_seconds=0.0))
    left = found.table[found.table["status"] == "not_run"]
    assert (left["code"] == "time_budget").all()
    assert len(left) == len(found.table) - 3
    assert f"{len(left)} left out by the time budget" in found.meaning


def test_refused_specifications_are_listed_with_their_code() -> None:
    study = study_of()
    real = runner_for().runner
    assert real is not None
    context = replace(
        runner_for(),
        runner=lambda name, part, values: (
            Refusal(name, "perfect_separation", "why", "what") if name == "ipw" else real(name, part, values)
        ),
    )
    found = SPEC.run(study, estimate_of(study), SPEC.params(), context)
    assert isinstance(found, SensitivityResult)
    lost = found.table[found.table["estimator"] == "ipw"]
    assert set(lost["code"]) == {"perfect_separation"}
    assert lost["estimate"].isna().all()
    assert "refused: perfect_separation" in found.meaning


def test_only_a_trial_may_leave_all_covariates_out() -> None:
    assert "none" not in covariate_sets(study_of())
    assert covariate_sets(study_of(design="trial"))["none"] == ()
    names = set(ask(study_of(design="trial"), estimate_of(study_of(design="trial"))).table["estimator"])
    assert "difference_in_means" in names
    assert "difference_in_means" not in set(ask(study_of(), estimate_of(study_of())).table["estimator"])


def test_without_covariates_too_few_specifications_are_refused() -> None:
    study = replace(study_of(), roles={Role.OUTCOME: ("y",), Role.TREATMENT: ("d",)})
    found = SPEC.run(study, estimate_of(study), SPEC.params(), runner_for())
    assert isinstance(found, Refusal)
    assert found.remedy


def test_variants_change_what_they_say() -> None:
    study = study_of(confounding=2.0)
    kept = common_support(study)
    assert kept is not None
    assert 0 < kept.sum() < len(study)
    more = bent(study)
    assert more is not None
    assert "x x x" in more.names(Role.COVARIATES)
    assert study.names(Role.COVARIATES) == ("x", "z", "u")
    twin = replace(study, frame=study.frame.assign(u=study.frame["x"] + 1e-3 * study.frame["u"]))
    fewer = not_collinear(twin, 10.0)
    assert fewer is not None
    assert len(fewer.names(Role.COVARIATES)) == 2
    assert not_collinear(study, 10.0) is None
