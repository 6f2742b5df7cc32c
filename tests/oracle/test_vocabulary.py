"""Vocabulary values on simulated data, against formulas written out here; and entries that are odd or incomplete."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import cqox_assets as cqox
from cqox_assets.errors import CatalogError, DeclarationError
from cqox_assets.result import EffectEstimate
from tests.oracle.__main__ import main
from tests.oracle.harness import Answer, Verdict, load_adapters, run_entry

Z = 1.959963984540054
ADAPTERS = load_adapters()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write one file of 300 rows whose columns serve every test."""
    rng, n = np.random.default_rng(20), 300
    x, group = rng.normal(size=n), rng.integers(0, 25, n)
    d = (rng.random(n) < 1 / (1 + np.exp(-0.5 * x))) * 1.0
    few, many, z = rng.integers(0, 4, n) * 1.0, rng.normal(size=n), rng.normal(size=n)
    shared = rng.normal(size=25)[group]
    m = 0.5 * d + 0.3 * x + shared + rng.normal(size=n)
    y = 1 + 2 * d + 0.5 * few + x + 0.5 * m + 0.6 * shared + 0.4 * d * x + rng.normal(size=n) * (1 + d)
    frame = pd.DataFrame(
        {"y": y, "d": d, "x": x, "w": rng.normal(size=n), "few": few, "many": many + 0.5 * x, "z": z,
         "few_z": np.clip(np.round(few + z), 0, 6), "m": m, "g": group, "e": 1 / (1 + np.exp(-0.5 * x))}
    )  # fmt: skip
    place = tmp_path_factory.mktemp("vocabulary")
    frame.to_csv(place / "rows.csv", index=False)
    return place


@pytest.fixture(scope="module")
def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "rows.csv")


def _entry(value: Any, error: float | None = None, ends: Any = None, /, **spec: Any) -> dict[str, Any]:
    return {
        "id": "own", "kind": "exact", "value": value, "se": error, "ci": ends,
        "tolerance": {"value_rtol": 1e-8, "se_rtol": 1e-7},
        "spec": {"file": "rows.csv", "target": "sample", "estimand": "ATE", "compare": "tolerance", "params": {},
                 "report": "estimate", **spec},
    }  # fmt: skip


def _run(folder: Path, value: Any, error: float | None = None, ends: Any = None, /, **spec: Any) -> Verdict:
    return run_entry(_entry(value, error, ends, **spec), [folder], ADAPTERS)


def _met(folder: Path, value: float, error: float | None = None, ends: Any = None, /, **spec: Any) -> None:
    """Assert that the entry is met, and that it would not be with another value or standard error."""
    verdict = _run(folder, value, error, ends, **spec)
    assert verdict.status == "met", verdict
    if error is not None:
        assert _run(folder, value, 1.001 * error, **spec).status == "missed"
    assert _run(folder, value + 1e-3 * max(1.0, abs(value)), **spec).status == "missed"


def _normal(value: float, se: float) -> list[float]:
    return [value - Z * se, value + Z * se]


