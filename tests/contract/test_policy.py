"""Values of given and learned policies: by their formulas, by known truth, and honest where a policy was learned."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration
from cqox_assets.errors import CatalogError
from cqox_assets.numerics.policy import Logged, policy_value
from cqox_assets.numerics.policy_input import one_hot
from cqox_assets.numerics.policy_tree import learn_trees
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.simulate.policy_designs import benefit
from cqox_assets.study import Role, Study
from tests.contract.helpers import SEED, answer, run

OPE = load_estimators()["off_policy_evaluation"]
DML = load_estimators()["double_ml"]


def _study(n: int = 2000, seed: int = SEED) -> Study:
    """The design with its true propensity mapped."""
    study = DESIGNS["targeted_benefit"](n, seed)[0]
    x = study.matrix()
    return study.with_column("e", 1 / (1 + np.exp(-0.5 * x[:, 0] - 0.3 * x[:, 2])), Role.PROPENSITY)


def _row(outcome: EffectEstimate, policy: str, method: str = "DR", measure: str = "outcome") -> pd.Series:
    table = outcome.tables["policy_values"].set_index(["policy", "method", "measure"])
    return table.loc[(policy, method, measure)]


def test_values_by_their_formulas() -> None:
    study = _study()
    outcome = answer(OPE, study, nuisance="linear", policies={"right half": "x0 > 0"})
    y, d, e = (study.column(role) for role in (Role.OUTCOME, Role.TREATMENT, Role.PROPENSITY))
    chosen = study.frame["x0"].to_numpy() > 0
    weight = (d == chosen) / np.where(d == 1, e, 1 - e)
    assert _row(outcome, "right half", "IPS")["value"] == pytest.approx((weight * y).mean())
    assert _row(outcome, "right half", "SNIPS")["value"] == pytest.approx((weight * y).sum() / weight.sum())
    assert _row(outcome, "right half", "SNIPS")["effective_size"] == pytest.approx(
        weight.sum() ** 2 / (weight @ weight)
    )
    assert _row(outcome, "right half")["share_treated"] == pytest.approx(chosen.mean())
    assert _row(outcome, "observed", "mean")["value"] == pytest.approx(y.mean())
    assert _row(outcome, "observed", "mean")["std_error"] == pytest.approx(y.std() / np.sqrt(len(y)))
    both = _row(outcome, "treat all")["value"] - _row(outcome, "treat none")["value"]
    assert outcome.estimate == pytest.approx(both)
    assert "known propensity was used" in " ".join(outcome.notices)


def test_the_average_effect_is_that_of_the_interactive_model() -> None:
    study = DESIGNS["confounded_linear"](1500, SEED)[0]
    own, other = answer(OPE, study), answer(DML, study, score="irm_ate", se="influence")
    assert (own.estimate, own.std_error) == pytest.approx((other.estimate, other.std_error), rel=1e-9)


def test_known_values_are_recovered() -> None:
    study, truth = DESIGNS["targeted_benefit"](6000, SEED)
    told = study.with_column("best", (benefit(study.matrix()) > 0).astype(float), Role.SUBGROUP)
    outcome = answer(OPE, told, policies={"right": "best"})
    for policy, wanted in (("treat none", "nobody"), ("treat all", "everybody"), ("right", "best")):
        for method in ("DR", "SNIPS", "IPS"):
            row = _row(outcome, policy, method)
            assert abs(row["value"] - truth[wanted]) < 4 * row["std_error"]
    learned = _row(outcome, "learned")
    assert learned["value"] > truth["everybody"] + 0.2
    assert learned["gain_low"] > 0
    leaves = outcome.tables["policy_tree"]
    assert set(leaves["arm"]) == {"control", "treated"}
    assert leaves["where"].str.contains("x0").any()
    assert leaves["where"].str.contains("x1").any()
    assigned = outcome.tables["policy_assignment"]
    assert (assigned["learned"] == told.frame["best"]).mean() > 0.9
    assert list(assigned["row"]) == list(range(len(study)))


def test_a_learned_policy_is_valued_on_rows_it_never_saw() -> None:
    """Without any effect the tree finds one in its own rows; its honest value knows of none."""
    honest, own = [], []
    for draw in range(300):
        generator = np.random.default_rng(draw)
        x, fold = generator.standard_normal((250, 4)), np.arange(250) % 5
        arm = generator.integers(0, 2, 250)
        logged = Logged(generator.standard_normal(250), arm, np.full((250, 2), 0.5), np.zeros((250, 2)), np.ones(250))
        scores = logged.scores()
        trees, full = learn_trees(x, scores[:, 1:] - scores[:, :1], fold, 2)
        later = fold > 0
        chosen = np.zeros(250, dtype=int)
        for k, tree in enumerate(trees, start=1):
            chosen[fold == k] = tree.assign(x[fold == k])
        value = policy_value(logged.rows(later), one_hot(chosen[later], 2), "DR")
        error = np.sqrt(value.influence @ value.influence) / later.sum()
        honest.append(abs(value.value) < 1.96 * error)
        own.append(policy_value(logged, one_hot(full.assign(x), 2), "DR").value / error)
    assert 0.92 <= np.mean(honest) <= 0.98
    assert np.mean(own) > 1.5


@pytest.mark.parametrize("depth", [1, 2])
def test_the_tree_is_the_best_there_is(depth: int) -> None:
    generator = np.random.default_rng(1)
    x = generator.integers(0, 3, (80, 3)).astype(float)
    gains = generator.standard_normal((80, 2))
    _, tree = learn_trees(x, gains, np.arange(80) % 2, depth)
    rewards = np.column_stack([np.zeros(80), gains])

    def best(rows: np.ndarray, left: int) -> float:
        plain = rewards[rows].sum(0).max()
        if left == 0:
            return plain
        cuts = [(j, cut) for j in range(3) for cut in (0.5, 1.5)]
        return max(
            plain, *(best(rows & (x[:, j] <= c), left - 1) + best(rows & (x[:, j] > c), left - 1) for j, c in cuts)
        )

    assert rewards[np.arange(80), tree.assign(x)].sum() == pytest.approx(best(np.ones(80, bool), depth))


def test_leaves_in_words_are_the_assignment() -> None:
    generator = np.random.default_rng(2)
    x = generator.standard_normal((400, 15))
    gains = (np.where((x[:, 13] > 0) & (x[:, 2] < 0.4), 1.0, -1.0) + 0.1 * generator.standard_normal(400))[:, None]
    _, tree = learn_trees(x, gains, np.arange(400) % 5, 2)
    assert (tree.assign(x) == (gains[:, 0] > 0)).mean() > 0.93
    frame = pd.DataFrame(x, columns=[f"v{j}" for j in range(15)])
    for leaf in tree.rows(list(frame), ("no", "yes")):
        rows = np.ones(400, bool) if leaf["where"] == "everywhere" else frame.eval(leaf["where"]).to_numpy()
        assert (tree.assign(x)[rows] == ("no", "yes").index(leaf["arm"])).all()
    _, nothing = learn_trees(x, -np.ones((400, 1)), np.arange(400) % 5, 2)
    assert nothing.rows(list(frame), ("no", "yes")) == [{"where": "everywhere", "arm": "no"}]


def test_three_arms_are_valued_over_everybody() -> None:
    study, truth = DESIGNS["three_arms"](3000, SEED)
    told = study.with_column("plan", np.where(study.frame["x0"] > 0, "high", "none"), Role.SUBGROUP)
    outcome = answer(OPE, told, policies={"plan": "plan", "rule": "high if x0 > 0 else none"}, nuisance="linear")
    effects = {effect.at["arm"]: effect for effect in outcome.effects}
    for arm in ("low", "high"):
        assert abs(effects[arm].estimate - truth[f"ATE[{arm}]"]) < 4 * (effects[arm].std_error or 0)
    values = outcome.tables["policy_values"]
    assert {"all none", "all low", "all high", "plan", "rule", "learned", "observed"} == set(values["policy"])
    assert _row(outcome, "plan")["value"] == pytest.approx(_row(outcome, "rule")["value"])
    assert set(outcome.tables["policy_assignment"]["plan"]) == {0, 2}
    half = _row(outcome, "plan")
    assert abs(half["value"] - 0.5) < 4 * half["std_error"]
    columns = {f"p{a}": np.full(3000, share) for a, share in ((1, 0.3), (2, 0.3))}
    known = replace(study, frame=study.frame.assign(**columns), roles={**study.roles, Role.PROPENSITY: ("p1", "p2")})
    assert "known" in " ".join(answer(OPE, known, nuisance="linear").notices)
    refused = run(OPE, replace(known, roles={**known.roles, Role.PROPENSITY: ("p1",)}))
    assert isinstance(refused, Refusal)
    assert refused.code == "bad_propensity"


def test_random_policies_and_headlines_by_name() -> None:
    study = _study()
    told = study.with_column("chance", np.full(len(study), 0.25), Role.SUBGROUP)
    outcome = answer(OPE, told, policies={"quarter": "chance"}, nuisance="linear")
    mixed = 0.75 * _row(outcome, "treat none")["value"] + 0.25 * _row(outcome, "treat all")["value"]
    assert _row(outcome, "quarter")["value"] == pytest.approx(mixed)
    assert set(outcome.tables["policy_assignment"]["quarter"]) == {0.25}
    headline = answer(
        OPE, told, estimand="policy_value", policy="treat all", method="SNIPS", nuisance="linear", depth=0
    )
    assert headline.estimate == pytest.approx(_row(outcome, "treat all", "SNIPS")["value"])
    assert "learned" not in set(headline.tables["policy_values"]["policy"])
    drawn = answer(
        OPE, told, estimand="policy_value", policy="treat all", nuisance="linear", depth=0, inference="bootstrap",
        draws=100,
    )  # fmt: skip
    assert drawn.std_error == pytest.approx(_row(outcome, "treat all")["std_error"], rel=0.3)


def test_costs_and_direction_change_whom_to_treat() -> None:
    study = _study(3000)
    plain = answer(OPE, study, nuisance="linear")
    dear = study.with_column("spent", 5.0 * study.column(Role.TREATMENT), Role.COST)
    net = answer(OPE, dear, nuisance="linear")
    assert _row(plain, "learned")["share_treated"] > 0.2
    assert _row(net, "learned")["share_treated"] < 0.02
    gap = _row(net, "treat all", measure="outcome")["value"] - _row(net, "treat all", measure="net")["value"]
    assert gap == pytest.approx(5.0, abs=0.05)
    assert net.estimate == pytest.approx(plain.estimate)  # the effect is that on the outcome
    priced = replace(dear, declaration=Declaration(money={"value_per_unit": 100}))
    assert _row(answer(OPE, priced, nuisance="linear"), "learned")["share_treated"] > 0.2
    lower = replace(study, declaration=Declaration(direction="lower_is_better"))
    flipped = answer(OPE, lower, nuisance="linear")
    together = _row(flipped, "learned")["share_treated"] + _row(plain, "learned")["share_treated"]
    assert together == pytest.approx(1, abs=0.1)
    assert _row(flipped, "learned")["value"] < _row(flipped, "observed", "mean")["value"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"policies": {"p": "zz > 1"}}, "needs column 'zz'"),
        ({"policies": {"p": "low if x0 > 0 else control"}}, "gives arm 'low'"),
        ({"policies": {"p": "x0"}}, "neither arms"),
        ({"policies": {"learned": "x0 > 0"}}, "meaning of its own"),
        ({"estimand": "policy_value", "policy": "zz"}, "known are observed"),
        ({"depth": 3}, "allowed are 0, 1 and 2"),
    ],
)
def test_wrong_parameters_are_said(values: dict[str, object], words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        run(OPE, _study(300), nuisance="linear", **values)


def test_propensities_that_cannot_be_are_refused() -> None:
    study = DESIGNS["targeted_benefit"](400, SEED)[0]
    missing = run(OPE, study, propensity="known")
    assert isinstance(missing, Refusal)
    assert missing.code == "missing_role"
    zero = run(OPE, study.with_column("e", np.where(np.arange(400) < 3, 0.0, 0.5), Role.PROPENSITY))
    assert isinstance(zero, Refusal)
    assert zero.code == "bad_propensity"
    assert "3 rows" in zero.reason


def test_clipped_and_trimmed_rows_are_counted() -> None:
    study = DESIGNS["no_overlap"](1500, SEED)[0]
    outcome = answer(OPE, study, nuisance="linear")
    assert any("was moved to the clipping bound" in notice for notice in outcome.notices)
    trimmed = answer(OPE, study, nuisance="linear", trim=0.1)
    assert trimmed.sample.dropped["trimmed"] > 100
    assert trimmed.sample.used == 1500 - trimmed.sample.dropped["trimmed"]
    weights = [item.diagnostic("weight_range").value for item in (trimmed, outcome)]
    assert weights[0] < weights[1]
    nobody = run(OPE, study, nuisance="linear", trim=0.4999)
    assert isinstance(nobody, Refusal)
    assert nobody.code == "nobody_left"


def test_a_policy_that_nobody_followed_has_no_weighted_value() -> None:
    study = _study(200)
    never = study.with_column("other", 1 - study.column(Role.TREATMENT), Role.SUBGROUP)
    outcome = answer(OPE, never, policies={"opposite": "other"}, nuisance="linear")
    assert np.isnan(_row(outcome, "opposite", "SNIPS")["value"])
    assert np.isfinite(_row(outcome, "opposite", "DR")["value"])
    assert _row(outcome, "opposite", "SNIPS")["effective_size"] == 0
    refused = run(
        OPE, never, policies={"opposite": "other"}, nuisance="linear", estimand="policy_value", policy="opposite",
        method="SNIPS",
    )  # fmt: skip
    assert isinstance(refused, Refusal)


def test_prepared_words_and_clusters() -> None:
    study = DESIGNS["clustered_trial"](1200, SEED)[0]
    frame = study.frame.assign(d=np.where(study.frame["d"] == 1, "coach", "none"))
    roles = {str(role): list(names) for role, names in study.roles.items()}
    outcome = cqox.estimate("OPE", frame, roles, nuisance="linear", policies={"p": "x0 > 0"})
    assert isinstance(outcome, EffectEstimate)
    assert outcome.headline.contrast == "coach - none"
    assert outcome.sample.clusters == 120
    alone = cqox.estimate("OPE", frame, {**roles, "cluster": None}, nuisance="linear")
    assert isinstance(alone, EffectEstimate)
    wide, narrow = (item.tables["policy_values"].set_index(["policy", "method"]) for item in (outcome, alone))
    assert wide.loc[("treat all", "DR"), "std_error"] > 1.2 * narrow.loc[("treat all", "DR"), "std_error"]
