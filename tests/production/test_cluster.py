"""Runs on an emulated cluster with the product's own dagster.yaml: what succeeds, what goes wrong and how it ends."""

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.production.control import Control, cluster_of
from tests.production.kube_api import CONFIG_MAPS, NAMESPACE, SECRETS, TOKEN
from tests.production.kubernetes import ENTRYPOINT, IMAGE, RULES
from tests.production.servers import Postgres, wait_for


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Control]:
    folder = tmp_path_factory.mktemp("cluster")
    times = {"start_timeout_seconds": 1, "max_resume_run_attempts": 1}
    with cluster_of(folder, postgres.url, {}, "tests.production.tiny", **times) as made:
        yield made


def home() -> Path:
    return Path(os.environ["CQOX_HOME"])


def marks(name: str) -> int:
    path = home() / name
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def reach(control: Control, name: str, run_id: str, times: int = 1) -> None:
    """Wait until an op of a run is in the middle of its work."""
    wait_for(lambda: marks(f"{name}.reached") >= times, 240, lambda: str(control.said(run_id)[-3:]))


def test_the_emulator_refuses_what_kubernetes_would(control: Control) -> None:
    def send(body: dict[str, object], token: str = TOKEN) -> int:
        request = urllib.request.Request(
            f"{control.cluster.url}/apis/batch/v1/namespaces/{NAMESPACE}/jobs", json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as error, urllib.request.urlopen(request, timeout=30):
            pass
        return int(error.value.code)

    pod = {"spec": {"containers": [{"name": "x", "image": IMAGE, "memory": "1Gi"}]}}
    job = {"metadata": {"name": "refused"}, "spec": {"template": pod}}
    assert send(job, token="another") == 401
    assert send(job) == 400
    assert control.cluster.api.refused == [
        'strict decoding error: unknown field "spec.template.spec.containers.memory"'
    ]
    control.cluster.api.refused.clear()
    assert send({"metadata": {"name": "Upper_Case"}, "spec": {}}) == 400
    control.cluster.api.refused.clear()
    assert control.cluster.jobs() == []


def test_a_run_is_a_pod_with_settings_by_reference(control: Control) -> None:
    run_id = control.launch("good")
    control.wait(run_id, "SUCCESS")
    [pod] = control.cluster.ran(run_id)
    wait_for(lambda: pod.exit_code is not None, 120)
    assert (pod.exit_code, pod.reason) == (0, "Completed")
    [job] = [job for job in control.cluster.jobs() if job["metadata"]["name"] == pod.job]
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert container["image"] == IMAGE
    assert spec["serviceAccountName"] == "cqox"
    assert {tuple(source) for source in container["envFrom"]} == {("configMapRef",), ("secretRef",)}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["volumeMounts"][0] == {"name": "home", "mountPath": str(home())}
    assert job["spec"]["backoffLimit"] == 0
    assert os.environ["CQOX_POSTGRES_URL"] not in str(job), "a secret is written into the Job"


def test_a_run_that_fails_is_not_started_again(control: Control) -> None:
    run_id = control.launch("broken")
    control.wait(run_id, "FAILURE")
    assert control.retry() == []
    assert any("Execution of step" in said and "fail" in said for said in control.said(run_id))


def test_a_pod_that_is_killed_is_replaced_within_the_run(control: Control) -> None:
    run_id = control.launch("held")
    reach(control, "held", run_id)
    control.cluster.kill(control.cluster.ran(run_id)[0].name)
    wait_for(lambda: len(_looked(control, run_id)) == 2, 240, lambda: str(control.said(run_id)[-3:]))
    reach(control, "held", run_id, times=2)
    (home() / "held.go").touch()
    control.wait(run_id, "SUCCESS")
    killed, second = control.cluster.ran(run_id)
    assert (killed.exit_code, killed.reason) == (137, "Error")
    assert second.job == f"{killed.job}-1"
    assert marks("held.done") == 1


def test_a_run_that_is_terminated_ends_its_pod(control: Control) -> None:
    run_id = control.launch("stopped")
    reach(control, "stopped", run_id)
    assert control.instance.run_launcher.terminate(run_id)
    control.wait(run_id, "CANCELED")
    [pod] = control.cluster.ran(run_id)
    wait_for(lambda: pod.exit_code is not None, 120)
    assert pod.reason != "OOMKilled"
    assert pod.exit_code != 137, "the pod had to be killed"
    assert not [job for job in control.cluster.jobs() if job["metadata"]["name"] == pod.job]
    assert marks("stopped.done") == 0
    assert control.retry() == []


def test_a_run_without_enough_memory_fails_with_the_reason_and_is_tried_once_more(control: Control) -> None:
    run_id = control.launch("swollen")
    reach(control, "swollen", run_id)
    control.wait(run_id, "FAILURE", monitored=True)
    pods = control.cluster.ran(run_id)
    assert [(pod.exit_code, pod.reason) for pod in pods] == [(137, "OOMKilled")] * 2
    assert any("Terminated with exit code 137: OOMKilled" in said for said in control.said(run_id))
    [again] = control.retry()
    assert control.status(again) == "QUEUED"
    assert control.instance.get_run_by_id(again).parent_run_id == run_id
    control.drop(again)


def test_an_image_that_cannot_be_pulled_fails_the_run_with_the_reason(control: Control) -> None:
    del control.cluster.images[IMAGE]
    try:
        run_id = control.launch("good")
        control.wait(run_id, "FAILURE", monitored=True)
    finally:
        control.cluster.images[IMAGE] = ENTRYPOINT
    [said] = [said for said in control.said(run_id) if "ErrImagePull" in said]
    assert f'failed to pull image "{IMAGE}": not found' in said
    assert "Waiting: ErrImagePull" in said
    for again in control.retry():
        control.drop(again)


def test_a_pod_with_a_wrong_setting_says_which_before_it_starts(control: Control) -> None:
    url = os.environ["CQOX_POSTGRES_URL"]
    control.cluster.apply(SECRETS, "cqox-secrets", {"CQOX_POSTGRES_URL": url.replace("+psycopg2", "")})
    try:
        run_id = control.launch("good")
        control.wait(run_id, "FAILURE", monitored=True)
    finally:
        control.cluster.apply(SECRETS, "cqox-secrets", {"CQOX_POSTGRES_URL": url})
    [pod] = control.cluster.ran(run_id)
    assert pod.exit_code == 2
    wanted = "CQOX_POSTGRES_URL: found 'postgresql://cqox@"
    assert wanted in pod.output()
    assert any(wanted in said for said in control.said(run_id)), "the reason is not in the run's log"
    for again in control.retry():
        control.drop(again)


def test_settings_that_are_not_there_keep_the_pod_from_starting(control: Control) -> None:
    # A pod of a namespace without the ConfigMap waits; the run says for what.
    kind, name = CONFIG_MAPS, "cqox-settings"
    data = control.cluster.remove(kind, name)
    try:
        run_id = control.launch("good")
        control.wait(run_id, "FAILURE", monitored=True)
    finally:
        control.cluster.apply(kind, name, data)
    assert any('configmap "cqox-settings" not found' in said for said in control.said(run_id))
    for again in control.retry():
        control.drop(again)


def test_whoever_launches_a_run_may_size_its_pod_and_nothing_else(control: Control) -> None:
    run_id = control.launch("good", {"dagster-k8s/config": '{"pod_spec_config": {"hostNetwork": true}}'})
    control.wait(run_id, "FAILURE")
    assert any("violated the allowed list: pod_spec_config.host_network" in said for said in control.said(run_id))
    assert control.cluster.ran(run_id) == []


def test_the_queue_keeps_partitions_and_domains_apart(control: Control) -> None:
    del control.cluster.images[IMAGE]  # what is launched stays in the cluster and does no work
    try:
        runs = [control.submit("good", _partition("policy", month)) for month in (1, 1, *range(2, 12))]
        other = control.submit("good", _partition("retail", 1))
        control.dequeue()
        status = {run: control.status(run) for run in [*runs, other]}
        assert [status[run] for run in runs].count("STARTING") == 8, "a domain has a limit of its own"
        assert status[runs[1]] == "QUEUED", "two runs of one partition at once"
        assert status[other] == "STARTING", "another domain waits for the first"
        for run in status:
            control.drop(run)
    finally:
        control.cluster.images[IMAGE] = ENTRYPOINT


def test_ops_in_pods_go_on_while_the_pod_of_their_run_is_replaced(control: Control) -> None:
    run_id = control.launch("stepped")
    reach(control, "stepped", run_id)
    control.cluster.kill(control.cluster.ran(run_id)[0].name)
    wait_for(
        lambda: len([p for p in _looked(control, run_id) if not p.op]) == 2, 240, lambda: str(control.said(run_id))
    )
    (home() / "stepped.go").touch()
    control.wait(run_id, "SUCCESS", 180)
    assert sorted(control.started(run_id)) == ["first", "second"]
    assert (marks("stepped.first"), marks("stepped.done")) == (1, 1), "an op ran twice"
    sizes = {pod.op: pod.resources["requests"] for pod in control.cluster.ran(run_id) if pod.op}
    assert sizes == {"first": _requests("light"), "second": _requests("heavy")}


@pytest.mark.slow
def test_an_op_whose_pod_dies_is_done_again_in_another(control: Control) -> None:
    run_id = control.launch("lost")
    reach(control, "lost", run_id)
    [step] = [pod for pod in control.cluster.ran(run_id) if pod.op]
    control.cluster.kill(step.name)
    (home() / "lost.go").touch()
    control.wait(run_id, "SUCCESS", 180)
    assert len(control.started(run_id)) == 2
    killed, second = (pod for pod in control.cluster.ran(run_id) if pod.op)
    wait_for(lambda: second.exit_code is not None, 120)
    assert (killed.exit_code, second.exit_code) == (137, 0)


def test_the_api_was_asked_only_for_what_the_role_allows(control: Control) -> None:
    asked = control.cluster.api.used
    assert asked, "nothing was asked; this test is to be run after the others"
    assert not [(thing, verb) for thing, verb in asked if verb not in RULES.get(thing, set())]
    assert control.cluster.api.refused == []


def _looked(control: Control, run_id: str) -> list[object]:
    control.monitor()
    return control.cluster.ran(run_id)


def _partition(domain: str, month: int) -> dict[str, str]:
    key = f"{domain}|2025-{month:02d}"
    return {"dagster/partition": key, "dagster/partition/domain": domain, "dagster/partition/period": key[-7:]}


def _requests(size: str) -> dict[str, str]:
    from cqox_assets.assets import K8S_RESOURCES

    requests = K8S_RESOURCES[size]["dagster-k8s/config"]["container_config"]["resources"]["requests"]
    assert re.fullmatch(r"\d+m?", requests["cpu"])
    return dict(requests)
