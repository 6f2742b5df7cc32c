"""One pod per op: the product's own definitions, results in an object store, Dagster's storage in Postgres."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dagster_deploy.samples import deliver
from tests.production.control import Control, cluster_of
from tests.production.kubernetes import ROOT
from tests.production.servers import Postgres, wait_for

PARTITION = "policy|2025-01"
TAGS = {
    "dagster/partition": PARTITION,
    "dagster/partition/domain": "policy",
    "dagster/partition/period": "2025-01",
}
FIRST = (
    "ingestion/raw_table",
    "mapping/column_profile",
    "mapping/domain_match",
    "mapping/column_roles",
    "mapping/study",
)
_STORED = """
import json
from upath import UPath
root = UPath("s3://cqox/warehouse")
print(json.dumps(sorted(str(path.parent).partition("warehouse/")[2] for path in root.rglob("manifest.json"))))
"""


@pytest.fixture(scope="module")
def control(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, object_store: dict[str, str]
) -> Iterator[Control]:
    folder = tmp_path_factory.mktemp("pods")
    places = {"CQOX_WAREHOUSE": "s3://cqox/warehouse", "CQOX_REPORTS": "s3://cqox/reports"}
    with cluster_of(folder, postgres.url, {**object_store, **places}, "dagster_deploy.definitions") as made:
        deliver(folder / "home", [PARTITION])
        yield made


def stored() -> list[str]:
    done = subprocess.run([sys.executable, "-c", _STORED], env=os.environ, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_each_op_is_a_pod_and_its_result_an_object(control: Control) -> None:
    run_id = control.launch("analyse_with_kubernetes", TAGS, FIRST)
    control.wait(run_id, "SUCCESS", 300)
    pods = control.cluster.ran(run_id)
    wait_for(lambda: all(pod.exit_code is not None for pod in pods), 60)
    assert sorted(str(pod.op) for pod in pods) == sorted(["None", *(name.replace("/", "__") for name in FIRST)])
    assert {pod.exit_code for pod in pods} == {0}
    assert stored() == sorted(f"{name}/{PARTITION.replace('|', '/')}" for name in FIRST)
    for pod in pods:
        print(f"{pod.op}: {pod.cpu_seconds:.1f} CPU-s, {pod.seconds:.1f} s, {pod.peak_mb:.0f} MB, {pod.resources}")
    assert control.cluster.api.refused == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_whole_partition_in_pods_has_its_card_in_the_object_store(control: Control) -> None:
    two_at_once = {"execution": {"config": {"max_concurrent": 2}}}
    run_id = control.launch("analyse_with_kubernetes", TAGS, config=two_at_once)
    control.wait(run_id, "SUCCESS", 3000)
    pods = control.cluster.ran(run_id)
    assert len({pod.op for pod in pods}) == len(pods) > 60  # none was killed for its memory, which is its class's
    assert {"decisions/decision_card/policy/2025-01"} <= set(stored())
    for pod in pods:
        print(f"{pod.op}: {pod.cpu_seconds:.1f} CPU-s, {pod.peak_mb:.0f} MB")
