"""Who may talk to whom: the network policies, played through as a cluster would."""

from typing import Any

import pytest

from tests.production.manifests import OVERLAYS, built, of_kind, pod_templates, selects

NAMESPACE = {"staging": "cqox-staging", "production": "cqox"}
#: As the launcher labels the pods of runs and ops; dagster.yaml adds the last one.
RUNS = {
    name: {
        "app.kubernetes.io/name": "dagster",
        "app.kubernetes.io/component": name,
        "app.kubernetes.io/part-of": "cqox",
    }
    for name in ("run_worker", "step_worker")
}
Place = tuple[str, dict[str, str]]


def pods(overlay: str) -> dict[str, dict[str, str]]:
    found = {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["metadata"]["labels"]
             for _, each in pod_templates(built(overlay))}  # fmt: skip
    return {**found, **RUNS}


def _peers(rule: dict[str, Any], key: str, namespace: str, labels: dict[str, str], own: str) -> bool:
    if key not in rule:
        return True
    for peer in rule[key]:
        if "ipBlock" in peer:
            continue
        space = peer.get("namespaceSelector")
        inside = (
            namespace == own if space is None else selects({"kubernetes.io/metadata.name": namespace, **labels}, space)
        )
        if inside and ("podSelector" not in peer or selects(labels, peer["podSelector"])):
            return True
    return False


def _blocks(rule: dict[str, Any]) -> list[str]:
    return [peer["ipBlock"]["cidr"] for peer in rule.get("to", []) if "ipBlock" in peer]


def may(overlay: str, source: Place, target: Place, port: int) -> bool:
    """Whether a packet gets out of the one pod and into the other; a place outside our namespace restricts nothing."""
    own, policies = NAMESPACE[overlay], of_kind(built(overlay), "NetworkPolicy")
    out = source[0] != own or any(
        _peers(rule, "to", target[0], target[1], own) and port in [p["port"] for p in rule["ports"]]
        for policy in policies if "Egress" in policy["spec"]["policyTypes"] and selects_pod(policy, source[1])
        for rule in policy["spec"].get("egress", [])
    )  # fmt: skip
    inward = target[0] != own or any(
        _peers(rule, "from", source[0], source[1], own) and port in [p["port"] for p in rule["ports"]]
        for policy in policies if "Ingress" in policy["spec"]["policyTypes"] and selects_pod(policy, target[1])
        for rule in policy["spec"].get("ingress", [])
    )  # fmt: skip
    return out and inward


def selects_pod(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    return selects(labels, policy["spec"]["podSelector"] or {"matchLabels": {}})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_forbidden_first(overlay: str) -> None:
    policies = of_kind(built(overlay), "NetworkPolicy")
    (closed,) = [each for each in policies if each["metadata"]["name"] == "cqox-deny-all"]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies:
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            assert rule.get("from", rule.get("to")), f"{policy['metadata']['name']} names nobody, so everybody"
            assert rule.get("ports"), f"{policy['metadata']['name']} names no port, so all"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_conversations_that_are_needed(overlay: str) -> None:
    own, all_pods = NAMESPACE[overlay], pods(overlay)
    here = {name: (own, labels) for name, labels in all_pods.items()}
    for name in ("web", "daemon"):
        assert may(overlay, here[name], here["code-server"], 4000), name
    if overlay == "staging":
        for name in set(here) - {"postgres"}:
            assert may(overlay, here[name], here["postgres"], 5432), name
    names = ("kube-system", {"k8s-app": "kube-dns"})
    assert all(may(overlay, place, names, 53) for place in here.values())
    assert may(overlay, ("monitoring", {"app": "prometheus"}), here["web"], 3000)
    for name in ("daemon", "code-server", "exporter"):
        assert may(overlay, ("monitoring", {"app": "prometheus"}), here[name], 9464), name
    assert may(overlay, ("operators", {"cqox.io/access": "true"}), here["web"], 3000)
    assert may(overlay, here["run_worker"], ("monitoring", {"app": "collector"}), 4318)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_conversations_that_are_not(overlay: str) -> None:
    own, all_pods = NAMESPACE[overlay], pods(overlay)
    here = {name: (own, labels) for name, labels in all_pods.items()}
    stranger = ("other", {"app": "stranger"})
    ports = {"web": 3000, "code-server": 4000, "postgres": 5432}
    for name, port in ports.items():
        if name in here:
            assert not may(overlay, stranger, here[name], port), name
    for name in set(here) - {"web"}:
        assert not may(overlay, here[name], here["web"], 3000), name
    for name in set(here) - {"web", "daemon"}:
        assert not may(overlay, here[name], here["code-server"], 4000), name
    assert not may(overlay, here["run_worker"], stranger, 80)
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(built(overlay), "NetworkPolicy")}
    (rule,) = policies["cqox-to-stores-and-api"]["egress"]
    (peer,) = rule["to"]
    assert peer["ipBlock"]["except"] == ["169.254.169.254/32"], "the cloud's metadata gives credentials away"
    assert {port["port"] for port in rule["ports"]} == {443, 6443}


def test_production_reaches_its_database_outside_the_cluster() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(built("production"), "NetworkPolicy")}
    (rule,) = policies["cqox-to-database"]["egress"]
    assert _blocks(rule) == ["10.20.0.0/24"]
    assert [port["port"] for port in rule["ports"]] == [5432]
    assert not [each for each in built("production") if each["kind"] == "StatefulSet"]