def _least_squares(
    design: np.ndarray, outcome: np.ndarray, kind: str, cluster: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and covariance, written out from the references' README."""
    n, k = design.shape
    bread = np.linalg.inv(design.T @ design)
    coef = bread @ design.T @ outcome
    e = outcome - design @ coef
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    if kind == "classical":
        return coef, bread * (e @ e) / (n - k)
    if cluster is None:
        factor = {"HC0": 1.0, "HC1": n / (n - k), "HC3": 1 / (1 - leverage) ** 2}[kind]
        return coef, bread @ (design.T * (e**2 * factor)) @ design @ bread
    sums = np.stack([(design * e[:, None])[cluster == g].sum(axis=0) for g in np.unique(cluster)])
    size = len(sums)
    return coef, bread @ sums.T @ sums @ bread * size / (size - 1) * (n - 1) / (n - k)


def _columns(*columns: Any) -> np.ndarray:
    return np.column_stack([np.ones(len(columns[0])), *columns])


# odd entries


def test_an_entry_that_goes_wrong_stops_no_other(folder: Path) -> None:
    odd: list[Any] = [
        17, None, {}, {"id": "a", "spec": {}, "kind": "exact"}, {"id": "b", "spec": [], "kind": "exact", "value": 1},
        {"id": "c", "spec": {"method": "ols"}, "value": 1}, {"id": "d", "kind": "exact", "value": 1},
        {"id": "e", "kind": "exact", "value": 1, "spec": {"method": "ols", "roles": [1]}},
        {"id": "f", "kind": "exact", "value": 1, "spec": {"method": "none such"}},
    ]  # fmt: skip
    verdicts = [run_entry(item, [folder], ADAPTERS) for item in odd]
    assert {item.status for item in verdicts} == {"uncovered"}
    assert [item.detail for item in verdicts[:4]] == [
        "the entry is a int, not an object", "the entry is a NoneType, not an object",
        "the entry has no 'spec'", "the entry has no 'value'",
    ]  # fmt: skip
    entry = _entry(1.0, method="ols", roles={"outcome": "y", "treatment": "d"})
    strange = SimpleNamespace(KEYS=(), PARAMS=(), ROLES=("outcome", "treatment"), answer=lambda _: Answer("x", "y"))
    assert run_entry(entry, [folder], {"ols": strange}).status == "missed"  # type: ignore[dict-item]
    assert run_entry(entry | {"value": "text"}, [folder], ADAPTERS).status == "missed"
    assert run_entry(entry | {"tolerance": [1]}, [folder], ADAPTERS).status == "missed"


def test_files_that_are_no_list_of_entries_are_uncovered(folder: Path, tmp_path: Path) -> None:
    good = _entry(0.0, method="e_value", file=None, report="e_value", measure="RR", params={"estimate": 2.0})
    good["value"] = 2 + 2**0.5
    content = {"a": "not json", "b": '{"notes": 1}', "c": "3", "d": json.dumps({"entries": [good]})}
    for name, text in content.items():
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    main(["--references", str(tmp_path), "--data", str(folder), "--json", str(out / "f.json")])
    found = json.loads((out / "f.json").read_text(encoding="utf-8"))
    assert (found["met"], found["missed"], found["uncovered"]) == (1, 0, 3)


# a numeric treatment is an amount


def test_the_public_functions_take_a_declaration(rows: pd.DataFrame) -> None:
    frame, roles = rows[["y", "few", "x"]], {"outcome": "y", "treatment": "few", "covariates": ["x"]}
    stated = {"treatment_kind": "continuous"}
    slope = _least_squares(_columns(rows["few"], rows["x"]), rows["y"].to_numpy(), "HC1")[0][1]
    one = cqox.estimate("ols", frame, roles, declaration=stated)
    assert isinstance(one, EffectEstimate)
    assert (one.headline.contrast, one.headline.estimand) == ("one unit of few", "slope")
    assert one.estimate == pytest.approx(slope)
    every = cqox.estimate_all(frame, roles, only=["ols"], declaration=stated)["ols"]
    assert isinstance(every, EffectEstimate)
    assert every.estimate == one.estimate
    assert len(cqox.estimate("ols", frame, roles).effects) == 3  # type: ignore[union-attr]
    with pytest.raises(DeclarationError, match="treatment_kind"):
        cqox.estimate("ols", frame, roles, declaration={"treatment_kind": "dose"})


@pytest.mark.parametrize("d", ["few", "many"])
def test_a_numeric_treatment_is_an_amount(folder: Path, rows: pd.DataFrame, d: str) -> None:
    y = rows["y"].to_numpy()
    roles = {"outcome": "y", "treatment": d, "covariates": ["x"]}
    for kind in ("classical", "HC1", "HC3"):
        coef, spread = _least_squares(_columns(rows[d], rows["x"]), y, kind)
        se = float(np.sqrt(spread[1, 1]))
        _met(folder, coef[1], se, _normal(coef[1], se), method="ols", roles=roles, se=kind, ci="normal")
        _met(folder, coef[2], method="ols", roles={"outcome": "y", "covariates": [d, "x"]}, params={"term": "x"})
    coef, spread = _least_squares(_columns(rows[d]), y, "HC1")
    _met(folder, coef[1], float(np.sqrt(spread[1, 1])), method="difference_in_means", roles=roles, se="HC1")
    product = _columns(rows[d], rows["x"], rows[d] * rows["x"])
    coef, spread = _least_squares(product, y, "HC1")
    at = np.array([0, 1, 0, 1.5])
    _met(folder, float(at @ coef), float(np.sqrt(at @ spread @ at)), method="ols_interaction_contrast", roles=roles,
         se="HC1", params={"interactions": ["x"], "at": {"x": 1.5}})  # fmt: skip


@pytest.mark.parametrize("d", ["few", "many"])
def test_the_partially_linear_model_takes_an_amount(folder: Path, rows: pd.DataFrame, d: str) -> None:
    n, design, fold = len(rows), _columns(rows["x"]), np.arange(len(rows)) % 3
    rest = {}
    for name in ("y", d):
        values, predicted = rows[name].to_numpy(), np.zeros(n)
        for k in range(3):
            coef = np.linalg.lstsq(design[fold != k], values[fold != k], rcond=None)[0]
            predicted[fold == k] = design[fold == k] @ coef
        rest[name] = values - predicted
    u, v = rest["y"], rest[d]
    theta = float(u @ v / (v @ v))
    psi = v * (u - v * theta) / np.mean(v**2)
    _met(folder, theta, float(np.sqrt(np.mean(psi**2) / n)), method="dml_plr", score="partialling_out",
         folds="index_mod", outcome_learner="ols", treatment_learner="ols", aggregation="dml2", se="influence",
         params={"n_folds": 3}, roles={"outcome": "y", "treatment": d, "covariates": ["x"]})  # fmt: skip


def test_instruments_for_an_amount_of_few_values(folder: Path, rows: pd.DataFrame) -> None:
    y, design, z = rows["y"].to_numpy(), _columns(rows["few_z"], rows["x"]), _columns(rows["z"], rows["x"])
    coef = np.linalg.solve(z.T @ design, z.T @ y)
    roles = {"outcome": "y", "treatment": "few_z", "covariates": ["x"], "instruments": ["z"]}
    _met(folder, coef[1], method="iv", form="2sls", estimand="LATE", roles=roles)


# formulas for standard errors


@pytest.mark.parametrize("kind", ["classical", "HC1", "CR1"])
@pytest.mark.parametrize("interaction", [False, True])
def test_the_delta_formula_of_mediation(folder: Path, rows: pd.DataFrame, kind: str, interaction: bool) -> None:
    n, d, m = len(rows), rows["d"].to_numpy(), rows["m"].to_numpy()
    cluster = rows["g"].to_numpy() if kind == "CR1" else None
    a, va = _least_squares(_columns(d, rows["x"]), m, kind, cluster)
    product = [d * m] if interaction else []
    b, vb = _least_squares(_columns(m, d, rows["x"], *product), rows["y"].to_numpy(), kind, cluster)
    level, mean = (0.5, float(rows["x"].mean())) if interaction else (0.0, 0.0)
    g = b[4] if interaction else 0.0
    # gradients in (a0, a1, ax) and (b0, bm, bd, bx[, bdm]); covariates are fixed, the two models are independent
    through = b[1] + g * level
    acme = (a[1] * through, [0, through, 0], [0, a[1], 0, 0, a[1] * level])
    middle = a[0] + a[1] * level + a[2] * mean
    ade = (b[2] + g * middle, [g, g * level, g * mean], [0, 0, 1, 0, middle])
    total = tuple(np.add(one, other) for one, other in zip(acme, ade, strict=True))
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"], "mediator": "m"} | (
        {"cluster": "g"} if cluster is not None else {}
    )
    for name, (value, by_a, by_b) in {"acme": acme, "ade": ade, "total": total}.items():
        one, other = np.asarray(by_a, float), np.asarray(by_b, float)[: len(b)]
        se = float(np.sqrt(one @ va @ one + other @ vb @ other))
        _met(folder, float(value), se, _normal(float(value), se), method="mediation", report=name, roles=roles,
             interaction=interaction, mediator_model="ols", outcome_model="ols", inference="delta", se="delta",
             coef_vcov=kind, ci="normal")  # fmt: skip
    if kind == "CR1":
        reach = stats.t.ppf(0.975, rows["g"].nunique() - 1) * se
        ends = [float(value) - reach, float(value) + reach]
        spec = {"method": "mediation", "report": "total", "roles": roles, "interaction": interaction, "se": "delta"}
        _met(folder, float(value), se, ends, **spec, coef_vcov=kind, ci="t_clusters_minus_1")
    assert n == 300


