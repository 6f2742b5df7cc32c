"""Definitions of the vocabulary that no reference file has an entry for, against numbers made here by other code."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from tests.oracle.__main__ import DATA, data_folders
from tests.oracle.harness import Verdict, load_adapters, run_entry

LALONDE = {"outcome": "re78", "treatment": "treat", "covariates": ["age", "education", "black", "re74"]}
FOLDERS = data_folders(list(DATA))


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(next(folder / name for folder in FOLDERS if (folder / name).is_file()))


def _verdict(wanted: float, error: float | None, ends: Any = None, **spec: Any) -> Verdict:
    entry = {
        "id": "own", "kind": "exact", "value": wanted, "se": error, "ci": ends,
        "tolerance": {"value_rtol": 1e-8, "se_rtol": 1e-7},
        "spec": {"target": "sample", "estimand": "ATE", "compare": "tolerance", "params": {}, **spec},
    }  # fmt: skip
    return run_entry(entry, FOLDERS, load_adapters())


def _met(verdict: Verdict) -> None:
    assert verdict.status == "met", verdict


@pytest.mark.parametrize("kind", ["classical", "HC0", "HC1", "HC3"])
def test_an_interaction_contrast_is_that_of_statsmodels(kind: str) -> None:
    frame = _read("lalonde_nsw.csv")
    design = sm.add_constant(frame[["treat", *LALONDE["covariates"]]].astype(float))
    design["treat:age"], design["treat:re74"] = frame["treat"] * frame["age"], frame["treat"] * frame["re74"]
    fit = sm.OLS(frame["re78"], design).fit(cov_type="nonrobust" if kind == "classical" else kind)
    gradient = np.zeros(design.shape[1])
    gradient[[1, -2, -1]] = 1.0, 30.0, 2500.0
    value = float(gradient @ fit.params)
    se = float(np.sqrt(gradient @ fit.cov_params() @ gradient))
    spec = {"method": "ols_interaction_contrast", "report": "estimate", "file": "lalonde_nsw.csv", "rows": 445}
    given = {"interactions": ["age", "re74"], "at": {"age": 30, "re74": 2500}}
    _met(_verdict(value, se, [value - 1.959963984540054 * se, value + 1.959963984540054 * se], **spec,
                  roles=LALONDE, params=given, se=kind, ci="normal"))  # fmt: skip
    listed = {"interactions": ["age", "re74"], "at": [30, 2500]}
    _met(_verdict(value, se, **spec, roles=LALONDE, params=listed, se=kind))
    assert _verdict(1.001 * value, se, **spec, roles=LALONDE, params=given, se=kind).status == "missed"


def _logit(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    x = sm.add_constant(frame[LALONDE["covariates"]].astype(float)).to_numpy()
    return x, sm.Logit(frame["treat"], x).fit(disp=0, tol=1e-12).predict(x)


def test_g_estimation_and_both_of_its_standard_errors() -> None:
    frame = _read("lalonde_nsw.csv")
    y, d = frame["re78"].to_numpy(float), frame["treat"].to_numpy(float)
    x, e = _logit(frame)
    value = float(((d - e) @ y) / ((d - e) @ d))
    residual, n = y - value * d, len(y)
    known = float(np.sqrt(np.sum(((d - e) * residual) ** 2)) / ((d - e) @ d))
    # A^-1 B A^-T / n of the stacked scores (d - e) x and (d - e)(y - tau d).
    scores = np.column_stack([x * (d - e)[:, None], (d - e) * residual])
    slope = np.zeros((x.shape[1] + 1, x.shape[1] + 1))
    slope[:-1, :-1] = -(x.T * (e * (1 - e))) @ x
    slope[-1, :-1] = -(e * (1 - e) * residual) @ x
    slope[-1, -1] = -((d - e) @ d)
    inverse = np.linalg.inv(slope / n)
    stacked = float(np.sqrt((inverse @ (scores.T @ scores / n) @ inverse.T / n)[-1, -1]))
    spec = {"method": "g_estimation", "report": "estimate", "file": "lalonde_nsw.csv", "roles": LALONDE}
    _met(_verdict(value, stacked, **spec, propensity="logit", se="m_estimation"))
    _met(_verdict(value, known, **spec, propensity="logit", se="influence"))
    assert _verdict(value, known, **spec, propensity="logit", se="m_estimation").status == "missed"
    assert _verdict(value, None, **spec, propensity="magic").status == "uncovered"


def test_g_estimation_with_a_known_propensity() -> None:
    frame = _read("lalonde_nsw.csv")
    share = 0.3 + 0.2 * frame["black"].to_numpy(float)
    y, d = frame["re78"].to_numpy(float), frame["treat"].to_numpy(float)
    value = float(((d - share) @ y) / ((d - share) @ d))
    spec = {"method": "g_estimation", "report": "estimate", "file": "lalonde_nsw.csv", "propensity": "known"}
    roles = {**LALONDE, "propensity": "e"}
    _met(_verdict(value, None, **spec, roles=roles, derive={"e": "0.3 + 0.2 * black"}))


def test_a_two_by_two_of_rows_without_units() -> None:
    frame = _read("lalonde_nsw.csv").assign(post=lambda table: (table["age"] > 25) * 1.0)
    product = frame["treat"] * frame["post"]
    design = sm.add_constant(frame[["treat", "post"]].assign(product=product).astype(float))
    fit = sm.OLS(frame["re78"], design).fit(cov_type="HC1")
    spec = {
        "method": "did_2x2", "report": "estimate", "file": "lalonde_nsw.csv", "form": "interaction_ols", "se": "HC1",
        "roles": {"outcome": "re78", "treatment": "treat", "post": "post"}, "derive": {"post": "age > 25"},
    }  # fmt: skip
    _met(_verdict(float(fit.params["product"]), float(fit.bse["product"]), **spec))
    other = {**spec, "report": "coefficient", "params": {"term": "post"}}
    _met(_verdict(float(fit.params["post"]), float(fit.bse["post"]), **other))
    assert _verdict(0.0, None, **{**spec, "form": "first_difference"}).status == "uncovered"


def _by_steps(frame: pd.DataFrame, regime: tuple[float, ...]) -> float:
    """Iterated expectations by least squares, with a second covariate in the second period and one from the start."""
    level = frame["y"].to_numpy(float)
    for columns, own, given in (
        (["x", "l0", "l1", "m1", "l2", "a0", "a1", "a2"], "a2", regime[2]),
        (["x", "l0", "l1", "m1", "a0", "a1"], "a1", regime[1]),
        (["x", "l0", "a0"], "a0", regime[0]),
    ):
        design = sm.add_constant(frame[columns].astype(float), has_constant="add")
        coef = sm.OLS(level, design).fit().params
        level = (design.assign(**{own: given}) @ coef).to_numpy()
    return float(level.mean())


_SECOND = {"x": "id % 7", "m1": "(id % 3 == 0) + 0.5 * l1 + 0.1 * a0"}


@pytest.mark.parametrize("regime", [(1, 1, 1), (1, 0, 1), (0, 0, 0)])
def test_sequential_regression_with_more_covariates(regime: tuple[float, ...]) -> None:
    frame = _read("gformula_sim.csv")
    for name, expression in _SECOND.items():
        frame[name] = frame.eval(expression, engine="python").astype(float)
    spec = {
        "method": "g_formula", "report": "mean_under_regime", "file": "gformula_sim.csv", "form": "sequential_ols",
        "derive": _SECOND, "params": {"regime": list(regime)},
        "roles": {
            "outcome": "y", "treatment": ["a0", "a1", "a2"], "covariates": ["x"],
            "time_varying_covariates": [["l0"], ["l1", "m1"], ["l2"]],
        },
    }  # fmt: skip
    _met(_verdict(_by_steps(frame, regime), None, **spec))


def test_the_parametric_formula_by_brute_force() -> None:
    """Two covariates in the second period: the second is modelled given the first."""
    frame = _read("gformula_sim.csv").assign(m1=lambda table: ((table["id"] % 5 < 2) ^ (table["l1"] == 1)) * 1.0)
    f = frame.astype(float)

    def logit(outcome: str, columns: list[str]) -> Any:
        return sm.Logit(f[outcome], sm.add_constant(f[columns])).fit(disp=0, tol=1e-12).params.to_numpy()

    first = logit("l1", ["l0", "a0"])
    second = logit("m1", ["l0", "a0", "l1"])
    third = logit("l2", ["l0", "a0", "l1", "m1", "a1"])
    last = sm.OLS(f["y"], sm.add_constant(f[["l0", "a0", "l1", "m1", "a1", "l2", "a2"]])).fit().params.to_numpy()
    total = 0.0
    for l0, share in f["l0"].value_counts(normalize=True).items():
        for l1 in (0, 1):
            for m1 in (0, 1):
                for l2 in (0, 1):
                    chance = 1.0
                    for coef, past, value in (
                        (first, [1, l0, 1], l1), (second, [1, l0, 1, l1], m1), (third, [1, l0, 1, l1, m1, 1], l2)
                    ):  # fmt: skip
                        one = 1 / (1 + np.exp(-(coef @ past)))
                        chance *= one if value else 1 - one
                    total += share * chance * (last @ [1, l0, 1, l1, m1, 1, l2, 1])
    spec = {
        "method": "g_formula", "report": "mean_under_regime", "file": "gformula_sim.csv", "form": "parametric",
        "derive": {"m1": "(id % 5 < 2) != (l1 == 1)"}, "params": {"regime": [1, 1, 1]},
        "roles": {
            "outcome": "y", "treatment": ["a0", "a1", "a2"], "time_varying_covariates": [["l0"], ["l1", "m1"], ["l2"]],
        },
    }  # fmt: skip
    _met(_verdict(total, None, **spec))
