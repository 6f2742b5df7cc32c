"""The method plan is right on every data set of the repository, and says why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

import cqox_assets as cqox
from tests.conftest import ROOT

DATA = ROOT / "tests" / "oracle" / "data"
LALONDE = ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"]
MODERN = {"aipw", "double_ml"}


@dataclass(frozen=True)
class Shipped:
    """A data set, its roles, and the methods of which one must come first."""

    file: str
    roles: Mapping[str, str | Sequence[str]]
    first: set[str]
    estimand: str
    edges: str | None = None
    declaration: Mapping[str, Any] = field(default_factory=dict)
    derive: Mapping[str, str] = field(default_factory=dict)


PANEL = {"outcome": "cigsale", "unit": "state", "time": "year"}
SPACE = {"outcome": "crime", "treatment": "hoval", "covariates": ["inc"]}
CASES = {
    "a declared trial": Shipped(
        "policy/2025-01/lalonde_nsw.csv", {"outcome": "re78", "treatment": "treat", "covariates": LALONDE},
        {"difference_in_means"}, "ATE", declaration={"design": "trial"},
    ),
    "observables": Shipped(
        "policy_psid/2025-01/lalonde_psid.csv", {"outcome": "re78", "treatment": "treat", "covariates": LALONDE},
        MODERN, "ATE",
    ),
    "cutoff": Shipped("lee2008.csv", {"outcome": "vote_next", "running_variable": "margin"},
                      {"regression_discontinuity"}, "LATE"),
    "cutoff with its treatment": Shipped(
        "lee2008.csv", {"outcome": "vote_next", "running_variable": "margin", "treatment": "won"},
        {"regression_discontinuity"}, "LATE", derive={"won": "margin >= 0"},
    ),
    "instrument": Shipped(
        "angrist_evans.parquet",
        {"outcome": "weeks_worked", "treatment": "morekids", "instruments": ["samesex"], "covariates": ["age", "afam"]},
        {"iv"}, "ATE",
    ),
    "staggered panel": Shipped(
        "mpdta.csv", {"outcome": "lemp", "unit": "countyreal", "time": "year", "cohort": "first_treat"},
        {"difference_in_differences"}, "ATT",
    ),
    "one treated unit": Shipped("prop99.csv", PANEL | {"treatment": "law"}, {"synthetic_control"}, "ATT",
                                derive={"law": "state == 'California' and year >= 1989"}),
    "time series": Shipped(
        "sicily_its.csv", {"outcome": "aces", "treatment": "smokban", "time": "time", "offset": "stdpop"},
        {"interrupted_time_series"}, "level_change",
    ),
    "randomised network": Shipped(
        "network_sim.csv", {"outcome": "y", "treatment": "treated", "unit": "id", "covariates": ["x"]},
        {"network_effects"}, "ATE", edges="network_sim_edges.csv", declaration={"design": "trial"},
    ),
    "network": Shipped(
        "network_sim.csv", {"outcome": "y", "treatment": "treated", "unit": "id", "covariates": ["x"]},
        {"network_effects"}, "ATE", edges="network_sim_edges.csv",
    ),
    "space by neighbours": Shipped("columbus.csv", SPACE | {"unit": "polyid"}, {"geographic"}, "slope",
                                   edges="columbus_edges.csv"),
    "space by coordinates": Shipped("columbus.csv", SPACE | {"latitude": "y", "longitude": "x"}, {"geographic"},
                                    "slope"),
    "panel that returns": Shipped(
        "democracy_growth.csv",
        {"outcome": "log_gdppc", "treatment": "dem", "unit": "country", "time": "year", "covariates": ["trade"]},
        {"panel_matching"}, "ATT",
    ),
    "repeated treatment": Shipped(
        "gformula_sim.csv", {"outcome": "y", "treatment": ["a0", "a1", "a2"], "covariates": ["l0", "l1", "l2"]},
        {"g_computation"}, "regime_contrast",
    ),
    "mediator": Shipped(
        "framing.csv", {"outcome": "immigr", "treatment": "treat", "mediator": "emo", "covariates": ["age"]},
        MODERN, "ATE",
    ),
    "three arms": Shipped(
        "marketing/2025-01/hillstrom.parquet",
        {"outcome": "visit", "treatment": "segment", "covariates": ["recency", "history", "newbie"]},
        {"difference_in_means"}, "ATE", declaration={"design": "trial"},
    ),
    "target population": Shipped(
        "transport_sim.csv", {"outcome": "Y", "treatment": "A", "covariates": ["L", "W"], "population": "S"},
        {"transportability"}, "target_ATE",
    ),
    "target population of a declared trial": Shipped(
        "transport_sim.csv", {"outcome": "Y", "treatment": "A", "covariates": ["L", "W"], "population": "S"},
        {"transportability"}, "target_ATE", declaration={"design": "trial"},
    ),
    "proxies of a hidden confounder": Shipped(
        "proxy_sim.csv",
        {"outcome": "y", "treatment": "d", "covariates": ["x0", "x1"], "treatment_proxy": ["z0", "z1", "z2"],
         "outcome_proxy": ["w0", "w1"]},
        {"proximal"}, "ATE",
    ),
}  # fmt: skip


def plan_of(case: Shipped) -> Any:
    places = (DATA / case.file, ROOT / "data" / case.file)
    path = next(place for place in places if place.is_file())
    frame = cqox.read_table(path).frame
    for name, expression in case.derive.items():
        frame[name] = frame.eval(expression, engine="python").astype(float)
    tables = {"edges": pd.read_csv(DATA / case.edges)} if case.edges else None
    return cqox.plan(frame, case.roles, tables=tables, declaration=case.declaration)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_method_that_the_data_were_made_for_comes_first(case: Shipped) -> None:
    plan = plan_of(case)
    first, reason = plan.ranked[0]
    assert first in case.first, plan.ranked[:3]
    assert reason
    assert plan.estimand == case.estimand
    assert plan.estimand_reason


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_other_method_is_ranked_or_told_what_it_lacks(case: Shipped) -> None:
    plan = plan_of(case)
    ranked = {name for name, _ in plan.ranked}
    assert ranked | set(plan.refused) == set(cqox.estimators())
    assert not ranked & set(plan.refused)
    assert all(len(remedy) > 10 for remedy in plan.refused.values())
    assert [plan.scores[name] for name, _ in plan.ranked] == sorted(plan.scores.values(), reverse=True)


def test_an_unknown_key_of_the_declaration_is_named() -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0], "d": [0, 1]})
    with pytest.raises(cqox.errors.DeclarationError, match="did you mean 'design'"):
        cqox.plan(frame, {"outcome": "y", "treatment": "d"}, declaration={"desing": "trial"})
