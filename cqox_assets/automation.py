"""Jobs, schedules and sensors."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from cqox_assets.alerts import write_alert
from cqox_assets.assets import RUN_RESOURCES
from cqox_assets.ingestion.inbox import delivered
from cqox_assets.ingestion.watch import Tick, scan
from cqox_assets.partitions import DOMAIN_PARTITIONS, DOMAINS, PARTITIONS, PERIOD, PERIODS, Partition
from cqox_resources.settings import Settings

LEDGER = dg.AssetSelection.groups("ledger")
MOVING = dg.AssetSelection.groups("moving_figures")
ANALYSIS = dg.AssetSelection.all() - LEDGER - MOVING
DOWN_FROM_STUDY = ANALYSIS - dg.AssetSelection.groups("ingestion", "mapping", "gates")
_TICK_SECONDS = 10
# More pods than this at once wait for one another within a run; over all runs the limits of the pools hold.
_PODS_OF_A_RUN = 16


@dg.executor(
    name="kubernetes",
    config_schema=dg.Permissive({"max_concurrent": dg.Field(int, is_required=False)}),
    requirements=dg.multiple_process_executor_requirements()
    if hasattr(dg, "multiple_process_executor_requirements")
    else None,
)
def kubernetes_executor(init_context: dg.InitExecutorContext) -> Any:
    """Run each op in a pod of its own, through Dagster's k8s_job_executor.

    The Kubernetes client takes as long to import as Dagster itself, so it is imported when a run needs it.
    """
    from dagster_k8s import k8s_job_executor

    config = {"retries": {"enabled": {}}, "max_concurrent": _PODS_OF_A_RUN, **init_context.executor_config}
    creation = k8s_job_executor.executor_creation_fn
    if creation is None:
        raise dg.DagsterInvalidDefinitionError("dagster-k8s has no executor; install dagster-k8s")
    return creation(init_context._replace(executor_config=config))


# A pod that dies with its node takes its op along, not the run. An exception is retried too: there is one policy.
STEP_RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

analyse_partition = dg.define_asset_job(
    "analyse_partition",
    ANALYSIS,
    description="One partition from the inbox to the decision card, in one process.",
    partitions_def=PARTITIONS,
    executor_def=dg.in_process_executor,
    tags=RUN_RESOURCES["heavy"],
)
analyse_with_kubernetes = dg.define_asset_job(
    "analyse_with_kubernetes",
    ANALYSIS,
    description="The same assets with one pod per op, for data that one machine does not hold.",
    partitions_def=PARTITIONS,
    executor_def=kubernetes_executor,
    op_retry_policy=STEP_RETRIES,
    tags=RUN_RESOURCES["light"],  # this pod only starts the others
)
backfill_effects = dg.define_asset_job(
    "backfill_effects",
    DOWN_FROM_STUDY,
    description="Estimates, sensitivity, figures and cards again from the stored studies, without reading the inbox.",
    partitions_def=PARTITIONS,
    executor_def=dg.in_process_executor,
    tags=RUN_RESOURCES["heavy"],
)
draw_moving_figures = dg.define_asset_job(
    "draw_moving_figures",
    MOVING,
    description="Interactive pages and animations of an analysed partition, and its report site with them.",
    partitions_def=PARTITIONS,
    executor_def=dg.in_process_executor,
    tags=RUN_RESOURCES["light"],
)
roll_up = dg.define_asset_job(
    "roll_up",
    LEDGER,
    description="Effect histories of a domain and the network of domains.",
    partitions_def=DOMAIN_PARTITIONS,
    executor_def=dg.in_process_executor,
    tags=RUN_RESOURCES["light"],
)
JOBS = [analyse_partition, analyse_with_kubernetes, backfill_effects, draw_moving_figures, roll_up]
_ANALYSES = ("analyse_partition", "analyse_with_kubernetes", "backfill_effects", "__ASSET_JOB")


@dg.sensor(
    name="inbox_sensor",
    job=analyse_partition,
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one run per partition whose delivered files, or whose study.yaml, are new.",
)
def inbox_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SensorResult:
    """Look at the inbox: stat and hash only; reading is the graph's work."""
    settings.initialise()
    tick = scan(settings, context.cursor, DOMAINS, PERIODS.get_partition_keys())
    for sentence in tick.moved:
        context.log.warning(sentence)
    requests = [_request(key, run_key) for key, run_key in tick.requests.items()]
    return dg.SensorResult(run_requests=requests, cursor=tick.cursor, skip_reason=_why_nothing(tick))


