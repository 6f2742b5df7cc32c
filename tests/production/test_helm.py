"""The values of the official chart say the same as our own manifests do."""

from typing import Any

import yaml

from tests.production.manifests import PRODUCTION, built, containers, named

#: What the chart (1.13) takes at its top; a name that is not one of them would be ignored without a word.
CHART = {
    "busybox", "computeLogManager", "concurrency", "dagster-user-deployments", "dagsterDaemon", "dagsterWebserver",
    "flower", "generateCeleryConfigSecret", "generatePostgresqlPasswordSecret", "global", "imagePullSecrets", "ingress",
    "migrate", "postgresql", "pythonLogs", "rabbitmq", "rbacEnabled", "redis", "retention", "runLauncher", "scheduler",
    "serviceAccount", "telemetry", "additionalInstanceConfig",
}  # fmt: skip
#: Parts of the chart that run a container of ours, with the chart's own names for what each takes.
SERVER = {
    "image", "envConfigMaps", "envSecrets", "podSecurityContext", "securityContext", "resources", "volumes",
    "volumeMounts",
}  # fmt: skip


def values() -> dict[str, Any]:
    return dict(yaml.safe_load((PRODUCTION / "helm" / "values.yaml").read_text(encoding="utf-8")))


def instance() -> dict[str, Any]:
    return dict(yaml.safe_load((PRODUCTION / "dagster.yaml").read_text(encoding="utf-8")))


def servers() -> dict[str, Any]:
    found = values()
    (code,) = found["dagster-user-deployments"]["deployments"]
    return {"web": found["dagsterWebserver"], "daemon": found["dagsterDaemon"], "code-server": code}


def test_every_value_is_one_of_the_chart() -> None:
    assert set(values()) <= CHART
    assert all(set(server) >= SERVER for server in servers().values())


def test_nothing_is_open_and_no_secret_is_written_down() -> None:
    found = values()
    assert found["ingress"]["enabled"] is False
    assert found["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert found["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in found["postgresql"]
    assert found["global"]["postgresqlSecretName"]
    assert not any(found[name]["enabled"] for name in ("rabbitmq", "redis", "flower", "telemetry"))


def test_servers_are_those_of_our_manifests() -> None:
    manifests = built("production")
    for name, server in servers().items():
        template = named(manifests, "Deployment", f"cqox-{name}")["spec"]["template"]
        (container,) = containers(template)
        assert f"{server['image']['repository']}:{server['image']['tag']}" == container["image"], name
        assert server["securityContext"] == container["securityContext"], name
        assert server["resources"] == container["resources"], name
        pod = template["spec"]["securityContext"]
        assert server["podSecurityContext"].items() <= pod.items(), name
        assert [each["name"] for each in server["envConfigMaps"]] == ["cqox-settings"], name
        assert [each["name"] for each in server["envSecrets"]] == ["cqox-secrets"], name
        assert server["volumeMounts"] == container["volumeMounts"], name


def test_the_queue_and_the_launcher_are_those_of_our_instance() -> None:
    ours, chart = instance(), values()
    queue = chart["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert queue["maxConcurrentRuns"] == ours["concurrency"]["runs"]["max_concurrent_runs"]
    assert queue["tagConcurrencyLimits"] == ours["concurrency"]["runs"]["tag_concurrency_limits"]
    monitoring = chart["dagsterDaemon"]["runMonitoring"]
    assert monitoring["startTimeoutSeconds"] == ours["run_monitoring"]["start_timeout_seconds"]
    assert monitoring["maxResumeRunAttempts"] == ours["run_monitoring"]["max_resume_run_attempts"]
    assert chart["dagsterDaemon"]["runRetries"]["maxRetries"] == ours["run_retries"]["max_retries"]
    theirs, launcher = chart["runLauncher"]["config"]["k8sRunLauncher"], ours["run_launcher"]["config"]
    assert chart["runLauncher"]["type"] == ours["run_launcher"]["class"]
    assert theirs["resources"] == launcher["resources"]
    assert theirs["securityContext"] == launcher["security_context"]
    assert [each["name"] for each in theirs["envSecrets"]] == launcher["env_secrets"]
    assert theirs["volumes"][0] == launcher["volumes"][0]
    assert chart["global"]["dagsterHome"] == launcher["dagster_home"]


def test_the_code_location_keeps_its_name() -> None:
    (server,) = values()["dagsterWebserver"]["workspace"]["servers"]
    workspace = yaml.safe_load((PRODUCTION / "workspace.yaml").read_text(encoding="utf-8"))
    assert server["name"] == workspace["load_from"][0]["grpc_server"]["location_name"]
    (code,) = values()["dagster-user-deployments"]["deployments"]
    assert (server["host"], server["port"]) == (code["name"], code["port"])
