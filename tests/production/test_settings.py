"""Settings of a cluster: what is missing or wrong is said before anything starts, and the files agree with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cqox_assets.assets import RUN_RESOURCES
from cqox_assets.catalog import load_estimators
from dagster_deploy.definitions import defs
from dagster_deploy.production.check import SETTINGS, problems, unreachable, without_password
from dagster_deploy.production.entrypoint import DEFAULTS
from dagster_deploy.production.limits import LIMITS
from tests.production.servers import Postgres, free_port

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = ROOT / "dagster_deploy" / "production"
RANK = {"light": 0, "heavy": 1}


@pytest.fixture
def good(tmp_path: Path) -> dict[str, str]:
    return {
        "DAGSTER_HOME": str(PRODUCTION),
        "CQOX_HOME": str(tmp_path),
        "CQOX_POSTGRES_URL": "postgresql+psycopg2://cqox:secret@db:5432/cqox",
        "CQOX_WAREHOUSE": "s3://bucket/warehouse",
        "CQOX_REPORTS": str(tmp_path / "reports"),
        "CQOX_IMAGE": "registry.example:5000/team/cqox:1.2.0",
        "CQOX_NAMESPACE": "cqox",
        "CQOX_SERVICE_ACCOUNT": "cqox",
    }


def test_good_settings_are_no_problem(good):
    assert problems(good) == []
    assert problems({**good, "CQOX_IMAGE": "cqox@sha256:" + "a" * 64, **DEFAULTS}) == []
    pair = "postgresql+psycopg2://cqox:secret@/cqox?host=one:5432&host=two:5432&target_session_attrs=read-write"
    assert problems({**good, "CQOX_POSTGRES_URL": pair}) == []


def test_every_setting_that_is_missing_is_named_at_once(good):
    said = problems({})
    assert [sentence.partition(":")[0] for sentence in said] == [item.name for item in SETTINGS if item.always]
    assert all("found nothing; expected " in sentence for sentence in said)
    for name in good:
        without = {key: value for key, value in good.items() if key != name}
        assert name in {sentence.partition(":")[0] for sentence in problems(without)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAGSTER_HOME", "/nowhere"),
        ("CQOX_HOME", "relative"),
        ("CQOX_HOME", "/nowhere/at/all"),
        ("CQOX_POSTGRES_URL", "postgresql://cqox:secret@db:5432/cqox"),
        ("CQOX_POSTGRES_URL", "postgresql+psycopg2://cqox:secret@db:port/cqox"),
        ("CQOX_POSTGRES_URL", "postgresql+psycopg2://cqox:secret@db:5432"),
        ("CQOX_POSTGRES_URL", "postgresql+psycopg2:///cqox"),
        ("CQOX_WAREHOUSE", "s3://"),
        ("CQOX_WAREHOUSE", "warehouse"),
        ("CQOX_REPORTS", "/srv/reports"),  # no other pod would see them
        ("CQOX_REPORTS", "http://host/reports"),
        ("CQOX_IMAGE", "registry.example/cqox"),
        ("CQOX_IMAGE", "registry.example/cqox:latest"),
        ("CQOX_IMAGE", "two words:1"),
        ("CQOX_NAMESPACE", "Production"),
        ("CQOX_SERVICE_ACCOUNT", "-cqox"),
        ("CQOX_CODE_HOST", "http://host"),
        ("CQOX_CODE_PORT", "70000"),
        ("CQOX_PORT", "web"),
        ("CQOX_FIRST_PERIOD", "2015"),
        ("CQOX_ALERT_WEBHOOK", "hooks.example"),
        ("CQOX_BI_POSTGRES_URL", "mysql://cqox:pw@db/bi"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_found(good, name, value):
    [sentence] = [said for said in problems({**good, name: value}) if said.startswith(f"{name}:")]
    assert f"found '{without_password(value)}'; expected " in sentence
    assert "secret" not in sentence


def test_passwords_are_never_shown():
    assert without_password("postgresql://u:p@ss:w@rd@db:1/x") == "postgresql://u:***@db:1/x"
    assert without_password("s3://bucket/a@b") == "s3://bucket/a@b"


@pytest.mark.parametrize("role", ["web", "daemon", "code-server", "migrate", "dagster"])
def test_no_role_starts_with_a_wrong_setting(good, role):
    environment = {**good, "CQOX_WAREHOUSE": "warehouse", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dagster_deploy.production.entrypoint", role]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"CQOx cannot start as '{'run' if role == 'dagster' else role}'")
    assert len(done.stderr.splitlines()) == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("role", ["server", "run", ""])
def test_an_unknown_role_is_refused(role):
    command = [sys.executable, "-m", "dagster_deploy.production.entrypoint", role]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"found '{role}'; expected web, daemon, code-server, migrate" in done.stderr


def test_postgres_is_asked_before_a_server_starts(postgres: Postgres):
    assert unreachable(postgres.url, 30) is None
    wrong = postgres.url.rpartition("/")[0] + "/absent"
    said = unreachable(wrong, 3600)  # a database that is not there is not waited for
    assert said is not None
    assert 'database "absent" does not exist' in said
    nobody = f"postgresql+psycopg2://u:secret@127.0.0.1:{free_port()}/x"
    said = unreachable(nobody, 0)
    assert said is not None
    assert "refused" in said
    assert "secret" not in said


def test_what_the_files_take_from_the_environment_is_in_the_list():
    for name in ("dagster.yaml", "workspace.yaml"):
        lines = (PRODUCTION / name).read_text(encoding="utf-8").splitlines()
        referred = {
            found for line in lines if not line.strip().startswith("#") for found in re.findall(r"env: (\w+)", line)
        }
        assert referred
        assert referred <= {setting.name for setting in SETTINGS}


def test_dagster_takes_the_instance(monkeypatch, good):
    from dagster._core.instance.config import dagster_instance_config

    for name, value in good.items():
        monkeypatch.setenv(name, value)
    config, custom = dagster_instance_config(str(PRODUCTION))
    assert custom is None
    assert config["storage"]["postgres"]["postgres_url"] == {"env": "CQOX_POSTGRES_URL"}
    assert config["run_retries"]["retry_on_asset_or_op_failure"] is False


def test_an_op_has_the_size_and_the_pool_of_its_cost():
    nodes = {node.definition.name: node.definition for node in defs.resolve_job_def("analyse_with_kubernetes").nodes}
    for name, spec in load_estimators().items():
        op = nodes[f"estimates__{name}"]
        assert op.pool == f"estimates_{spec.cost}"
        asked = op.tags["dagster-k8s/config"]
        assert f'"memory": "{"4Gi" if spec.cost == "heavy" else "1Gi"}"' in str(asked).replace("'", '"')


@pytest.mark.parametrize(
    "job", ["analyse_partition", "analyse_with_kubernetes", "backfill_effects", "draw_moving_figures", "roll_up"]
)
def test_a_run_has_the_size_of_its_heaviest_op(job):
    definition = defs.resolve_job_def(job)
    sizes = {(node.definition.pool or "light").rpartition("_")[2] for node in definition.nodes}
    in_pods = definition.executor_def.name == "kubernetes"
    wanted = "light" if in_pods else max(sizes, key=RANK.__getitem__)
    container = RUN_RESOURCES[wanted]["dagster-k8s/config"]["container_config"]
    said = definition.tags["dagster-k8s/config"]
    assert yaml.safe_load(said)["container_config"] == container
    assert bool(definition.op_retry_policy) is in_pods, "an op whose pod dies is done again; one in the run's is not"


def test_the_limits_agree_with_one_another():
    document = yaml.safe_load((PRODUCTION / "dagster.yaml").read_text(encoding="utf-8"))
    runs, pools = document["concurrency"]["runs"], document["concurrency"]["pools"]
    assert min(*LIMITS.values(), pools["default_limit"]) >= runs["max_concurrent_runs"], "a run would wait for a slot"
    limits = {item["key"]: item["limit"] for item in runs["tag_concurrency_limits"]}
    assert limits["dagster/partition"] == 1
    assert limits["dagster/partition/domain"] < runs["max_concurrent_runs"]
    heavy = RUN_RESOURCES["heavy"]["dagster-k8s/config"]["container_config"]["resources"]
    assert document["run_launcher"]["config"]["resources"] == heavy, "'Materialize' in the UI runs everything"
    launcher = document["run_launcher"]["config"]["run_k8s_config"]["job_spec_config"]
    assert launcher["activeDeadlineSeconds"] > document["run_monitoring"]["max_runtime_seconds"]
