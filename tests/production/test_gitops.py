"""Delivery: what Argo CD synchronises and who may, and canaries that go on or back by what Prometheus says."""

import fnmatch
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.production.manifests import PRODUCTION, ROOT, Manifest, built, named, of_kind

APPLICATIONS = ("cqox-staging", "cqox-production")
SERVERS = ("web", "code-server")
#: Made for the whole cluster, so a project must name them.
CLUSTER_KINDS = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "PersistentVolume"}


def project() -> Manifest:
    return named(built("gitops"), "AppProject", "cqox")


def application(name: str) -> Manifest:
    return named(built("gitops"), "Application", name)


def canary(server: str) -> Manifest:
    found: Manifest = named(built("production"), "Rollout", f"cqox-{server}")["spec"]["strategy"]["canary"]
    return found


def may(role: str, resource: str, action: str, thing: str) -> bool:
    """Whether a role of the project may do it, as Argo CD reads its policies: a no beats a yes."""
    (found,) = [each for each in project()["spec"]["roles"] if each["name"] == role]
    said = set()
    for line in found["policies"]:
        kind, subject, what, verb, where, effect = [part.strip() for part in line.split(",")]
        assert (kind, subject) == ("p", f"proj:cqox:{role}")
        if what == resource and fnmatch.fnmatchcase(action, verb) and fnmatch.fnmatchcase(thing, where):
            said.add(effect)
    return "allow" in said and "deny" not in said


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_heals_prunes_and_tries_again(name: str) -> None:
    policy = application(name)["spec"]["syncPolicy"]
    assert policy["automated"] == {"prune": True, "selfHeal": True, "allowEmpty": False}
    retry = policy["retry"]
    assert retry == {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}}
    waits = [min(5 * 2**attempt, 180) for attempt in range(retry["limit"])]
    assert waits == [5, 10, 20, 40, 80]
    assert "PruneLast=true" in policy["syncOptions"]


@pytest.mark.parametrize(("name", "overlay"), zip(APPLICATIONS, ("staging", "production"), strict=True))
def test_an_application_deploys_what_its_project_admits(name: str, overlay: str) -> None:
    spec, rules = application(name)["spec"], project()["spec"]
    assert spec["project"] == "cqox"
    assert (ROOT / spec["source"]["path"] / "kustomization.yaml").is_file()
    assert spec["source"]["path"].endswith(overlay)
    assert spec["source"]["repoURL"] in rules["sourceRepos"]
    assert spec["destination"] in rules["destinations"]
    kinds = {(each["apiVersion"].rpartition("/")[0], each["kind"]) for each in built(overlay)}
    whole = {(group, kind) for group, kind in kinds if kind in CLUSTER_KINDS}
    assert whole <= {(rule["group"], rule["kind"]) for rule in rules["clusterResourceWhitelist"]}
    forbidden = {(rule["group"], rule["kind"]) for rule in rules["namespaceResourceBlacklist"]}
    assert {("", "Secret"), ("networking.k8s.io", "Ingress")} <= forbidden
    assert not kinds & forbidden
    spaces = {each["metadata"].get("namespace", each["metadata"]["name"]) for each in built(overlay)}
    assert spaces == {spec["destination"]["namespace"]}


def test_healing_leaves_the_weights_of_a_canary_alone() -> None:
    spec = application("cqox-production")["spec"]
    assert "RespectIgnoreDifferences=true" in spec["syncPolicy"]["syncOptions"]
    ignored = {(each["group"], each["kind"]): each for each in spec["ignoreDifferences"]}
    rule = ignored["networking.istio.io", "VirtualService"]
    assert rule["jqPathExpressions"] == [".spec.http[].route[].weight"]


def test_roles_may_what_they_should() -> None:
    things = ("cqox/cqox-staging", "cqox/cqox-production")
    assert {role["name"] for role in project()["spec"]["roles"]} == {"admin", "developer", "read-only"}
    for thing in things:
        assert all(may("admin", "applications", verb, thing) for verb in ("get", "sync", "delete", "update", "create"))
        assert all(may(role, "applications", "get", thing) for role in ("developer", "read-only"))
        assert not any(
            may("read-only", "applications", verb, thing) for verb in ("sync", "delete", "update", "override")
        )
    assert may("developer", "applications", "sync", "cqox/cqox-staging")
    assert not may("developer", "applications", "sync", "cqox/cqox-production")
    assert not may("developer", "applications", "delete", "cqox/cqox-staging")
    abort = "action/argoproj.io/Rollout/abort"
    assert may("admin", "applications", abort, "cqox/cqox-production")
    assert not may("developer", "applications", abort, "cqox/cqox-production")
    assert not may("read-only", "applications", abort, "cqox/cqox-staging")
    assert all(role["groups"] for role in project()["spec"]["roles"])


