"""A Kubernetes cluster on loopback: its API over HTTP, a job controller and a kubelet whose containers are processes.

The kubelet runs `entrypoint + args` of a container as a local process, with the environment of its ConfigMaps and
Secrets and the memory limit of its resources.
"""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kmock
import yaml

from tests.production.kube_api import CONFIG_MAPS, EVENTS, JOBS, NAMESPACE, PODS, SECRETS, TOKEN, Api, now
from tests.production.kube_pod import Pod, resident

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "registry.test/cqox:1.0.0"
#: What the image runs before the arguments of a pod.
ENTRYPOINT = (sys.executable, "-m", "dagster_deploy.production.entrypoint")
#: What the launcher and the executor ask of the API; the role of their service account must allow it.
RULES = {
    ("batch", "jobs"): {"create", "get", "list", "delete"},
    ("batch", "jobs/status"): {"get"},
    ("", "pods"): {"get", "list", "delete"},
    ("", "pods/log"): {"get"},
    ("", "events"): {"list"},
}


class Cluster:
    """An emulated cluster; use it as a context manager.

    Parameters
    ----------
    folder : Path
        Of logs and the kubeconfig.
    environment : mapping
        What the image sets in every container.
    images : mapping
        Entrypoint of every image that can be pulled.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], images: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.images = dict(images or {IMAGE: ENTRYPOINT})
        self.pods: dict[str, Pod] = {}
        self._started, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "Cluster":
        self._thread.start()
        if not self._started.wait(30):
            raise RuntimeError("the emulated API server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        for pod in self.pods.values():
            if pod.process is not None and pod.exit_code is None:
                pod.signal(signal.SIGKILL)
                os.wait4(pod.process.pid, 0)

    @property
    def kubeconfig(self) -> Path:
        """File with which a client reaches the cluster as the service account."""
        path = self.folder / "kubeconfig"
        if not path.is_file():
            context = {"cluster": "c", "user": "u", "namespace": NAMESPACE}
            document = {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": context}],
                "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
            }
            path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def apply(self, kind: tuple[str, str, str], name: str, data: Mapping[str, str]) -> None:
        """Create or replace a ConfigMap or a Secret."""
        secret = kind == SECRETS
        stored = {key: base64.b64encode(value.encode()).decode() if secret else value for key, value in data.items()}
        document = {"metadata": {"name": name, "namespace": NAMESPACE}, "data": stored}
        self._in_loop(lambda: self._put(kind, name, document))

    def remove(self, kind: tuple[str, str, str], name: str) -> dict[str, str]:
        """Remove a ConfigMap or a Secret; return what was in it."""

        def take() -> dict[str, str]:
            data = self._data(kind, name)
            del self.api.objects[kmock.resource(*kind), NAMESPACE, name]
            return data

        return dict(self._in_loop(take))

    def jobs(self) -> list[dict[str, Any]]:
        """Return the Jobs that exist, oldest first."""
        return list(self._in_loop(lambda: json.loads(json.dumps(list(self._all(JOBS))))))

    def ran(self, run_id: str) -> list[Pod]:
        """Return the pods of a run, its own first."""
        return [pod for pod in list(self.pods.values()) if pod.labels.get("dagster/run-id") == run_id]

    def kill(self, name: str) -> None:
        """Kill a container as a node does that goes away: no signal that could be handled."""
        self.pods[name].signal(signal.SIGKILL)

    # What follows runs in the thread of the API server, so no two of its steps are mixed.

    async def _serve(self) -> None:
        self.api = Api()
        self.api.logs = lambda name: self.pods[name].output() if name in self.pods else ""
        async with self.api, kmock.Server(self.api) as server:
            self.url = str(server.url).rstrip("/")
            self._loop = asyncio.get_running_loop()
            self._started.set()
            while not self._stopping.is_set():
                self._reconcile()
                await asyncio.sleep(0.05)

    def _in_loop(self, function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(30)

    def _all(self, kind: tuple[str, str, str]) -> Iterator[dict[str, Any]]:
        for (resource, _, _), found in list(self.api.objects.items()):
            if resource == kmock.resource(*kind) and not found.deleted:
                yield found.raw

    def _put(self, kind: tuple[str, str, str], name: str, document: Mapping[str, Any]) -> None:
        self.api.objects[kmock.resource(*kind), NAMESPACE, name] = document

    def _patch(self, kind: tuple[str, str, str], name: str, document: Mapping[str, Any]) -> None:
        key = (kmock.resource(*kind), NAMESPACE, name)
        if key in self.api.objects and not self.api.objects[key].deleted:
            self.api.objects[key].patch(document)

    def _reconcile(self) -> None:
        """Give each Job its pod, start pods, look at the running ones and end those whose pod was deleted."""
        for job in self._all(JOBS):
            if not job.get("status"):
                self._make_pod(job)
        present = set()
        for pod in self._all(PODS):
            name = pod["metadata"]["name"]
            present.add(name)
            if pod["status"]["phase"] == "Pending" and self.pods[name].process is None:
                self._start(pod)
        for record in self.pods.values():
            if record.process is not None and record.exit_code is None:
                self._look(record, record.name in present)

    def _make_pod(self, job: dict[str, Any]) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        labels = {**template["metadata"].get("labels", {}), "job-name": name}
        pod = f"{name}-{len(self.pods):05d}"
        metadata = {"name": pod, "namespace": NAMESPACE, "labels": labels, "uid": f"uid-{pod}"}
        self._put(PODS, pod, {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}})
        container = template["spec"]["containers"][0]
        self.pods[pod] = Pod(
            pod, name, labels, container.get("resources") or {}, self.folder / f"{pod}.log", time.monotonic()
        )
        self._patch(JOBS, name, {"status": {"active": 1, "startTime": now()}})

    def _start(self, pod: dict[str, Any]) -> None:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        if container["image"] not in self.images:
            text = f'failed to pull image "{container["image"]}": not found'
            self._wait(pod, "ErrImagePull", text)
            return
        try:
            environment = {**self.environment, **self._environment(container)}
        except LookupError as error:
            self._wait(pod, "CreateContainerConfigError", str(error.args[0]))
            return
        command = [*(container.get("command") or self.images[container["image"]]), *(container.get("args") or [])]
        with self.pods[name].log.open("wb") as sink:
            self.pods[name].process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._state(pod, "Running", {"running": {"startedAt": now()}})

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        """Return the variables of a container; a reference to what does not exist is an error of its pod."""
        found: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            kind, key = (CONFIG_MAPS, "configMapRef") if "configMapRef" in source else (SECRETS, "secretRef")
            found.update(self._data(kind, source[key]["name"]))
        for entry in container.get("env") or []:
            if "valueFrom" in entry:
                reference = entry["valueFrom"]["secretKeyRef"]
                found[entry["name"]] = self._data(SECRETS, reference["name"])[reference["key"]]
            else:
                found[entry["name"]] = entry.get("value") or ""
        return found

    def _data(self, kind: tuple[str, str, str], name: str) -> dict[str, str]:
        key = (kmock.resource(*kind), NAMESPACE, name)
        if key not in self.api.objects:
            raise LookupError(f'{"secret" if kind == SECRETS else "configmap"} "{name}" not found')
        data = self.api.objects[key].raw["data"]
        return {item: base64.b64decode(value).decode() for item, value in data.items()} if kind == SECRETS else data

    def _wait(self, pod: dict[str, Any], reason: str, message: str) -> None:
        """Say once why a container does not start."""
        name = pod["metadata"]["name"]
        if self.pods[name].reason == reason:
            return
        self.pods[name].reason = reason
        self._state(pod, "Pending", {"waiting": {"reason": reason, "message": message}})
        reference = {"kind": "Pod", "name": name, "namespace": NAMESPACE}
        event = {"metadata": {"name": f"{name}.1", "namespace": NAMESPACE}, "involvedObject": reference}
        self._put(EVENTS, f"{name}.1", {**event, "type": "Warning", "reason": "Failed", "message": message, "count": 1})

    def _state(self, pod: dict[str, Any], phase: str, state: dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        document = {"status": {"phase": phase, "startTime": now(), "containerStatuses": [status]}}
        self._patch(PODS, pod["metadata"]["name"], document)

    def _look(self, record: Pod, present: bool) -> None:
        """End a container whose pod was deleted or that took too much memory; report one that has ended."""
        assert record.process is not None
        ended, status, usage = os.wait4(record.process.pid, os.WNOHANG)
        if not ended:
            if resident(record.process.pid) > record.memory:
                record.reason = "OOMKilled"
                record.signal(signal.SIGKILL)
            elif not present and record.told_to_stop is None:
                record.told_to_stop = time.monotonic()
                record.signal(signal.SIGTERM)
            elif record.told_to_stop is not None and time.monotonic() - record.told_to_stop > 30:
                record.signal(signal.SIGKILL)
            return
        code = os.waitstatus_to_exitcode(status)
        record.process.returncode = code
        record.exit_code = 128 - code if code < 0 else code
        record.cpu_seconds = usage.ru_utime + usage.ru_stime
        record.peak_mb = usage.ru_maxrss / 1024
        record.seconds = time.monotonic() - record.started
        record.reason = record.reason or ("Completed" if code == 0 else "Error")
        if present:
            key = (kmock.resource(*PODS), NAMESPACE, record.name)
            terminated = {"exitCode": record.exit_code, "reason": record.reason, "finishedAt": now()}
            phase = "Succeeded" if code == 0 else "Failed"
            self._state(self.api.objects[key].raw, phase, {"terminated": terminated})
        counted = {"succeeded": 1, "completionTime": now()} if code == 0 else {"failed": 1}
        self._patch(JOBS, record.job, {"status": {"active": 0, **counted}})
