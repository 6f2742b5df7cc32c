"""Segmented regression of one series."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.oracle.cases import Case, UncoveredError, with_dummies
from tests.oracle.harness import Answer, ask, with_interval

KEYS = ("family", "seasonality", "slope_change")
PARAMS = ("change_point", "hac_kernel", "harmonics", "lags", "period", "term")
ROLES = ("outcome", "treatment", "covariates", "time", "regressors", "month", "offset", "population")
_ERRORS: Mapping[str | None, tuple[str, bool]] = {  # the product's name, and whether lags are 0
    None: ("model", False), "classical": ("model", False), "poisson": ("model", False),
    "quasi_poisson": ("model", False), "hac": ("hac", False), "hac_nk": ("hac_nk", False), "HC0": ("hac", True),
    "HC1": ("hac_nk", True),
}  # fmt: skip


def answer(case: Case) -> Answer:
    reports = ("coefficient", "rate_ratio", "events_averted", "durbin_watson")
    report = case.choose("report", {name: name for name in reports})
    restated = case.choose("ci", {"t_df_minus_1": True} | dict.fromkeys((None, "normal", "exp_normal", "published")))
    slope = case.choose("slope_change", {True: True, False: False, None: False})
    counts = case.choose("family", {"poisson": True, "ols": False})
    family = "gaussian" if not counts else "poisson" if case.spec.get("se") == "poisson" else "quasi_poisson"
    if case.params.get("hac_kernel") not in (None, "bartlett"):
        raise UncoveredError("only Bartlett weights are offered")
    error, robust = case.choose("se", _ERRORS)
    case, season = _seasonal(case)
    slope_column = _slope_column(case) if slope else None
    result = ask(
        _roles(case, slope_column), "interrupted_time_series",
        family=family, slope_change=slope, change_point=case.params.get("change_point"), se=error,
        lags=0 if robust else case.params.get("lags"), interval_form="normal", **season,
    )  # fmt: skip
    if report == "events_averted":
        return Answer(float(result.tables["impact"]["events_averted"].iloc[0]))
    if report == "durbin_watson":
        fitted = result.tables["counterfactual"]
        rest = (fitted["observed"] - fitted["fitted"]).to_numpy()
        return Answer(float((np.diff(rest) ** 2).sum() / (rest**2).sum()))
    table = result.tables["coefficients"].set_index("term")
    term = _term(case, slope_column)
    if not table.index.is_unique or term not in table.index:
        raise UncoveredError(f"params.term = {case.params.get('term')!r} is not one term of the model")
    row = table.loc[term]
    if report == "rate_ratio":
        ratio = result.tables["rate_ratios"].set_index("term").loc[term]
        return Answer(ratio["rate_ratio"], row["std_error"], (ratio["low"], ratio["high"]))
    own = Answer(row["estimate"], row["std_error"], (row["low"], row["high"]))
    assert case.frame is not None
    return with_interval(case, own, len(case.frame) - len(table)) if restated else own


def _seasonal(case: Case) -> tuple[Case, dict[str, Any]]:
    """Return the case with its seasonal terms among the covariates, and what the product has to add.

    The regressors are the model; where they do not hold the season, it is that of the month, or else of the time.
    """
    kind = case.choose("seasonality", {"none": "none", None: "none", "harmonic": "harmonic", "dummies": "dummies"})
    pairs, period = int(case.params.get("harmonics") or 0), float(case.params.get("period") or 12)
    if kind == "none" or (kind == "dummies" and case.spec.get("dummies")) or (kind == "harmonic" and pairs == 0):
        return case, {}
    month = case.roles.get("month")
    if kind == "harmonic" and len(_further(case, None)) >= 2 * pairs:
        return case, {}
    if month is None:
        return case, {"seasonality": kind, "harmonics": max(1, pairs), "period": period}
    assert case.frame is not None
    if kind == "dummies":
        frame, added = with_dummies(case.frame, {month[0]: None})
    else:
        angle = 2 * np.pi * case.frame[month[0]] / period
        waves = {"sin": np.sin, "cos": np.cos}
        terms = {f"{name}{k}": wave(k * angle) for k in range(1, pairs + 1) for name, wave in waves.items()}
        frame, added = case.frame.assign(**terms), list(terms)
    return replace(case, frame=frame, roles={**case.roles, "covariates": [*case.roles["covariates"], *added]}), {}


def _further(case: Case, slope_column: str | None) -> list[str]:
    """Return the regressors beside trend, step and change of slope."""
    own = (*case.roles["treatment"], *case.roles["time"], *case.roles["covariates"], slope_column)
    return [name for name in case.roles.get("regressors", []) if name not in own]


def _roles(case: Case, slope_column: str | None) -> Case:
    """Return the case with every regressor in a role that the product knows."""
    listed = case.roles.get("regressors")
    for role in ("treatment", "time"):
        if listed is not None and case.roles[role][0] not in listed:
            raise UncoveredError(f"the regressors hold no {role}, which the product's model has")
    kept = {key: case.roles[key] for key in ("outcome", "treatment", "time", "offset") if key in case.roles}
    covariates = [name for name in case.roles["covariates"] if name != slope_column]
    return replace(case, roles={**kept, "covariates": [*covariates, *_further(case, slope_column)]})


def _slope_column(case: Case) -> str | None:
    """Return the column that holds step * (time - change point), if there is one."""
    assert case.frame is not None
    frame, point = case.frame, case.params.get("change_point")
    if point is None:
        return None
    product = frame[case.roles["treatment"][0]] * (frame[case.roles["time"][0]] - point)
    wanted = [*case.roles.get("regressors", []), *filter(None, [case.params.get("term")])]
    found = [name for name in wanted if name in frame.columns and np.allclose(frame[name], product)]
    if not found and "regressors" in case.roles:
        raise UncoveredError("the regressors hold no change of slope")
    return found[0] if found else None


def _term(case: Case, slope_column: str | None) -> str:
    wanted = case.params.get("term")
    own = {case.roles["treatment"][0]: "step", case.roles["time"][0]: "time", slope_column: "slope"}
    return str(own.get(wanted, wanted))