@pytest.mark.parametrize(("bundle", "config"), [
    ("gitops", "argocd-notifications-cm"), ("gitops-rollouts", "argo-rollouts-notification-configmap"),
])  # fmt: skip
def test_notifications_have_a_trigger_a_text_and_a_place(bundle: str, config: str) -> None:
    data = named(built(bundle), "ConfigMap", config)["data"]
    slack, pager = (yaml.safe_load(data[f"service.{name}"]) for name in ("slack", "pagerdutyv2"))
    assert re.fullmatch(r"\$[\w-]+", slack["token"]), "a reference to the secret, not a token"
    assert all(re.fullmatch(r"\$[\w-]+", key) for key in pager["serviceKeys"].values())
    subscribed = built("gitops") if bundle == "gitops" else of_kind(built("production"), "Rollout")
    found = set()
    for manifest in subscribed:
        for name, place in manifest["metadata"].get("annotations", {}).items():
            if match := re.fullmatch(r"notifications\.argoproj\.io/subscribe\.([\w-]+)\.(\w+)", name):
                trigger, service = match.groups()
                found.add((manifest["metadata"]["name"], service))
                assert f"service.{service}" in data
                assert service != "pagerdutyv2" or place in pager["serviceKeys"]
                for step in yaml.safe_load(data[f"trigger.{trigger}"]):
                    texts = [yaml.safe_load(data[f"template.{text}"]) for text in step["send"]]
                    assert all("message" in text for text in texts)
                    assert service != "pagerdutyv2" or all("pagerdutyv2" in text for text in texts)
    assert {service for _, service in found} == {"slack", "pagerdutyv2"}
    assert ("cqox-staging", "pagerdutyv2") not in found, "nobody is woken for staging"


@pytest.mark.parametrize("server", SERVERS)
def test_a_canary_takes_its_steps(server: str) -> None:
    steps = canary(server)["steps"]
    weights = [step["setWeight"] for step in steps if "setWeight" in step]
    pauses = [step["pause"]["duration"] for step in steps if "pause" in step]
    assert weights == [10, 25, 50, 75, 100]
    assert pauses == ["5m", "5m", "10m", "5m"]
    assert ["setWeight" in step for step in steps] == [True, False] * 4 + [True], (
        "a pause after each weight but the last"
    )


