"""The libraries a user would pick instead, each fitted as its manual says on the same study.

Nothing here is imported by the product. A peer is measured where it is installed (`pip install cqox[peers]`; rdrobust
is under the GPL and no part of that extra) and is a row that says so where it is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from cqox_assets.benchmarks import peer_fits as fits
from cqox_assets.benchmarks.cases import COMMON
from cqox_assets.simulate.designs import DESIGNS, Truth
from cqox_assets.study import Role, Study

Answer = tuple[float, float | None]
_LINEAR: Mapping[str, Any] = {"nuisance": "linear"}


@dataclass(frozen=True)
class Peer:
    """One way to compute with another library what one of our estimators computes.

    Parameters
    ----------
    estimator : str
        Our estimator.
    library : str
        Distribution that is compared with.
    call : str
        What is called there.
    fit : callable
        Study -> (estimate, standard error or None).
    params : mapping
        Parameters of ours for the same definition.
    design, estimand : str
        Simulated study, and the value of its truth that is estimated.
    without : tuple of Role
        Roles that both go without.
    most_rows : int, optional
        Largest study that the peer can be given.
    differs : str
        Why costs are not compared; empty where the definition is the same.
    """

    estimator: str
    library: str
    call: str
    fit: Callable[[Study], Answer]
    params: Mapping[str, Any] = field(default_factory=dict)
    design: str = COMMON
    estimand: str = "ATE"
    without: tuple[Role, ...] = ()
    most_rows: int | None = None
    differs: str = ""

    @property
    def key(self) -> str:
        """A name that is unique among the peers."""
        return f"{self.estimator}: {self.library} {self.call}"

    def study(self, rows: int, seed: int) -> tuple[Study, Truth]:
        """Return the study that both sides are given."""
        study, truth = DESIGNS[self.design](min(rows, self.most_rows or rows), seed)
        return replace(study, roles={r: names for r, names in study.roles.items() if r not in self.without}), truth

    def missing(self) -> str | None:
        """Return why the peer cannot be measured here, or None."""
        try:
            version(self.library)
        except PackageNotFoundError:
            return f"{self.library} is not installed"
        return None

    @property
    def version(self) -> str | None:
        """Version of the library, None where it is not installed."""
        return None if self.missing() else version(self.library)


_NO_INFERENCE = "the peer gives unit effects only; ours also a doubly robust average with its error, and calibration"
_STOPS = "our trees stop early, the peer's do not"

_ALL = (
    Peer("difference_in_means", "statsmodels", "OLS, HC1", fits.difference_in_means, design="randomised_trial"),
    Peer("ols", "statsmodels", "OLS, HC1", fits.ols),
    Peer(
        "regression_adjustment", "statsmodels", "TreatmentEffect.ra", fits.treatment_effect("ra"),
        {"se": "HC0_superpopulation"},
    ),
    Peer("g_computation", "statsmodels", "TreatmentEffect.ra", fits.treatment_effect("ra")),
    Peer("ipw", "statsmodels", "TreatmentEffect.ipw", fits.treatment_effect("ipw")),
    Peer("aipw", "statsmodels", "TreatmentEffect.aipw", fits.treatment_effect("aipw"), {"cross_fit": False}),
    Peer("aipw", "doubleml", "DoubleMLIRM, linear", fits.doubleml_irm(boosted=False), _LINEAR),
    Peer(
        "aipw", "doubleml", "DoubleMLIRM, LightGBM", fits.doubleml_irm(boosted=True), {"nuisance": "boosting"},
        differs=_STOPS,
    ),
    Peer("double_ml", "doubleml", "DoubleMLPLR, linear", fits.doubleml_plr(boosted=False), _LINEAR),
    Peer(
        "double_ml", "doubleml", "DoubleMLPLR, LightGBM", fits.doubleml_plr(boosted=True), {"nuisance": "boosting"},
        differs=_STOPS,
    ),
    Peer("double_ml", "econml", "LinearDML, linear", fits.econml_linear_dml, _LINEAR),
    Peer("dr_learner", "econml", "LinearDRLearner, linear", fits.econml_dr_learner, _LINEAR),
    Peer("t_learner", "econml", "TLearner, linear", fits.econml_meta("TLearner"), _LINEAR, differs=_NO_INFERENCE),
    Peer("s_learner", "econml", "SLearner, linear", fits.econml_meta("SLearner"), _LINEAR, differs=_NO_INFERENCE),
    Peer("x_learner", "econml", "XLearner, linear", fits.econml_meta("XLearner"), _LINEAR, differs=_NO_INFERENCE),
    Peer("causal_forest", "econml", "CausalForestDML, linear", fits.econml_forest, _LINEAR),
    Peer("iv", "linearmodels", "IV2SLS, robust", fits.iv_2sls, design="encouraged_uptake", estimand="LATE"),
    Peer(
        "mediation", "statsmodels", "Mediation, 1000 draws", fits.mediation,
        {"uncertainty": "quasi_bayesian", "draws": 1000, "se": "classical"}, "mediated_trial", "ACME",
    ),
    Peer(
        "difference_in_differences", "pyfixest", "feols, two-way", fits.two_way_pyfixest, {"method": "twfe"},
        "staggered_panel", "ATT",
    ),
    Peer(
        "difference_in_differences", "linearmodels", "PanelOLS, two-way", fits.two_way_linearmodels,
        {"method": "twfe"}, "staggered_panel", "ATT",
    ),
    Peer(
        "difference_in_differences", "csdid", "ATTgt", fits.group_time_csdid, {}, "staggered_panel", "ATT",
        without=(Role.COVARIATES,),
    ),
    Peer(
        "difference_in_differences", "doubleml", "DoubleMLDIDMulti, linear", fits.group_time_doubleml, {},
        "staggered_panel", "ATT", differs="the peer cross-fits and averages by group",
    ),
    Peer(
        "regression_discontinuity", "rdrobust", "rdrobust", fits.discontinuity, {}, "sharp_cutoff", "LATE",
        without=(Role.COVARIATES,),
    ),
    Peer(
        "synthetic_control", "pysyncon", "Synth, given V", fits.synthetic_control, {}, "one_treated_unit", "ATT",
        most_rows=2000, differs="ours also fits a placebo for every donor, the peer only the treated unit",
    ),
    Peer(
        "interrupted_time_series", "statsmodels", "OLS, HAC", fits.interrupted_series, {}, "interrupted_series",
        "level_change",
    ),
)  # fmt: skip

PEERS: Mapping[str, Peer] = {peer.key: peer for peer in _ALL}


def finite(answer: tuple[Any, Any]) -> Answer:
    """Return a peer's answer as plain floats; no standard error where it gives none."""
    estimate, error = float(answer[0]), None if answer[1] is None else float(answer[1])
    if not np.isfinite(estimate):
        raise ValueError(f"the estimate is {estimate}")
    return estimate, error if error is not None and np.isfinite(error) and error > 0 else None
