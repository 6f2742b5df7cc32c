"""How each peer is called. Every import of a peer happens inside its function."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Fit = Callable[[Study], tuple[Any, Any]]
_FOLDS = 5
# the trees of cqox_assets.numerics.boosting
_TREES = {"n_estimators": 100, "num_leaves": 7, "learning_rate": 0.1, "max_bin": 63, "min_child_samples": 20}


def _parts(study: Study) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcome, treatment and covariates."""
    return study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.matrix()


def _models(boosted: bool) -> tuple[Any, Any]:
    """Return a regression and a classifier: unpenalised, or small trees."""
    if boosted:
        from lightgbm import LGBMClassifier, LGBMRegressor

        return LGBMRegressor(n_jobs=1, verbose=-1, **_TREES), LGBMClassifier(n_jobs=1, verbose=-1, **_TREES)
    from sklearn.linear_model import LinearRegression, LogisticRegression

    return LinearRegression(), LogisticRegression(C=np.inf, max_iter=1000)


def difference_in_means(study: Study) -> tuple[Any, Any]:
    """Regress the outcome on the treatment."""
    import statsmodels.api as sm

    y, d, _ = _parts(study)
    fit = sm.OLS(y, sm.add_constant(d)).fit(cov_type="HC1")
    return fit.params[1], fit.bse[1]


def ols(study: Study) -> tuple[Any, Any]:
    """Regress the outcome on treatment and covariates."""
    import statsmodels.api as sm

    y, d, x = _parts(study)
    fit = sm.OLS(y, sm.add_constant(np.column_stack([d, x]))).fit(cov_type="HC1")
    return fit.params[1], fit.bse[1]


def treatment_effect(kind: str) -> Fit:
    """Return statsmodels' treatment effect of a kind: `ra`, `ipw` or `aipw`."""

    def fit(study: Study) -> tuple[Any, Any]:
        import statsmodels.api as sm
        from statsmodels.treatment.treatment_effects import TreatmentEffect

        y, d, x = _parts(study)
        design, treated = sm.add_constant(x), d.astype(int)
        model = TreatmentEffect(sm.OLS(y, design), treated, results_select=sm.Logit(treated, design).fit(disp=0))
        found = getattr(model, kind)()
        return found.effect[0], np.asarray(found.results_gmm.bse)[0]

    return fit


def _doubleml(name: str, boosted: bool) -> Fit:
    def fit(study: Study) -> tuple[Any, Any]:
        import doubleml

        y, d, x = _parts(study)
        regression, classifier = _models(boosted)
        data = doubleml.DoubleMLData.from_arrays(x, y, d)
        model = getattr(doubleml, name)(data, regression, classifier, n_folds=_FOLDS)
        model.fit()
        return model.coef[0], model.se[0]

    return fit


def doubleml_irm(*, boosted: bool) -> Fit:
    """Return the fit of the interactive model, cross-fitted."""
    return _doubleml("DoubleMLIRM", boosted)


def doubleml_plr(*, boosted: bool) -> Fit:
    """Return the fit of the partially linear model, cross-fitted."""
    return _doubleml("DoubleMLPLR", boosted)


def econml_linear_dml(study: Study) -> tuple[Any, Any]:
    """Fit a partially linear model with a constant effect."""
    from econml.dml import LinearDML

    y, d, x = _parts(study)
    regression, classifier = _models(False)
    model = LinearDML(model_y=regression, model_t=classifier, discrete_treatment=True, cv=_FOLDS)
    found = model.fit(y, d, W=x).ate_inference()
    return found.mean_point, np.ravel(found.stderr_mean)[0]


def econml_dr_learner(study: Study) -> tuple[Any, Any]:
    """Doubly robust learner with a linear final stage."""
    from econml.dr import LinearDRLearner

    y, d, x = _parts(study)
    regression, classifier = _models(False)
    model = LinearDRLearner(
        model_propensity=classifier, model_regression=regression, cv=_FOLDS, min_propensity=0.01
    ).fit(y, d, X=x)
    found = model.ate_inference(x)
    return found.mean_point, np.ravel(found.stderr_mean)[0]


