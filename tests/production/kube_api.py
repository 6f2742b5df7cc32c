"""The API server of the emulated cluster.

kmock keeps the objects; here it becomes as strict as a real server where a client could be wrong: it takes only the
token of a service account, refuses fields that Kubernetes does not have, filters by selectors and serves logs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import kmock

NAMESPACE = "cqox"
TOKEN = "token-of-the-service-account"
JOBS, PODS, EVENTS = ("batch", "v1", "jobs"), ("", "v1", "pods"), ("", "v1", "events")
CONFIG_MAPS, SECRETS = ("", "v1", "configmaps"), ("", "v1", "secrets")
_VERBS = {"fetch": "get", "update": "patch"}


class Api(kmock.KubernetesEmulator):
    """The API server."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[tuple[tuple[str, str], str]] = set()
        self.refused: list[str] = []
        self.logs: Callable[[str], str] = lambda name: ""
        for key in (JOBS, PODS, EVENTS, CONFIG_MAPS, SECRETS):
            self.resources["/".join(filter(None, key))] = {"kind": key[2][:-1].capitalize(), "namespaced": True}

    async def _handle(self, request: Any) -> Any:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return await self._render_error(kmock_error(401, "Unauthorized", "no token of a service account"))
        if request.resource is not None:
            sub = f"/{request.subresource}" if request.subresource else ""
            verb = str(request.action.value).lower()
            verb = _VERBS.get(verb, verb)
            self.used.add(((request.resource.group, request.resource.plural + sub), verb))
            if verb == "create":
                wrong = self._admit(request)
                if wrong:
                    self.refused.append(wrong)
                    return await self._render_error(kmock_error(400, "BadRequest", wrong))
        return await super()._handle(request)

    def _admit(self, request: Any) -> str:
        """Fill in what the API server sets; return what is wrong with the object."""
        import kubernetes

        body = request.data
        models = {"jobs": kubernetes.client.V1Job, "pods": kubernetes.client.V1Pod}
        unknown = (
            list(unknown_fields(models[request.resource.plural], body)) if request.resource.plural in models else []
        )
        if unknown:
            return f"strict decoding error: unknown field {', '.join(unknown)}"
        metadata = body["metadata"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", metadata["name"]):
            return f"metadata.name: invalid value {metadata['name']!r}"
        for value in (metadata.get("labels") or {}).values():
            if not re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value) or len(value) > 63:
                return f"metadata.labels: invalid value {value!r}"
        metadata["namespace"] = request.namespace
        metadata["creationTimestamp"] = now()
        metadata["uid"] = f"uid-{metadata['name']}"
        return ""

    async def _serve_list(self, request: Any) -> Any:
        found = await super()._serve_list(request)
        for name, selected in (("labelSelector", _label), ("fieldSelector", _field)):
            for pair in filter(None, (request.params.get(name) or "").split(",")):
                key, _, value = pair.replace("==", "=").partition("=")
                found["items"] = [item for item in found["items"] if selected(item, key) == value]
        return found

    async def _serve_fetch(self, request: Any) -> Any:
        found = await super()._serve_fetch(request)
        return self.logs(request.name).encode() if request.subresource == "log" else found


def unknown_fields(model: Any, document: Any, path: str = "") -> Iterator[str]:
    """Yield the fields of a document that its model in the API does not have."""
    import kubernetes

    names = {wire: model.openapi_types[name] for name, wire in model.attribute_map.items()}
    for key, value in document.items():
        place = f"{path}.{key}" if path else key
        if key not in names:
            yield f'"{place}"'
            continue
        kind = re.sub(r"^(?:list\[|dict\(str, )(.+)[\])]$", r"\1", names[key])
        inner = getattr(kubernetes.client, kind, None)
        if inner is None or value is None:
            continue
        items = (
            value if names[key].startswith("list[") else value.values() if names[key].startswith("dict(") else [value]
        )
        for item in items:
            yield from unknown_fields(inner, item, place)


def kmock_error(status: int, reason: str, message: str) -> Exception:
    """Return an error that the API server renders as a Status object."""
    from kmock._internal.k8s import KubernetesError

    return KubernetesError(status=status, reason=reason, message=message, details={})


def _label(item: Mapping[str, Any], key: str) -> Any:
    return (item["metadata"].get("labels") or {}).get(key)


def _field(item: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        item = (item or {}).get(part)  # type: ignore[assignment]
    return item


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
