"""The benchmark: a row for everything, truths recovered, refusals and absent peers said; no test rests on a timing."""

import json
from dataclasses import replace

import pytest

import cqox_assets.benchmark as benchmark
from cqox_assets.benchmarks import worker
from cqox_assets.benchmarks.cases import COMMON, design_for
from cqox_assets.benchmarks.page import add, markdown
from cqox_assets.benchmarks.peers import PEERS, Peer
from cqox_assets.benchmarks.process import Worker, environment
from cqox_assets.benchmarks.report import text_report
from cqox_assets.catalog import load_estimators
from cqox_assets.result import EffectEstimate
from cqox_assets.runner import run_estimator
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import build_params

ROWS, SEED = 1500, 5
COMPARABLE = [peer for peer in PEERS.values() if not peer.differs and peer.estimator in load_estimators()]
# statsmodels and econml come with the product; with the extra `peers` installed the others are compared as well.
INSTALLED = [peer for peer in COMPARABLE if peer.missing() is None]


@pytest.fixture(scope="module")
def measured() -> dict:
    return benchmark.run_benchmark(ROWS, repeats=1, cold=False, seed=SEED)


def test_says_what_the_contract_names(measured):
    assert {"rows", "threads", "cpu_s", "wall_s", "peak_mb", "estimators", "peers"} <= set(measured)
    assert (measured["rows"], measured["threads"], measured["peers"]) == (ROWS, 1, {})
    needed = {"cpu_s", "wall_s", "peak_mb", "estimate", "truth", "error_in_se"}
    assert all(needed <= set(row) for row in measured["estimators"].values() if row["status"] == "ok")


def test_every_estimator_has_a_row_with_an_answer(measured):
    assert set(measured["estimators"]) == set(load_estimators())
    assert {name: row for name, row in measured["estimators"].items() if row["status"] != "ok"} == {}


def test_truths_are_recovered(measured):
    off = {name: row["error_in_se"] for name, row in measured["estimators"].items()}
    assert all(abs(value) < 4 for value in off.values()), off


def test_nuisance_models_are_charged_once_and_the_cost_alone_is_shown(measured):
    rows = measured["estimators"]
    parts = [measured["shared"]["nuisance_models"], *rows.values()]
    assert measured["cpu_s"] == pytest.approx(sum(row["cpu_s"] for row in parts))
    sharing = {name for name, spec in load_estimators().items() if spec.shares_nuisance}
    assert sharing == {name for name, row in rows.items() if "standalone_cpu_s" in row}


def test_the_table_has_a_line_for_every_estimator(measured):
    text = text_report(measured)
    assert all(any(line.startswith(name) for line in text.splitlines()) for name in measured["estimators"])


def test_estimators_that_adjust_share_one_study():
    designs = {name: design_for(spec) for name, spec in load_estimators().items()}
    assert {designs[name] for name, spec in load_estimators().items() if spec.shares_nuisance} == {COMMON}
    assert all(design in DESIGNS for design in designs.values())


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (lambda study, params, context: SPEC.refuse("no_reason", "nothing suits it", "ask another"), "refused"),
        (lambda study, params, context: 1 / 0, "failed"),
    ],
)
def test_a_refusal_and_a_bug_are_rows(monkeypatch, run, status):
    entry = replace(SPEC, run=run)
    monkeypatch.setattr(worker, "load_estimators", lambda: {"ols": entry})
    row = worker.answer(worker.Bench(), {"task": "estimator", "name": "ols", "rows": 100, "seed": 1, "repeats": 1})
    assert row["status"] == status
    assert row["cpu_s"] >= 0
    assert "estimate" not in row
    assert ("no_reason" if status == "refused" else "ZeroDivisionError") in json.dumps(row)


def test_an_entry_without_a_design_is_a_row(monkeypatch):
    monkeypatch.setattr(worker, "load_estimators", lambda: {"ols": replace(SPEC, truths=())})
    row = worker.answer(worker.Bench(), {"task": "estimator", "name": "ols", "rows": 100, "seed": 1, "repeats": 1})
    assert row["status"] == "no_design"


