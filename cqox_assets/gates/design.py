"""Collects the diagnostics of data, nuisance models, estimates and sensitivity into one judged report."""

from collections.abc import Iterator, Mapping

from cqox_assets.gates.data import DataDiagnostics
from cqox_assets.gates.report import GateReport
from cqox_assets.gates.suite import Named, validate_named
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.result import EffectEstimate, Failure, Nuisance, Outcome, Refusal, SensitivityResult

Answer = SensitivityResult | Refusal | Failure


def collect(
    data: DataDiagnostics,
    nuisance: Nuisance | None,
    estimates: Mapping[str, Outcome],
    sensitivity: Mapping[str, Answer | Mapping[str, Answer]],
) -> GateReport:
    """Judge every diagnostic of one study through one Great Expectations suite.

    Parameters
    ----------
    data : DataDiagnostics
        Gates are named as their measures.
    nuisance : Nuisance or None
        Gates are named `nuisance: overlap`.
    estimates : mapping of str to Outcome
        Gates are named `ipw: adjusted_smd`, and `estimator` names the entry. Refusals and failures have no
        diagnostics; a notice names them.
    sensitivity : mapping of str to an answer, or to answers by estimator
        Gates are named `sensitivity: e_value` or `sensitivity: e_value (ipw)`; what was refused or failed is `not_run`.
    """
    named = [Named(item.name, item) for item in data.diagnostics]
    if nuisance is not None:
        named += [Named(f"nuisance: {item.name}", item, stage="nuisance") for item in nuisance.diagnostics]
    for name, outcome in estimates.items():
        if isinstance(outcome, EffectEstimate):
            named += [Named(f"{name}: {item.name}", item, name, "estimates") for item in outcome.diagnostics]
    named += _sensitivity_gates(sensitivity)
    return validate_named(
        named, suite="design", fingerprint=data.fingerprint, notices=(*data.notices, *_without_gates(estimates))
    )


def _sensitivity_gates(sensitivity: Mapping[str, Answer | Mapping[str, Answer]]) -> Iterator[Named]:
    for question, found in sensitivity.items():
        if not isinstance(found, Mapping):
            yield _sensitivity_gate(question, question, "", found)
            continue
        for estimator, answer in found.items():
            yield _sensitivity_gate(f"{question} ({estimator})", question, estimator, answer)


def _sensitivity_gate(key: str, question: str, estimator: str, answer: Answer) -> Named:
    name = f"sensitivity: {key}"
    if isinstance(answer, SensitivityResult):
        value = None if answer.status is Status.NOT_RUN else answer.value
        item = Diagnostic(question, value, None, answer.status, f"{answer.meaning} {answer.advice}".strip())
        return Named(name, item, answer.estimator, "sensitivity")
    words = f"{answer.reason}; {answer.remedy}" if isinstance(answer, Refusal) else f"it crashed: {answer.exception}"
    return Named(name, Diagnostic(question, None, None, Status.NOT_RUN, words), estimator, "sensitivity")


def _without_gates(estimates: Mapping[str, Outcome]) -> Iterator[str]:
    for kind, word in ((Refusal, "refused"), (Failure, "failed")):
        names = sorted(name for name, outcome in estimates.items() if isinstance(outcome, kind))
        if names:
            yield f"{', '.join(names)} {word}, so there are no gates of {'these' if len(names) > 1 else 'this'}"
