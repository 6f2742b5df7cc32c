"""Run partitions of the real graph in this process."""

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg

from tests.conftest import DATA


def deliver(home: Path, key: str, *files: Path, study: str | None = None) -> Path:
    """Put a sample study, or the given files, into the inbox of a home; return the folder."""
    domain, period = key.split("|")
    folder = home / "inbox" / domain / period
    folder.mkdir(parents=True, exist_ok=True)
    for path in files or sorted((DATA / domain / period).iterdir()):
        shutil.copy(path, folder)
    if study is not None:
        (folder / "study.yaml").write_text(study, "utf-8")
    return folder


def run(key: str, *, job: str = "analyse_partition", selection: list[str] | None = None, instance: Any = None,
        config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:  # fmt: skip
    """Run one partition; failures are looked at, not raised."""
    from dagster_deploy.definitions import defs

    domain, period = key.split("|")
    return defs.resolve_job_def(job).execute_in_process(
        partition_key=dg.MultiPartitionKey({"domain": domain, "period": period}),
        instance=instance or dg.DagsterInstance.ephemeral(),
        asset_selection=[dg.AssetKey(name.split("/")) for name in selection] if selection else None,
        run_config=config,
        raise_on_error=False,
    )


def card(home: Path, key: str) -> dict[str, Any]:
    """Return a partition's decision card."""
    return dict(json.loads((home / "reports" / key.replace("|", "/") / "decision_card.json").read_text("utf-8")))


def errors(result: dg.ExecuteInProcessResult) -> str:
    """Return what the failed steps of a run said."""
    texts = []
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity.value == "ERROR":
                texts.append(f"{check.check_name}: {check.description}")
        if event.is_step_failure:
            data = event.step_failure_data
            error = data.error
            while error is not None:
                texts.append(f"{event.step_key}: {error.message}")
                error = error.cause
            if data.user_failure_data:
                texts.append(str(data.user_failure_data.description))
    return "\n".join(texts)