def test_what_takes_too_long_is_a_row_and_the_next_one_is_measured():
    with Worker(1, timeout=1e-9) as process:
        late = process.ask("estimator", name="ols", rows=200, seed=1, repeats=1)
        process.timeout = 300
        next_one = process.ask("estimator", name="ols", rows=200, seed=1, repeats=1)
    assert late["status"] == "timed_out"
    assert next_one["status"] == "ok"


def test_workers_write_byte_code_and_take_so_many_threads(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    variables = environment(3)
    assert "PYTHONDONTWRITEBYTECODE" not in variables
    assert variables["OPENBLAS_NUM_THREADS"] == variables["NUMBA_NUM_THREADS"] == "3"


@pytest.mark.parametrize("peer", INSTALLED, ids=[peer.key for peer in INSTALLED])
def test_a_peer_that_is_compared_answers_the_same_question(peer: Peer):
    study, _ = peer.study(1000, SEED)
    spec = load_estimators()[peer.estimator]
    ours = run_estimator(spec, study, build_params(spec.params, peer.params))
    estimate, error = peer.fit(study)
    assert isinstance(ours, EffectEstimate)
    assert ours.std_error is not None
    assert ours.estimand == peer.estimand
    assert abs(ours.estimate - estimate) < 0.5 * ours.std_error
    assert 0.75 < ours.std_error / error < 1.33


def test_some_peers_are_always_compared():
    assert {"statsmodels"} <= {peer.library for peer in INSTALLED}


def test_a_peer_that_is_not_installed_is_a_row_without_a_ratio(monkeypatch):
    absent = PEERS["ols: statsmodels OLS, HC1"]
    monkeypatch.setattr(Peer, "missing", lambda self: f"{self.library} is not installed")
    monkeypatch.setattr(benchmark, "PEERS", {absent.key: absent})
    found = benchmark.compare_with_peers(["ols", "iv"], 300, 1, threads=1, timeout=300, seed=1)
    assert found["rows"][0]["peer"] == {"status": "not_installed", "detail": "statsmodels is not installed"}
    assert found["rows"][0]["ours"]["status"] == "ok"
    assert found["rows"][0]["ratio"] is None
    assert found["ratio"] is None
    assert found["without"] == ["iv"]


def test_no_ratio_where_the_definition_differs():
    peer = PEERS["ols: statsmodels OLS, HC1"]
    row = {"status": "ok", "cpu_s": 2.0, "wall_s": 2.0, "first_cpu_s": 1.0, "peak_mb": 1.0}
    held = {"ours": [{**row, "cpu_s": 1.0}], "peer": [row]}
    assert benchmark._compared(peer, held)["ratio"] == 2.0
    assert benchmark._compared(replace(peer, differs="another estimand"), held)["ratio"] is None
    assert benchmark._compared(peer, {**held, "peer": [row, {"status": "failed"}]})["ratio"] is None


def test_medians_and_ranges_of_the_rounds():
    rows = [{"status": "ok", "cpu_s": c, "wall_s": c, "first_cpu_s": c, "peak_mb": c} for c in (3.0, 1.0, 2.0)]
    found = benchmark._median(rows)
    assert (found["cpu_s"], found["cpu_range_s"], found["peak_mb"], found["repeats"]) == (2.0, [1.0, 3.0], 3.0, 3)


SPEC = load_estimators()["ols"]


def test_the_page_has_every_size_and_keeps_what_an_earlier_call_measured(measured, tmp_path):
    page = tmp_path / "benchmark.md"
    peers = {"rows": [], "rounds": 3, "compared": 0, "ours_cpu_s": 0.0, "peers_cpu_s": 0.0, "ratio": None}
    add({**measured, "peers": peers}, page)
    add({**measured, "rows": 10 * ROWS}, page)
    add(measured, page)
    kept = json.loads(page.with_suffix(".json").read_text())
    assert list(kept) == [str(ROWS), str(10 * ROWS)]
    assert kept[str(ROWS)]["peers"]["rounds"] == 3
    text = page.read_text()
    assert text == markdown(list(kept.values()))
    assert "Beside other libraries, 1,500 rows" in text
    assert all(text.count(f"| `{name}` |") == 1 for name in measured["estimators"])
