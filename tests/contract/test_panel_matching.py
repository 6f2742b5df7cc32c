"""What panel matching promises beyond the general contract."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, numbers, replaced, run, small, without

MATCHING = load_estimators()["panel_matching"]


def refused(study: Study, **values: object) -> Refusal:
    outcome = run(MATCHING, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


def long(paths: dict[str, str], outcomes: dict[str, list[float]], first: int = 1) -> Study:
    """A panel from one text of 0 and 1 per unit; a dot is a period without a row."""
    rows = [
        {"unit": unit, "time": float(first + t), "d": float(sign), "y": outcomes[unit][t]}
        for unit, path in paths.items()
        for t, sign in enumerate(path)
        if sign != "."
    ]
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.TIME: ("time",)}
    return Study(frame=pd.DataFrame(rows), roles=roles, arms=("no", "yes"))


PATHS = {"a": "0011", "b": "0010", "c": "0000", "e": "0000", "f": "1000", "g": "0100"}
LEVELS = {unit: [float(k), float(k), k + 2.0 * (k % 3) + 1, float(3 * k)] for k, unit in enumerate(PATHS)}


def test_the_effect_is_the_mean_gap_within_sets_of_the_same_history() -> None:
    outcome = answer(MATCHING, long(PATHS, LEVELS), lag=2, leads=(0,), forbid_reversal=False)
    change = {unit: values[2] - values[1] for unit, values in LEVELS.items()}
    control = np.mean([change["c"], change["e"]])  # f and g have another history
    assert outcome.estimate == pytest.approx(np.mean([change["a"], change["b"]]) - control)
    sets = outcome.tables["matched_sets"]
    assert sets[["unit", "time", "controls"]].to_numpy().tolist() == [["a", 3.0, 2], ["b", 3.0, 2]]
    assert outcome.diagnostic("matched_share").value == pytest.approx(2 / 3)  # type: ignore[union-attr]
    assert outcome.sample.per_arm == {"no": 2, "yes": 2}


def test_forbidding_reversal_keeps_those_who_stay() -> None:
    outcome = answer(MATCHING, long({**PATHS, "h": "0011"}, {**LEVELS, "h": [0, 1, 5, 9]}), lag=2, leads=(0, 1),
                     forbid_reversal=True)  # fmt: skip
    assert outcome.tables["matched_sets"]["unit"].tolist() == ["a", "h"]
    left = answer(MATCHING, long(PATHS, LEVELS), lag=2, leads=(0, 1), forbid_reversal=False)
    assert left.tables["matched_sets"]["unit"].tolist() == ["a", "b"]


def test_by_default_reversal_is_left_open_only_where_treatment_ends() -> None:
    ends = answer(MATCHING, small("returning_treatment"))
    stays = answer(MATCHING, small("staggered_panel"))
    assert any("ends again for some units" in notice for notice in ends.notices)
    assert any("never ends" in notice for notice in stays.notices)


def test_a_gap_in_the_history_is_no_history_and_a_gap_in_time_counts() -> None:
    gap = long({**PATHS, "c": "0.00"}, LEVELS)
    outcome = answer(MATCHING, gap, lag=2, leads=(0,), forbid_reversal=False)
    assert outcome.tables["matched_sets"]["controls"].tolist() == [1, 1]
    skipped = gap.take(gap.frame["time"].to_numpy() != 2)
    assert refused(skipped, lag=1, leads=(0,)).code in ("no_treated_units", "no_matches", "too_few_clusters")


def test_outcomes_are_needed_at_the_required_leads_only() -> None:
    study = long(PATHS, LEVELS)
    last = study.take(~((study.frame["unit"] == "c") & (study.frame["time"] == 4)).to_numpy())
    values = {"lag": 2, "leads": (0,), "forbid_reversal": False}
    assert answer(MATCHING, last, **values).tables["matched_sets"]["controls"].tolist() == [2, 2]
    more = answer(MATCHING, last, leads_required=(0, 1), **values)
    assert more.tables["matched_sets"]["controls"].tolist() == [1, 1]


def test_rows_without_outcome_or_treatment_are_part_of_the_history() -> None:
    frame = long(PATHS, LEVELS).frame
    frame.loc[(frame["unit"] == "c") & (frame["time"] == 1), "y"] = np.nan
    frame.loc[(frame["unit"] == "e") & (frame["time"] == 4), "d"] = np.nan
    roles = {"outcome": "y", "treatment": "d", "unit": "unit", "time": "time"}
    outcome = cqox.estimate("panel_matching", frame, roles, lag=2, leads=(0, 1), forbid_reversal=False)
    assert isinstance(outcome, EffectEstimate)
    assert outcome.tables["matched_sets"]["controls"].tolist() == [2, 2]
    plain = answer(MATCHING, long(PATHS, LEVELS), lag=2, leads=(0, 1), forbid_reversal=False)
    assert outcome.estimate == pytest.approx(plain.estimate)


def test_a_longer_history_than_fits_into_one_number_is_still_compared() -> None:
    generator = np.random.default_rng(1)
    common = "".join(generator.choice(["0", "1"], 90)) + "0"
    paths = {f"u{k}": common + ("1" if k < 3 else "0") for k in range(8)}
    paths["other"] = "1" * 90 + "00" if common[0] == "0" else "0" * 92
    levels = {unit: generator.standard_normal(92).tolist() for unit in paths}
    outcome = answer(MATCHING, long(paths, levels), lag=91, leads=(0,))
    assert outcome.tables["matched_sets"]["controls"].tolist() == [5, 5, 5]


@pytest.mark.parametrize("refinement", ["mahalanobis", "ps_matching", "ps_weighting"])
def test_refinement_brings_the_covariates_of_both_groups_together(refinement: str) -> None:
    study = DESIGNS["returning_treatment"](4000, 3)[0]
    table = answer(MATCHING, study, refinement=refinement).tables["balance"].set_index("covariate")
    assert table.loc["x, lag 1", "before"] > 0.3
    assert table.loc["x, lag 1", "after"] < 0.12
    none = answer(MATCHING, study, refinement="none").tables["balance"].set_index("covariate")
    assert none["before"].tolist() == none["after"].tolist()


@pytest.mark.parametrize("metric", ["full", "diagonal"])
def test_nearest_controls_are_those_of_the_smallest_distance(metric: str) -> None:
    study = small("returning_treatment", 700)
    outcome = answer(
        MATCHING, study, refinement="mahalanobis", size=1, mahalanobis_covariance=metric, lag=1, leads=(0,)
    )
    wide = study.frame.pivot(index="unit", columns="time", values=["d", "x", "y"])
    gaps = []
    for time in (3.0, 4.0, 5.0):
        open_ = wide["d"][time - 1] == 0
        pool = wide[open_ & (wide["d"][time] == 0)]
        for _, row in wide[open_ & (wide["d"][time] == 1)].iterrows():
            near = pool.iloc[int((pool["x"][time - 1] - row["x"][time - 1]).abs().to_numpy().argmin())]
            gaps.append(row["y"][time] - row["y"][time - 1] - near["y"][time] + near["y"][time - 1])
    late = [row for row in outcome.tables["matched_sets"].itertuples() if row.time > 5]
    assert not late
    assert outcome.estimate == pytest.approx(np.mean(gaps))


def test_ties_at_the_edge_all_count() -> None:
    paths = {"a": "001", "b": "001", "c": "000", "e": "000", "f": "000", "g": "000"}
    levels = {unit: [0.0, 0.0, float(k)] for k, unit in enumerate(paths)}
    study = long(paths, levels)
    x = study.frame["unit"].map({"a": 0.0, "b": 0.0, "c": 1.0, "e": 1.0, "f": -1.0, "g": 5.0}).to_numpy()
    study = study.with_column("x", x, Role.COVARIATES)
    outcome = answer(MATCHING, study, refinement="mahalanobis", size=1, lag=2, leads=(0,))
    assert outcome.tables["matched_sets"]["controls"].tolist() == [3, 3]


@pytest.mark.parametrize("rule", ["complete", "listwise", "match_missing"])
def test_missing_covariates_follow_the_rule(rule: str) -> None:
    frame = small("returning_treatment", 2100).frame.copy()
    frame.loc[frame.index % 11 == 0, "x"] = np.nan
    roles = {"outcome": "y", "treatment": "d", "unit": "unit", "time": "time", "covariates": ["x"]}
    outcome = cqox.estimate("panel_matching", frame, roles, missing_covariates=rule, lag=1)
    assert isinstance(outcome, EffectEstimate)
    used = outcome.sample.per_arm["treated"]
    every = answer(MATCHING, small("returning_treatment", 2100), lag=1).sample.per_arm["treated"]
    assert used == every if rule == "match_missing" else used < every
    assert "(missing)" not in " ".join(outcome.tables["balance"]["covariate"])


def test_standard_errors_agree_where_they_should() -> None:
    study = DESIGNS["returning_treatment"](4000, 5)[0]
    errors = {se: answer(MATCHING, study, se=se).std_error or 0.0 for se in ("bootstrap", "unconditional", "influence")}
    assert errors["bootstrap"] == pytest.approx(errors["unconditional"], rel=0.05)
    assert errors["influence"] < errors["unconditional"]
    drawn = answer(MATCHING, study, inference="bootstrap", draws=1000)
    assert drawn.std_error == pytest.approx(errors["influence"], rel=0.1)
    assert drawn.inference.startswith("percentile bootstrap of units")
    conditional = answer(MATCHING, study, se="conditional").std_error
    assert conditional is not None
    assert conditional != errors["unconditional"]


def test_more_units_than_are_drawn_one_by_one_have_the_same_spread() -> None:
    study = DESIGNS["returning_treatment"](60_000, 5)[0]
    one = answer(MATCHING, study, se="bootstrap", draws=500).std_error
    two = answer(MATCHING, study, se="unconditional").std_error
    assert one == pytest.approx(two, rel=0.1)


def test_bootstrap_does_not_match_again() -> None:
    outcome = answer(MATCHING, small("returning_treatment"), inference="cluster_bootstrap", draws=50)
    assert "with the matches held" in outcome.inference


def test_leads_come_one_by_one_after_their_average() -> None:
    outcome = answer(MATCHING, small("returning_treatment"), leads=(0, 1, 2))
    assert [dict(effect.at) for effect in outcome.effects] == [{}, {"lead": 0}, {"lead": 1}, {"lead": 2}]
    assert outcome.estimate == pytest.approx(np.mean([effect.estimate for effect in outcome.effects[1:]]))
    first = answer(MATCHING, small("returning_treatment"), leads=(0, 1, 2), headline="first")
    assert [dict(effect.at) for effect in first.effects] == [{"lead": 0}, {"lead": 1}, {"lead": 2}]
    events = outcome.tables["event_study"]
    assert events["event_time"].tolist() == [-2.0, 0.0, 1.0, 2.0]
    assert (events["band_low"] <= events["low"]).all()


def test_lagged_outcomes_can_be_matched_on() -> None:
    outcome = answer(MATCHING, without(small("returning_treatment"), Role.COVARIATES), outcome_lags=(1, 2))
    assert outcome.tables["balance"]["covariate"].tolist() == ["outcome, lag 1", "outcome, lag 2"]


def test_a_cohort_says_it_as_the_treatment_does() -> None:
    study = small("staggered_panel")
    start = study.frame.loc[study.frame["d"] == 1].groupby("unit")["time"].min()
    cohort = study.frame["unit"].map(start).fillna(0.0).to_numpy()
    told = without(study.with_column("first", cohort, Role.COHORT), Role.TREATMENT)
    assert numbers(answer(MATCHING, told)) == pytest.approx(numbers(answer(MATCHING, study)))


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (lambda f: pd.concat([f, f.iloc[[5]]]), "duplicated_unit_periods", "unit '"),
        (lambda f: f.assign(d=1.0 * (f["time"] >= 4)), "no_untreated_units", "all units"),
        (lambda f: f.assign(d=1.0 * ((f["unit"] == 3) & (f["time"] >= 4))), "too_few_clusters", "one unit"),
        (
            lambda f: f.assign(d=1.0 * ((f["time"] == 1) & (f["unit"] % 2 == 0))),
            "no_treated_units",
            "untreated in one period",
        ),
        (lambda f: f.assign(y=2.0), "constant_outcome", "same in every row"),
        (lambda f: f[f["time"] == 3], "no_panel", "no panel"),
    ],
)
def test_panels_that_cannot_be_matched_are_refused(change: object, code: str, word: str) -> None:
    study = small("returning_treatment", 350)
    outcome = refused(replace(study, frame=change(study.frame).reset_index(drop=True)))  # type: ignore[operator]
    assert outcome.code == code
    assert word in outcome.reason


def test_units_that_were_all_treated_once_and_return_are_compared() -> None:
    paths = {"a": "1001", "b": "1001", "c": "1000", "e": "1000"}
    outcome = answer(MATCHING, long(paths, LEVELS), lag=3, leads=(0,))
    assert outcome.tables["matched_sets"]["controls"].tolist() == [2, 2]


def test_sets_without_controls_are_refused_with_the_lag() -> None:
    outcome = refused(small("returning_treatment", 350), lag=2, leads=(9,))
    assert outcome.code == "no_matches"
    assert "lead 9" in outcome.reason


def test_weights_that_vary_within_units_are_refused() -> None:
    study = small("weighted_panel")
    assert refused(replaced(study, Role.WEIGHT, 1.0 + np.arange(len(study)) % 3)).code == "weights_vary"


@pytest.mark.parametrize(
    "values",
    [{"lag": 0}, {"size": 0}, {"leads": (-1,)}, {"leads": (0.5,)}, {"outcome_lags": (0,)}, {"trim": 0.1}],
)
def test_parameters_out_of_range_are_named(values: dict[str, object]) -> None:
    with pytest.raises(CatalogError, match=next(iter(values))):
        run(MATCHING, small("returning_treatment"), **values)


def test_a_refinement_without_covariates_is_named() -> None:
    with pytest.raises(CatalogError, match="needs covariates"):
        run(MATCHING, without(small("returning_treatment"), Role.COVARIATES), refinement="mahalanobis")


def test_trends_that_diverge_show_before_treatment() -> None:
    outcome = answer(MATCHING, DESIGNS["diverging_trends"](3000, 1)[0])
    assert outcome.diagnostic("pretrend_p").status in (Status.WARN, Status.FAIL)  # type: ignore[union-attr]


def test_the_plan_prefers_it_where_treatment_ends_again_and_not_where_it_stays() -> None:
    returning = plan_methods(small("returning_treatment"))
    assert returning.ranked[0][0] == "panel_matching"
    assert "ends again" in returning.ranked[0][1]
    names = [name for name, _ in plan_methods(small("staggered_panel")).ranked]
    assert names.index("difference_in_differences") < names.index("panel_matching")


@st.composite
def panels(draw: st.DrawFn) -> Study:
    """Small panels with gaps, ties, constants, huge and tiny scales, unsorted rows."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    units, periods = draw(st.integers(2, 14)), draw(st.integers(2, 6))
    frame = pd.DataFrame(
        {"unit": np.repeat(np.arange(units), periods), "time": np.tile(np.arange(periods) * 2.0, units)}
    )
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    frame["d"] = (generator.random(len(frame)) < draw(st.sampled_from([0.1, 0.4, 0.9]))) * 1.0
    frame["y"] = draw(
        st.sampled_from([generator.standard_normal(len(frame)) * scale, frame["d"] * scale, frame["time"]])
    )
    frame["x"] = draw(
        st.sampled_from([generator.standard_normal(len(frame)) * scale, frame["d"] + 1, frame["unit"] * 0.0])
    )
    frame["x2"] = frame["x"] * 2
    frame = frame[generator.random(len(frame)) < draw(st.sampled_from([1.0, 0.8]))]
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.TIME: ("time",),
        Role.COVARIATES: ("x", "x2"),
    }  # fmt: skip
    order = generator.permutation(len(frame))
    return Study(frame=frame.iloc[order].reset_index(drop=True), roles=roles, arms=("no", "yes"))


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(study=panels(), refinement=st.sampled_from(["auto", "none", "mahalanobis", "ps_matching"]))
def test_any_panel_gets_an_answer_or_a_refusal(study: Study, refinement: str) -> None:
    outcome = run(MATCHING, study, refinement=refinement, draws=50)
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.remedy
        return
    assert np.isfinite([effect.estimate for effect in outcome.effects]).all()
    assert "NaN" not in to_text(outcome.to_json())
