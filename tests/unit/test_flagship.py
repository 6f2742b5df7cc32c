"""Flagship figures draw what was found, turn and move; the report site shows them with their data."""

import io
import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cqox_assets.catalog import load_figures, study_figures
from cqox_assets.decisions.site import FOLDER, INDEX, site_of
from cqox_assets.errors import NotDrawnError
from cqox_assets.figure_store import draw, draw_moving
from cqox_assets.figures import _files as files
from cqox_assets.figures import _surfaces as surfaces
from cqox_assets.ledger.history import own_history
from cqox_assets.ledger.network import build_network
from cqox_assets.partitions import Partition
from cqox_assets.result import Findings
from cqox_assets.spec import FRAMES
from cqox_assets.synthesis.quality_change import with_comparison
from cqox_assets.synthesis.quality_score import QualityScore
from cqox_resources.reports import ReportStore
from tests.unit.figure_checks import problems
from tests.unit.figure_studies import inputs_of

FIGURES = load_figures()
FILMS = {
    "allocation_path": "finance", "customer_value": "retail", "learning_gain": "education",
    "spillover_dynamics": "network_trial", "treatment_trajectory": "healthcare",
    "event_study": "staggered_panel", "parallel_trends": "staggered_panel", "timeseries_panel": "interrupted_series",
    "panel_matching_effects": "staggered_panel", "synthetic_control_path": "one_treated_unit",
    "its_segments": "interrupted_series",
}  # fmt: skip
PAGES = {
    "causal_surface_3d": "retail", "cate_landscape_3d": "retail", "policy_manifold_3d": "retail",
    "network_spillover_3d": "network_trial", "confounding_contours": "retail",
}  # fmt: skip


def with_months(inputs, months=3):
    """Inputs with earlier periods whose effects are known."""
    now = inputs.findings["history"].iloc[[0]]
    past = [now.assign(period=f"2024-{month:02d}", estimate=float(month), std_error=0.5, low=month - 1.0,
                       high=month + 1.0) for month in range(1, months)]  # fmt: skip
    return replace(inputs, findings={**inputs.findings, "history": pd.concat([*past, now], ignore_index=True)})


def frames_differ(frames):
    seen = [np.asarray(Image.open(io.BytesIO(frame)).convert("L")).astype(int) for frame in frames]
    return [float(np.abs(later - first).mean()) for first, later in itertools.pairwise(seen)]


@pytest.mark.parametrize(("name", "study"), FILMS.items())
def test_films_move_and_end_with_the_summary(name, study):
    drawing = FIGURES[name].made(inputs_of(study), "animated")
    pd.testing.assert_frame_equal(drawing.data, FIGURES[name].made(inputs_of(study)).data)
    made = files.moving_files(drawing)
    picture = Image.open(io.BytesIO(made[".gif"]))
    assert (picture.size, picture.n_frames, picture.info["duration"], picture.info["loop"]) == ((800, 600), 30, 200, 0)
    frames = [made[f"_frames/{place:02d}.png"] for place in range(1, FRAMES + 1)]
    assert sum(change > 0 for change in frames_differ(frames)) >= FRAMES // 3
    assert made[".html"].count(b"data:image/png;base64,") == FRAMES + 1
    assert not re.search(rb'(src|href)="https?:', made[".html"])
    for place in (0, 12, FRAMES - 1):
        assert not problems(drawing.frames(place)), place


@pytest.mark.parametrize(("name", "study"), PAGES.items())
def test_pages_turn_without_a_network(name, study):
    page = FIGURES[name].made(inputs_of(study), "3d").page
    assert "Plotly.newPlot" in page
    assert "<script src=" not in page
    assert "<link" not in page
    assert 'name="viewport"' in page


@pytest.mark.parametrize("name", ["allocation_path", "customer_value", "learning_gain", "treatment_trajectory"])
def test_films_of_a_domain_say_whose_they_are(name):
    with pytest.raises(NotDrawnError, match="this study is of the domain 'policy'"):
        FIGURES[name].made(inputs_of("policy"))


def test_months_are_pooled_by_their_precision():
    inputs = with_months(inputs_of("retail"))
    drawing = FIGURES["ate_animation"].made(inputs, "animated")
    rows = drawing.data
    assert list(rows["period"]) == ["2024-01", "2024-02", "2025-01"]
    assert rows["pooled"].iloc[1] == pytest.approx(1.5)
    half = 1.959964 * np.sqrt(1 / (2 / 0.25))
    assert rows["pooled_high"].iloc[1] - rows["pooled"].iloc[1] == pytest.approx(half, rel=1e-5)
    assert (rows["pooled_high"] - rows["pooled_low"]).is_monotonic_decreasing
    assert not problems(drawing.figure)
    with pytest.raises(NotDrawnError, match="one period"):
        FIGURES["ate_animation"].made(inputs_of("retail"))


