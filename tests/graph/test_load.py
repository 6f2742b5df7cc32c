"""Loading the definitions is light, and what they contain changes only on purpose."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.graph.snapshot import SNAPSHOT, describe

HEAVY = (
    "econml", "lightgbm", "great_expectations", "matplotlib", "plotly", "statsmodels", "numba", "sklearn", "kubernetes",
    "duckdb", "scipy",
)  # fmt: skip
PROBE = """
import json, resource, sys
import dagster_deploy.definitions
usage = resource.getrusage(resource.RUSAGE_SELF)
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"loaded": loaded, "cpu": usage.ru_utime + usage.ru_stime}))
"""


@pytest.fixture(scope="module")
def probe() -> dict:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    answers = [
        json.loads(subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, env=environment, check=True,
                                  capture_output=True, text=True).stdout.splitlines()[-1])
        for _ in range(2)
    ]  # fmt: skip
    print(f"definitions loaded in {min(answer['cpu'] for answer in answers):.2f} CPU-seconds")
    return answers[-1]


def test_definitions_pull_in_no_heavy_import(probe):
    assert not set(HEAVY) & set(probe["loaded"])


def test_public_package_knows_no_orchestrator():
    code = "import sys, cqox_assets; print([m for m in ('dagster', 'pandas', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_graph_is_what_the_snapshot_says():
    """`python -m tests.graph.snapshot` writes the file anew; the diff shows what a change does to the graph."""
    assert describe() == json.loads(SNAPSHOT.read_text("utf-8"))
