"""Exposure conditions, their exact probabilities and variances, and what network effects refuse."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.measures import Status
from cqox_assets.numerics.exposure import conservative_variance, reach_of
from cqox_assets.numerics.exposure_contrasts import contrast
from cqox_assets.numerics.exposure_ties import NetworkError, read_ties
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, replaced, run, small

SPEC = load_estimators()["network_effects"]
TIES = pd.DataFrame(
    {
        "source": [0, 0, 1, 2, 3, 4, 4, 5],
        "target": [1, 2, 2, 3, 4, 5, 6, 6],
        "weight": [1.0, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0, 2.0],
    }
)
N = 7
OUTCOMES = np.array([3.0, -1.0, 2.0, 5.0, 0.5, 1.5, 4.0])[:, None] + np.array([0.0, 1.0, 2.0, 2.5])
SHAPES = {
    "any": (np.arange(N), None, False),
    "share": (np.arange(N), 0.5, False),
    "all": (np.arange(N), 1.0, False),
    "directed": (np.arange(N), None, True),
    "clusters": (np.array([0, 1, 2, 0, 1, 2, 3]), None, False),
    "tied_clusters": (np.array([0, 0, 0, 1, 1, 1, 2]), 0.4, False),
}


def _reach(shape: str):
    block, threshold, directed = SHAPES[shape]
    chance = np.linspace(0.25, 0.6, int(block.max()) + 1)
    return reach_of(read_ties(np.arange(N), TIES, directed=directed), block, chance, threshold=threshold)


def _every_assignment(reach) -> tuple[np.ndarray, np.ndarray]:
    """Conditions under every assignment of the blocks, by the definition, and how likely each assignment is."""
    draws = np.array(list(itertools.product([0, 1], repeat=len(reach.chance))))
    likely = np.prod(np.where(draws == 1, reach.chance, 1 - reach.chance), axis=1)
    return np.array([reach.conditions(draw[reach.own])[0] for draw in draws]), likely


@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_are_those_of_every_assignment(shape):
    reach = _reach(shape)
    conditions, likely = _every_assignment(reach)
    found = np.stack([likely @ (conditions == code) for code in range(4)], axis=1)
    assert reach.probabilities() == pytest.approx(found, abs=1e-14)
    assert np.array_equal(reach.probabilities() > 0, found > 1e-14)


def test_conditions_follow_the_definition():
    treated = np.array([1, 0, 0, 0, 0, 1, 0.0])
    any_one = reach_of(read_ties(np.arange(N), TIES), np.arange(N), np.full(N, 0.5))
    assert any_one.conditions(treated)[0].tolist() == [2, 1, 1, 0, 1, 2, 1]
    half = reach_of(read_ties(np.arange(N), TIES), np.arange(N), np.full(N, 0.5), threshold=0.5)
    # Weights count: unit 2 has 2 of 4 on the treated, unit 4 has 1 of 5, unit 6 has 2 of 3.
    assert half.conditions(treated)[0].tolist() == [2, 1, 1, 0, 0, 2, 1]


def _by_definition(conditions, likely, probability, at, ends) -> float:
    """Aronow & Samii's estimator as in their paper, all pairs, from the list of assignments."""
    value, codes = OUTCOMES[np.arange(N), at], conditions
    able = np.all(probability[:, ends] > 1e-14, axis=1)

    def joint(i, k, j, m):
        return float(likely @ ((codes[:, i] == k) & (codes[:, j] == m)))

    def variance(k):
        total = 0.0
        for i in np.flatnonzero(able):
            p = probability[i, k]
            total += (at[i] == k) * (1 - p) * (value[i] / p) ** 2
            for j in np.flatnonzero(able):
                if i == j:
                    continue
                both, q = joint(i, k, j, k), probability[j, k]
                if both > 1e-14:
                    seen = (at[i] == k) * (at[j] == k)
                    total += seen * (both - p * q) / both * value[i] / p * value[j] / q
                else:
                    total += (at[i] == k) * value[i] ** 2 / (2 * p) + (at[j] == k) * value[j] ** 2 / (2 * q)
        return total

    def covariance(k, m):
        total = 0.0
        for i, j in itertools.product(np.flatnonzero(able), repeat=2):
            both, p, q = joint(i, k, j, m) if i != j else 0.0, probability[i, k], probability[j, m]
            if both > 1e-14:
                total += (at[i] == k) * (at[j] == m) * (both - p * q) / both * value[i] / p * value[j] / q
            else:
                total -= (at[i] == k) * value[i] ** 2 / (2 * p) + (at[j] == m) * value[j] ** 2 / (2 * q)
        return total

    return variance(ends[0]) + variance(ends[1]) - 2 * covariance(*ends)


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_is_that_of_the_paper_and_conservative(shape):
    reach = _reach(shape)
    probability = reach.probabilities()
    conditions, likely = _every_assignment(reach)
    checked = 0
    for ends in ([2, 0], [1, 0], [3, 0], [3, 1]):
        if np.all(probability[:, ends] > 0, axis=1).sum() < 2:
            continue
        estimates, variances = np.zeros(len(likely)), np.zeros(len(likely))
        for draw, at in enumerate(conditions):
            observed = OUTCOMES[np.arange(N), at]
            found = contrast(observed, at, probability, *ends, "horvitz_thompson")
            estimates[draw] = found.estimate
            variances[draw] = conservative_variance(
                reach, at, probability, found.value[:, None], found.involved[None], found.included[:, None]
            )[0]
            if draw % 11 == 0:
                wanted = _by_definition(conditions, likely, probability, at, ends)
                assert variances[draw] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        truth = float(np.mean((OUTCOMES[:, ends[0]] - OUTCOMES[:, ends[1]])[found.included]))
        assert likely @ estimates == pytest.approx(truth)
        spread = likely @ (estimates - truth) ** 2
        assert likely @ variances / found.units**2 >= spread * (1 - 1e-9)
        checked += 1
    assert checked


