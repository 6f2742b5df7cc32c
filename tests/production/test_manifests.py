"""Every manifest fits its schema and means what it should: nothing is root or open, names refer to something."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from dagster_deploy.observability import settings as settings_of_telling
from dagster_deploy.observability.settings import Observing
from dagster_deploy.production import check
from dagster_deploy.production.backup import __main__ as backup
from tests.production.manifests import (
    BUILT,
    OVERLAYS,
    PRODUCTION,
    Manifest,
    built,
    containers,
    faults,
    named,
    of_kind,
    pod_templates,
    selects,
)  # fmt: skip

SERVERS = {"web", "daemon", "code-server", "exporter"}
COMPONENTS = {"staging": SERVERS | {"postgres"}, "production": SERVERS}
NAMESPACE = {"staging": "cqox-staging", "production": "cqox"}
SECRETS = {"CQOX_POSTGRES_URL": "postgresql+psycopg2://cqox:secret@database:5432/cqox"}
#: Read by libraries, not by us.
FOREIGN = {"HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"}


def instance() -> Manifest:
    return dict(yaml.safe_load((PRODUCTION / "dagster.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", BUILT)
def test_every_manifest_fits_its_schema(name: str) -> None:
    manifests = built(name)
    assert manifests
    found = {f"{each['kind']}/{each['metadata']['name']}": faults(each) for each in manifests}
    assert {what: wrong for what, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(("overlay", "kind", "path", "value"), [
    ("staging", "Deployment", ("spec", "template", "spec", "containers", 0, "readinesProbe"), {}),
    ("staging", "Deployment", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "3000"),
    ("staging", "NetworkPolicy", ("spec", "podselector"), {}),
    ("production", "Rollout", ("spec", "strategy", "canary", "step"), []),
    ("production", "AnalysisTemplate", ("spec", "metrics", 0, "failurelimit"), 3),
    ("production", "VirtualService", ("spec", "http", 0, "routes"), []),
    ("gitops", "Application", ("spec", "syncPolicy", "automated", "selfheal"), True),
    ("gitops", "AppProject", ("spec", "roles", 0, "policy"), []),
])  # fmt: skip
def test_a_misspelt_field_is_a_fault(overlay: str, kind: str, path: tuple[str | int, ...], value: object) -> None:
    manifest = next(each for each in of_kind(built(overlay), kind) if _reaches(each, path))
    target = manifest
    for key in path[:-1]:
        target = target[key]  # type: ignore[index]
    target[path[-1]] = value  # type: ignore[index]
    assert faults(manifest)


def _reaches(manifest: Manifest, path: tuple[str | int, ...]) -> bool:
    target: object = manifest
    for key in path[:-1]:
        try:
            target = target[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return False
    return True


@pytest.mark.parametrize("name", [*OVERLAYS, "recovery"])
def test_every_container_is_confined_and_sized(name: str) -> None:
    templates = dict(pod_templates(built(name)))
    assert templates
    for what, template in templates.items():
        spec = template["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, what
        assert pod["runAsUser"] > 0, what
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, what
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), what
        assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] != "cqox"), what
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"]), what
        for container in containers(template):
            where, own = f"{what} {container['name']}", container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, where
            assert own["allowPrivilegeEscalation"] is False, where
            assert own["capabilities"] == {"drop": ["ALL"]}, where
            assert set(container["resources"]) == {"requests", "limits"}, where
            assert all(set(size) == {"cpu", "memory"} for size in container["resources"].values()), where
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounts, f"{where} has nowhere to write"
            assert {mount["name"] for mount in container["volumeMounts"]} <= _volumes(built(name), template), where
            tag = container["image"].rpartition(":")[2]
            assert name == "recovery" or (tag and tag != "latest" and tag != container["image"]), where


def _volumes(manifests: list[Manifest], template: Manifest) -> set[str]:
    claims = {claim["metadata"]["name"] for each in of_kind(manifests, "StatefulSet")
              for claim in each["spec"]["volumeClaimTemplates"]}  # fmt: skip
    return {volume["name"] for volume in template["spec"]["volumes"]} | claims


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_server_has_probes(overlay: str) -> None:
    servers = {what: template for what, template in pod_templates(built(overlay)) if not re.search("Job", what)}
    found = {template["metadata"]["labels"]["app.kubernetes.io/component"] for template in servers.values()}
    assert found == COMPONENTS[overlay]
    for what, template in servers.items():
        for container in containers(template, initial=False):
            assert {"startupProbe", "livenessProbe"} <= set(container), f"{what} {container['name']}"
            if container.get("ports"):
                assert "readinessProbe" in container, what


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_admits_restricted_pods_only(overlay: str) -> None:
    manifests = built(overlay)
    namespace = named(manifests, "Namespace", NAMESPACE[overlay])
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spaces = {each["metadata"].get("namespace") for each in manifests if each["kind"] != "Namespace"}
    assert spaces == {NAMESPACE[overlay]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_open_to_the_outside(overlay: str) -> None:
    manifests = built(overlay)
    assert of_kind(manifests, "Ingress", "Gateway", "HTTPRoute") == []
    assert {service["spec"]["type"] for service in of_kind(manifests, "Service")} == {"ClusterIP"}
    assert all(route["spec"]["gateways"] == ["mesh"] for route in of_kind(manifests, "VirtualService"))
    quota = named(manifests, "ResourceQuota", "cqox")["spec"]["hard"]
    assert (quota["services.loadbalancers"], quota["services.nodeports"]) == ("0", "0")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_stateless_servers_scale_from_two_to_ten_over_zones(overlay: str) -> None:
    manifests = built(overlay)
    scalers = of_kind(manifests, "HorizontalPodAutoscaler")
    assert {scaler["metadata"]["name"] for scaler in scalers} == {"cqox-web", "cqox-code-server"}
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        found = named(manifests, target["kind"], target["name"])
        assert found["apiVersion"] == target["apiVersion"]
        assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)
        assert "replicas" not in found["spec"], "two would set the number"
        template = named(manifests, "Deployment", target["name"])["spec"]["template"]
        spread = {each["topologyKey"]: each for each in template["spec"]["topologySpreadConstraints"]}
        assert spread["topology.kubernetes.io/zone"]["maxSkew"] == 1
        assert all(selects(template["metadata"]["labels"], each["labelSelector"]) for each in spread.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_server_has_a_disruption_budget_that_lets_nodes_drain(overlay: str) -> None:
    manifests = built(overlay)
    templates = {what: each for what, each in pod_templates(manifests) if not re.search("Job", what)}
    budgets = of_kind(manifests, "PodDisruptionBudget")
    assert len(budgets) == len(templates)
    for template in templates.values():
        labels = template["metadata"]["labels"]
        (budget,) = [each for each in budgets if selects(labels, each["spec"]["selector"])]
        assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_select_pods_that_have_their_port(overlay: str) -> None:
    manifests = built(overlay)
    templates = [template for _, template in pod_templates(manifests)]
    for service in of_kind(manifests, "Service"):
        chosen = [each for each in templates if selects(each["metadata"]["labels"], service["spec"]["selector"])]
        assert len(chosen) == 1, service["metadata"]["name"]
        ports = {port["name"] for container in containers(chosen[0]) for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_daemon_and_never_two(overlay: str) -> None:
    spec = named(built(overlay), "Deployment", "cqox-daemon")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_references(overlay: str) -> None:
    manifests = built(overlay)
    assert of_kind(manifests, "Secret") == []
    text = json.dumps(manifests)
    assert not re.search(r"://[^/\s\"@:]+:[^@\s\"]+@", text), "a password in a URL"
    for what, template in pod_templates(manifests):
        for container in containers(template):
            for variable in container.get("env", []):
                if re.search("PASSWORD|TOKEN|SECRET|KEY", variable["name"]):
                    assert "value" not in variable, what
                    assert "secretKeyRef" in variable["valueFrom"], what
    held = [name for each in of_kind(manifests, "ConfigMap") for name in each["data"]]
    assert not [name for name in held if re.search("PASSWORD|TOKEN|SECRET|POSTGRES_URL|ACCESS_KEY", name)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rights_are_what_the_launcher_asks_for(overlay: str) -> None:
    manifests = built(overlay)
    assert of_kind(manifests, "ClusterRole", "ClusterRoleBinding") == []
    rights = {}
    for binding in of_kind(manifests, "RoleBinding"):
        role = named(manifests, "Role", binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            assert subject["namespace"] == NAMESPACE[overlay]
            named(manifests, "ServiceAccount", subject["name"])
            rights[subject["name"]] = {
                (kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]
            }
    launching = {
        ("jobs", "create"), ("jobs", "get"), ("jobs", "list"), ("jobs", "watch"), ("jobs", "delete"),
        ("jobs/status", "get"), ("pods", "get"), ("pods", "list"), ("pods", "watch"), ("pods", "delete"),
        ("pods/log", "get"), ("events", "list"),
    }  # fmt: skip
    assert rights["cqox-launcher"] == rights["cqox-run"] == launching
    assert rights["cqox-web"] < launching
    assert ("jobs", "create") not in rights["cqox-web"]
    assert set(rights) == {"cqox-launcher", "cqox-run", "cqox-web"}, "the code server has no rights at all"


def test_the_rights_cover_the_calls_of_the_client() -> None:
    """Read out of the installed client, so that a new version that asks for more is noticed here."""
    import dagster_k8s.client

    text = Path(dagster_k8s.client.__file__).read_text(encoding="utf-8")
    calls = set(re.findall(r"(?:batch|core)_api\.(\w+)_namespaced_(\w+)", text))
    needed = {("get" if verb == "read" else verb, kind) for verb, kind in calls}
    kinds = {"job": "jobs", "job_status": "jobs/status", "pod": "pods", "pod_log": "pods/log", "event": "events"}
    rules = named(built("staging"), "Role", "cqox-launch-jobs")["rules"]
    given = {(verb, kind) for rule in rules for kind in rule["resources"] for verb in rule["verbs"]}
    assert needed
    assert {(verb, kinds[kind]) for verb, kind in needed} <= given


@pytest.mark.parametrize("name", [*OVERLAYS, "recovery"])
def test_commands_are_there(name: str) -> None:
    for what, template in pod_templates(built(name)):
        for container in containers(template):
            for command in _commands(container):
                assert command[:2] == ["python", "-m"], what
                module, arguments = command[2], command[3:]
                assert importlib.util.find_spec(module) is not None, f"{what}: {module}"
                if module.endswith(".entrypoint"):
                    assert arguments[0] in check.ROLES, what
                elif module.endswith(".backup"):
                    backup._parser().parse_args(arguments)


def _commands(container: Manifest) -> list[list[str]]:
    if "postgres:" in container["image"]:
        return []
    probes = [container.get(f"{kind}Probe", {}).get("exec", {}).get("command") for kind in ("startup", "liveness")]
    return [container["command"], *(probe for probe in probes if probe)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_of_every_container_are_complete(overlay: str, tmp_path: Path) -> None:
    """Put the environment together as the kubelet does, and let the check of the settings judge it."""
    manifests = built(overlay)
    settings = named(manifests, "ConfigMap", "cqox-settings")["data"]
    told = set(re.findall(r"\b(?:CQOX|OTEL)_[A-Z_]+\b", Path(settings_of_telling.__file__).read_text(encoding="utf-8")))
    known = {setting.name for setting in check.SETTINGS} | told | {"CQOX_BACKUPS"} | FOREIGN
    for what, template in pod_templates(manifests):
        for container in containers(template):
            sources = [next(iter(source.values()))["name"] for source in container.get("envFrom", [])]
            if not sources:
                continue
            assert sources == ["cqox-settings", "cqox-secrets"], what
            own = {each["name"]: each.get("value") or _field(each, overlay) for each in container.get("env", [])}
            environment = {**settings, **SECRETS, **own, "DAGSTER_HOME": str(PRODUCTION), "CQOX_HOME": str(tmp_path)}
            assert check.problems(environment) == [], what
            assert Observing.from_env(environment).log_format == "json", what
            assert set(environment) - {"DAGSTER_HOME"} <= known, what
            assert environment["CQOX_NAMESPACE"] == NAMESPACE[overlay], what


def _field(variable: Manifest, overlay: str) -> str:
    assert variable["valueFrom"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}} or variable[
        "valueFrom"
    ] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    return NAMESPACE[overlay]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_launcher_finds_what_it_names(overlay: str) -> None:
    """Pods of runs are made by dagster.yaml, not by a manifest: what it refers to must be here."""
    manifests, launcher = built(overlay), instance()["run_launcher"]["config"]
    settings = named(manifests, "ConfigMap", "cqox-settings")["data"]
    assert launcher["env_config_maps"] == ["cqox-settings"]
    assert launcher["env_secrets"] == ["cqox-secrets"]
    claim = named(manifests, "PersistentVolumeClaim", launcher["volumes"][0]["persistentVolumeClaim"]["claimName"])
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    named(manifests, "ServiceAccount", settings["CQOX_SERVICE_ACCOUNT"])
    assert "@sha256" in settings["CQOX_IMAGE"] or settings["CQOX_IMAGE"].rpartition(":")[2] != "latest"
    largest = named(manifests, "LimitRange", "cqox")["spec"]["limits"][0]["max"]
    assert int(launcher["resources"]["limits"]["cpu"]) <= int(largest["cpu"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_release_is_named_everywhere(overlay: str) -> None:
    manifests = built(overlay)
    images = {container["image"] for _, template in pod_templates(manifests) for container in containers(template)
              if "postgres:" not in container["image"]}  # fmt: skip
    settings = named(manifests, "ConfigMap", "cqox-settings")["data"]
    code = containers(named(manifests, "Deployment", "cqox-code-server")["spec"]["template"])[0]
    named_by_code = next(variable["value"] for variable in code["env"] if variable["name"] == "CQOX_IMAGE")
    assert images == {settings["CQOX_IMAGE"]} == {named_by_code}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tables_are_dumped_and_migrated_before_servers_start(overlay: str) -> None:
    manifests = built(overlay)
    job = named(manifests, "Job", "cqox-migrate")
    first, then = containers(job["spec"]["template"])
    assert first["command"][-2:] == ["dagster_deploy.production.backup", "dump"]
    assert then["command"][-1] == "migrate"
    wave = int(job["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
    waves = {f"{each['kind']}/{each['metadata']['name']}": int(each["metadata"].get("annotations", {}).get(
        "argocd.argoproj.io/sync-wave", "0")) for each in manifests}  # fmt: skip
    assert all(waves[f"Deployment/cqox-{name}"] > wave for name in ("web", "daemon", "code-server"))
    needed = ["ConfigMap/cqox-settings", "ServiceAccount/cqox", "PersistentVolumeClaim/cqox-home",
              "NetworkPolicy/cqox-to-database", f"Namespace/{NAMESPACE[overlay]}"]  # fmt: skip
    assert all(waves[name] <= wave for name in needed)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_maintenance_runs_on_its_days(overlay: str) -> None:
    jobs = {job["metadata"]["name"]: job["spec"] for job in of_kind(built(overlay), "CronJob")}
    assert {name: spec["schedule"] for name, spec in jobs.items()} == {
        "cqox-dump": "0 */6 * * *", "cqox-retention": "30 2 * * *",
    }  # fmt: skip
    assert all(spec["concurrencyPolicy"] == "Forbid" for spec in jobs.values())


def test_what_is_told_once_is_told_by_the_exporter_alone() -> None:
    manifests = built("production")
    (web,) = containers(named(manifests, "Deployment", "cqox-web")["spec"]["template"])
    assert {"name": "CQOX_METRICS_STORE", "value": "off"} in web["env"]
    exporter = named(manifests, "Deployment", "cqox-exporter")["spec"]
    assert exporter["replicas"] == 1
    for name in ("exporter", "daemon", "code-server"):
        (container,) = containers(named(manifests, "Deployment", f"cqox-{name}")["spec"]["template"])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports["metrics"]) == named(manifests, "ConfigMap", "cqox-settings")["data"]["CQOX_METRICS_PORT"]


def test_rules_and_dashboards_reach_the_platform() -> None:
    found = built("observability")
    prometheus = named(found, "ConfigMap", "cqox-prometheus")["data"]
    folder = PRODUCTION / "observability"
    assert prometheus["prometheus.yaml"] == (folder / "prometheus-kubernetes.yaml").read_text(encoding="utf-8")
    assert set(yaml.safe_load(prometheus["prometheus.yaml"])["rule_files"]) <= set(prometheus)
    dashboards = named(found, "ConfigMap", "cqox-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert set(dashboards["data"]) == {path.name for path in (folder / "grafana" / "dashboards").glob("*.json")}
    assert "labels" not in named(found, "ConfigMap", "cqox-prometheus")["metadata"]