@pytest.mark.parametrize("server", SERVERS)
def test_a_canary_moves_traffic_between_services_that_exist(server: str) -> None:
    manifests, found = built("production"), canary(server)
    rollout = named(manifests, "Rollout", f"cqox-{server}")["spec"]
    template = named(manifests, rollout["workloadRef"]["kind"], rollout["workloadRef"]["name"])["spec"]
    assert template["replicas"] == 0, "the deployment would run pods beside the rollout's"
    assert rollout["selector"] == template["selector"]
    assert template["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    routing = found["trafficRouting"]["istio"]["virtualService"]
    route = named(manifests, "VirtualService", routing["name"])["spec"]
    root = named(manifests, "Service", route["hosts"][0])
    (rule,) = [each for each in route["http"] if each["name"] in routing["routes"]]
    hosts = {each["destination"]["host"]: each for each in rule["route"]}
    assert set(hosts) == {found["stableService"], found["canaryService"]}
    assert hosts[found["stableService"]]["weight"] == 100
    for host, each in hosts.items():
        service = named(manifests, "Service", host)
        assert service["spec"]["selector"] == root["spec"]["selector"]
        assert each["destination"]["port"]["number"] == service["spec"]["ports"][0]["port"]


@pytest.mark.parametrize("server", SERVERS)
def test_a_bad_canary_goes_back_by_itself(server: str) -> None:
    manifests, analysis = built("production"), canary(server)["analysis"]
    assert analysis["args"] == [{"name": "service", "value": canary(server)["canaryService"]}]
    (name,) = [each["templateName"] for each in analysis["templates"]]
    metrics = {each["name"]: each for each in named(manifests, "AnalysisTemplate", name)["spec"]["metrics"]}
    assert set(metrics) == {"mesh-is-measured", "success-rate", "p99-seconds"}
    for metric in metrics.values():
        assert metric["interval"] == "30s"
        # Argo Rollouts ends an analysis when failures > failureLimit: the third one does.
        assert metric["failureLimit"] + 1 == 3
        assert "count" not in metric, "it is asked for as long as the canary lasts"
    assert metrics["success-rate"]["successCondition"].endswith("result[0] >= 0.95")
    assert metrics["p99-seconds"]["successCondition"].endswith("result[0] < 1")
    assert named(manifests, "Rollout", f"cqox-{server}")["spec"]["progressDeadlineAbort"] is True


def _series(service: str, good: int, bad: int, seconds: float) -> list[dict[str, str]]:
    common = f'reporter="destination",destination_service_name="{service}",destination_service_namespace="cqox"'
    total, slow = good + bad, 0 if seconds <= 0.5 else (good + bad) // 10
    buckets = {"500": total - slow, "2500": total, "+Inf": total}
    answers = {f'istio_requests_total{{{common},response_code="{code}",grpc_response_status=""}}': count
               for code, count in ((200, good), (503, bad))}  # fmt: skip
    took = {f'istio_request_duration_milliseconds_bucket{{{common},le="{le}"}}': count for le, count in buckets.items()}
    return [{"series": name, "values": f"0+{count}x20"} for name, count in {**answers, **took}.items()]


@pytest.mark.parametrize(
    ("bad", "seconds", "rate", "fast"), [(0, 0.2, 1.0, True), (60, 0.2, 0.4, True), (3, 2.0, 0.97, False)]
)
def test_prometheus_answers_what_the_analysis_asks(
    bad: int, seconds: float, rate: float, fast: bool, tmp_path: Path
) -> None:
    """The queries themselves, asked of Prometheus' own evaluator about a canary beside a healthy stable service."""
    metrics = {
        each["name"]: each for each in named(built("production"), "AnalysisTemplate", "cqox-canary")["spec"]["metrics"]
    }
    queries = {name: _filled(each["provider"]["prometheus"]["query"]) for name, each in metrics.items()}
    series = [*_series("cqox-web-canary", 100 - bad, bad, seconds), *_series("cqox-web-stable", 1000, 0, 0.2)]
    low, high = (0, 1) if fast else (1, 60)
    asked = [
        (f"abs({queries['success-rate']} - {rate}) < bool 0.001", 1),
        (f"{queries['mesh-is-measured']} > bool 0", 1),
        (f"({queries['p99-seconds']} > bool {low}) * ({queries['p99-seconds']} <= bool {high})", 1),
    ]  # fmt: skip
    tests = [{"expr": expression, "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": value}]}
             for expression, value in asked]  # fmt: skip
    (tmp_path / "rules.yaml").write_text("groups: []\n")
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s",
               "tests": [{"interval": "30s", "input_series": series, "promql_expr_test": tests}]}  # fmt: skip
    (tmp_path / "test.yaml").write_text(json.dumps(content))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _filled(query: str) -> str:
    text = query.replace("{{args.service}}", "cqox-web-canary").replace("{{args.namespace}}", "cqox")
    assert "{{" not in text
    return f"({text.strip()})"


def test_prometheus_is_asked_where_it_is() -> None:
    """The analysis asks the Prometheus of the namespace that the network policies know."""
    metrics: list[dict[str, Any]] = named(built("production"), "AnalysisTemplate", "cqox-canary")["spec"]["metrics"]
    assert {each["provider"]["prometheus"]["address"] for each in metrics} == {"http://prometheus.monitoring.svc:9090"}
    assert "monitoring" in (PRODUCTION / "kubernetes" / "base" / "network.yaml").read_text(encoding="utf-8")


def test_prometheus_scrapes_what_the_analysis_asks_for() -> None:
    """Without the mesh's own metrics there would be nothing to judge a canary by."""
    text = (PRODUCTION / "observability" / "prometheus-kubernetes.yaml").read_text(encoding="utf-8")
    (mesh,) = [job for job in yaml.safe_load(text)["scrape_configs"] if job["job_name"] == "mesh"]
    metrics = named(built("production"), "AnalysisTemplate", "cqox-canary")["spec"]["metrics"]
    asked = {name for each in metrics for name in re.findall(r"istio_\w+", each["provider"]["prometheus"]["query"])}
    assert asked == {name for rule in mesh["metric_relabel_configs"] for name in rule["regex"].split("|")}
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(built("production"), "NetworkPolicy")}
    assert policies["cqox-mesh-metrics"]["ingress"][0]["ports"] == [{"port": 15090, "protocol": "TCP"}]
