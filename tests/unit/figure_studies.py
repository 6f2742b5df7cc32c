"""Inputs of figures: sample studies and simulated designs with every result that they allow."""

from dataclasses import replace
from functools import cache

import pandas as pd

from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.decisions.card import CardParts, build_card
from cqox_assets.decisions.evidence import gather
from cqox_assets.decisions.rule import decide
from cqox_assets.declaration import parse_declaration
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.ledger.history import build_history, own_history
from cqox_assets.ledger.network import build_network
from cqox_assets.mapping.domains import load_domains
from cqox_assets.mapping.stage import study_of
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import Failure, Nuisance, SensitivityResult
from cqox_assets.runner import run_guarded, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import Context, Inputs, build_params
from cqox_assets.synthesis.counterfactual import counterfactual_systems
from cqox_assets.synthesis.effect_summary import summarise
from cqox_assets.synthesis.policy import policy_value
from cqox_assets.synthesis.quality_score import score_quality
from tests.conftest import DATA

SAMPLES = ("education", "finance", "healthcare", "labour", "manufacturing", "policy", "policy_psid", "retail")
SIMULATED = (
    "confounded_dose", "encouraged_uptake", "fuzzy_cutoff", "interrupted_series", "mediated_two_ways", "network_trial",
    "one_treated_unit", "returning_treatment", "staggered_panel", "three_arms",
)  # fmt: skip
LEDGER = ("six_months", "all_domains")  # what one study alone cannot show
_ASKED = (
    "e_value", "partial_r2", "rosenbaum_bounds", "placebo_treatment", "dummy_outcome", "data_subset",
    "specification_curve",
)  # fmt: skip


def sample(name):
    """A sample study as the graph maps it."""
    folder = DATA / name / "2025-01"
    (path,) = (path for path in folder.iterdir() if path.suffix in (".csv", ".parquet") and path.stem != "edges")
    encoding = "shift_jis" if name == "retail" else "utf-8"
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, encoding=encoding)
    declaration = parse_declaration((folder / "study.yaml").read_text("utf-8"))
    return study_of(frame, domain=name if name in load_domains() else None, declaration=declaration)[0]


def results_of(study, only=None, asked=_ASKED):
    """Every estimate (or those named) and the answers about the first one that each question applies to."""
    held = shared_nuisance(study)
    nuisance = held if isinstance(held, Nuisance) else None
    context = runner_for(Context(nuisance=nuisance))
    chosen = {name: spec for name, spec in load_estimators().items() if only is None or name in only}
    found = {name: run_guarded(spec, study, {}, context) for name, spec in chosen.items()}
    assert not [item.exception for item in found.values() if isinstance(item, Failure)]
    inputs = Inputs(study, found, nuisance, {}, tuple(plan_methods(study).names))
    answers = {}
    for question in asked:
        spec = load_sensitivities()[question]
        for name, estimate in inputs.answered().items():
            if spec.applies_to and not {name, estimate.estimand} & set(spec.applies_to):
                continue
            values = build_params(spec.params, {})
            limited = runner_for(Context(nuisance=nuisance, budget_seconds=0.1))
            answers[f"{question}: {name}"] = spec.run(study, estimate, values, limited)
            if isinstance(answers[f"{question}: {name}"], SensitivityResult):
                break
    inputs = replace(inputs, sensitivity=answers)
    return replace(inputs, findings=findings_of(inputs)) if only is None else inputs


def findings_of(inputs):
    """What the summaries over all results find, as the graph hands it to figures."""
    study, gates = inputs.study, ()
    summary = summarise(plan_methods(study), inputs.estimates, gates)
    return {
        "quality_score": score_quality(gates, summary, inputs.sensitivity, inputs.estimates, study),
        "policy_value": policy_value(study, inputs.nuisance, inputs.estimates, inputs.plan),
        "counterfactual_systems": counterfactual_systems(study, inputs.nuisance),
        "effect_summary": summary,
        "history": own_history([], study, summary, "2025-01"),
    }


def card_of(partition, inputs):
    """The decision card of a study, as the ledger reads it."""
    study, plan = inputs.study, plan_methods(inputs.study)
    summary = summarise(plan, inputs.estimates, ())
    verdict = decide(gather(study, (), inputs.estimates, summary, inputs.sensitivity))
    told = {"partition": partition}
    parts = CardParts(study, (), plan, inputs.estimates, inputs.sensitivity, summary, verdict, provenance=told)
    return build_card(parts)


def six_months():
    """The sixth of six months in each of which the same question was asked of other units."""
    few = ("aipw", "ols", "regression_adjustment")
    months = {f"2024-{k:02d}": results_of(DESIGNS["confounded_smooth"](300, k)[0], few, ()) for k in range(1, 7)}
    last, inputs = months.popitem()
    cards = [card_of(f"general|{month}", held) for month, held in months.items()]
    summary = summarise(plan_methods(inputs.study), inputs.estimates, ())
    return replace(inputs, findings={"history": own_history(cards, inputs.study, summary, last)})


def all_domains():
    """A sample study with the network of all of them."""
    cards = {name: card_of(f"{name}|2025-01", inputs_of(name)) for name in SAMPLES}
    nodes, edges = build_network({name: build_history([card]) for name, card in cards.items()})
    network = {"nodes": nodes.to_dict("records"), "edges": edges.to_dict("records")}
    return Inputs(inputs_of("retail").study, findings={"domain_network": network})


@cache
def inputs_of(name):
    """The inputs of a sample study, of a simulated design with about 400 rows, or with what a ledger adds."""
    if name == "six_months":
        return six_months()
    if name == "all_domains":
        return all_domains()
    if name in SAMPLES:
        return results_of(sample(name))
    return results_of(DESIGNS[name](800 if name in ("one_treated_unit", "fuzzy_cutoff") else 400, 7)[0])
