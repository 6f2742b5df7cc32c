"""Gates before any model: what blocks a study, and the study that passed."""

import dagster as dg
import pandas as pd

from cqox_assets.assets import check_specs, markdown_table, numbers, stage
from cqox_assets.gates.checks import BLOCKING, DATA_CHECKS, Check
from cqox_assets.study import Study

STAGE = stage("gates", kinds={"python", "greatexpectations"})
DATA_KEY = dg.AssetKey(["gates", "data_diagnostics"])


@dg.asset(
    key=DATA_KEY,
    ins={"study": dg.AssetIn(["mapping", "study"])},
    description="What can be known before any model; blocking gates stop a study that cannot be analysed.",
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(spec.name, asset=DATA_KEY, description=spec.description, blocking=spec.name in BLOCKING)
        for spec in check_specs(DATA_CHECKS, DATA_KEY)
    ],
    **STAGE,
)
def data_diagnostics(context: dg.AssetExecutionContext, study: Study) -> dg.MaterializeResult:
    """Diagnose the study and validate table and diagnostics with Great Expectations."""
    from cqox_assets.gates.checks import data_gates
    from cqox_assets.gates.data import diagnose

    found = diagnose(study)
    gates = data_gates(study, found)
    for check in gates.checks:
        if check.stops:
            context.log.error(f"{check.name} stops the run: {check.description}")
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fingerprint": study.fingerprint,
            "summary": gates.data.headline(),
            "gates": dg.MetadataValue.md(gates.markdown()),
            **{name: dg.MetadataValue.md(markdown_table(table, 40)) for name, table in found.tables.items()},
            **numbers({f"value_{item.name}": item.value for item in found.diagnostics}),
        },
        check_results=[_result(check) for check in gates.checks],
    )


def _result(check: Check) -> dg.AssetCheckResult:
    """Return a check; Dagster stops the run where a blocking one did not pass with severity ERROR."""
    values = numbers({"value": check.value, "threshold": check.threshold})
    return dg.AssetCheckResult(
        asset_key=DATA_KEY,
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.stops else dg.AssetCheckSeverity.WARN,
        description=check.description,
        metadata={"status": check.status.value, **values},
    )


@dg.asset(
    key=["gates", "gated_study"],
    ins={"study": dg.AssetIn(["mapping", "study"])},
    deps=[DATA_KEY],
    description="The study, written only if no gate blocked it; everything below rests on it.",
    code_version="1",
    **STAGE,
)
def gated_study(study: Study) -> dg.MaterializeResult:
    """Pass the study on."""
    rows = pd.DataFrame(
        {"role": [str(role) for role in study.roles], "columns": [", ".join(n) for n in study.roles.values()]}
    )
    return dg.MaterializeResult(
        value=study,
        metadata={
            "fingerprint": study.fingerprint,
            "dagster/row_count": len(study),
            "question": study.declaration.question or "not declared",
            "roles": dg.MetadataValue.md(markdown_table(rows, 40)),
        },
    )


ASSETS = [data_diagnostics, gated_study]
