"""What each rule of treatment would bring, by three ways of estimating it, as a matrix."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role
from cqox_assets.wording import with_unit

_METHODS = ("IPS", "SNIPS", "DR")
_MOST = 12


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw gains over what was done, coloured by size; each cell names its interval, the last column money if known."""
    study, answer = inputs.study, inputs.answered()["off_policy_evaluation"]
    rows = table_of(answer.tables["policy_values"])
    policies = list(dict.fromkeys(rows["policy"]))[:_MOST]
    if not policies:
        raise NotDrawnError("no rule but the observed one was evaluated")
    rows = with_money(rows[rows["policy"].isin(policies)].reset_index(drop=True), inputs)
    paid = bool(rows["net_per_unit"].notna().any())
    methods = [method for method in _METHODS if (rows["method"] == method).any()]
    figure, axis = theme.single(7.2 + (1.2 if paid else 0.0), 1.5 + 0.62 * len(policies))
    theme.title(figure, "What rules of treatment would bring")
    worse = study.declaration.direction == "lower_is_better"
    reach = float(np.abs(rows["gain"]).max()) or 1.0
    for line, policy in enumerate(policies):
        for column, method in enumerate(methods):
            cell = rows[(rows["policy"] == policy) & (rows["method"] == method)]
            if len(cell):
                _cell(axis, (column, len(policies) - 1 - line), cell.iloc[0], reach, worse)
        if paid:
            best = rows[(rows["policy"] == policy) & rows["net_per_unit"].notna()]
            _money(axis, (len(methods), len(policies) - 1 - line), best, study.declaration.money.currency or "")
    _frame(axis, policies, rows, methods, paid)
    caption = _caption(inputs, rows, paid)
    return Drawing(figure, rows, caption, f"Matrix of gains by rule and way of estimating. {caption}")


def table_of(values: pd.DataFrame) -> pd.DataFrame:
    """Return one row per rule and method about the outcome: policy, method, share_treated, value, gain and its ends."""
    rows = values[values["method"].isin(_METHODS)]
    if "measure" in rows:
        rows = rows[rows["measure"] == "outcome"]
    columns = ["policy", "method", "share_treated", "value", "gain", "gain_std_error", "gain_low", "gain_high"]
    rows = rows.assign(policy=rows["policy"] + (": " + rows["arm"] if "arm" in rows else ""))
    return rows[columns].reset_index(drop=True)


def with_money(rows: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """Add what the rule brings per unit over what was done, in money after the cost of treatment; NaN if not known."""
    money, study = inputs.study.declaration.money, inputs.study
    if money.value_per_unit is None or money.cost_per_treatment is None or len(study.arms) != 2:
        return rows.assign(net_per_unit=np.nan)
    sign = -1 if study.declaration.direction == "lower_is_better" else 1
    observed = float(study.studied().column(Role.TREATMENT).mean())
    net = sign * money.value_per_unit * rows["gain"] - money.cost_per_treatment * (rows["share_treated"] - observed)
    return rows.assign(net_per_unit=net.where(rows["method"] == "DR"))


def _cell(axis: Any, place: tuple[int, int], row: pd.Series, reach: float, worse: bool) -> None:
    import matplotlib as mpl
    from matplotlib.patches import Rectangle

    size = float(row["gain"]) / reach * (-1 if worse else 1)
    tone = mpl.colormaps["PuOr"](0.5 + 0.24 * max(-1.0, min(1.0, -size)))
    axis.add_patch(Rectangle((place[0] - 0.48, place[1] - 0.45), 0.96, 0.9, facecolor=tone, edgecolor="none"))
    axis.text(
        *place, f"{row['gain']:+,.4g}", ha="center", va="bottom", fontsize=9.5, fontweight="bold", color=theme.INK
    )
    axis.text(
        place[0], place[1] - 0.06, f"{row['gain_low']:,.4g} to {row['gain_high']:,.4g}", ha="center", va="top",
        fontsize=7.5, color=theme.INK,
    )  # fmt: skip


def _money(axis: Any, place: tuple[int, int], row: pd.DataFrame, currency: str) -> None:
    text = with_unit(float(row["net_per_unit"].iloc[0]), currency) if len(row) else "not known"
    axis.text(*place, text, ha="center", va="center", fontsize=9, color=theme.INK)


def _frame(axis: Any, policies: list[str], rows: pd.DataFrame, methods: list[str], paid: bool) -> None:
    shares = rows.groupby("policy")["share_treated"].first()
    labels = [f"{theme.squeeze(policy, 26)}\n{shares[policy]:.0%} treated" for policy in policies]
    names = {"IPS": "inverse propensity", "SNIPS": "normalised", "DR": "doubly robust"}
    columns = [names[method] for method in methods] + (["money per unit"] if paid else [])
    axis.set_xticks(range(len(columns)), columns, fontsize=8.5)
    axis.set_yticks(range(len(policies) - 1, -1, -1), labels, fontsize=8.5)
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines["bottom"].set_visible(False)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set_ylim(-0.5, len(policies) - 0.5)
    marks.heading(axis, "Gain per unit over what was done, with its interval", 70)


def _caption(inputs: Inputs, rows: pd.DataFrame, paid: bool) -> str:
    study = inputs.study
    sure = rows[rows["method"] == "DR"] if (rows["method"] == "DR").any() else rows
    size = sure["gain"].to_numpy() * (-1 if study.declaration.direction == "lower_is_better" else 1)
    best = sure.iloc[int(size.argmax())]
    clear = "off none" if best["gain_low"] > 0 or best["gain_high"] < 0 else "that covers none"
    money = ""
    if paid:
        net = sure.iloc[int(sure["net_per_unit"].to_numpy().argmax())]
        money = f" After the cost of treatment '{net['policy']}' is worth most."
    level = words.percent(words.level_of(inputs, "off_policy_evaluation"))
    return (
        f"'{best['policy']}' would do best: {words.amount(study, float(best['gain']))} per unit, with an interval "
        f"{clear} ({level}).{money} Values of learned rules were taken on rows that the rule had not seen."
    )


SPEC = FigureSpec(
    name="policy_evaluation_matrix",
    title="What rules of treatment would bring",
    question="Which rule of whom to treat would bring most?",
    draw=draw,
    needs=("off_policy_evaluation.policy_values",),
    family="policy",
    reference="Dudik, Langford & Li 2011, Doubly Robust Policy Evaluation and Learning",
)