@pytest.mark.parametrize("centre", ["all", "treated"])
def test_the_superpopulation_term_is_of_all_rows(folder: Path, rows: pd.DataFrame, centre: str) -> None:
    x, d = rows[["x", "w"]].to_numpy(), rows["d"].to_numpy()
    centred = x - (x if centre == "all" else x[d == 1]).mean(axis=0)
    coef, spread = _least_squares(_columns(d, centred, centred * d[:, None]), rows["y"].to_numpy(), "HC0")
    extra = coef[-2:] @ np.cov(x.T, ddof=0) @ coef[-2:] / len(x)
    _met(folder, coef[1], float(np.sqrt(spread[1, 1] + extra)), method="regression_adjustment", centre=centre,
         form="fully_interacted", se="HC0_superpopulation",
         roles={"outcome": "y", "treatment": "d", "covariates": ["x", "w"]})  # fmt: skip


def test_a_bound_that_is_cut_at_one_leaves_no_error(folder: Path, rows: pd.DataFrame) -> None:
    y, d, x = rows["y"].to_numpy(), rows["d"].to_numpy(), rows[["x", "w"]].to_numpy()
    df, design = len(y) - 4, _columns(d, x)
    coef, spread = _least_squares(design, y, "classical")
    se = float(np.sqrt(spread[1, 1]))
    first, covariance = _least_squares(_columns(x), d, "classical")
    t2 = first[1] ** 2 / covariance[1, 1]
    r2d = t2 / (t2 + len(y) - 3)
    strength = 0.95 * (1 - r2d) / r2d  # as strong as can be: the bound of the outcome is then above 1
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x", "w"]}
    spec = {"method": "sensitivity_ovb", "roles": roles, "params": {"benchmark": "x", "strength": strength}}
    _met(folder, 0.95, **spec, report="bound_r2dz_x")
    _met(folder, 1.0, **spec, report="bound_r2yz_dx")
    value = abs(coef[1]) - se * np.sqrt(df * 0.95 / 0.05)
    _met(folder, float(np.sign(coef[1]) * value), **spec, report="adjusted_estimate")
    for ci, df_of in {"normal": np.inf, "t_df_minus_1": df - 1}.items():
        reach = stats.t.ppf(0.975, df_of) * se
        _met(folder, coef[1], se, [coef[1] - reach, coef[1] + reach], method="sensitivity_ovb", roles=roles,
             report="estimate", se="classical", ci=ci)  # fmt: skip


