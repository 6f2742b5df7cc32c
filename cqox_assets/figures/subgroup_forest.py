"""The mean effect in subgroups with intervals, and the test that they are equal."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.subgroups import equal_p, subgroups_of
from cqox_assets.diagnostics.targeting import group_effects
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, unit_effects
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_MOST = 24  # subgroups
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw all units first, then the mapped subgroups, else halves of the covariates; one panel per contrast."""
    study, held = inputs.study, unit_effects(inputs, 3)
    tables = [_table(item) for item in held]
    if len(tables[0]) < 3:
        raise NotDrawnError("there is no subgroup with enough units of both arms")
    count = len(tables[0])
    figure, ((*axes,),) = theme.grid(1, len(held), (7.2 if len(held) == 1 else 9.6, 1.3 + 0.27 * count))
    theme.title(figure, "Effect in subgroups")
    numbers = pd.concat(tables, ignore_index=True)
    limits = marks.reach(numbers["estimate"], numbers[["low", "high"]], [0.0])
    for place, (axis, item, table) in enumerate(zip(axes, held, tables, strict=True)):
        _panel(axis, item, table, limits, first=place == 0)
    axes[0].set_xlabel(words.effect(study, cells=40 if len(held) == 1 else 24))
    caption = " ".join(_words_of(item, table) for item, table in zip(held, tables, strict=True))
    caption += " Means of doubly robust scores with 95% intervals; the dashed line is all units."
    return Drawing(figure, numbers.drop(columns="colour"), caption, f"Effects with intervals in subgroups. {caption}")


def _table(item: UnitEffects) -> pd.DataFrame:
    cluster, z = item.study.codes(Role.CLUSTER), marks.errors(_LEVEL)
    blocks = [("", pd.Series(["all units"] * len(item.rows), dtype=object))]
    blocks += subgroups_of(item.study, _MOST)
    rows = []
    for name, labels in blocks:
        codes, levels = pd.factorize(labels, sort=name != "")
        found = group_effects(codes, item.score, item.sampling, cluster)
        for _, line in found.iterrows():
            label = str(levels[int(line["group"])])
            rows.append({"by": name, "label": label, "rows": int(line["rows"]), "estimate": line["estimate"],
                         "std_error": line["std_error"]})  # fmt: skip
    table = pd.DataFrame(rows)
    table = table.assign(arm=item.arm, low=table["estimate"] - z * table["std_error"],
                         high=table["estimate"] + z * table["std_error"])  # fmt: skip
    colour = item.colour
    return table.assign(colour=np.where(table["by"] == "", theme.INK, colour))


def _panel(axis: Any, item: UnitEffects, table: pd.DataFrame, limits: tuple[float, float], *, first: bool) -> None:
    named = table["label"].map(lambda text: theme.squeeze(text, 32))
    named = named.where(table["by"] == "", named + " (" + table["rows"].map("{:,}".format) + ")")
    marks.forest(axis, table.assign(label=named), limits, 0.0, 46)
    axis.axvline(table["estimate"].iloc[0], color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    if not first:
        axis.set_yticks([])
    if len(item.arms) > 2:
        marks.heading(axis, item.arm, 34)


def _words_of(item: UnitEffects, table: pd.DataFrame) -> str:
    inside = table[table["by"] != ""]
    size = inside["estimate"].to_numpy()
    best, worst = inside.iloc[int(size.argmax())], inside.iloc[int(size.argmin())]
    tests = {str(name): equal_p(block) for name, block in inside.groupby("by", sort=False)}
    known = {name: p for name, p in tests.items() if p is not None}
    test = ""
    if known:
        name = min(known, key=lambda key: known[key])
        p = min(1.0, known[name] * len(known))
        many = f", corrected for {len(known)} tests" if len(known) > 1 else ""
        test = f" Strongest difference by {name}: {words.p_value(p)}{many}."
    return (
        f"{item.arm}: from {words.amount(item.study, float(worst['estimate']))} ({worst['label']}) to "
        f"{words.amount(item.study, float(best['estimate']))} ({best['label']}).{test}"
    )


SPEC = FigureSpec(
    name="subgroup_forest",
    title="Effect in subgroups",
    question="Does the effect differ between subgroups?",
    draw=draw,
    needs=("unit_effects",),
    family="heterogeneity",
    reference="Wang et al. 2007, doi:10.1056/NEJMsr077003",
)
