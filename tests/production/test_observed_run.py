"""A real run seen by a real Prometheus, a receiver of traces and its JSON log, all of which agree."""

import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dagster_deploy.observability.catalogue import METRICS
from dagster_deploy.observability.identity import run_span_id, trace_id
from tests.conftest import ROOT
from tests.graph.helpers import deliver
from tests.production.otlp import Receiver, otlp_receiver
from tests.production.servers import answers, free_port, stop, wait_for

KEY = "policy|2025-01"
SMALL = Path(__file__).with_name("small_job.py")
_RUN = """
import sys
import dagster as dg
from dagster_deploy.definitions import defs
keys = [dg.AssetKey(name.split("/")) for name in sys.argv[1:]]
with dg.DagsterInstance.get() as instance:
    done = defs.resolve_job_def("analyse_partition").execute_in_process(
        partition_key=dg.MultiPartitionKey({"domain": "policy", "period": "2025-01"}), instance=instance,
        asset_selection=keys, raise_on_error=False)
    print(done.run_id, done.success)
"""
_ASSETS = (
    "ingestion/raw_table", "mapping/column_profile", "mapping/domain_match", "mapping/column_roles", "mapping/study",
    "gates/data_diagnostics", "gates/gated_study", "estimates/difference_in_means", "estimates/iv",
)  # fmt: skip


def environment(home: Path, **settings: str) -> dict[str, str]:
    place = home / "dagster"
    place.mkdir(parents=True, exist_ok=True)
    (place / "dagster.yaml").write_text("telemetry: {enabled: false}\n", "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CQOX_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "CQOX_HOME": str(home), "DAGSTER_HOME": str(place), **settings}


@contextmanager
def server(arguments: list[str], env: dict[str, str], log: Path, url: str) -> Iterator[None]:
    """Run a server until the block ends."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=env, stdout=sink, stderr=sink, start_new_session=True
        )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or answers(url), 180, lambda: log.read_text("utf-8")[-3000:])
        assert process.poll() is None, log.read_text("utf-8")[-3000:]
        yield
    finally:
        stop(process)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module", name="seen")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The web server, an exporter and Prometheus, and a run of some real assets while they run."""
    home = tmp_path_factory.mktemp("observed") / "home"
    web, exported, metrics = free_port(), free_port(), free_port()
    env = environment(home, CQOX_LOG_FORMAT="json", CQOX_METRICS_PORT=str(exported))
    deliver(home, KEY)
    config = home / "prometheus.yaml"
    rules = ROOT / "dagster_deploy" / "production" / "observability" / "alerts.yaml"
    config.write_text(
        yaml.safe_dump({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": "cqox-web", "static_configs": [{"targets": [f"127.0.0.1:{web}"]}]},
                {"job_name": "cqox-exporter", "static_configs": [{"targets": [f"127.0.0.1:{exported}"]}]},
            ],
        }),
        "utf-8",
    )  # fmt: skip
    prometheus = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={home / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{metrics}",
    ]  # fmt: skip
    serve = [sys.executable, "-m", "dagster_deploy.serve", "--no-daemon", "--port", str(web)]
    export = [sys.executable, "-m", "dagster_deploy.observability", "exporter"]
    with (
        otlp_receiver() as receiver,
        server(serve, env, home / "web.log", f"http://127.0.0.1:{web}/metrics"),
        server(export, env, home / "exporter.log", f"http://127.0.0.1:{exported}/metrics"),
        server(prometheus, env, home / "prometheus.log", f"http://127.0.0.1:{metrics}/-/ready"),
    ):
        seen = SimpleNamespace(home=home, web=f"http://127.0.0.1:{web}", exporter=f"http://127.0.0.1:{exported}",
                               prometheus=f"http://127.0.0.1:{metrics}", receiver=receiver)  # fmt: skip
        wait_for(lambda: query(seen, 'up{job="cqox-web"}') == {("cqox-web",): 1.0}, 60)
        before = query(seen, 'cqox_runs_total{job_name="analyse_partition",status="success"}')
        assert set(before.values()) == {0.0}
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *_ASSETS], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**env, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url},
        )  # fmt: skip
        seen.run_id, seen.succeeded = done.stdout.split()[-2:]
        seen.lines = json_lines(done.stderr)
        yield seen