X_ROLES = {"outcome": "y", "treatment": "d", "covariates": ["x", "w"]}


def _stacked(equations: Any, theta: np.ndarray, gradient: np.ndarray) -> float:
    """Return the standard error of stacked equations, shape (n, k) at theta, with a numerical derivative."""
    n, bread = len(equations(theta)), np.zeros((len(theta), len(theta)))
    for j in range(len(theta)):
        step = np.zeros(len(theta))
        step[j] = 1e-5
        bread[:, j] = (equations(theta + step) - equations(theta - step)).mean(axis=0) / 2e-5
    inverse, scores = np.linalg.inv(bread), equations(theta)
    return float(np.sqrt(gradient @ inverse @ (scores.T @ scores / n) @ inverse.T @ gradient / n))


def _logit(design: np.ndarray, d: np.ndarray) -> np.ndarray:
    coef = np.zeros(design.shape[1])
    for _ in range(50):
        e = 1 / (1 + np.exp(-design @ coef))
        coef = coef + np.linalg.solve((design * (e * (1 - e))[:, None]).T @ design, design.T @ (d - e))
    return coef


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
def test_stacked_equations_of_weighting(folder: Path, rows: pd.DataFrame, known: bool, estimand: str) -> None:
    y, d, design = rows["y"].to_numpy(), rows["d"].to_numpy(), _columns(rows[["x", "w"]])
    att, k = estimand == "ATT", 0 if known else 3

    def parts(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        e = rows["e"].to_numpy() if known else 1 / (1 + np.exp(-design @ theta[:3]))
        one = d if att else d / e
        return one, (1 - d) / (1 - e) * (e if att else 1.0), [] if known else [design * (d - e)[:, None]]

    def weighting(theta: np.ndarray) -> np.ndarray:
        one, zero, scores = parts(theta)
        return np.column_stack([*scores, one * (y - theta[k]), zero * (y - theta[k + 1])])

    def augmented(theta: np.ndarray) -> np.ndarray:
        one, zero, scores = parts(theta)
        m1, m0 = design @ theta[k : k + 3], design @ theta[k + 3 : k + 6]
        start = d * (y - m0) if att else m1 - m0 + one * (y - m1)
        effect = start - zero * (y - m0) - theta[k + 6] * (d if att else 1.0)
        return np.column_stack(
            [*scores, design * (d * (y - m1))[:, None], design * ((1 - d) * (y - m0))[:, None], effect]
        )

    first = np.zeros(0) if known else _logit(design, d)
    one, zero, _ = parts(first)
    means = [one @ y / one.sum(), zero @ y / zero.sum()]
    roles = X_ROLES | ({"propensity": "e"} if known else {})
    spec = {"roles": roles, "estimand": estimand, "propensity": "known" if known else "logit", "se": "m_estimation"}
    se = _stacked(weighting, np.concatenate([first, means]), np.array([*np.zeros(k), 1.0, -1.0]))
    _near(folder, means[0] - means[1], se, method="ipw", normalise="hajek", **spec)
    arms = [np.linalg.lstsq(design[d == arm], y[d == arm], rcond=None)[0] for arm in (1, 0)]
    theta = np.concatenate([first, *arms, [0.0]])
    value = augmented(theta)[:, -1].mean() / (d.mean() if att else 1.0)
    theta[-1] = value
    se = _stacked(augmented, theta, np.array([*np.zeros(k + 6), 1.0]))
    _near(folder, value, se, method="aipw", outcome_model="ols_per_arm", cross_fit=False, **spec)


def _near(folder: Path, value: float, error: float, /, **spec: Any) -> None:
    """Assert what `_met` does, where the standard error rests on a numerical derivative."""
    entry = _entry(float(value), error, _normal(float(value), error), **spec, ci="normal")
    entry["tolerance"] = {"value_rtol": 1e-8, "se_rtol": 1e-6}
    verdict = run_entry(entry, [folder], ADAPTERS)
    assert verdict.status == "met", verdict
    assert run_entry(entry | {"se": 1.0001 * error}, [folder], ADAPTERS).status == "missed"


@pytest.mark.parametrize("kind", ["classical", "HC3", "CR1"])
def test_the_two_regressions_on_instruments_have_errors(folder: Path, rows: pd.DataFrame, kind: str) -> None:
    cluster = rows["g"].to_numpy() if kind == "CR1" else None
    design = _columns(rows["z"], rows["w"], rows["x"])
    roles = {"outcome": "y", "treatment": "few_z", "covariates": ["x"], "instruments": ["z", "w"]}
    roles |= {"cluster": "g"} if cluster is not None else {}
    for report, name in (("first_stage_coefficient", "few_z"), ("reduced_form_coefficient", "y")):
        coef, spread = _least_squares(design, rows[name].to_numpy(), kind, cluster)
        for place, term in ((1, "z"), (2, "w")):
            se = float(np.sqrt(spread[place, place]))
            reach = stats.t.ppf(0.975, len(rows) - 4 - 1) * se
            ends = [coef[place] - reach, coef[place] + reach]
            _met(folder, coef[place], se, ends, method="iv", report=report, roles=roles, se=kind, form="2sls",
                 params={"term": term}, ci="t_df_minus_1", estimand="LATE")  # fmt: skip


@pytest.mark.parametrize("ci", ["normal", "t_df_minus_1", "t_clusters_minus_1"])
def test_an_interval_follows_from_its_standard_error(folder: Path, rows: pd.DataFrame, ci: str) -> None:
    y, d = rows["y"].to_numpy(), rows["d"].to_numpy()
    groups = rows["g"].nunique()
    cases: list[tuple[np.ndarray, dict[str, Any]]] = [
        (_columns(d), {"method": "difference_in_means"}), (_columns(d, rows["x"]), {"method": "ols"}),
        (_columns(d, rows["x"], d * rows["x"]),
         {"method": "ols_interaction_contrast", "params": {"interactions": ["x"], "at": [0.0]}}),
        (_columns(d, rows["x"] - rows["x"].mean(), d * (rows["x"] - rows["x"].mean())),
         {"method": "regression_adjustment", "centre": "all"}),
    ]  # fmt: skip
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"], "cluster": "g"}
    for design, spec in cases:
        degrees = {"normal": np.inf, "t_df_minus_1": len(y) - design.shape[1] - 1, "t_clusters_minus_1": groups - 1}
        for kind in ("HC1", "CR1"):
            coef, spread = _least_squares(design, y, kind, rows["g"].to_numpy() if kind == "CR1" else None)
            se = float(np.sqrt(spread[1, 1]))
            reach = float(stats.t.ppf(0.975, degrees[ci])) * se
            ends = [coef[1] - reach, coef[1] + reach]
            _met(folder, coef[1], se, ends, roles=roles, se=kind, ci=ci, **spec)
            assert _run(folder, coef[1], se, [ends[0] - 1e-3, ends[1]], roles=roles, se=kind, ci=ci, **spec).detail


def test_propensities_are_moved_to_unequal_bounds(folder: Path, rows: pd.DataFrame) -> None:
    y, d, design = rows["y"].to_numpy(), rows["d"].to_numpy(), _columns(rows[["x", "w"]])
    n, fold = len(y), np.arange(len(y)) % 3
    e, m = np.zeros(n), np.zeros((2, n))
    for k in range(3):
        e[fold == k] = 1 / (1 + np.exp(-design[fold == k] @ _logit(design[fold != k], d[fold != k])))
        for arm in (0, 1):
            used = (fold != k) & (d == arm)
            m[arm, fold == k] = design[fold == k] @ np.linalg.lstsq(design[used], y[used], rcond=None)[0]
    spec = {
        "method": "dml_irm", "score": "ate", "folds": "index_mod", "outcome_learner": "ols_per_arm", "roles": X_ROLES,
        "treatment_learner": "logit", "aggregation": "dml2", "params": {"n_folds": 3}, "se": "influence",
    }  # fmt: skip
    for low, high in ((0.35, 0.6), (0.0, 0.55), (0.3, 0.7)):
        moved = np.clip(e, low, high)
        score = m[1] - m[0] + d * (y - m[1]) / moved - (1 - d) * (y - m[0]) / (1 - moved)
        value = float(score.mean())
        _met(folder, value, float(np.sqrt(np.mean((score - value) ** 2) / n)), **spec, trim=[low, high])
    assert _run(folder, value, **spec, trim=[0.6, 0.4]).status == "uncovered"
    with pytest.raises(CatalogError, match="clip_high"):
        cqox.estimate("double_ml", rows, X_ROLES, clip=0.4, clip_high=0.3)


def test_the_x_learner_mixes_by_a_known_propensity(folder: Path, rows: pd.DataFrame) -> None:
    y, d, design = rows["y"].to_numpy(), rows["d"].to_numpy(), _columns(rows[["x", "w"]])
    one, zero = (np.linalg.lstsq(design[d == arm], y[d == arm], rcond=None)[0] for arm in (1, 0))
    roles = X_ROLES | {"propensity": "e"}
    _met(folder, float((design @ (one - zero)).mean()), method="x_learner", report="ate", learner="ols",
         cross_fit=False, propensity="known", roles=roles)  # fmt: skip
    found = [
        cqox.estimate("x_learner", rows[["y", "d", "x", "w", "e"]], roles, propensity=how, learner="random_forest",
                      cross_fit=False, learner_params={"n_estimators": 20, "min_samples_leaf": 20})
        for how in ("auto", "known")
    ]  # fmt: skip
    effects = [item.tables["unit_effects"]["effect"] for item in found]  # type: ignore[union-attr]
    assert np.abs(effects[0] - effects[1]).max() > 1e-6
    refused = cqox.estimate("x_learner", rows, X_ROLES, propensity="known")
    assert refused.code == "missing_role"  # type: ignore[union-attr]
    refused = cqox.estimate("x_learner", rows.assign(e=1.0), roles, propensity="known")
    assert refused.code == "bad_propensity"  # type: ignore[union-attr]


def test_every_term_of_a_segmented_regression(folder: Path) -> None:
    rng, t = np.random.default_rng(5), np.arange(1.0, 61)
    frame = pd.DataFrame({"t": t, "month": (t.astype(int) + 3) % 12 + 1, "step": (t >= 31) * 1.0})
    frame["ss"], frame["cc"] = np.sin(2 * np.pi * frame["month"] / 12), np.cos(2 * np.pi * frame["month"] / 12)
    frame["bend"], frame["other"] = frame["step"] * (t - 31), rng.normal(size=60)
    frame["y"] = 1 + 0.1 * t + frame["step"] + frame["ss"] + frame["other"] + rng.normal(size=60)
    frame.to_csv(folder / "series.csv", index=False)
    frame, y = pd.read_csv(folder / "series.csv"), frame["y"].to_numpy()
    roles = {"outcome": "y", "treatment": "step", "time": "t", "month": "month"}
    waves = ["step", "t", "bend", "ss", "cc", "other"]
    months = frame["month"].to_numpy()
    dummies = {f"month={level:g}": (months == level) * 1.0 for level in range(2, 13)}
    trend = ["step", "t"]
    models: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({name: frame[name] for name in waves},
         {"roles": roles | {"regressors": waves, "covariates": ["other"]}, "seasonality": "harmonic",
          "slope_change": True, "params": {"change_point": 31, "harmonics": 1, "period": 12}}),
        ({name: frame[name] for name in trend} | dummies,
         {"roles": roles | {"regressors": trend}, "seasonality": "dummies", "params": {"change_point": 31}}),
        ({name: frame[name] for name in trend} | {"sin1": frame["ss"], "cos1": frame["cc"]},
         {"roles": roles, "seasonality": "harmonic", "params": {"harmonics": 1, "period": 12}}),
    ]  # fmt: skip
    for columns, spec in models:
        design = _columns(*columns.values())
        for kind in ("classical", "HC0", "HC1"):
            coef, spread = _least_squares(design, y, kind)
            for place, term in enumerate(["const", *columns]):
                se = float(np.sqrt(spread[place, place]))
                reach = float(stats.t.ppf(0.975, len(y) - design.shape[1] - 1)) * se
                ends = [coef[place] - reach, coef[place] + reach]
                given = spec | {"params": spec["params"] | {"term": term}}
                entry = _entry(coef[place], se, ends, method="its", report="coefficient", file="series.csv",
                               family="ols", se=kind, ci="t_df_minus_1", **given)  # fmt: skip
                entry["tolerance"]["value_abs"] = 1e-9
                verdict = run_entry(entry, [folder], ADAPTERS)
                assert verdict.status == "met", (term, verdict)


