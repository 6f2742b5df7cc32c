"""Segmented regression of one series."""

import numpy as np

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask

KEYS = ("family", "seasonality", "slope_change")
PARAMS = ("change_point", "hac_kernel", "harmonics", "lags", "period", "term")
ROLES = ("outcome", "treatment", "covariates", "time", "regressors", "month", "offset", "population")


def answer(case: Case) -> Answer:
    reports = ("coefficient", "rate_ratio", "events_averted", "durbin_watson")
    report = case.choose("report", {name: name for name in reports})
    case.choose("ci", {name: None for name in (None, "normal", "exp_normal", "published")})
    slope = case.choose("slope_change", {True: True, False: False, None: False})
    errors = {"classical": "model", "poisson": "model", "quasi_poisson": "model", "hac": "hac", "hac_nk": "hac_nk"}
    counts = case.choose("family", {"poisson": True, "ols": False})
    family = "gaussian" if not counts else "poisson" if case.spec.get("se") == "poisson" else "quasi_poisson"
    if case.params.get("hac_kernel") not in (None, "bartlett"):
        raise UncoveredError("only Bartlett weights are offered")
    season = case.choose("seasonality", {"none": "none", None: "none", "harmonic": "harmonic", "dummies": "dummies"})
    if season == "dummies" and case.spec.get("dummies"):
        season = "none"  # the dummies are among the covariates
    roles = {
        key: case.roles[key] for key in ("outcome", "treatment", "time", "covariates", "offset") if key in case.roles
    }
    _check_regressors(case, slope, season)
    result = ask(
        Case(case.spec, case.frame, roles), "interrupted_time_series",
        family=family, slope_change=slope, change_point=case.params.get("change_point"),
        seasonality=season, harmonics=max(1, int(case.params.get("harmonics") or 1)),
        period=float(case.params.get("period") or 12), se=case.choose("se", {None: "model", **errors}),
        lags=case.params.get("lags"), interval_form="normal",
    )  # fmt: skip
    if report == "events_averted":
        return Answer(float(result.tables["impact"]["events_averted"].iloc[0]))
    if report == "durbin_watson":
        fitted = result.tables["counterfactual"]
        rest = (fitted["observed"] - fitted["fitted"]).to_numpy()
        return Answer(float((np.diff(rest) ** 2).sum() / (rest**2).sum()))
    term = _term(case, slope)
    if report == "rate_ratio":
        row = result.tables["rate_ratios"].set_index("term").loc[term]
        return Answer(row["rate_ratio"], None, (row["low"], row["high"]))
    row = result.tables["coefficients"].set_index("term").loc[term]
    return Answer(row["estimate"], row["std_error"], (row["low"], row["high"]))


def _check_regressors(case: Case, slope: bool, season: str) -> None:
    listed = case.roles.get("regressors")
    if listed is None:
        return
    pairs = 2 * int(case.params.get("harmonics") or 0) if season == "harmonic" else 0
    own = [name for name in case.roles["covariates"] if name in listed]
    if season != "dummies" and len(listed) != 2 + slope + pairs + len(own):
        raise UncoveredError("the regressors are not those of the model in words")


def _term(case: Case, slope: bool) -> str:
    wanted = case.params.get("term")
    known = {"const": "const", case.roles["treatment"][0]: "step", case.roles["time"][0]: "time"}
    if wanted in known:
        return known[wanted]
    assert case.frame is not None
    frame, point = case.frame, case.params.get("change_point")
    if slope and wanted in frame.columns and point is not None:
        product = frame[case.roles["treatment"][0]] * (frame[case.roles["time"][0]] - point)
        if np.allclose(frame[wanted], product):
            return "slope"
    if wanted in case.roles["covariates"]:
        return str(wanted)
    raise UncoveredError(f"params.term = {wanted!r} is not a term of the model")
