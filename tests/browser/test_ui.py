"""A newcomer's first minutes, in a real browser."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.browser.conftest import Product, wait_for
from tests.conftest import DATA

pytestmark = pytest.mark.browser
KEY = "policy|2025-01"
RUNS = "{runsOrError(limit: 50){... on Runs{results{runId status jobName tags{key value} stepStats{stepKey}}}}}"


def ask(product: Product, query: str) -> dict:
    request = urllib.request.Request(
        product.url + "/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["data"]


def runs(product: Product) -> list[dict]:
    return ask(product, RUNS)["runsOrError"]["results"]


def tag(run: dict, name: str) -> str:
    return next((item["value"] for item in run["tags"] if item["key"] == name), "")


def card_file(product: Product) -> Path:
    return product.home / "reports" / KEY.replace("|", "/") / "decision_card.json"


def launch_and_wait(product: Product, page, button: str) -> dict:
    """Click the button that launches a run, and wait until the new run has ended well."""
    before = {run["runId"] for run in runs(product)}
    page.get_by_role("button", name=button).click()

    def ended() -> bool:
        fresh = [run for run in runs(product) if run["runId"] not in before and run["jobName"] != "roll_up"]
        return bool(fresh) and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in fresh)

    wait_for(ended, 300, lambda: json.dumps(runs(product))[:2000])
    return next(run for run in runs(product) if run["runId"] not in before and run["jobName"] != "roll_up")


@pytest.fixture(scope="module")
def picked_up(product: Product) -> Product:
    """Drop the sample study into the inbox and wait for the sensor's run to end."""
    folder = product.home / "inbox" / KEY.replace("|", "/")
    folder.mkdir(parents=True)
    for path in sorted((DATA / KEY.replace("|", "/")).iterdir(), reverse=True):
        shutil.copy(path, folder)
    wait_for(card_file(product).exists, 300, lambda: (product.home / "serve.log").read_text("utf-8")[-3000:])
    wait_for(lambda: any(run["status"] == "SUCCESS" for run in runs(product)), 120)
    return product


def test_the_sensor_picks_up_a_dropped_file(picked_up: Product, page):
    run = next(run for run in runs(picked_up) if tag(run, "dagster/sensor_name") == "inbox_sensor")
    assert run["status"] == "SUCCESS"
    assert tag(run, "dagster/partition") == KEY
    page.goto(f"{picked_up.url}/runs/{run['runId']}")
    page.get_by_text("Success").first.wait_for()
    page.goto(f"{picked_up.url}/asset-groups")
    page.get_by_text("estimates").first.wait_for()


def test_a_partition_is_materialized_by_clicking(picked_up: Product, page):
    before = json.loads(card_file(picked_up).read_text("utf-8"))["provenance"]["run_id"]
    page.goto(f"{picked_up.url}/locations/dagster_deploy.definitions/jobs/analyse_partition")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Select a partition or create one").first.click()
    page.get_by_text("policy", exact=True).locator("visible=true").first.click()
    page.keyboard.press("Escape")

    def chosen() -> bool:
        """Type the month until the dialog keeps it: it forgets what was typed before its partitions are loaded."""
        button = page.get_by_role("button", name="Launch 1 run")
        if button.count() and button.is_enabled():
            return True
        page.get_by_placeholder("ex: 2015-01").fill("2025-01")
        page.keyboard.press("Tab")
        return False

    wait_for(chosen, 60)
    run = launch_and_wait(picked_up, page, "Launch 1 run")
    assert run["status"] == "SUCCESS"
    assert tag(run, "dagster/partition") == KEY
    assert json.loads(card_file(picked_up).read_text("utf-8"))["provenance"]["run_id"] == run["runId"] != before


def test_a_figure_is_shown_inline(picked_up: Product, page):
    page.goto(f"{picked_up.url}/assets/figures/ate_distribution?partition=policy%7C2025-01")
    image = page.locator("img[src*='/reports/policy/2025-01/figures/ate_distribution']")
    image.wait_for()
    wait_for(lambda: image.evaluate("image => image.complete && image.naturalWidth > 0"), 60)
    box = image.bounding_box()
    assert 300 < box["width"] < 800, "the figure fits the column"
    assert "estimates" in image.get_attribute("alt")


def test_the_card_is_one_click_away(picked_up: Product, page):
    page.goto(f"{picked_up.url}/assets/decisions/decision_card")
    page.get_by_role("link", name="Open the decision card").first.click()
    page.wait_for_url("**/reports/**/decision_card.html")
    page.wait_for_load_state()
    text = page.locator("body").inner_text()
    assert "Did job training raise the earnings" in text
    assert any(word in text for word in ("GO", "CANARY"))
    assert "1,794" in text
    page.locator("img").last.scroll_into_view_if_needed()
    loaded = "images => images.length > 0 && images.every(image => image.complete && image.naturalWidth > 0)"
    wait_for(lambda: page.locator("img").evaluate_all(loaded), 30)


def test_a_single_figure_is_materialized_alone(picked_up: Product, page):
    page.goto(f"{picked_up.url}/assets/figures/covariate_balance?partition=policy%7C2025-01")
    page.get_by_role("button", name="Materialize").first.click()
    run = launch_and_wait(picked_up, page, "Launch 1 run")
    assert run["status"] == "SUCCESS"
    assert [step["stepKey"] for step in run["stepStats"]] == ["figures_diagnostics"]


def test_the_domain_is_rolled_up_after_success(picked_up: Product):
    def rolled_up() -> bool:
        return any(run["jobName"] == "roll_up" and run["status"] == "SUCCESS" for run in runs(picked_up))

    wait_for(rolled_up, 180, lambda: json.dumps(runs(picked_up))[:2000])


@pytest.mark.parametrize("path", ["../dagster/dagster.yaml", "%2e%2e/dagster/dagster.yaml", "policy/nothing.html"])
def test_reports_give_nothing_else_away(picked_up: Product, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{picked_up.url}/reports/{path}", timeout=30)
    assert refused.value.code == 404


def test_reports_run_without_the_origin_of_the_ui(picked_up: Product):
    with urllib.request.urlopen(f"{picked_up.url}/reports/policy/2025-01/decision_card.html", timeout=30) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert policy == "sandbox allow-scripts allow-downloads"