def econml_meta(name: str) -> Fit:
    """Return the fit of one of econml's meta-learners."""

    def fit(study: Study) -> tuple[Any, Any]:
        from econml import metalearners

        y, d, x = _parts(study)
        regression, classifier = _models(False)
        arguments = {
            "TLearner": {"models": regression},
            "SLearner": {"overall_model": regression},
            "XLearner": {"models": regression, "propensity_model": classifier},
        }[name]
        model = getattr(metalearners, name)(**arguments)
        model.fit(y, d, X=x)
        return model.effect(x).mean(), None

    return fit


def econml_forest(study: Study) -> tuple[Any, Any]:
    """Causal forest on residuals, with as many trees as ours grows by default, and intervals of all units."""
    from econml.dml import CausalForestDML

    from cqox_assets.catalog import load_estimators

    ours = load_estimators()["causal_forest"].params()
    trees = next(
        (int(getattr(ours, name)) for name in ("trees", "n_trees", "n_estimators") if hasattr(ours, name)), 500
    )
    y, d, x = _parts(study)
    regression, classifier = _models(False)
    model = CausalForestDML(
        model_y=regression, model_t=classifier, discrete_treatment=True, cv=_FOLDS, n_estimators=-(-trees // 4) * 4,
        n_jobs=1, random_state=0,
    )  # fmt: skip
    model.fit(y, d, X=x)
    model.effect_interval(x)
    return np.ravel(model.ate_)[0], np.ravel(model.ate_stderr_)[0]


def iv_2sls(study: Study) -> tuple[Any, Any]:
    """Two-stage least squares with first-stage, overidentification and exogeneity tests."""
    from linearmodels.iv import IV2SLS

    y, d, x = _parts(study)
    exogenous = np.column_stack([np.ones(len(y)), x])
    fit = IV2SLS(y, exogenous, d, study.matrix(Role.INSTRUMENTS)).fit(cov_type="robust", debiased=True)
    _ = fit.first_stage.diagnostics, fit.sargan, fit.wu_hausman()
    return fit.params.iloc[-1], fit.std_errors.iloc[-1]


def mediation(study: Study) -> tuple[Any, Any]:
    """Mediated effect with its quasi-Bayesian spread."""
    import statsmodels.api as sm
    from statsmodels.stats.mediation import Mediation

    y, d, x = _parts(study)
    m = study.column(Role.MEDIATOR)
    names = [f"c{j}" for j in range(x.shape[1])]
    frame = sm.add_constant(pd.DataFrame(np.column_stack([d, m, x]), columns=["d", "m", *names]))
    outcome = sm.OLS(y, frame)
    mediator = sm.OLS(m, frame.drop(columns="m"))
    fit = Mediation(outcome, mediator, "d", "m").fit(method="parametric", n_rep=1000)
    return np.mean(fit.ACME_avg), np.std(fit.ACME_avg, ddof=1)


def _panel(study: Study) -> pd.DataFrame:
    """Return the panel with the first treated period of every unit, 0 for never."""
    names = {Role.OUTCOME: "y", Role.TREATMENT: "d", Role.UNIT: "unit", Role.TIME: "time"}
    frame = pd.DataFrame({name: study.frame[study.name(role)] for role, name in names.items()})
    starts = frame.loc[frame["d"] == 1].groupby("unit")["time"].min()
    frame["cohort"] = frame["unit"].map(starts).fillna(0).astype(int)
    frame["time"] = frame["time"].astype(int)
    for name in study.names(Role.COVARIATES):
        frame[name] = study.frame[name]
    return frame


def two_way_pyfixest(study: Study) -> tuple[Any, Any]:
    """Two-way fixed effects, clustered by unit."""
    import pyfixest

    fit = pyfixest.feols("y ~ d | unit + time", _panel(study), vcov={"CRV1": "unit"})
    return fit.coef()["d"], fit.se()["d"]


def two_way_linearmodels(study: Study) -> tuple[Any, Any]:
    """Two-way fixed effects, clustered by unit."""
    from linearmodels.panel import PanelOLS

    frame = _panel(study).set_index(["unit", "time"])
    model = PanelOLS(frame["y"], frame[["d"]], entity_effects=True, time_effects=True)
    fit = model.fit(cov_type="clustered", cluster_entity=True)
    return fit.params["d"], fit.std_errors["d"]


def group_time_csdid(study: Study) -> tuple[Any, Any]:
    """Callaway-Sant'Anna with all aggregations, as ours reports them."""
    from csdid.att_gt import ATTgt

    model = ATTgt(yname="y", gname="cohort", idname="unit", tname="time", data=_panel(study))
    fit = model.fit(est_method="dr", bstrap=False)
    kinds = [fit.aggte(kind, bstrap=False).atte for kind in ("group", "calendar", "dynamic", "simple")]
    return kinds[-1]["overall_att"], kinds[-1]["overall_se"]


def group_time_doubleml(study: Study) -> tuple[Any, Any]:
    """Doubly robust, cross-fitted group-time effects."""
    import doubleml

    regression, classifier = _models(False)
    data = doubleml.data.DoubleMLPanelData(
        _panel(study), y_col="y", d_cols="cohort", id_col="unit", t_col="time",
        x_cols=list(study.names(Role.COVARIATES)),
    )  # fmt: skip
    model = doubleml.did.DoubleMLDIDMulti(
        data, ml_g=regression, ml_m=classifier, control_group="never_treated", n_folds=_FOLDS
    )
    model.fit()
    overall = model.aggregate("group").overall_aggregated_framework
    return overall.thetas[0], overall.ses[0]


def discontinuity(study: Study) -> tuple[Any, Any]:
    """Robust bias-corrected discontinuity; the package is looked up by name, for it is nothing that we depend on."""
    rdrobust = import_module("rdrobust")
    fit = rdrobust.rdrobust(study.column(Role.OUTCOME), study.column(Role.RUNNING_VARIABLE))
    return fit.coef.iloc[1, 0], fit.se.iloc[2, 0]


def synthetic_control(study: Study) -> tuple[Any, Any]:
    """Synthetic control on all earlier outcomes with equal weights."""
    from pysyncon import Dataprep, Synth

    frame = _panel(study)
    treated = int(frame.loc[frame["cohort"] > 0, "unit"].iloc[0])
    starts = int(frame["cohort"].max())
    periods = sorted(frame["time"].unique())
    earlier = [period for period in periods if period < starts]
    data = Dataprep(
        foo=frame, predictors=["y"], predictors_op="mean", dependent="y", unit_variable="unit", time_variable="time",
        treatment_identifier=treated, controls_identifier=[u for u in frame["unit"].unique() if u != treated],
        time_predictors_prior=earlier, time_optimize_ssr=earlier,
        special_predictors=[("y", [period], "mean") for period in earlier],
    )  # fmt: skip
    model = Synth()
    model.fit(data, custom_V=np.append(1e-12, np.ones(len(earlier))))  # the mean over all periods does not count
    return model.att(time_period=[period for period in periods if period >= starts])["att"], None


def interrupted_series(study: Study) -> tuple[Any, Any]:
    """Segmented regression with Newey-West errors."""
    import statsmodels.api as sm

    y, step, x = _parts(study)
    time = study.column(Role.TIME)
    since = step * (time - time[step == 1].min())
    design = np.column_stack([np.ones(len(y)), time, step, since, x])
    lags = int(4 * (len(y) / 100) ** (2 / 9))
    fit = sm.OLS(y, design).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True})
    return fit.params[2], fit.bse[2]