def test_overall_is_everybody_as_assigned_against_nobody():
    study, truth = DESIGNS["network_trial"](4000, 5)
    outcome = answer(SPEC, study, estimand="overall")
    assert outcome.estimand == "overall"
    assert abs(outcome.estimate - truth["overall"]) < 3 * outcome.std_error
    means = outcome.tables["condition_means"].set_index("condition")["mean"]
    assert outcome.estimate == pytest.approx(study.column(Role.OUTCOME).mean() - means["d00"])


def _with_edges(study: Study, edges: pd.DataFrame | None) -> Study:
    tables = {} if edges is None else {"edges": edges}
    return Study(study.frame, study.roles, arms=study.arms, tables=tables, declaration=study.declaration)


def _numbers(outcome: EffectEstimate) -> list[float]:
    return [effect.estimate for effect in outcome.effects] + [effect.std_error or 0.0 for effect in outcome.effects]


def test_how_edges_are_listed_does_not_matter():
    study = small("network_trial", 400)
    edges = study.tables["edges"]
    plain = _numbers(answer(SPEC, study))
    both = pd.concat([edges, edges.rename(columns={"source": "target", "target": "source"})])
    assert _numbers(answer(SPEC, _with_edges(study, both))) == pytest.approx(plain)
    texts = edges.astype(str).assign(weight=2.0).sample(frac=1, random_state=1)
    assert _numbers(answer(SPEC, _with_edges(study, texts))) == pytest.approx(plain)
    floats = edges.astype(float)
    assert _numbers(answer(SPEC, _with_edges(study, floats))) == pytest.approx(plain)
    name = edges["source"].iloc[0]
    loops = pd.DataFrame({"source": [name, name, np.nan], "target": [name, edges["target"].iloc[0], name]})
    outcome = answer(SPEC, _with_edges(study, pd.concat([edges, loops])))
    assert _numbers(outcome) == pytest.approx(plain)
    said = " ".join(outcome.notices)
    assert "1 ties lead from a unit to itself" in said
    assert "1 repeated ties count once" in said
    assert "1 ties lack an end" in said


def test_isolates_are_left_out_of_what_they_cannot_have():
    study = small("network_trial", 400)
    lonely = study.frame["unit"].iloc[:30]
    edges = study.tables["edges"]
    kept = edges[~edges["source"].isin(lonely) & ~edges["target"].isin(lonely)]
    outcome = answer(SPEC, _with_edges(study, kept), estimand="indirect")
    assert outcome.sample.dropped == {"cannot have every compared exposure": 30}
    assert outcome.sample.used == 370
    assert "30 units have no neighbour" in " ".join(outcome.notices)
    assert outcome.diagnostic("exposure_share").value == pytest.approx(370 / 400)
    direct = answer(SPEC, _with_edges(study, kept), estimand="direct")
    assert direct.sample.used == 400
    table = outcome.tables["conditions"].set_index("condition")["units_that_can"]
    assert table.to_dict() == {"d00": 400, "d01": 370, "d10": 400, "d11": 370}


