"""The one Definitions object: every asset, job, schedule, sensor and resource of the product."""

import dagster as dg

from cqox_assets.assets import load_stage_assets
from cqox_assets.automation import JOBS, SCHEDULES, SENSORS
from cqox_assets.stored import CODECS
from cqox_resources.io_manager import ResultIOManager
from cqox_resources.settings import Settings
from dagster_deploy.observability.attach import attach
from dagster_deploy.warehouse.assets import bi_tables

attach()


@dg.resource(description="Where things live; read from the environment when a run starts.")
def settings_resource(_: dg.InitResourceContext) -> Settings:
    """Return the settings as the environment has them now."""
    return Settings.from_env()


@dg.io_manager(description="Results as content-hashed parts behind a manifest, in the warehouse.")
def result_io_manager(_: dg.InitResourceContext) -> ResultIOManager:
    """Return the I/O manager of the current warehouse."""
    return ResultIOManager(Settings.from_env().warehouse, CODECS)


defs = dg.Definitions(
    assets=[*load_stage_assets(), bi_tables],
    jobs=JOBS,
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"settings": settings_resource, "io_manager": result_io_manager},
    # "Materialize" in the UI runs the implicit asset job, which would start one process per step otherwise.
    executor=dg.in_process_executor,
)
