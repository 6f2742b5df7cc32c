"""Effect history, pooling and the network of domains, on made-up decision cards."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from cqox_assets.ledger.history import HISTORY_COLUMNS, POOLED_COLUMNS, build_history, pool
from cqox_assets.ledger.network import build_network
from cqox_assets.result import to_text


def answer(estimator="ipw", estimate=1.0, std_error=0.5, estimand="ATE", contrast="b - a", **more):
    interval = None if None in (estimate, std_error) else {"low": estimate - 1, "high": estimate + 1, "level": 0.95}
    return {
        "estimator": estimator,
        "estimand": estimand,
        "contrast": contrast,
        "estimate": estimate,
        "std_error": std_error,
        "interval": interval,
        "p_value": 0.04,
        **more,
    }


def card(partition, *answers, outcome="sales", treatment="coupon", fingerprint=None, verdict="GO", **more):
    roles = {"outcome": [outcome], "treatment": [treatment], "covariates": ["age"]}
    return {
        "partition": partition,
        "study": {"fingerprint": fingerprint or partition, "rows": 500, "roles": roles},
        "estimates": list(answers),
        "verdict": verdict,
        **more,
    }


def consensus(value, std_error=0.2, estimand="ATE"):
    low, high = value - 0.4, value + 0.4
    group = {"estimand": estimand, "contrast": "b - a", "scale": "difference", "at": {}, "null": 0.0}
    return {"groups": [{**group, "consensus": value, "std_error": std_error, "low": low, "high": high, "level": 0.95}]}


def test_a_history_has_one_row_per_period_estimator_and_effect():
    cards = [
        card("retail|2025-02", answer("ols", 2.0), answer("ipw", 3.0)),
        card("retail|2025-01", answer("ols", 1.0)),
    ]
    history = build_history(cards)
    assert list(history.columns) == list(HISTORY_COLUMNS)
    assert history[["estimator", "period", "estimate"]].to_numpy().tolist() == [
        ["ipw", "2025-02", 3.0],
        ["ols", "2025-01", 1.0],
        ["ols", "2025-02", 2.0],
    ]
    assert set(history["series"]) == {"ATE of coupon on sales"}
    assert set(history["domain"]) == {"retail"}
    assert history["low"].tolist() == [2.0, 0.0, 1.0]
    assert set(history["rows"]) == {500.0}
    assert set(history["verdict"]) == {"GO"}


def test_the_effects_of_an_estimate_take_the_place_of_its_headline():
    effects = [
        {"estimand": "ATE", "contrast": "b - a", "estimate": 1.0, "at": {}},
        {"estimand": "ATE", "contrast": "b - a", "estimate": 2.0, "at": {"group": "若年", "age": 3}},
    ]
    history = build_history([card("retail|2025-01", answer(effects=effects))])
    assert history["estimate"].tolist() == [1.0, 2.0]
    assert history["at"].tolist() == ["", '{"age": 3, "group": "若年"}']
    assert history["std_error"].isna().all()


@pytest.mark.parametrize(
    "other",
    [
        {"outcome": "visits"},
        {"treatment": "price"},
    ],
)
def test_another_outcome_or_treatment_is_another_series(other):
    history = build_history([card("a|2025-01", answer()), card("a|2025-02", answer(), **other)])
    assert history["series"].nunique() == 2
    assert history["change"].isna().all()
    assert set(history["previous_period"]) == {""}


@pytest.mark.parametrize("other", [{"estimand": "ATT"}, {"contrast": "c - a"}, {"scale": "log_odds_ratio"}])
def test_only_equal_questions_are_joined(other):
    history = build_history([card("a|2025-01", answer()), card("a|2025-02", answer(**other))])
    assert history["change"].isna().all()
    assert pool(history)["periods"].tolist() == [1, 1]


def test_a_change_has_its_standard_error_and_p_value():
    cards = [
        card("a|2025-01", answer(estimate=1.0, std_error=0.3)),
        card("a|2025-04", answer(estimate=2.0, std_error=0.4)),
    ]
    first, second = build_history(cards).to_dict("records")
    assert (first["previous_period"], second["previous_period"]) == ("", "2025-01")
    assert math.isnan(first["change"])
    assert second["change"] == 1.0
    assert second["change_std_error"] == pytest.approx(0.5)
    assert second["change_p_value"] == pytest.approx(0.0455002638963584)  # two-sided, z = 2


def test_the_same_study_twice_is_no_new_evidence():
    cards = [card("a|2025-01", answer(), fingerprint="same"), card("a|2025-02", answer(), fingerprint="same")]
    history = build_history(cards)
    assert history["change"].tolist()[1] == 0.0
    assert history["change_std_error"].isna().all()
    assert history["change_p_value"].isna().all()
    assert pool(history)["periods"].tolist() == [1]


def test_cards_without_a_fingerprint_are_studies_of_their_own():
    cards = [card(f"a|2025-0{k}", answer(), fingerprint=None) for k in (1, 2)]
    for one in cards:
        one["study"]["fingerprint"] = None
    history = build_history(cards)
    assert history["change_std_error"].notna().tolist() == [False, True]
    assert pool(history)["periods"].tolist() == [2]


def test_the_later_card_of_a_partition_counts():
    history = build_history([card("a|2025-01", answer(estimate=1.0)), card("a|2025-01", answer(estimate=5.0))])
    assert history["estimate"].tolist() == [5.0]


def test_what_has_no_number_is_passed_over_and_no_row_is_invented():
    answers = [answer(estimate=None), answer("b", math.nan), answer("c", std_error=None), answer("d", True)]
    history = build_history([card("a|2025-01", *answers), card("a|2025-02")])
    assert history["estimator"].tolist() == ["c"]
    assert pool(history).empty


def test_an_unbounded_interval_is_missing_at_that_end():
    interval = {"low": None, "high": 3.0, "level": 0.9, "unbounded": "low"}
    row = build_history([card("a|2025-01", answer(interval=interval))]).iloc[0]
    assert math.isnan(row["low"])
    assert (row["high"], row["level"]) == (3.0, 0.9)


@pytest.mark.parametrize(
    "summary",
    [
        consensus(1.5),
        consensus(1.5)["groups"],
        {"ATE": {key: value for key, value in consensus(1.5)["groups"][0].items() if key != "estimand"}},
    ],
)
def test_the_consensus_of_a_card_is_kept_beside_the_estimates(summary):
    history = build_history([card("a|2025-01", answer(), summary=summary)])
    row = history[history["kind"] == "consensus"].iloc[0]
    assert (row["estimand"], row["estimate"], row["std_error"], row["low"]) == ("ATE", 1.5, 0.2, 1.1)


@pytest.mark.parametrize("cards", [[], [card("a|2025-01")]])
def test_no_estimates_give_typed_empty_frames(cards, tmp_path):
    history = build_history(cards)
    pooled = pool(history)
    assert (history.empty, pooled.empty) == (True, True)
    assert list(pooled.columns) == list(POOLED_COLUMNS)
    history.to_parquet(tmp_path / "history.parquet")
    back = pd.read_parquet(tmp_path / "history.parquet")
    assert back.dtypes.to_dict() == history.dtypes.to_dict()
    nodes, edges = build_network({"a": history})
    assert (len(nodes), len(edges)) == (0, 0)


def history_of(estimates, std_errors):
    pairs = enumerate(zip(estimates, std_errors, strict=True), start=1)
    return build_history([card(f"a|2025-{k:02}", answer(estimate=y, std_error=s)) for k, (y, s) in pairs])


def test_pooling_follows_the_published_formulas():
    y, s = np.array([0.1, 0.6, 0.35, 0.9]), np.array([0.1, 0.2, 0.15, 0.3])
    row = pool(history_of(y, s)).iloc[0]
    w = 1 / s**2
    fixed = (w * y).sum() / w.sum()
    q = (w * (y - fixed) ** 2).sum()
    # The general method-of-moments form, which DerSimonian & Laird's is a case of.
    tau2 = (q - ((w * s**2).sum() - (w**2 * s**2).sum() / w.sum())) / (w.sum() - (w**2).sum() / w.sum())
    v = 1 / (s**2 + tau2)
    assert tau2 > 0
    assert row["fixed"] == pytest.approx(fixed)
    assert row["fixed_std_error"] == pytest.approx(w.sum() ** -0.5)
    assert row["q"] == pytest.approx(q)
    assert row["tau2"] == pytest.approx(tau2)
    assert row["random"] == pytest.approx((v * y).sum() / v.sum())
    assert row["random_std_error"] == pytest.approx(v.sum() ** -0.5)
    assert row["i2"] == pytest.approx(1 - 3 / q)
    assert row["random_high"] - row["random_low"] == pytest.approx(2 * 1.959963984540054 * row["random_std_error"])
    assert (row["periods"], row["first_period"], row["last_period"]) == (4, "2025-01", "2025-04")


def test_equal_periods_have_no_heterogeneity_and_both_models_agree():
    row = pool(history_of([2.0, 2.0, 2.0, 2.0], [0.2] * 4)).iloc[0]
    assert row["fixed"] == row["random"] == pytest.approx(2.0)
    assert row["fixed_std_error"] == row["random_std_error"] == pytest.approx(0.1)
    assert (row["tau2"], row["i2"], row["q_p_value"]) == (0.0, 0.0, pytest.approx(1.0))


def test_one_period_is_itself_and_says_nothing_about_heterogeneity():
    row = pool(history_of([2.0], [0.5])).iloc[0]
    assert (row["fixed"], row["fixed_std_error"]) == (2.0, 0.5)
    assert row[["random", "random_std_error", "q", "tau2", "i2"]].isna().all()


def months(domain, values, **facts):
    return build_history([card(f"{domain}|2025-{k:02}", answer(estimate=v), **facts) for k, v in enumerate(values, 1)])


def test_domains_with_a_common_outcome_are_joined_and_correlated():
    nodes, edges = build_network(
        {
            "retail": months("retail", [1.0, 2.0, 4.0], treatment="coupon"),
            "marketing": months("marketing", [10.0, 8.0, 4.0, 9.0], treatment="mail"),
            "policy": months("policy", [1.0, 2.0, 3.0], outcome="wage", treatment="training"),
        }
    )
    assert nodes["domain"].tolist() == ["marketing", "policy", "retail"]
    edge = edges.to_dict("records")[0]
    assert len(edges) == 1
    assert (edge["source"], edge["target"]) == ("marketing", "retail")
    assert (edge["shared_outcome"], edge["shared_treatment"]) == ("sales", None)
    assert (edge["source_effect"], edge["target_effect"]) == (9.0, 4.0)
    assert edge["common_periods"] == 3
    assert edge["correlation"] == pytest.approx(np.corrcoef([10, 8, 4], [1, 2, 4])[0, 1])


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.0, 3.0, 3.0]])
def test_no_correlation_is_claimed_where_there_is_none_to_compute(values):
    _, edges = build_network({"a": months("a", values), "b": months("b", [1.0, 5.0, 2.0])})
    assert edges["correlation"].tolist() == [None]


def test_different_estimands_or_unrelated_names_are_no_edge():
    histories = {"a": months("a", [1.0]), "b": build_history([card("b|2025-01", answer(estimand="ATT"))])}
    assert len(build_network(histories)[1]) == 0
    histories["b"] = months("b", [1.0], outcome="", treatment="")
    assert len(build_network(histories)[1]) == 0


def test_a_node_shows_the_consensus_of_the_latest_card():
    cards = [
        card("a|2025-01", answer("ols", 9.0), summary=consensus(9.0), verdict="GO"),
        card("a|2025-02", answer("ols", 1.0), answer("ipw", 3.0), summary=consensus(2.2), verdict="HOLD"),
    ]
    node = build_network({"a": build_history(cards)})[0].iloc[0]
    assert (node["latest_period"], node["periods"], node["effect"]) == ("2025-02", 2, 2.2)
    assert (node["verdict"], node["rows"], node["source"]) == ("HOLD", 500.0, "consensus of the card")
    assert (node["std_error"], node["low"]) == (0.2, pytest.approx(1.8))


def test_without_a_consensus_the_median_is_named_and_has_no_uncertainty():
    history = build_history([card("a|2025-01", answer("x", 1.0), answer("y", 2.0), answer("z", 9.0))])
    node = build_network({"a": history})[0].iloc[0]
    assert (node["effect"], node["std_error"], node["source"]) == (2.0, None, "median of 3 estimators")


def test_the_network_is_plain_json():
    nodes, edges = build_network({"a": months("a", [1.0, 2.0, 3.0]), "b": months("b", [2.0, 1.0, 0.0])})
    text = to_text({"nodes": nodes.to_dict("records"), "edges": edges.to_dict("records")})
    assert json.loads(text)["edges"][0]["correlation"] == pytest.approx(-1.0)


def test_a_domain_shows_the_effect_that_its_verdict_rests_on():
    """The average that most estimators answer is not what a design at a cutoff decides by."""
    groups = [*consensus(5.0)["groups"], *consensus(2.0, estimand="LATE")["groups"]]
    groups[1]["preferred"] = True
    made = card(
        "finance|2025-01", answer("ols"), answer("ipw"), answer("rd", estimand="LATE"), synthesis={"groups": groups}
    )
    history = build_history([made])
    assert history.loc[history["decides"] == "yes", "estimate"].tolist() == [2.0]
    nodes, _ = build_network({"finance": history})
    assert (nodes.loc[0, "series"], nodes.loc[0, "effect"]) == ("LATE of coupon on sales", 2.0)
    earlier, _ = build_network({"finance": history.drop(columns="decides")})
    assert earlier.loc[0, "effect"] == 5.0  # a history of an earlier version does not say