def test_without_units_edges_name_rows():
    study = small("network_trial", 400)
    place = {name: row for row, name in enumerate(study.frame["unit"])}
    edges = study.tables["edges"].map(place.__getitem__)
    roles = {role: names for role, names in study.roles.items() if role != Role.UNIT}
    bare = Study(study.frame, roles, arms=study.arms, tables={"edges": edges})
    outcome = answer(SPEC, bare)
    assert _numbers(outcome) == pytest.approx(_numbers(answer(SPEC, study)))
    assert "rows by their number" in " ".join(outcome.notices)
    moved = bare.take(np.arange(len(bare))[::-1])
    assert _numbers(answer(SPEC, moved)) == pytest.approx(_numbers(outcome))
    fewer = Study(study.frame, roles, arms=study.arms, tables={"edges": edges}, dropped={"outcome is missing": 3})
    assert run(SPEC, fewer).code == "missing_role"


def test_part_of_a_study_keeps_the_ties_among_its_units():
    study = small("network_trial", 60)
    part = study.take(np.arange(20))
    inside = set(part.frame["unit"])
    edges = study.tables["edges"]
    wanted = edges[edges["source"].isin(inside) & edges["target"].isin(inside)]
    assert len(part.tables["edges"]) == len(wanted) > 0
    assert len(study.take(np.zeros(5, dtype=int)).tables["edges"]) == len(edges)


@pytest.mark.parametrize(
    ("edges", "code", "words"),
    [
        (None, "missing_role", "no side table"),
        (pd.DataFrame({"from": [1], "to": [2]}), "bad_edges", "no column 'source'"),
        (pd.DataFrame({"source": [1000], "target": [-5]}), "unknown_nodes", "'-5'"),
        (pd.DataFrame({"source": [1000], "target": [1000]}), "disconnected_network", "nobody can be exposed"),
        (pd.DataFrame({"source": [], "target": []}), "disconnected_network", "nobody can be exposed"),
        (pd.DataFrame({"source": [1000], "target": [1001], "weight": [-1.0]}), "bad_edges", "negative"),
        (
            pd.DataFrame({"source": [1000, 1001], "target": [1001, 1002], "weight": [1, np.pi]}),
            "uneven_weights",
            "mult",
        ),
    ],
)
def test_edges_that_do_not_fit_are_refused(edges, code, words):
    outcome = run(SPEC, _with_edges(small("network_trial", 60), edges))
    assert isinstance(outcome, Refusal)
    assert outcome.code == code
    assert words in outcome.reason
    assert outcome.remedy


def test_unknown_nodes_may_be_left_out():
    study = small("network_trial", 400)
    more = pd.concat([study.tables["edges"], pd.DataFrame({"source": ["stranger"], "target": [1000]})])
    assert run(SPEC, _with_edges(study, more)).code == "unknown_nodes"
    outcome = answer(SPEC, _with_edges(study, more), unknown_nodes="drop")
    assert _numbers(outcome) == pytest.approx(_numbers(answer(SPEC, study)))
    assert "'stranger'" in " ".join(outcome.notices)


def test_an_empty_exposure_is_named():
    study = small("network_trial", 60)
    names = study.frame["unit"].to_numpy()
    everyone = pd.DataFrame([(a, b) for a in names for b in names if a < b], columns=["source", "target"])
    dense = run(SPEC, _with_edges(study, everyone))
    assert isinstance(dense, Refusal)
    assert dense.code == "empty_exposure"
    assert "d10" in dense.reason
    assert "share_treated" in dense.remedy
    among = names[study.column(Role.TREATMENT) == 0]
    untreated = pd.DataFrame({"source": among[:-1], "target": among[1:]})
    nobody = run(SPEC, _with_edges(study, untreated))
    assert nobody.code == "empty_exposure"
    assert "d01" in nobody.reason
    assert "estimand direct" in nobody.remedy
    assert answer(SPEC, _with_edges(study, untreated), estimand="direct").estimand == "direct"


