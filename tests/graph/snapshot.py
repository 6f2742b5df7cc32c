"""What the graph contains, as plain values; `python -m tests.graph.snapshot` writes it to a file."""

import json
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).with_name("snapshot.json")


def describe() -> dict[str, Any]:
    """Return keys, groups, dependencies and checks of every asset, and the automation."""
    from dagster_deploy.definitions import defs

    graph = defs.resolve_asset_graph()
    assets = {}
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: key.to_user_string()):
        node = graph.get(key)
        assets[key.to_user_string()] = {
            "group": node.group_name,
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "checks": {
                check.name: "blocking" if graph.get_check_spec(check).blocking else "informs"
                for check in sorted(node.check_keys, key=lambda check: check.name)
            },
            "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
            "pools": sorted(node.pools or ()),
        }
    shipped = ("education", "finance", "healthcare", "manufacturing", "marketing", "policy", "retail")
    return {
        "assets": assets,
        "jobs": sorted(job.name for job in defs.jobs or ()),
        "sensors": sorted(sensor.name for sensor in defs.sensors or ()),
        "schedules": sorted(
            schedule.name for schedule in defs.schedules or () if schedule.name.removeprefix("monthly_") in shipped
        ),
    }


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(describe(), indent=1, ensure_ascii=False) + "\n", "utf-8")