def query(seen: SimpleNamespace, expression: str) -> dict[tuple[str, ...], float]:
    """What Prometheus answers: the labels' values but name and instance -> value."""
    address = f"{seen.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    rows = json.loads(get(address))["data"]["result"]
    return {
        tuple(value for name, value in sorted(row["metric"].items()) if name not in ("__name__", "instance")):
        float(row["value"][1]) for row in rows
    }  # fmt: skip


def test_prometheus_knows_the_run_and_its_estimates(seen):
    assert seen.succeeded == "True"
    jobs = ("cqox-exporter", "cqox-web")
    success = 'cqox_runs_total{job_name="analyse_partition",status="success"}'
    wait_for(lambda: set(query(seen, success).values()) == {1.0}, 60, lambda: str(query(seen, success)))
    told = query(seen, "sum by (job, estimator, status) (cqox_estimates_total) > 0")
    assert told == {
        (estimator, job, status): 1.0
        for job in jobs
        for estimator, status in (("difference_in_means", "estimated"), ("iv", "refused"))
    }
    assert query(seen, "sum by (job, code) (cqox_refusals_total)") == {("missing_role", job): 1.0 for job in jobs}
    assert query(seen, "sum by (job) (cqox_steps_total)") == {(job,): 9.0 for job in jobs}
    assert query(seen, "max by (status) (cqox_gates_total{gate='rows'})") == {("pass",): 1.0}
    assert query(seen, "sum(cqox_estimator_seconds_count)") == {(): 2.0}, "one, from two processes"
    wait_for(lambda: query(seen, "max(cqox:partitions{state='waiting'})") == {(): 1.0}, 60)


