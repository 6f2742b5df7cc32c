"""One asset per sensitivity question, generated from the catalogue."""

import time
import traceback

import dagster as dg
import pandas as pd

from cqox_assets.assets import config_for, given, markdown_table, numbers, stage, told
from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.errors import CqoxError
from cqox_assets.measures import Status
from cqox_assets.nuisance.models import Fits
from cqox_assets.partitions import Partition
from cqox_assets.result import EffectEstimate, Failure, Refusal, SensitivityResult, with_provenance
from cqox_assets.results import Present, Results
from cqox_assets.runner import runner_for
from cqox_assets.spec import CommonParams, Context, SensitivitySpec, build_params
from cqox_assets.stored import Answers
from cqox_resources.settings import Settings

ESTIMATES = [dg.AssetDep(["estimates", name]) for name in load_estimators()]
Answer = SensitivityResult | Refusal | Failure
FITS = Fits()  # of changed data: two estimators, or two questions, that change them alike fit them once


def sensitivity_asset(spec: SensitivitySpec) -> dg.AssetsDefinition:
    """Wrap one sensitivity question as an asset."""
    key, config_type = dg.AssetKey(["sensitivity", spec.name]), config_for(spec.name, spec.params)

    def ask(context, config, settings):  # type: ignore[no-untyped-def]
        present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
        values = {**present.study.declaration.params.get(spec.name, {}), **given(config)}
        answers = Answers(spec.name, answer_all(spec, present, build_params(spec.params, values), context.run_id))
        worst = worst_of(answers)
        return dg.MaterializeResult(
            value=answers,
            metadata={
                "fingerprint": present.fingerprint,
                "question": spec.question,
                **_spent(spec, answers),
                "answers": dg.MetadataValue.md(_markdown(answers)),
                **numbers({f"value_{name}": item.value for name, item in answers.results.items()
                           if isinstance(item, SensitivityResult)}),
            },
            check_results=[
                told(
                    key,
                    "holds",
                    worst is Status.PASS,
                    f"worst status over {len(answers.results)} estimates: {worst.value}",
                )
            ],
        )  # fmt: skip

    ask.__annotations__ = {
        "context": dg.AssetExecutionContext,
        "config": config_type,
        "settings": dg.ResourceParam[Settings],
        "return": dg.MaterializeResult,
    }
    wrapped: dg.AssetsDefinition = dg.asset(
        key=key,
        deps=[dg.AssetDep(["gates", "gated_study"]), *ESTIMATES],
        description=f"**{spec.title}** {spec.question}\n\n{spec.reference}",
        code_version=spec.version,
        check_specs=[dg.AssetCheckSpec("holds", asset=key, description="The conclusion survives the question.")],
        **stage("sensitivity", cost=spec.cost),
    )(ask)
    return wrapped


def answer_all(spec: SensitivitySpec, present: Present, params: CommonParams, run_id: str = "") -> dict[str, Answer]:
    """Ask the question of every estimate that it applies to."""
    asked = {
        name: estimate
        for name, estimate in present.inputs().answered().items()
        if not spec.applies_to or name in spec.applies_to or estimate.estimand in spec.applies_to
    }
    chosen = list(asked.items())[: spec.most]
    answers: dict[str, Answer] = {}
    started = time.process_time()
    for position, (name, estimate) in enumerate(chosen):
        budget = None
        if spec.budget_seconds is not None:
            left = spec.budget_seconds - (time.process_time() - started)
            budget = max(left, 0.0) / (len(chosen) - position)
        context = Context(nuisance=present.nuisance, budget_seconds=budget, fits=FITS)
        answers[name] = _ask(spec, present, estimate, params, context, run_id)
    return answers


def _ask(
    spec: SensitivitySpec,
    present: Present,
    estimate: EffectEstimate,
    params: CommonParams,
    context: Context,
    run_id: str,
) -> Answer:
    try:
        context = runner_for(context)
        answer = spec.told(present.study, spec.run(present.study, estimate, params, context), context)
    except CqoxError as error:
        return Refusal(spec.name, error.code, error.message, "see the estimate's own notices")
    except Exception as error:  # like an estimator's: a bug is recorded, the other answers are kept
        return Failure(spec.name, f"{type(error).__name__}: {error}", traceback.format_exc(), run_id)
    if isinstance(answer, Refusal):
        return with_provenance(answer, fingerprint=present.fingerprint)  # type: ignore[return-value]
    return answer


def _spent(spec: SensitivitySpec, answers: Answers) -> dict[str, float]:
    """Return the CPU seconds that the question took, and its budget where it has one."""
    seconds = sum(float(item.provenance.get("seconds") or 0.0) for item in answers.results.values())
    return {"seconds": round(seconds, 3)} | (
        {} if spec.budget_seconds is None else {"budget_seconds": float(spec.budget_seconds)}
    )


def worst_of(answers: Answers) -> Status:
    """Return the worst status over all answers; without any answer it is `not_run`."""
    order = (Status.FAIL, Status.WARN, Status.NOT_RUN, Status.PASS)
    found = [
        item.status if isinstance(item, SensitivityResult) else Status.NOT_RUN for item in answers.results.values()
    ]
    return next((status for status in order if status in found), Status.NOT_RUN)


def _markdown(answers: Answers) -> str:
    rows = [
        {"estimate of": name, "status": item.status.value, "value": item.value, "unit": item.unit,
         "meaning": f"{item.meaning} {item.implies}".strip(), "advice": item.advice}
        if isinstance(item, SensitivityResult)
        else {"estimate of": name, "status": "not_run", "value": None, "unit": "",
              "meaning": item.reason if isinstance(item, Refusal) else item.exception, "advice": ""}
        for name, item in answers.results.items()
    ]  # fmt: skip
    return markdown_table(pd.DataFrame(rows), 40) if rows else "no estimate to ask about"


ASSETS = [sensitivity_asset(spec) for spec in load_sensitivities().values()]
