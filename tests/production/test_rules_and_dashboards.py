"""Rules, alerts, dashboards and their page: valid, alike, and about metrics that exist."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from cqox_assets.automation import JOBS as GRAPH_JOBS
from cqox_assets.catalog import load_estimators
from dagster_deploy.observability import catalogue
from dagster_deploy.observability.dashboards import DASHBOARDS, FOLDER, dashboard, rendered
from tests.conftest import ROOT

PLACE = ROOT / "dagster_deploy" / "production" / "observability"
RULES = [
    rule for group in yaml.safe_load((PLACE / "alerts.yaml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = ("alerts_test.yaml", "alerts_days_test.yaml")
_OF_OTHERS = {"up", "ALERTS"}
_NAME = re.compile(r"\b(?:cqox[\w:]*|process_\w+|up|ALERTS)\b")


def promtool(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queries() -> dict[str, str]:
    """Every PromQL expression of the dashboards, by panel."""
    return {
        f"{name}: {panel['title']} {target['refId']}": target["expr"]
        for name in DASHBOARDS
        for panel in dashboard(name)["panels"]
        for target in panel["targets"]
        if target["datasource"]["type"] == "prometheus"
    }


def names_in(expression: str) -> set[str]:
    """The metrics that an expression reads; what stands in quotes or braces is no metric."""
    plain = re.sub(r"\{[^}]*\}", "", re.sub(r"(by|without)\s*\([^)]*\)", "", expression))
    return set(_NAME.findall(plain))


def test_rules_and_scrape_configuration_are_valid():
    promtool("check", "rules", str(PLACE / "alerts.yaml"))
    promtool("check", "config", str(PLACE / "prometheus.yaml"))


def test_the_configuration_of_a_cluster_is_valid(tmp_path):
    """Debian builds Prometheus without the discovery of Kubernetes, so that block alone is looked at here."""
    config = yaml.safe_load((PLACE / "prometheus-kubernetes.yaml").read_text("utf-8"))
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
        job["static_configs"] = [{"targets": ["pod:3000"]}]
    config["rule_files"] = [str(PLACE / "alerts.yaml")]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
    promtool("check", "config", str(tmp_path / "prometheus.yaml"))


@pytest.mark.parametrize("file", TESTS)
def test_alerts_fire_and_are_quiet(file):
    assert "SUCCESS" in promtool("test", "rules", file, cwd=ROOT / "tests" / "production")


def test_each_alert_is_tested_both_ways():
    cases: dict[str, set[bool]] = {}
    for file in TESTS:
        for case in yaml.safe_load((ROOT / "tests" / "production" / file).read_text("utf-8"))["tests"]:
            alert, fires = case["name"].partition(":")[0], bool(case["promql_expr_test"][0]["exp_samples"])
            assert f'"{alert}"' in case["promql_expr_test"][0]["expr"]
            cases.setdefault(alert, set()).add(fires)
    assert cases == {alert: {True, False} for alert in ALERTS}


def test_the_thresholds_are_those_that_were_agreed():
    assert ALERTS["CqoxHighErrorRate"]["expr"] == "cqox:http_error_ratio:rate5m > 0.05"
    assert ALERTS["CqoxSlowRequests"]["expr"] == "cqox:http_request_seconds:p95 > 30"
    assert ALERTS["CqoxRunsFail"]["expr"] == "cqox:runs_failed:ratio15m > 0.1"
    assert ALERTS["CqoxMemoryHigh"]["expr"].endswith("> 0.9")
    assert ALERTS["CqoxMemoryHigh"]["for"] == "5m"


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    assert f"### {alert}\n" in (ROOT / "docs" / "observability.md").read_text("utf-8")
    runbook = ROOT / "docs" / "runbook.md"
    if runbook.exists():
        assert re.search(rf"^#+ {alert}$", runbook.read_text("utf-8"), re.MULTILINE), (
            f"{runbook} has no heading {alert}"
        )


def test_rules_and_dashboards_use_metrics_that_exist():
    known = {series for metric in catalogue.METRICS for series in metric.series} | _OF_OTHERS
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    used = {label: names_in(query) for label, query in queries().items()}
    used |= {rule.get("alert") or rule["record"]: names_in(rule["expr"]) for rule in RULES}
    assert {label for label, found in used.items() if not found} == {"service: Errors B", "runs: Failed runs B"}
    assert {label: unknown for label, found in used.items() if (unknown := found - known - recorded)} == {}
    read = set().union(*used.values())
    assert recorded <= read, "a recorded series that nothing reads"


def test_the_queries_of_dashboards_are_promql(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries().values())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    promtool("check", "rules", str(tmp_path / "rules.yaml"))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_are_what_the_code_says(name):
    """`python -m dagster_deploy.observability.dashboards` writes the files anew."""
    assert (FOLDER / f"{name}.json").read_text("utf-8") == rendered(name)
    assert json.loads(rendered(name))["uid"] == f"cqox-{name}"


def test_dashboards_ask_the_data_sources_that_are_provisioned():
    file = PLACE / "grafana" / "provisioning" / "datasources" / "cqox.yaml"
    provided = {source["uid"]: source["type"] for source in yaml.safe_load(file.read_text("utf-8"))["datasources"]}
    panels = [panel for name in DASHBOARDS for panel in dashboard(name)["panels"]]
    assert {panel["datasource"]["uid"]: panel["datasource"]["type"] for panel in panels}.items() <= provided.items()


def test_the_page_has_the_table_of_the_code():
    """`python -m dagster_deploy.observability.page` writes the table anew."""
    assert catalogue.markdown() in (ROOT / "docs" / "observability.md").read_text("utf-8")


def test_the_catalogue_knows_the_jobs_and_estimators_of_the_graph():
    assert sorted(catalogue.JOBS) == sorted(job.name for job in GRAPH_JOBS)
    assert sorted(catalogue.estimator_names()) == sorted(load_estimators())
