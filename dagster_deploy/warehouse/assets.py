"""The asset that lets the tables of BI tools follow each roll-up."""

from typing import Any

import dagster as dg

from cqox_assets.assets import OWNERS
from cqox_assets.partitions import DOMAIN_PARTITIONS
from cqox_resources.settings import Settings


@dg.asset(
    key=["ledger", "bi_tables"],
    deps=[dg.AssetKey(["ledger", "effect_history"])],
    partitions_def=DOMAIN_PARTITIONS,
    group_name="ledger",
    description="The domain's studies, effects, gates, verdicts and history in the Postgres database that "
    "CQOX_BI_POSTGRES_URL names, in one transaction; without it nothing is published.",
    code_version="1",
    owners=OWNERS,
    kinds={"python", "postgres"},
    tags={"stage": "ledger", "cost": "light"},
    dagster_type=dg.Any,
    retry_policy=dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL),
)
def bi_tables(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult[Any]:
    """Publish the domain's current cards and its effect history."""
    if settings.bi_postgres_url is None:
        said = "not published: CQOX_BI_POSTGRES_URL is not set"
        return dg.MaterializeResult(value={"published": False}, metadata={"said": said})

    from dagster_deploy.warehouse.postgres import Publisher
    from dagster_deploy.warehouse.stored import Warehouse

    with Publisher(settings.bi_postgres_url) as publisher:
        done = publisher.publish(Warehouse(settings.warehouse), context.partition_key)
        facts = {name: getattr(done, name) for name in ("inserted", "updated", "removed")}
        said, kept = done.sentence(), publisher.timescale
    return dg.MaterializeResult(
        value={"published": True, "periods": done.periods, **facts},
        metadata={"said": said, "timescale": kept, "partitions": len(done.periods), **facts},
    )
