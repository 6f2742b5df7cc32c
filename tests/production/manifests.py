"""The manifests as `kubectl kustomize` builds them, and the schemas of what they are made of."""

import copy
import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = ROOT / "dagster_deploy" / "production"
SCHEMAS = Path(__file__).parent / "schemas"
OVERLAYS = ("staging", "production")
BUILT = {
    **{name: PRODUCTION / "kubernetes" / "overlays" / name for name in OVERLAYS},
    "postgres": PRODUCTION / "kubernetes" / "postgres",
    "recovery": PRODUCTION / "kubernetes" / "recovery",
    "observability": PRODUCTION / "observability",
    "gitops": PRODUCTION / "gitops",
    "gitops-rollouts": PRODUCTION / "gitops" / "rollouts",
}
Manifest = dict[str, Any]

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_RESOURCES = {
    ("argoproj.io/v1alpha1", "Application"): "argocd-application",
    ("argoproj.io/v1alpha1", "AppProject"): "argocd-appproject",
    ("argoproj.io/v1alpha1", "Rollout"): "rollouts-rollout",
    ("argoproj.io/v1alpha1", "AnalysisTemplate"): "rollouts-analysistemplate",
    ("networking.istio.io/v1beta1", "VirtualService"): "istio-virtualservice",
}


@functools.cache
def _built(name: str) -> tuple[Manifest, ...]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(BUILT[name])], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def built(name: str) -> list[Manifest]:
    """Return the manifests of a kustomization."""
    return copy.deepcopy(list(_built(name)))


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Return the manifests of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one manifest of a kind and name."""
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield name and pod template of everything that makes pods."""
    for manifest in manifests:
        name, spec = f"{manifest['kind']}/{manifest['metadata']['name']}", manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]
        elif manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, spec["template"]


def containers(template: Manifest, initial: bool = True) -> list[Manifest]:
    """Return the containers of a pod template, those that run first as well."""
    spec = template["spec"]
    return [*(spec.get("initContainers", []) if initial else []), *spec["containers"]]


def selects(labels: Manifest, selector: Manifest) -> bool:
    """Whether a label selector, or the plain one of a service, takes these labels."""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        selector = {"matchLabels": selector}
    plain = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return plain and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))


@functools.cache
def _kubernetes() -> dict[str, Any]:
    return dict(json.loads((SCHEMAS / "kubernetes-1.32.json").read_text(encoding="utf-8"))["$defs"])


@functools.cache
def schema_of(version: str, kind: str) -> dict[str, Any]:
    """Return the strict schema of a kind: what it does not name is an error."""
    definitions = _kubernetes()
    if (version, kind) in _RESOURCES:
        text = (SCHEMAS / f"{_RESOURCES[version, kind]}.json").read_text(encoding="utf-8")
        text = text.replace(f'"{_OBJECT_META}#"', f'"#/$defs/{_OBJECT_META}"')
        return {**_strict(json.loads(text)), "$defs": definitions}
    group, _, number = version.rpartition("/")
    for name, definition in definitions.items():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if {"group": group, "version": number, "kind": kind} in kinds:
            return {"$ref": f"#/$defs/{name}", "$defs": definitions}
    raise KeyError(f"no schema of {version} {kind}; see tests/production/schemas/README.md")


def _strict(schema: Any) -> Any:
    """Close every object that names its properties. Branches of a choice only say what must be there: left open."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _strict(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if key in closed:
            closed[key] = _strict(closed[key])
    return closed


def faults(manifest: Manifest) -> list[str]:
    """Return where a manifest departs from its schema."""
    schema = schema_of(manifest["apiVersion"], manifest["kind"])
    checker = jsonschema.Draft7Validator(schema)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in checker.iter_errors(manifest)]
