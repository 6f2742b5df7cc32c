"""What web server and daemon do, one turn at a time, so that a test decides when each of it happens."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.production.kube_api import CONFIG_MAPS, NAMESPACE, SECRETS
from tests.production.kubernetes import IMAGE, ROOT, Cluster
from tests.production.servers import wait_for

_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def production_home(folder: Path, cluster: Cluster, **changes: Any) -> Path:
    """Make a DAGSTER_HOME of the product's own `dagster.yaml`, with what an emulated cluster has elsewhere.

    Parameters
    ----------
    folder : Path
        To be made.
    cluster : Cluster
        Found by its kubeconfig and not by what a real pod has mounted.
    changes : any
        Times of `run_monitoring`, which are minutes in the product; each must be there already.
    """
    source = ROOT / "dagster_deploy" / "production" / "dagster.yaml"
    document = yaml.safe_load(source.read_text(encoding="utf-8"))
    launcher = document["run_launcher"]["config"]
    if launcher["load_incluster_config"] is not True:
        raise AssertionError("the product is meant to find its cluster from inside")
    launcher.update(load_incluster_config=False, kubeconfig_file=str(cluster.kubeconfig), dagster_home=str(folder))
    for name, value in changes.items():
        if name not in document["run_monitoring"]:
            raise AssertionError(f"run_monitoring has no {name}")
        document["run_monitoring"][name] = value
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return folder


class Control:
    """The instance and the code location of a test.

    Parameters
    ----------
    instance : DagsterInstance
        Of the production home.
    context : WorkspaceProcessContext
        With one code location.
    cluster : Cluster
        Where runs are launched.
    """

    def __init__(self, instance: Any, context: Any, cluster: Cluster) -> None:
        from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
        from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

        self.instance, self.context, self.cluster = instance, context, cluster
        self._queue, self._retries = QueuedRunCoordinatorDaemon(interval_seconds=5), EventLogConsumerDaemon()
        list(self._retries.run_iteration(context))  # events before the first look are not its business

    def submit(
        self,
        job: str,
        tags: Mapping[str, str] | None = None,
        assets: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """Put a run into the queue as the UI does; return its id."""
        from dagster_graphql.test.utils import execute_dagster_graphql

        request = self.context.create_request_context()
        location = request.code_locations[0]
        selector: dict[str, Any] = {
            "repositoryLocationName": location.name,
            "repositoryName": next(iter(location.get_repositories())),
            "jobName": job,
        }
        if assets:
            selector["assetSelection"] = [{"path": asset.split("/")} for asset in assets]
        metadata = {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]}
        params: dict[str, Any] = {"selector": selector, "mode": "default", "executionMetadata": metadata}
        if config:
            params["runConfigData"] = config
        answer = execute_dagster_graphql(request, _LAUNCH, {"params": params}).data["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def dequeue(self) -> None:
        """Launch what the limits of the queue allow."""
        list(self._queue.run_iteration(self.context))

    def launch(self, *arguments: Any, **options: Any) -> str:
        """Put a run into the queue and launch it; the arguments are those of `submit`."""
        run_id = self.submit(*arguments, **options)
        self.dequeue()
        return run_id

    def monitor(self) -> None:
        """Look at the workers of all runs once."""
        from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

        errors = [error for error in execute_run_monitoring_iteration(self.context, logging.getLogger("test")) if error]
        assert not errors, errors

    def retry(self) -> list[str]:
        """Queue again what ended since the last call and is to be retried; return the ids of the new runs."""
        before = {run.run_id for run in self.instance.get_runs()}
        list(self._retries.run_iteration(self.context))
        return [run.run_id for run in self.instance.get_runs() if run.run_id not in before]

    def drop(self, run_id: str) -> None:
        """Take a run out of the queue, or its pod out of the cluster."""
        if self.status(run_id) != "QUEUED":
            self.instance.run_launcher.terminate(run_id)
        self.instance.report_run_canceled(self.instance.get_run_by_id(run_id))

    def status(self, run_id: str) -> str:
        """Return the status of a run."""
        return str(self.instance.get_run_by_id(run_id).status.value)

    def wait(self, run_id: str, wanted: str, seconds: float = 300, monitored: bool = False) -> None:
        """Wait until a run has a status; look at its worker meanwhile, as the daemon does, if it is monitored."""

        def there() -> bool:
            if monitored:
                self.monitor()
            return self.status(run_id) == wanted

        wait_for(there, seconds, lambda: f"{self.status(run_id)}; {self.said(run_id)[-3:]}; {self._output(run_id)}")

    def said(self, run_id: str) -> list[str]:
        """Return the messages of a run, with those of its errors."""
        found = []
        for record in self.instance.all_logs(run_id):
            event = record.dagster_event
            error = getattr(event.event_specific_data, "error", None) if event else None
            texts = (record.message, event and event.message, error and error.message)
            found.append(" ".join(text for text in texts if text))
        return found

    def started(self, run_id: str) -> list[str]:
        """Return the steps that started or started again, each as often as it did."""
        records = [record.dagster_event for record in self.instance.all_logs(run_id) if record.dagster_event]
        return [event.step_key for event in records if event.event_type_value in ("STEP_START", "STEP_RESTARTED")]

    def _output(self, run_id: str) -> list[str]:
        return [pod.output()[-2000:] for pod in self.cluster.ran(run_id)]


@contextmanager
def cluster_of(
    folder: Path, postgres_url: str, settings: Mapping[str, str], module: str, **changes: Any
) -> Iterator[Control]:
    """Run a cluster with the product's settings in it, and the control of one code location.

    Parameters
    ----------
    folder : Path
        Of everything.
    postgres_url : str
        Of Dagster's storage.
    settings : mapping
        Added to the ConfigMap; the keys of the object store and Postgres go to the Secret.
    module : str
        Of the definitions, with the attribute `defs`.
    changes : any
        As `production_home` takes them.
    """
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget

    home = folder / "home"
    home.mkdir(parents=True)
    named = {
        "CQOX_HOME": str(home),
        "CQOX_WAREHOUSE": str(home / "warehouse"),
        "CQOX_REPORTS": str(home / "reports"),
        "CQOX_IMAGE": IMAGE,
        "CQOX_NAMESPACE": NAMESPACE,
        "CQOX_SERVICE_ACCOUNT": "cqox",
        "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": "0.2",
        **{name: value for name, value in settings.items() if "KEY" not in name},
    }
    secrets = {"CQOX_POSTGRES_URL": postgres_url, **{name: value for name, value in settings.items() if "KEY" in name}}
    image = {
        name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ
    }
    before = dict(os.environ)
    with ExitStack() as stack:
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        cluster = stack.enter_context(Cluster(folder, {**image, "PYTHONPATH": str(ROOT), "HOME": str(folder)}))
        cluster.apply(CONFIG_MAPS, "cqox-settings", named)
        cluster.apply(SECRETS, "cqox-secrets", secrets)
        dagster_home = production_home(folder / "dagster", cluster, **changes)
        os.environ.update({**named, **secrets, "DAGSTER_HOME": str(dagster_home), "PYTHONPATH": str(ROOT)})
        instance = stack.enter_context(DagsterInstance.from_config(str(dagster_home)))
        target = ModuleTarget(module, attribute="defs", working_directory=str(ROOT), location_name=module)
        context = stack.enter_context(WorkspaceProcessContext(instance, target, code_server_log_level="warning"))
        yield Control(instance, context, cluster)
