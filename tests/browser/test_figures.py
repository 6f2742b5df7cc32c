"""Figures in a real browser: a surface turns under the mouse, a film plays, the gallery fits on a phone."""

import json
from pathlib import Path

import pytest
from upath import UPath

from cqox_assets.catalog import load_figures
from cqox_assets.decisions.site import INDEX, site_of
from cqox_assets.figure_store import draw, draw_moving
from cqox_assets.partitions import Partition
from cqox_resources.reports import ReportStore
from tests.browser.conftest import Product
from tests.unit.figure_studies import inputs_of

pytestmark = pytest.mark.browser
NAMES = ("policy_manifold_3d", "customer_value", "covariate_balance")
# The page draws once its fonts are there.
EYE = "document.getElementById('drawing')?._fullLayout?.scene?._scene?.getCamera()?.eye"


@pytest.fixture(scope="module")
def gallery(product: Product) -> str:
    """Draw figures of the retail sample into the running product's reports; return the link to its gallery."""
    reports, partition = ReportStore(UPath(product.home / "reports")), Partition("retail", "2025-01")
    catalogue, inputs = load_figures(), inputs_of("retail")
    figures = {name: draw(catalogue[name], inputs, reports, partition) for name in NAMES}
    moving = {
        name: draw_moving(catalogue[name], inputs, reports, partition) for name in NAMES if catalogue[name].moving
    }
    card = {
        "question": inputs.study.declaration.question,
        "verdict": "GO",
        "recommendation": "",
        "partition": partition.key,
    }
    read = ReportStore.read
    for path, content in site_of(
        card, figures, moving, catalogue, lambda file: read(reports, f"{partition.path}/{file}")
    ):
        reports.write(f"{partition.path}/{path}", content)
    return f"{product.url}/reports/{partition.path}/{INDEX}"


def test_a_surface_turns_under_the_mouse(gallery: str, page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(gallery)
    page.get_by_role("link", name="Net benefit by coverage and budget").click()
    page.get_by_role("link", name="Turn and zoom it").click()
    page.wait_for_function(f"() => {EYE}")
    before = page.evaluate(EYE)
    box = page.locator("#drawing").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 180, middle[1] + 40, steps=8)
    page.mouse.up()
    page.wait_for_function(f"(old) => Math.abs({EYE}.x - old) > 0.1", arg=before["x"])
    assert json.dumps(page.evaluate(EYE)) != json.dumps(before)
    host = gallery.partition("/reports/")[0]
    assert not [url for url in asked if not url.startswith((host, "data:", "blob:"))]


def test_a_film_plays_stops_and_steps(gallery: str, page):
    page.goto(gallery)
    page.get_by_role("link", name="What treating each group of customers is worth").click()
    page.get_by_role("link", name="Play, stop and step through").click()
    picture, shown = page.locator("#frame"), page.locator("#shown")
    assert shown.inner_text() == "30 of 30"
    last = picture.get_attribute("src")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.getElementById('shown').textContent.startsWith('3 ')")
    page.get_by_role("button", name="Pause").click()
    assert picture.get_attribute("src") != last
    stopped = shown.inner_text()
    page.wait_for_timeout(500)
    assert shown.inner_text() == stopped
    page.locator("#place").fill("30")
    assert picture.get_attribute("src") == last


def test_the_gallery_fits_on_a_phone(gallery: str, page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(gallery)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("main img, .grid img").count() == len(NAMES)
    page.get_by_role("link", name="Covariate balance").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    with page.expect_download() as taken:
        page.get_by_role("link", name="Data as CSV").click()
    assert Path(taken.value.path()).read_text("utf-8-sig").count("\n") > 2