def test_requests_are_counted_by_class(seen):
    for path in ("/", "/runs", f"/runs/{seen.run_id}", "/reports/", "/reports/none.html", "/reports/../etc", "/x/y/z"):
        answers(seen.web + path)
    body = json.dumps({"query": "{ version }"}).encode()
    request = urllib.request.Request(f"{seen.web}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert "version" in json.load(answer)["data"]
    wait_for(lambda: query(seen, "cqox_http_requests_total{route='graphql',code='200',method='POST'}") != {}, 60)
    routes = {key[0] for key in query(seen, "sum by (route) (cqox_http_requests_total)")}
    assert {"graphql", "ui", "reports", "metrics"} <= routes
    assert len(routes) < 15, "a raw address has become a label"
    assert query(seen, "sum(cqox_http_requests_total{route='reports',code='404'})")[()] >= 1
    assert query(seen, "sum(cqox_http_request_seconds_count{route='graphql'})")[()] >= 1


def test_every_metric_of_the_catalogue_is_on_the_endpoint(seen):
    kinds = {family.name: family.type for family in text_string_to_metric_families(get(f"{seen.web}/metrics"))}
    for metric in METRICS:
        assert kinds[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name] == metric.kind
    assert {name for name in kinds if name.startswith("cqox_")} == {
        metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        for metric in METRICS
        if metric.name.startswith("cqox_")
    }


def test_an_exporter_and_the_web_server_tell_the_same(seen):
    def told(url: str) -> dict[str, float]:
        return {
            str((sample.name, sample.labels)): sample.value
            for family in text_string_to_metric_families(get(url))
            if family.name.startswith(("cqox_runs", "cqox_est", "cqox_step", "cqox_gates", "cqox_ref", "cqox_run_"))
            for sample in family.samples
        }

    wait_for(lambda: told(f"{seen.web}/metrics") == told(f"{seen.exporter}/metrics"), 60)


def test_rules_are_evaluated_without_an_error(seen):
    def health() -> set[str]:
        groups = json.loads(get(f"{seen.prometheus}/api/v1/rules"))["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    wait_for(lambda: health() == {"ok"}, 60, lambda: str(health()))
    wait_for(lambda: query(seen, "cqox:http_error_budget:remaining") != {}, 60)


def test_spans_are_run_op_stage_in_the_trace_of_the_run(seen):
    spans = {span["id"]: span for span in seen.receiver.spans}
    assert {span["trace"] for span in spans.values()} == {trace_id(seen.run_id)}
    (root,) = (span for span in spans.values() if not span["parent"])
    assert root["id"] == f"{run_span_id(seen.run_id):016x}"
    assert root["name"] == "run analyse_partition"
    assert root["attributes"]["cqox.partition"] == KEY
    ops = {span["name"]: span for span in spans.values() if span["parent"] == root["id"]}
    assert set(ops) == {name.replace("/", "__") for name in _ASSETS}
    stages = [span for span in spans.values() if span["parent"] not in ("", root["id"])]
    assert {span["name"] for span in stages} == {"load", "compute", "store"}
    for span in stages:
        op = spans[span["parent"]]
        assert op["parent"] == root["id"]
        assert root["start"] <= op["start"] <= span["start"] <= span["end"] <= op["end"] <= root["end"]
    assert [s["name"] for s in stages if s["parent"] == ops["estimates__iv"]["id"]] == ["load", "compute", "store"]


def test_the_log_of_the_run_says_run_partition_and_trace(seen):
    lines = [line for line in seen.lines if line["component"] == "run" and line.get("job")]
    assert {line["run_id"] for line in lines} == {seen.run_id}
    assert {line["trace_id"] for line in lines} == {span["trace"] for span in seen.receiver.spans}
    assert {line["partition"] for line in lines} == {KEY}
    types = [line["event_type"] for line in lines]
    assert types[0] == "PIPELINE_START"
    assert types[-1] == "PIPELINE_SUCCESS"
    ended = {line["step"]: line["span_id"] for line in lines if line["event_type"] == "STEP_SUCCESS"}
    assert ended == {span["name"]: span["id"] for span in seen.receiver.spans if span["name"] in ended}
    assert len(ended) == len(_ASSETS)


def test_the_web_server_logs_requests_as_json(seen):
    answers(f"{seen.web}/runs/{seen.run_id}")
    log = seen.home / "web.log"
    wait_for(lambda: any(line["run_id"] == seen.run_id for line in json_lines(log.read_text("utf-8"))), 30)
    line = next(line for line in json_lines(log.read_text("utf-8")) if line["run_id"] == seen.run_id)
    assert (line["component"], line["route"], line["trace_id"]) == ("web", "ui", trace_id(seen.run_id))


def small(home: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the small job as the command line does."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", str(SMALL), *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment(home, **settings), capture_output=True, text=True, check=False
    )


def test_ops_in_processes_of_their_own_share_the_trace(tmp_path):
    with otlp_receiver() as receiver:
        done = small(tmp_path, "-j", "small", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, CQOX_LOG_FORMAT="json")
    assert done.returncode == 0, done.stderr
    assert len({span["trace"] for span in receiver.spans}) == 1
    by_name = {span["name"]: span for span in receiver.spans}
    assert {"run small", "first", "second"} <= set(by_name)
    assert by_name["first"]["parent"] == by_name["second"]["parent"] == by_name["run small"]["id"]
    words = [line for line in json_lines(done.stderr) if line["event"] == "a word from an op"]
    assert [line["trace_id"] for line in words] == [by_name["first"]["trace"]]


def test_a_failure_is_seen_in_spans_and_lines(tmp_path):
    with otlp_receiver() as receiver:
        done = small(tmp_path, "-j", "in_one_process", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, SMALL_FAILS="1",
                     CQOX_LOG_FORMAT="json")  # fmt: skip
    assert done.returncode != 0
    failed = {span["name"] for span in receiver.spans if span["error"]}
    assert failed == {"run in_one_process", "second", "compute"}
    (line,) = (line for line in json_lines(done.stderr) if line["event_type"] == "STEP_FAILURE")
    assert line["level"] == "error"
    assert "ValueError: as asked" in str(line["exception"])


_QUIET = """
import os, sys
sys.path.insert(0, sys.argv[1])
import dagster as dg
from tests.production.small_job import defs
job = defs.resolve_job_def("in_one_process")
def run():
    return job.execute_in_process(instance=dg.DagsterInstance.ephemeral()).success
def traced():
    return any(name.startswith(("opentelemetry", "prometheus_client")) for name in sys.modules)
url = os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
print("unset", run(), traced())
os.environ.update(OTEL_EXPORTER_OTLP_ENDPOINT=url, CQOX_TRACE_RATIO="0")
print("none", run(), traced())
os.environ.update(CQOX_TRACE_RATIO="often")
print("wrong", run(), traced())
"""


def quiet(script: str, home: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(ROOT)], cwd=ROOT, capture_output=True, text=True, check=True,
        env=environment(home, OTEL_EXPORTER_OTLP_ENDPOINT=url),
    )  # fmt: skip


def test_nothing_is_imported_or_sent_unless_it_is_asked_for(tmp_path):
    with otlp_receiver() as receiver:
        done = quiet(_QUIET, tmp_path, receiver.url)
    assert done.stdout.splitlines() == ["unset True False", "none True False", "wrong True False"]
    assert receiver == Receiver(receiver.url)
    assert "CQOX_TRACE_RATIO: found 'often'; expected a number from 0 to 1" in done.stderr


def test_a_collector_that_is_away_costs_no_run(tmp_path):
    done = small(tmp_path, "-j", "in_one_process", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr


def test_a_collector_that_is_away_is_tried_once_a_minute(monkeypatch):
    from opentelemetry.sdk.trace.export import SpanExportResult

    from dagster_deploy.observability import tracing

    exporter, now, tried = tracing.PatientExporter(), [100.0], []
    monkeypatch.setattr(tracing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(exporter._inner, "export", lambda _: tried.append(now[0]) or SpanExportResult.FAILURE)
    for now[0] in (100.0, 101.0, 130.0, 161.0):
        assert exporter.export([]) is SpanExportResult.FAILURE
    assert tried == [100.0, 161.0]


def test_the_daemon_writes_json_and_serves_its_process(tmp_path):
    port = free_port()
    env = environment(tmp_path, CQOX_LOG_FORMAT="json", CQOX_METRICS_PORT=str(port))
    command = [sys.executable, "-m", "dagster_deploy.observability", "daemon", "-f", str(SMALL)]
    log, url = tmp_path / "daemon.log", f"http://127.0.0.1:{port}/metrics"

    def components() -> set[object]:
        lines = (line for line in log.read_text("utf-8").splitlines() if line.startswith("{"))
        return {json.loads(line)["component"] for line in lines if line.endswith("}")}

    with server(command, env, log, url):
        wait_for(lambda: "daemon" in components(), 120, lambda: log.read_text("utf-8"))
        assert "process_resident_memory_bytes" in get(url)
        assert "cqox_runs_total" not in get(url)
    text = log.read_text("utf-8")
    assert re.search(r'"logger": "dagster\.daemon', text)
    assert not re.search(r"^\S+ \S+ \+0000 - dagster", text, re.MULTILINE), "a line in Dagster's own format"


@pytest.mark.parametrize("module", ["dagster_deploy.serve", "dagster_deploy.observability"])
def test_a_wrong_setting_is_named_before_anything_starts(module, tmp_path):
    arguments = ["exporter"] if module.endswith("observability") else []
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        env=environment(tmp_path, CQOX_LOG_FORMAT="xml", CQOX_METRICS_STORE="perhaps"), timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "CQOX_LOG_FORMAT: found 'xml'; expected text or json" in done.stderr
    assert "CQOX_METRICS_STORE: found 'perhaps'; expected on or off" in done.stderr
    assert "Traceback" not in done.stderr