def _request(key: str, run_key: str) -> dg.RunRequest:
    partition = Partition.parse(key)
    keys = dg.MultiPartitionKey({"domain": partition.domain, "period": partition.period})
    return dg.RunRequest(run_key=run_key, partition_key=keys, tags={"cqox/trigger": "inbox"})


def _why_nothing(tick: Tick) -> dg.SkipReason | None:
    if tick.requests:
        return None
    return dg.SkipReason("; ".join(tick.waiting) or "nothing new in the inbox")


def latest_period(settings: Settings, domain: str) -> str | None:
    """Return the newest period of a domain that has delivered files, or None."""
    folder = settings.inbox / domain
    periods = [path.name for path in folder.iterdir() if PERIOD.match(path.name)] if folder.is_dir() else []
    known = set(PERIODS.get_partition_keys())
    return max((period for period in periods if period in known and delivered(folder / period)), default=None)


def monthly_schedule(domain: str) -> dg.ScheduleDefinition:
    """Return the schedule that runs a domain's latest period again on the first of each month."""

    @dg.schedule(
        name=f"monthly_{domain.replace('-', '_')}",
        job=analyse_partition,
        cron_schedule="0 6 1 * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Runs the latest period of {domain} again on the first of each month at 06:00 UTC.",
    )
    def _monthly(
        context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]
    ) -> dg.RunRequest | dg.SkipReason:
        period = latest_period(settings, domain)
        if period is None:
            return dg.SkipReason(f"the inbox has no files of {domain}")
        keys = dg.MultiPartitionKey({"domain": domain, "period": period})
        stamp = context.scheduled_execution_time.strftime("%Y-%m")
        return dg.RunRequest(
            run_key=f"{domain}:{period}:{stamp}", partition_key=keys, tags={"cqox/trigger": "schedule"}
        )

    return _monthly


@dg.run_status_sensor(
    name="roll_up_after_success",
    run_status=dg.DagsterRunStatus.SUCCESS,
    request_job=roll_up,
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Rolls a domain's results up after each analysis that ended well.",
)
def roll_up_after_success(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
    """Request a roll-up of the domain whose partition was analysed."""
    run = context.dagster_run
    key = run.tags.get("dagster/partition", "")
    if run.job_name not in _ANALYSES or "|" not in key:
        return dg.SkipReason(f"run {run.run_id} is no analysis of a partition")
    return dg.RunRequest(run_key=run.run_id, partition_key=Partition.parse(key).domain, tags={"cqox/after": run.run_id})


@dg.run_failure_sensor(
    name="run_failure_alerts",
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes an alert record for every run that failed, and posts it to the webhook if one is set.",
)
def run_failure_alerts(context: dg.RunFailureSensorContext) -> None:
    """Tell a gate (the data), an input (a file or declaration) and a crash (us) apart."""
    settings = Settings.from_env()
    run = context.dagster_run
    kind, message = explain_failure(context.get_step_failure_events(), context.failure_event.message or "")
    if kind == "gate":
        message = " ".join(blocking_sentences(context.instance, run.run_id)) or message
    path = write_alert(settings, kind, run.tags.get("dagster/partition", run.job_name), run.run_id, message)
    context.log.info("alert written to %s", path)


def explain_failure(events: Sequence[dg.DagsterEvent], fallback: str) -> tuple[str, str]:
    """Return what kind of failure the step events show, and its sentence.

    A blocking check is a `gate`; a `Failure` with our metadata is an `input`; everything else is a `crash`, also a
    run whose process died without a word.
    """
    for event in events:
        data = event.step_failure_data
        chain = list(_chain(data.error))
        if any("AssetCheckFailed" in (error.cls_name or "") for error in chain):
            return "gate", chain[-1].message.strip()
        if data.user_failure_data is not None and "kind" in (data.user_failure_data.metadata or {}):
            return str(data.user_failure_data.metadata["kind"].value), (
                data.user_failure_data.description or ""
            ).strip()
        if chain:
            return "crash", f"{event.step_key}: {chain[-1].message.strip()}"
    return "crash", fallback or "the run's process ended without a word"


def blocking_sentences(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Return what the checks that stopped a run say: what was found, what it means and what to do."""
    records = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [record.dagster_event.asset_check_evaluation_data for record in records if record.dagster_event]
    return [
        item.description or item.check_name
        for item in found
        if not item.passed and item.severity is dg.AssetCheckSeverity.ERROR
    ]


def _chain(error: Any) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.cause


SCHEDULES = [monthly_schedule(domain) for domain in DOMAINS]
SENSORS = [inbox_sensor, roll_up_after_success, run_failure_alerts]
