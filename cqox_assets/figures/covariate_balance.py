"""Love plot: standardised mean difference per covariate, before and after adjustment."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import ContractError
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.measures import MEASURES
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_MOST = 40  # covariates that a page can carry legibly


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw absolute differences per covariate, worst on top, one panel per compared arm."""
    source = _source(inputs)
    study, table = inputs.study, source.tables["balance"]
    rows, total = _worst(table.assign(arm=table["arm"] if "arm" in table else _arm(study)))
    arms = list(dict.fromkeys(rows["arm"]))
    counts = [int((rows["arm"] == arm).sum()) for arm in arms]
    ranked = importance(study)
    rows["importance"] = rows["covariate"].map(ranked).astype(float)
    known = bool(rows["importance"].notna().any())
    figure, grid = theme.grid(
        len(arms), 2 if known else 1, (8.4 if known else 7.2, 1.25 + sum(0.2 * n + 0.55 for n in counts)),
        [n + 2 for n in counts], [3, 1] if known else None,
    )  # fmt: skip
    axes = [line[0] for line in grid]
    theme.title(figure, "Covariate balance before and after adjustment")
    limit = study.thresholds.get("adjusted_smd", MEASURES["adjusted_smd"].limit)
    finite = rows[["before", "after"]].to_numpy(dtype=float)
    finite = finite[np.isfinite(finite)]
    largest, usual = (float(finite.max()), float(np.quantile(finite, 0.95))) if len(finite) else (0.0, 0.0)
    right = max(2.5 * limit, min(largest, max(1.0, 3 * usual)))
    for axis, arm in zip(axes, arms, strict=True):
        _panel(axis, study, rows[rows["arm"] == arm].iloc[::-1], arm, limit, right * 1.04)
    for line, arm in zip(grid, arms, strict=True):
        if known:
            _importance(line[1], rows[rows["arm"] == arm].iloc[::-1], float(rows["importance"].max()))
    axes[-1].set_xlabel("absolute standardised mean difference (pooled SD)")
    _legend(figure, theme.arm_colour(study.arms, arms[0]), source.estimator)
    caption = _caption(rows, total, limit, source.estimator) + (_ranking(rows) if known else "")
    return Drawing(figure, rows, caption, f"Dot plot of {len(rows)} covariates. {caption}")


def _source(inputs: Inputs) -> EffectEstimate:
    """Return the first estimate in plan order whose balance shows an adjustment, else the first with a balance."""
    found = [item for item in inputs.answered().values() if len(item.tables.get("balance", ()))]
    if not found:
        raise ContractError("no estimate carries a balance table with covariates")
    return next((item for item in found if _adjusts(item.tables["balance"])), found[0])


def _adjusts(table: pd.DataFrame) -> bool:
    return not np.allclose(table["before"], table["after"], equal_nan=True)


def _arm(study: Study) -> str:
    return study.arms[1] if len(study.arms) > 1 else ""


def _worst(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return at most `_MOST` lines over all arms, worst first within an arm, and how many covariates there are."""
    tidy = table[["arm", "covariate", "before", "after"]].copy()
    tidy["worst"] = tidy[["before", "after"]].max(axis=1)
    arms = tidy["arm"].nunique()
    kept = tidy.sort_values("worst", ascending=False, kind="stable").groupby("arm", sort=False).head(
        max(_MOST // arms, 12)
    )  # fmt: skip
    order = {arm: place for place, arm in enumerate(dict.fromkeys(table["arm"]))}
    kept = kept.assign(place=kept["arm"].map(order)).sort_values(["place", "worst"], ascending=[True, False])
    return kept.drop(columns=["worst", "place"]).reset_index(drop=True), int(tidy["covariate"].nunique())


def _panel(axis: Any, study: Study, rows: pd.DataFrame, arm: str, limit: float, right: float) -> None:
    visuals.paired_dots(axis, rows, right, theme.arm_colour(study.arms, arm))
    visuals.threshold(axis, limit, f"limit {limit:g}")
    visuals.names(axis, list(rows["covariate"]), range(len(rows)), size=8 if len(rows) <= 25 else 7)
    axis.set_xlim(-0.015 * right, right)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    if len(study.arms) > 2:
        said = theme.squeeze(f"{arm} against {study.arms[0]}", 70)
        axis.set_title(said, loc="left", pad=16, fontsize=9, color=theme.INK)  # above the words of the limit


def importance(study: Study) -> dict[str, float]:
    """Return by label how much of an imbalance of one SD each covariate turns into bias, in SD of the outcome.

    That is the size of its standardised coefficient in the regression of the outcome on treatment and covariates.
    """
    names, y = study.names(Role.COVARIATES), study.matrix(Role.OUTCOME)
    if not names or y.shape[1] != 1 or len(y) < len(names) + 5 or not study.has(Role.TREATMENT):
        return {}
    x, treatment = study.matrix(), study.matrix(Role.TREATMENT)
    known = np.isfinite(y[:, 0]) & np.isfinite(treatment).all(axis=1) & np.isfinite(x).all(axis=1)
    spread = float(y[known].std()) if known.any() else 0.0
    if not spread > 0:
        return {}
    fit = fit_linear(with_constant(x[known], treatment[known]), y[known, 0])
    size = {int(place): float(value) for place, value in zip(fit.kept, fit.coef, strict=True)}
    scale = x[known].std(axis=0)
    return {study.label(name): abs(size.get(k + 1, 0.0)) * float(scale[k]) / spread for k, name in enumerate(names)}


def _importance(axis: Any, rows: pd.DataFrame, most: float) -> None:
    axis.barh(range(len(rows)), rows["importance"].fillna(0.0), height=0.55, color=theme.QUIET, alpha=0.55)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_yticks([])
    axis.set_xlim(0, 1.05 * max(most, 1e-12))
    theme.numbers(axis, "x", 3)
    axis.set_xlabel("matters for the outcome\n(SD per SD)")


def _ranking(rows: pd.DataFrame) -> str:
    first = rows.iloc[int(rows["importance"].fillna(-1.0).to_numpy().argmax())]
    return (
        f" Most important for the outcome: {first['covariate']}, whose difference is {first['after']:.2f} afterwards."
    )


def _legend(figure: Any, colour: str, estimator: str) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D(
            [], [], linestyle="", marker="o", markerfacecolor=face, markeredgecolor=colour, markersize=5.5, label=text
        )
        for face, text in (("white", "before"), (colour, f"after {estimator.replace('_', ' ')}"))
    ]
    figure.legend(handles=marks, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5)


def _caption(rows: pd.DataFrame, total: int, limit: float, estimator: str) -> str:
    worst = rows.iloc[int(rows["after"].to_numpy().argmax())]
    above = [int((rows[side] > limit).sum()) for side in ("before", "after")]
    shown = f" The {rows['covariate'].nunique()} worst of {total} covariates are shown." if rows[
        "covariate"].nunique() < total else ""  # fmt: skip
    after = "is infinite (constant within arms)" if np.isinf(worst["after"]) else f"{worst['after']:.2f}"
    return (
        f"Largest difference after {estimator.replace('_', ' ')}: {worst['covariate']}, {after}. "
        f"Above {limit:g}: {above[0]} before and {above[1]} after.{shown}"
    )


SPEC = FigureSpec(
    name="covariate_balance",
    title="Covariate balance",
    question="Are the groups comparable after adjustment?",
    draw=draw,
    needs=("covariates", "balance"),
    family="diagnostics",
    reference="Austin 2009, doi:10.1002/sim.3697",
)