def test_history_joins_only_the_same_question():
    inputs = inputs_of("retail")
    summary, study = inputs.findings["effect_summary"], inputs.study
    group = summary.targets()[0]
    roles = {"outcome": ["購入金額"], "treatment": ["クーポン"]}
    said = {"estimand": group.estimand, "contrast": group.contrast, "scale": group.scale, "consensus": 7.0, "at": {}}

    def card(period, roles, **changed):
        return {"partition": f"retail|{period}", "study": {"roles": roles, "rows": 5}, "verdict": "GO", "estimates": [],
                "synthesis": {"groups": [{**said, **changed}]}}  # fmt: skip

    cards = [card("2024-01", roles), card("2024-02", {**roles, "outcome": ["来店回数"]}),
             card("2024-03", roles, estimand="LATE")]  # fmt: skip
    found = own_history(cards, study, summary, "2025-01")
    assert list(found["period"]) == ["2024-01", "2025-01"]
    assert found["estimate"].tolist() == pytest.approx([7.0, group.consensus])


def test_the_manifold_is_the_table_and_its_shadow_price_falls():
    inputs = inputs_of("retail")
    found = inputs.findings["policy_value"]
    drawing = FIGURES["policy_manifold_3d"].made(inputs)
    assert drawing.data["net_benefit"].tolist() == found.tables["grid"]["net_benefit"].tolist()
    whole = drawing.data[drawing.data["coverage"] == 1.0].sort_values("budget")
    assert whole["shadow_price"].iloc[1] > whole["shadow_price"].iloc[-2]
    assert (drawing.data.loc[~drawing.data["binding"], "shadow_price"] == 0).all()
    with pytest.raises(NotDrawnError, match="cost_per_treatment"):
        FIGURES["policy_manifold_3d"].made(inputs_of("finance"))


def test_findings_that_were_not_computed_give_their_reason():
    lost = Findings({"status": "not_computed", "code": "x", "reason": "the study has one arm", "remedy": "deliver two"})
    inputs = replace(inputs_of("retail"), findings={"policy_value": lost})
    assert FIGURES["policy_manifold_3d"].unmet(inputs) == "needs policy value, but: the study has one arm"
    assert "counterfactual systems" in FIGURES["counterfactual_comparison"].unmet(inputs)


def test_the_radar_draws_two_scenarios_and_axes_without_evidence():
    axes = {"validity": 3.0, "robustness": 8.0, "precision": 5.0, "interpretability": None, "scalability": 9.0}
    zones = {"validity": "fail", "robustness": "pass", "precision": "warn", "interpretability": "not_run",
             "scalability": "pass"}  # fmt: skip
    before = QualityScore(70.0, {**axes, "validity": 7.5}, "pass", zones)
    score = with_comparison(QualityScore(55.0, axes, "fail", zones), before, ("2025-01", "2025-02"))
    drawing = FIGURES["cas_radar_chart"].made(replace(inputs_of("retail"), findings={"quality_score": score}))
    rows = drawing.data.set_index("axis")
    assert (rows.loc["validity", "before"], rows.loc["validity", "value"]) == (7.5, 3.0)
    assert "went from 70 in 2025-01 to 55 in 2025-02" in drawing.caption
    assert not problems(drawing.figure)
    few = QualityScore(None, dict.fromkeys(axes), "not_run", {})
    with pytest.raises(NotDrawnError, match="fewer than three"):
        FIGURES["cas_radar_chart"].made(replace(inputs_of("retail"), findings={"quality_score": few}))


def test_peaks_are_above_their_neighbours_and_ridges_inside():
    y, x = np.mgrid[0:21, 0:21] / 10.0 - 1.0
    z = np.exp(-8 * ((x - 0.5) ** 2 + y**2)) - np.exp(-8 * ((x + 0.5) ** 2 + y**2))
    assert surfaces.extremes(z, 1)[0] == (10, 15)
    assert surfaces.extremes(z, -1)[0] == (10, 5)
    assert (10, 15) in surfaces.ridge(z, 1)
    z[:, :3] = np.nan
    assert all(column >= 3 for _, column in surfaces.ridge(z, 1))


def test_ties_share_the_effect_of_treated_neighbours():
    inputs = inputs_of("network_trial")
    drawing = FIGURES["network_spillover_3d"].made(inputs)
    item = next(answer for name, answer in inputs.answered().items() if "unit_effects" in answer.tables)
    effects = item.tables["unit_effects"]["effect"].to_numpy()
    assert drawing.data["effect"].to_numpy() == pytest.approx(effects[drawing.data["row"].to_numpy()])
    assert drawing.data["on_path"].sum() >= 2


