"""The Compose file of one server fits the schema, starts in order, and opens nothing but the loopback address."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dagster_deploy.observability.settings import Observing
from dagster_deploy.production import check, retention
from dagster_deploy.production.backup import __main__ as backup
from tests.production.manifests import PRODUCTION, SCHEMAS

FOLDER = PRODUCTION / "compose"
OURS = ("cqox-web", "cqox-daemon", "cqox-code-server", "migrate", "keeper", "dump", "retention")
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def example() -> dict[str, str]:
    lines = (FOLDER / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """The file as Compose reads it, with the variables of .env.example and a password."""
    given = {**example(), "CQOX_POSTGRES_PASSWORD": "s3cret", "GRAFANA_PASSWORD": "g", **(overrides or {})}

    def put(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        if not given.get(name) and how == "?":
            raise KeyError(name)
        return given.get(name) or (rest if how == "-" else "")

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return _VARIABLE.sub(put, value) if isinstance(value, str) else value

    return dict(fill(yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))))


def services() -> dict[str, Any]:
    return dict(filled()["services"])


def test_the_file_fits_the_schema() -> None:
    schema = json.loads((SCHEMAS / "compose.json").read_text(encoding="utf-8"))
    checker = jsonschema.Draft7Validator(schema)
    raw = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    for content in (raw, filled()):
        assert [error.message for error in checker.iter_errors(content)] == []
    raw["services"]["postgres"]["helthcheck"] = {}
    assert list(checker.iter_errors(raw)), "a misspelt field is a fault"


def test_every_part_is_there() -> None:
    assert set(OURS) | {"postgres", "prometheus", "grafana", "loki", "jaeger", "collector"} == set(services())


def test_variables_and_their_example_agree() -> None:
    used = {match[0] for match in _VARIABLE.findall((FOLDER / "compose.yaml").read_text(encoding="utf-8"))}
    assert used | {"COMPOSE_PROJECT_NAME"} == set(example())


@pytest.mark.parametrize("name", ["CQOX_IMAGE", "CQOX_POSTGRES_PASSWORD", "GRAFANA_PASSWORD"])
def test_nothing_starts_without_a_secret_or_a_release(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        filled({name: ""})
    assert name == "CQOX_IMAGE" or example()[name] == "", "a password that everybody knows is none"


def test_only_the_loopback_address_is_open() -> None:
    ports = {name: service.get("ports", []) for name, service in services().items()}
    assert all(port.startswith("127.0.0.1:") for listed in ports.values() for port in listed)
    assert ports["cqox-web"] == ["127.0.0.1:3000:3000"]
    assert ports["postgres"] == []


def test_every_container_is_confined_and_pinned() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.search(r":v?\d", service["image"]), name
        assert service.get("read_only") is True or name == "grafana", name
        assert "privileged" not in service, name
        if name in OURS:
            assert service["user"] in ("10001:10001", "999:999"), name
            assert service["tmpfs"], name


@pytest.mark.parametrize("name", OURS)
def test_our_settings_pass_the_check(name: str, tmp_path: Path) -> None:
    environment = {key: str(value) for key, value in services()[name]["environment"].items()}
    home = environment["CQOX_HOME"]
    environment = {key: value.replace(home, str(tmp_path)) for key, value in environment.items()}
    assert check.problems({**environment, "DAGSTER_HOME": str(FOLDER)}) == []
    assert Observing.from_env(environment).log_format == "json"
    mounts = services()[name]["volumes"]
    assert name in ("keeper", "dump") or "home:/var/lib/cqox" in mounts
    assert name in ("keeper", "dump") or "./dagster.yaml:/opt/cqox/dagster/dagster.yaml:ro" in mounts


def test_commands_are_there() -> None:
    for name in OURS:
        service = services()[name]
        entry, command = service.get("entrypoint"), service["command"]
        if entry is None:
            assert command[0] in check.ROLES, name
        elif entry[-1].endswith(".backup"):
            backup._parser().parse_args(command)
        else:
            assert entry[-1] == retention.main.__module__


def test_servers_start_in_order() -> None:
    found = services()
    for name, service in found.items():
        wanted = service.get("depends_on", {})
        assert set(wanted) <= set(found), name
        for other, how in wanted.items() if isinstance(wanted, dict) else []:
            assert how["condition"] != "service_healthy" or "healthcheck" in found[other], f"{name} waits for {other}"
    for name in ("cqox-web", "cqox-daemon", "cqox-code-server"):
        assert found[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert "healthcheck" in found[name]
    assert found["keeper"]["network_mode"] == "service:postgres"


def test_volumes_and_files_are_there() -> None:
    content = filled()
    for name, service in content["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), f"{name}: {source}"
            elif not source.startswith("/"):
                assert source in content["volumes"], f"{name}: {source}"


def test_the_code_server_is_where_the_others_look() -> None:
    from dagster_deploy.production.entrypoint import DEFAULTS

    assert DEFAULTS["CQOX_CODE_HOST"] in services()


def test_logs_are_kept_as_long_as_the_runbook_says() -> None:
    loki = yaml.safe_load((FOLDER / "loki.yaml").read_text(encoding="utf-8"))
    assert loki["limits_config"]["retention_period"] == f"{retention.LOG_DAYS * 24}h"
    assert loki["compactor"]["retention_enabled"] is True


def test_the_collector_sends_to_services_that_exist() -> None:
    content = yaml.safe_load((FOLDER / "collector.yaml").read_text(encoding="utf-8"))
    for pipeline in content["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(content[part])
    hosts = {exporter["endpoint"].removeprefix("http://").split(":")[0] for exporter in content["exporters"].values()}
    assert hosts <= set(services())
    spans = services()["cqox-web"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert spans == f"http://collector:{content['receivers']['otlp']['protocols']['http']['endpoint'].split(':')[1]}"


def test_prometheus_asks_processes_that_answer() -> None:
    content = yaml.safe_load((PRODUCTION / "observability" / "prometheus.yaml").read_text(encoding="utf-8"))
    asked = {
        target["names"][0]: target["port"] for job in content["scrape_configs"] for target in job["dns_sd_configs"]
    }
    found = services()
    assert asked == {"cqox-web": 3000, "cqox-daemon": found["cqox-daemon"]["environment"]["CQOX_METRICS_PORT"]}
    sources = yaml.safe_load(
        (PRODUCTION / "observability" / "grafana" / "provisioning" / "datasources" / "cqox.yaml").read_text(
            encoding="utf-8"
        )
    )
    assert {re.sub(r"https?://([\w-]+):.*", r"\1", each["url"]) for each in sources["datasources"]} <= set(found)
