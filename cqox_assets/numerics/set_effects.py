"""What is told of matched sets: effects with their uncertainty, balance of covariates, sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cqox_assets.numerics.bootstrap import resampled_ratios
from cqox_assets.numerics.inference import draws_effect, wald
from cqox_assets.numerics.matched_sets import Contributions, MatchedSets
from cqox_assets.numerics.unit_history import History
from cqox_assets.result import Effect, Estimand
from cqox_assets.spec import CommonParams


class SetInference:
    """Turns contributions of clusters into effects, by draws or in closed form.

    Parameters
    ----------
    history : History
    contrast : str
    params : CommonParams
        Level, draws, seed, and whether a bootstrap was asked for.
    se : str
        `influence`, or with the weights held as known `bootstrap`, `unconditional` or `conditional`.
    """

    def __init__(self, history: History, contrast: str, params: CommonParams, se: str) -> None:
        self.params, self.contrast, self.se = params, contrast, se
        self.df = float(history.panel.cluster.max()) if history.panel.clustered else None
        self.percentile = params.inference != "analytic"
        self.held = se != "influence"
        self.by_draws = self.percentile or se == "bootstrap"

    def draws(self, parts: Contributions) -> np.ndarray:
        """Return estimates of resampled clusters, shape (draws, k)."""
        return resampled_ratios(parts.numerator, parts.denominator, self.params.draws, self.params.seed)

    def effects(self, parts: Contributions, places: Sequence[Mapping[str, object]]) -> list[Effect]:
        """Return one effect per column of the contributions."""
        drawn = self.draws(parts) if self.by_draws else None
        influence = parts.influence(conditional=self.se == "conditional")
        errors = np.sqrt((influence**2).sum(axis=0)) if drawn is None else drawn.std(axis=0, ddof=1)
        facts = {"estimand": Estimand.ATT, "contrast": self.contrast, "level": self.params.level}
        found = []
        for k, (value, place) in enumerate(zip(parts.estimate, places, strict=True)):
            if self.percentile and drawn is not None:
                found.append(draws_effect(float(value), drawn[:, k], at=place, **facts))  # type: ignore[arg-type]
            else:
                found.append(wald(float(value), float(errors[k]), df=self.df, at=place, **facts))  # type: ignore[arg-type]
        return found

    def covariance(self, parts: Contributions) -> np.ndarray:
        """Return the covariance of the estimates of the contributions' columns, shape (k, k)."""
        if self.by_draws:
            return np.atleast_2d(np.cov(self.draws(parts), rowvar=False))
        influence = parts.influence(conditional=self.se == "conditional")
        return np.asarray(influence.T @ influence)

    def words(self, history: History) -> str:
        """Return the inference in words."""
        what = "clusters" if history.panel.clustered else "units"
        if self.by_draws:
            kind = "percentile bootstrap" if self.percentile else "block bootstrap"
            return f"{kind} of {what} with the matches held, {self.params.draws} draws"
        kind = "influence functions" if not self.held else f"closed form with the weights held, {self.se}"
        return f"{kind}, clustered by {'cluster' if history.panel.clustered else 'unit'}"


def balance_of_sets(
    history: History, sets: MatchedSets, treated: np.ndarray, control: np.ndarray, names: list[str]
) -> pd.DataFrame:
    """Return absolute standardised differences per covariate and lag: in the sets unrefined, and as refined.

    Both are means over treated observations minus the weighted controls', over the pooled SD of the sets.
    """
    mass = history.weight[history.unit[sets.treated]]
    plain = replace(sets, base=history.weight[history.unit[sets.control]], source=None, target=None, share=None)
    rows = []
    for k, name in enumerate(names):
        seen, there = ~np.isnan(treated[:, k]), ~np.isnan(control[:, k])
        one, zero = np.nan_to_num(treated[:, k]), np.nan_to_num(control[:, k])
        if min(seen.sum(), there.sum()) < 2:
            continue
        spread = np.sqrt((one[seen].var(ddof=1) + zero[there].var(ddof=1)) / 2)
        found = []
        for item in (plain, sets):
            a, b = item.totals(mass, seen, there)
            gap = abs(float((a @ one - b @ zero) / a.sum())) if a.sum() > 0 else 0.0
            rounding = 1e-12 * max(np.abs(one).max(), np.abs(zero).max())
            found.append(gap / spread if spread > 0 else (0.0 if gap <= rounding else np.inf))
        rows.append({"covariate": name, "before": found[0], "after": found[1]})
    return pd.DataFrame(rows, columns=["covariate", "before", "after"])


def sets_table(history: History, sets: MatchedSets) -> pd.DataFrame:
    """Return one row per treated observation: unit, time, controls, and how many of equal weight they are worth."""
    count, worth = sets.sizes()
    first = history.panel.periods[0]
    return pd.DataFrame(
        {
            "unit": history.panel.labels[history.unit[sets.treated]].astype(str),
            "time": first + history.step[sets.treated] * history.width,
            "controls": count,
            "effective_controls": worth,
        }
    )


def set_sizes(matched: pd.DataFrame) -> pd.DataFrame:
    """Return how many treated observations have how many controls."""
    values, counts = np.unique(matched["controls"], return_counts=True)
    return pd.DataFrame({"controls": values, "treated_observations": counts})