def test_treatment_travels_along_ties_only():
    drawing = FIGURES["spillover_dynamics"].made(inputs_of("network_trial"))
    data = drawing.data
    assert ((data["step"] == 0) == (data["treated"] > 0)).all()
    assert ((data["step"] == 1) == ((data["treated"] == 0) & (data["treated_neighbours"] > 0))).mean() > 0.9
    assert sorted(data["order"]) == list(range(1, len(data) + 1))


def test_domains_that_share_an_effect_are_joined():
    from tests.unit.test_ledger import build_history

    def history(domain, effect):
        said = {"estimand": "ATT", "contrast": "treated - control", "scale": "difference", "consensus": effect,
                "std_error": 1.0, "low": effect - 2, "high": effect + 2, "at": {}}  # fmt: skip
        roles = {"outcome": ["earnings"], "treatment": ["training"]}
        return build_history([{"partition": f"{domain}|2025-01", "study": {"roles": roles, "rows": 9}, "verdict": "GO",
                               "estimates": [], "synthesis": {"groups": [said]}}])  # fmt: skip

    nodes, edges = build_network({name: history(name, size) for name, size in (("a", 3.0), ("b", 4.0))})
    network = {"nodes": nodes.to_dict("records"), "edges": edges.to_dict("records")}
    inputs = replace(inputs_of("retail"), findings={"domain_network": network})
    drawing = FIGURES["domain_network_graph"].made(inputs, "3d")
    assert "2 domains in 1 clusters; 1 pairs share 1 effects" in drawing.caption
    assert "ATT: 3 and 4" in drawing.page
    assert not problems(drawing.figure)
    with pytest.raises(NotDrawnError, match="no domain"):
        FIGURES["domain_network_graph"].made(replace(inputs, findings={"domain_network": {"nodes": [], "edges": []}}))


# The report site.


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of four figures, one of them not drawn, one film."""
    from upath import UPath

    root = tmp_path_factory.mktemp("reports")
    reports, partition = ReportStore(UPath(root)), Partition("retail", "2025-01")
    names = ("customer_value", "covariate_balance", "rd_plot")
    catalogue, inputs = study_figures(), inputs_of("retail")
    figures = {name: draw(catalogue[name], inputs, reports, partition) for name in names}
    moving = {"customer_value": draw_moving(catalogue["customer_value"], inputs, reports, partition)}
    card = {
        "question": "Does <b>it</b> work?",
        "verdict": "GO",
        "recommendation": "Roll out.",
        "partition": "retail|2025-01",
    }
    reports.write(f"{partition.path}/decision_card.html", b"card")
    found = dict(site_of(card, figures, moving, catalogue, lambda file: reports.read(f"{partition.path}/{file}")))
    for path, content in found.items():
        reports.write(f"{partition.path}/{path}", content)
    return root / "retail" / "2025-01", found, figures


def test_the_site_links_only_what_is_there(site):
    folder, found, _ = site
    for path, content in found.items():
        if not path.endswith(".html"):
            continue
        page = content.decode()
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
        for link in re.findall(r'(?:src|href)="([^"]+)"', page):
            assert (folder / path).parent.joinpath(link).resolve().is_file(), (path, link)
    assert "analysis.ipynb" not in found[INDEX].decode()


def test_the_site_escapes_and_names_what_is_missing(site):
    _, found, figures = site
    page = found[INDEX].decode()
    assert "Does &lt;b&gt;it&lt;/b&gt; work?" in page
    assert figures["rd_plot"].status == "not_drawn"
    assert figures["rd_plot"].title in page
    assert f"{FOLDER}/rd_plot.html" not in found
    assert "Animated." in page
    assert page.count("alt=") == 2


def test_the_data_of_a_figure_can_be_taken_away(site):
    _, found, figures = site
    table = pd.read_csv(io.BytesIO(found[f"{FOLDER}/customer_value.csv"]), encoding="utf-8-sig")
    assert table["net_benefit"].tolist() == pytest.approx(figures["customer_value"].data["net_benefit"].tolist())
    small = Image.open(io.BytesIO(found[f"{FOLDER}/customer_value.png"]))
    assert small.width <= 480
    assert small.height <= 320


def test_a_redrawn_figure_that_is_not_drawn_leaves_no_film(tmp_path):
    from upath import UPath

    reports, partition = ReportStore(UPath(tmp_path)), Partition("retail", "2025-01")
    spec = FIGURES["customer_value"]
    assert draw(spec, inputs_of("retail"), reports, partition).status == "drawn"
    assert set(draw_moving(spec, inputs_of("retail"), reports, partition).files) == {"html", "gif"}
    assert draw_moving(spec, inputs_of("policy"), reports, partition).status == "not_drawn"
    left = {path.suffix for path in (tmp_path / "retail/2025-01/figures").iterdir() if path.is_file()}
    assert left == {".png", ".svg", ".parquet"}
    assert not list((tmp_path / "retail/2025-01/figures").rglob("[0-9][0-9].png"))