def test_a_hub_of_everybody_is_too_dense_but_said():
    study = DESIGNS["network_trial"](120_000, 1)[0]
    names = study.frame["unit"].to_numpy()
    star = pd.DataFrame({"source": names[0], "target": names[1:]})
    outcome = run(SPEC, _with_edges(study, star))
    assert isinstance(outcome, Refusal)
    assert outcome.code in ("network_too_dense", "empty_exposure")


def test_clusters_that_are_mixed_are_refused():
    study = small("network_trial", 60)
    frame = study.frame.assign(group=np.arange(60) // 6)
    mixed = Study(frame, {**study.roles, Role.CLUSTER: ("group",)}, arms=study.arms, tables=study.tables)
    outcome = run(SPEC, mixed)
    assert outcome.code == "mixed_clusters"
    assert "'group'" in outcome.reason


def test_units_must_appear_once_and_resampling_is_refused():
    study = small("network_trial", 60)
    twice = study.take(np.r_[0, np.arange(60)])
    assert run(SPEC, twice).code == "duplicated_units"
    assert run(SPEC, study, inference="bootstrap", draws=5).code == "resampled_network"


@pytest.mark.parametrize(
    ("chance", "code"),
    [(np.full(60, 1.5), "bad_propensity"), (np.zeros(60), "bad_propensity"), (np.full(60, np.nan), "bad_propensity")],
)
def test_a_propensity_that_cannot_be_is_refused(chance, code):
    assert run(SPEC, replaced(small("network_trial", 60), Role.PROPENSITY, chance)).code == code


def test_an_unknown_probability_is_the_observed_share():
    study = small("network_trial", 400)
    roles = {role: names for role, names in study.roles.items() if role != Role.PROPENSITY}
    bare = Study(study.frame, roles, arms=study.arms, tables=study.tables)
    outcome, share = answer(SPEC, bare), float(study.column(Role.TREATMENT).mean())
    assert "was not stated" in " ".join(outcome.notices)
    assert _numbers(outcome) == pytest.approx(_numbers(answer(SPEC, bare, probability=share)))
    wrong = answer(SPEC, bare, probability=0.8)
    assert wrong.diagnostic("design_p").status is Status.FAIL


def test_plain_means_are_said_to_be_biased():
    study, truth = DESIGNS["network_trial"](20_000, 3)
    neighbours = answer(SPEC, study).tables["exposure"]["neighbours"].to_numpy()
    study = replaced(study, Role.OUTCOME, study.column(Role.OUTCOME) + 3 * neighbours)
    plain, hajek = (answer(SPEC, study, normalise=form, estimand="indirect") for form in ("unweighted", "hajek"))
    assert "biased" in " ".join(plain.notices)
    assert abs(hajek.estimate - truth["indirect"]) < 3 * hajek.std_error
    assert plain.estimate - truth["indirect"] > 4 * plain.std_error


def test_shares_of_treated_neighbours():
    study = small("network_trial", 2000)
    outcome = answer(SPEC, study, exposure="share_treated", threshold=0.5)
    table = outcome.tables["exposure"]
    exposed = table["condition"].isin(["d01", "d11"])
    assert (exposed == (table["treated_neighbours"] >= 0.5 * table["neighbours"])).all()
    assert "at least 50%" in outcome.headline.contrast or "under 50%" in outcome.headline.contrast


def _two_stage(n: int, seed: int, saturation: float) -> Study:
    """Clusters of ten drawn by a coin of one half; direct 2, indirect 1; no edges."""
    generator = np.random.default_rng(seed)
    cluster = np.arange(n) // 10
    drawn = (generator.random(cluster[-1] + 1) < 0.5)[cluster]
    d = drawn & (generator.random(n) < saturation)
    y = 2.0 * d + drawn + 0.7 * generator.standard_normal(cluster[-1] + 1)[cluster] + generator.standard_normal(n)
    frame = pd.DataFrame({"y": y, "d": d * 1.0, "cluster": cluster})
    return Study(frame, {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.CLUSTER: ("cluster",)}, arms=("no", "yes"))


def test_without_edges_the_cluster_is_the_neighbourhood():
    outcome = answer(SPEC, _two_stage(4000, 2, 0.5))
    found = {effect.estimand: effect for effect in outcome.effects}
    for estimand, truth in (("direct", 2.0), ("indirect", 1.0), ("total", 3.0)):
        assert abs(found[estimand].estimate - truth) < 3.5 * found[estimand].std_error
    assert "cluster" in outcome.inference
    whole = answer(SPEC, _two_stage(4000, 2, 1.0))
    assert whole.estimand == "total"
    assert abs(whole.estimate - 3.0) < 3.5 * whole.std_error
    assert "by design no unit can be d01" in " ".join(whole.notices)


def test_saturation_intervals_are_honest():
    inside = 0
    for seed in range(150):
        effect = answer(SPEC, _two_stage(600, seed, 0.5), estimand="indirect", probability=0.5).headline
        inside += effect.interval.covers(1.0)
    assert inside >= 0.9 * 150


def test_ranked_first_where_a_randomised_network_is_delivered():
    study = small("network_trial", 400)
    trial = Study(study.frame, study.roles, study.arms, study.tables, Declaration(design="trial"))
    assert plan_methods(trial).ranked[0][0] == "network_effects"
    assert plan_methods(study).ranked[0][0] == "network_effects"
    bare = plan_methods(_with_edges(study, None))
    assert "edges.csv" in bare.refused["network_effects"]
    roles = {"outcome": "y", "treatment": "d", "unit": "unit", "propensity": "chance"}
    assert cqox.plan(study.frame, roles, tables=dict(study.tables)).ranked[0][0] == "network_effects"


def test_ties_are_read_in_time_that_grows_with_them():
    edges = pd.DataFrame({"source": np.arange(200_000), "target": (np.arange(200_000) + 1) % 200_000})
    ties = read_ties(np.arange(200_000), edges)
    assert ties.degree.tolist()[:3] == [2, 2, 2]
    with pytest.raises(NetworkError):
        read_ties(np.zeros(3), edges)


@st.composite
def networks(draw: st.DrawFn) -> Study:
    """Small studies with any edges: loops, repeats, strangers, texts, missing ends, weights, clusters."""
    n = draw(st.integers(2, 25))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(0, 60))
    ends = generator.integers(0, n + draw(st.sampled_from([0, 0, 0, 2])), (m, 2)).astype(float)
    if draw(st.booleans()) and m:
        ends[0, 0] = np.nan
    edges = pd.DataFrame(ends, columns=["source", "target"])
    if draw(st.booleans()):
        edges = edges.astype("Int64").astype("str").where(edges.notna())
    weights = draw(st.sampled_from([None, [1.0], [0.0, 0.5, 1.0], [np.nan], ["a"], [1.0, 3.3]]))
    if weights is not None:
        edges["weight"] = generator.choice(np.array(weights, dtype=object), m)
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    d = (generator.random(n) < draw(st.sampled_from([0.1, 0.5, 0.9]))) * 1.0
    frame = pd.DataFrame({"unit": np.arange(n), "d": d, "p": draw(st.sampled_from([0.5, 0.0, 1.0, 0.3]))})
    frame["y"] = draw(st.sampled_from([generator.standard_normal(n) * scale, d * 3, np.round(generator.random(n))]))
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",)}
    if draw(st.booleans()):
        roles[Role.PROPENSITY] = ("p",)
    if draw(st.booleans()):
        group = np.arange(n) % draw(st.integers(1, 6))
        frame["group"], frame["d"] = group, (generator.random(n) < 0.5)[group] * 1.0
        roles[Role.CLUSTER] = ("group",)
    tables = {} if draw(st.integers(0, 9)) == 0 else {"edges": edges}
    return Study(frame=frame, roles=roles, arms=("no", "yes"), tables=tables)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    study=networks(),
    normalise=st.sampled_from(["hajek", "horvitz_thompson", "unweighted"]),
    exposure=st.sampled_from(["any_treated_neighbour", "share_treated"]),
    estimand=st.sampled_from([None, "direct", "indirect", "total", "overall"]),
)
def test_an_answer_or_a_refusal_on_any_network(study, normalise, exposure, estimand):
    outcome = run(SPEC, study, normalise=normalise, exposure=exposure, estimand=estimand)
    if isinstance(outcome, Refusal):
        assert outcome.reason
        assert outcome.remedy
        return
    assert estimand in (None, outcome.estimand)
    assert np.isfinite([effect.estimate for effect in outcome.effects]).all()
    assert "NaN" not in to_text(outcome.to_json())
    for table in outcome.tables.values():
        assert not table.isna().any().any()
