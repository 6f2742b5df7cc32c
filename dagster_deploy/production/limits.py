"""Limits of the pools of heavy ops, which live in Dagster's storage: ``python -m dagster_deploy.production.limits``.

`dagster.yaml` has one default for every pool; these are lower. Setting them again changes nothing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance, OpDefinition
    from dagster._core.definitions.node_definition import NodeDefinition

#: Ops of a class that run at once in the whole cluster, per pool; a class that is not here has the default.
LIMITS: Mapping[str, int] = {"heavy": 25}


def set_limits(instance: "DagsterInstance") -> dict[str, int]:
    """Set the limit of every pool whose class has one; return pool and limit."""
    from cqox_assets.assets import load_stage_assets

    pools = {op.pool for assets in load_stage_assets() for op in _ops(assets.node_def) if op.pool}
    wanted = {pool: LIMITS[size] for pool in sorted(pools) if (size := pool.rpartition("_")[2]) in LIMITS}
    for pool, limit in wanted.items():
        instance.event_log_storage.set_concurrency_slots(pool, limit)
    return wanted


def _ops(node: "NodeDefinition") -> "list[OpDefinition]":
    """Return the ops of a node, which for an asset is usually one."""
    import dagster as dg

    return [node] if isinstance(node, dg.OpDefinition) else list(node.iterate_op_defs())


def main() -> None:
    """Set the limits of the instance that DAGSTER_HOME names."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        for pool, limit in set_limits(instance).items():
            print(f"pool {pool}: {limit} ops at once", flush=True)


if __name__ == "__main__":
    main()