def test_a_density_test_of_any_order() -> None:
    from cqox_assets.diagnostics.density import density_test

    x = np.sort(np.random.default_rng(1).uniform(-1, 1, 400))
    cdf = np.arange(400) / 399
    for q in (1, 2, 4):
        side = []
        for rows_of in ((x < 0) & (x >= -0.6), (x >= 0) & (x <= 0.5)):
            design = np.vander(x[rows_of], q + 1, increasing=True)
            side.append(np.linalg.lstsq(design, cdf[rows_of], rcond=None)[0][1])
        found = density_test(x, 2, "uniform", (0.6, 0.5), mass_points=False, test_order=q)
        assert [found.left, found.right] == pytest.approx(side, rel=1e-7)


# a network in which some nodes have no neighbour

CONDITIONS = ("d00", "d01", "d10", "d11")


@pytest.fixture(scope="module")
def network(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Write 14 nodes, three of them isolated; return them and their ties."""
    rng, n = np.random.default_rng(3), 14
    ties = np.zeros((n, n))
    for one, other in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10), (0, 5), (2, 8)):
        ties[one, other] = ties[other, one] = 1
    edges = np.argwhere(np.triu(ties))
    pd.DataFrame(edges, columns=["from", "to"]).to_csv(folder / "edges.csv", index=False)
    t = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0.0])
    frame = pd.DataFrame({"id": np.arange(n), "t": t, "y": 1 + t + rng.normal(size=n)})
    frame.to_csv(folder / "nodes.csv", index=False)
    return frame, ties


def _every_assignment(ties: np.ndarray, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each assignment's probability, and whether it gives node i condition k, shape (assignments, n, 4)."""
    n = len(ties)
    drawn = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    chance = np.prod(np.where(drawn == 1, q, 1 - q), axis=1)
    code = 2 * drawn + (drawn @ ties > 0)
    return chance, code[:, :, None] == np.arange(4)


def _aronow_samii(y: np.ndarray, code: np.ndarray, pairs: np.ndarray, compared: tuple[int, int], hajek: bool) -> float:
    """Return the standard error of a contrast by the formula of the README over all pairs of (node, condition)."""
    n, own = len(y), np.einsum("ikik->ik", pairs)
    total = 0.0
    value = {}
    for k in compared:
        seen = code == k
        mean = np.sum(y[seen] / own[seen, k]) / np.sum(1 / own[seen, k])
        value[k] = np.where(seen, y - mean if hajek else y, 0.0)
    for k in compared:
        for other in compared:
            sign = 1.0 if k == other else -1.0
            for i in range(n):
                for j in range(n):
                    if not (own[i, k] > 0 and own[j, other] > 0):
                        continue  # the node can never have the condition, so it is no part of its mean
                    joint, a, b = pairs[i, k, j, other], value[k][i], value[other][j]
                    if i == j and k == other:
                        total += (1 - own[i, k]) * a**2 / own[i, k] ** 2
                    elif joint > 0:
                        apart = own[i, k] * own[j, other]
                        total += sign * (joint - apart) / joint * a * b / apart
                    else:
                        total += a**2 / (2 * own[i, k]) + b**2 / (2 * own[j, other])
    return float(np.sqrt(max(total, 0.0))) / n


def test_exposure_means_are_over_all_nodes(folder: Path, network: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, ties = network
    q, n, y, t = 0.4, len(frame), frame["y"].to_numpy(), frame["t"].to_numpy()
    chance, has = _every_assignment(ties, q)
    flat = has.reshape(len(chance), -1).astype(float)
    pairs = ((flat * chance[:, None]).T @ flat).reshape(n, 4, n, 4)
    own = np.einsum("ikik->ik", pairs)
    code = (2 * t + (ties @ t > 0)).astype(int)
    spec = {
        "method": "network_exposure", "file": "nodes.csv", "exposure": "own_by_any_treated_neighbour",
        "design": "bernoulli", "roles": {"outcome": "y", "treatment": "t", "node": "id"},
        "edges": {"file": "edges.csv", "source": "from", "target": "to", "listed": "once"},
    }  # fmt: skip
    for form in ("horvitz_thompson", "hajek", "unweighted"):
        means = []
        for k in range(4):
            seen = code == k
            weight = np.ones(seen.sum()) if form == "unweighted" else 1 / own[seen, k]
            size = n if form == "horvitz_thompson" else weight.sum()
            means.append(float(weight @ y[seen]) / size)
            _met(folder, means[k], **spec, report="condition_mean", normalise=form,
                 params={"probability": q, "condition": CONDITIONS[k]})  # fmt: skip
        for one in range(4):
            for other in set(range(4)) - {one}:
                named = {"probability": q, "contrast": [CONDITIONS[one], CONDITIONS[other]]}
                given = {"report": "contrast", "normalise": form, "params": named}
                if form == "unweighted":
                    _met(folder, means[one] - means[other], **spec, **given)
                    continue
                error = _aronow_samii(y, code, pairs, (one, other), form == "hajek")
                value = means[one] - means[other]
                _met(folder, value, error, _normal(value, error), **spec, **given, se="aronow_samii", ci="normal")
    _met(folder, float(own[:, 1].mean()), **spec, report="mean_exposure_probability",
         params={"probability": q, "condition": "d01"})  # fmt: skip


def test_what_becomes_of_isolated_nodes_is_said(network: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, ties = network
    edges = pd.DataFrame(np.argwhere(np.triu(ties)), columns=["source", "target"])
    roles, tables = {"outcome": "y", "treatment": "t", "unit": "id"}, {"edges": edges}
    found = cqox.estimate("network_effects", frame, roles, tables, probability=0.4, units="all")
    assert isinstance(found, EffectEstimate)
    assert any("3 units have no neighbour" in note and "different sets of units" in note for note in found.notices)
    assert found.sample.used == 14
    share = found.diagnostic("exposure_share")
    assert share is not None
    direct = cqox.estimate("network_effects", frame, roles, tables, probability=0.4, estimand="total")
    assert isinstance(direct, EffectEstimate)
    assert direct.sample.dropped == {"cannot have every compared exposure": 3}
    assert not any("different sets of units" in note for note in direct.notices)
