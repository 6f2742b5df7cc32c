"""A small part of the real graph that a test can hold in the middle: the code location of installations under faults.

The real inbox sensor starts the real assets from the raw table to the column profile, by the real I/O manager into the
real store; between them waits an asset of the test until nobody holds its partition any more.
"""

import os
import signal
import time
from pathlib import Path

import dagster as dg

from cqox_assets.automation import inbox_sensor as real_inbox_sensor
from cqox_assets.automation import run_failure_alerts
from cqox_assets.ingestion.assets import raw_table
from cqox_assets.mapping.assets import column_profile
from cqox_assets.partitions import PARTITIONS
from cqox_assets.stored import CODECS
from cqox_resources.io_manager import ResultIOManager
from cqox_resources.settings import Settings

_LONGEST_HOLD_SECONDS = 300


@dg.asset(key=["probe", "middle"], deps=[["ingestion", "raw_table"]], partitions_def=PARTITIONS)
def middle(context: dg.AssetExecutionContext) -> None:
    """Say that the run is here; go on when it is not held; die like a process out of memory where it is poisoned."""
    control = Path(os.environ["CQOX_HOME"]) / "control"
    name = str(context.partition_key).replace("|", "_")
    control.mkdir(exist_ok=True)
    with (control / f"{name}.here").open("a", encoding="utf-8") as said:
        said.write(f"{context.run_id} {os.getpid()}\n")
    if (control / f"{name}.poison").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    deadline = time.monotonic() + _LONGEST_HOLD_SECONDS
    while (control / f"{name}.hold").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@dg.asset(key=["probe", "end"], deps=[middle, ["mapping", "column_profile"]], partitions_def=PARTITIONS)
def end(context: dg.AssetExecutionContext) -> dict:
    """Return what a result looks like, after everything else."""
    return {"partition": str(context.partition_key)}


analyse_partition = dg.define_asset_job(
    "analyse_partition",
    dg.AssetSelection.assets(raw_table, column_profile, middle, end),
    partitions_def=PARTITIONS,
    executor_def=dg.in_process_executor,
)
inbox_sensor = dg.SensorDefinition(
    name="inbox_sensor",
    job=analyse_partition,
    evaluation_fn=real_inbox_sensor._raw_fn,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)


@dg.resource
def settings(_: dg.InitResourceContext) -> Settings:
    """Return the settings as the environment has them now."""
    return Settings.from_env()


@dg.io_manager
def io_manager(_: dg.InitResourceContext) -> ResultIOManager:
    """Return the I/O manager of the current warehouse."""
    return ResultIOManager(Settings.from_env().warehouse, CODECS)


defs = dg.Definitions(
    assets=[raw_table, column_profile, middle, end],
    jobs=[analyse_partition],
    sensors=[inbox_sensor, run_failure_alerts],
    resources={"settings": settings, "io_manager": io_manager},
    executor=dg.in_process_executor,
)
