"""The runbook names what is there: modules, files, alerts and days."""

import importlib.util
import re

import pytest
import yaml

from dagster_deploy.production import objects, retention
from dagster_deploy.production.backup import __main__ as backup
from dagster_deploy.production.backup import expire
from tests.production.manifests import PRODUCTION, ROOT, built, named, of_kind

TEXT = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def test_commands_of_the_runbook_are_there() -> None:
    found = re.findall(r"python -m ([\w.]+)((?: [\w./:+-]+)*)", TEXT)
    assert len(found) > 5
    for module, arguments in found:
        assert importlib.util.find_spec(module) is not None, module
        if module.endswith(".backup"):
            backup._parser().parse_args(arguments.split())
    (recover,) = re.findall(r"run --rm dump (recover [^`]+)`", TEXT)
    backup._parser().parse_args(recover.replace("MOMENT", "2026-01-31T14:00:00+00:00").split())


def test_files_of_the_runbook_are_there() -> None:
    paths = set(re.findall(r"(?:dagster_deploy|tests)/[\w./-]+[\w]", TEXT))
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path
    for path in re.findall(r"apply -k (\S+)", TEXT.replace("`", " ").replace(",", " ")):
        assert path == "." or (ROOT / path / "kustomization.yaml").is_file(), path


def test_what_the_runbook_scales_and_deletes_is_in_the_manifests() -> None:
    kinds = {"deployment": "Deployment", "statefulset": "StatefulSet", "job": "Job", "rollout": "Rollout"}
    manifests = [*built("staging"), *built("production"), *built("recovery")]
    found = re.findall(r"\b(deployment|statefulset|job|rollout)[ /](cqox-[\w-]+)", TEXT)
    assert len(found) > 5
    for kind, name in found:
        assert name in {each["metadata"]["name"] for each in of_kind(manifests, kinds[kind])}, f"{kind} {name}"


def test_the_moment_and_the_image_that_are_replaced_are_there() -> None:
    text = (PRODUCTION / "kubernetes" / "recovery" / "recover.yaml").read_text(encoding="utf-8")
    for old in re.findall(r"s/([^/]+)/", re.findall(r"sed -i '([^']+)' recover.yaml", TEXT)[0]):
        assert re.search(old, text, re.M), old
    for overlay in ("staging", "production"):
        folder = PRODUCTION / "kubernetes" / "overlays" / overlay
        text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.yaml"))
        assert len(re.findall(r"0\.1\.0", text)) == 3, "the tag, and the image of the settings and of the code server"


def test_every_alert_has_its_place() -> None:
    rules = yaml.safe_load((PRODUCTION / "observability" / "alerts.yaml").read_text(encoding="utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    places = {heading.strip().lower() for heading in re.findall(r"^### (.+)$", TEXT, re.M)}
    for alert in alerts:
        page, _, place = alert["annotations"]["runbook_url"].partition("#")
        assert (ROOT / page).is_file()
        assert place in places, alert["alert"]
        assert place == alert["alert"].lower()


@pytest.mark.parametrize(("words", "days"), [
    ("log lines of runs in Postgres", retention.LOG_DAYS), ("notebooks (`analysis.ipynb`)", retention.NOTEBOOK_DAYS),
    ("dumps", expire.DUMP_DAYS), ("base backups, and the log that they need", expire.BASE_DAYS),
    ("replaced and removed objects", objects.KEEP_DAYS),
])  # fmt: skip
def test_days_are_those_of_the_code(words: str, days: int) -> None:
    (kept,) = re.findall(rf"^\| {re.escape(words)} \| (\d+) days", TEXT, re.M)
    assert int(kept) == days


def test_the_weeks_of_waiting_are_those_of_the_manifests() -> None:
    jobs = {job["metadata"]["name"]: job["spec"]["schedule"] for job in of_kind(built("production"), "CronJob")}
    lines = re.findall(r"^(\S+ \S+ \S+ \S+ \S+) cd .* --rm (\w+)$", TEXT, re.M)
    assert {f"cqox-{name}": when for when, name in lines} == jobs
    assert named(built("production"), "Rollout", "cqox-web")["spec"]["rollbackWindow"] == {"revisions": 3}
