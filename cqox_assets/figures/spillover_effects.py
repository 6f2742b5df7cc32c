"""Direct, indirect and total effects where units touch one another, and the mean outcome by exposure."""

import math
from typing import Any

import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Study

_ESTIMATORS = ("network_effects", "geographic")
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the effects above; below, mean outcomes by exposure where the estimator has them."""
    study, answers = inputs.study, inputs.answered()
    name = next((name for name in _ESTIMATORS if name in answers), None)
    if name is None:
        raise NotDrawnError("no estimator looked at effects on other units")
    answer = answers[name]
    rows = effects_of(study, answer)
    means = means_of(answer)
    counts = [len(rows), len(means)] if len(means) > 1 else [len(rows)]
    figure, axes = theme.panels(
        len(counts), 7.2, 1.2 + sum(0.32 * count + 0.75 for count in counts), [n + 2.0 for n in counts]
    )
    theme.title(figure, "Effects on and between units")
    marks.forest(axes[0], rows, marks.reach(rows["estimate"], rows[["low", "high"]], [0.0]), 0.0, 52)
    axes[0].set_xlabel(words.effect(study))
    if len(counts) > 1:
        limits = marks.reach(means["estimate"], means[["low", "high"]], list(means["estimate"][:1]))
        marks.forest(axes[1], means, limits, None, 52)
        axes[1].set_xlabel(f"mean {words.outcome(study)}")
    data = pd.concat([rows.assign(part="effect"), means.assign(part="mean")], ignore_index=True).drop(columns="colour")
    level = words.level_of(inputs, name)
    said = [f"{row['label']} {words.amount(study, row['estimate'])} ({words.amount(study, row['low'])} to "
            f"{words.amount(study, row['high'])})" for _, row in rows.head(3).iterrows()]  # fmt: skip
    caption = f"{'; '.join(said)}. By {words.estimator(name)}, {words.percent(level)} intervals."
    return Drawing(figure, data, caption, f"Effects with intervals on units and their neighbours. {caption}")


def effects_of(study: Study, answer: EffectEstimate) -> pd.DataFrame:
    """Return one row per effect that is a difference: label, estimate, low, high, colour."""
    found = []
    for effect in answer.effects:
        if effect.scale != "difference":
            continue
        low, high = (math.nan,) * 2 if effect.interval is None else (effect.interval.low, effect.interval.high)
        place = effect.at.get("exposure")
        arm = f", {effect.at['arm']}" if "arm" in effect.at and len(study.arms) > 2 else ""
        label = str(effect.estimand) + (" (with treated neighbours)" if place is not None else "") + arm
        found.append((label, effect.estimate, low, high, theme.arm_colour(study.arms, words.arm_of(study, effect))))
    if not found:
        raise NotDrawnError("the effects between units are no differences")
    return pd.DataFrame(found, columns=["label", "estimate", "low", "high", "colour"])


def means_of(answer: EffectEstimate) -> pd.DataFrame:
    """Return the mean outcome per exposure in the columns of `effects_of`; empty where there are none."""
    table, meaning = (answer.tables.get(name) for name in ("condition_means", "conditions"))
    columns = ["label", "estimate", "low", "high", "colour"]
    if table is None or meaning is None:
        return pd.DataFrame(columns=columns)
    said: Any = meaning.set_index("condition")["meaning"]
    z = marks.errors(_LEVEL)
    return pd.DataFrame(
        {
            "label": [
                f"{said.get(name, name)} ({count:,})"
                for name, count in zip(table["condition"], table["units"], strict=True)
            ],
            "estimate": table["mean"],
            "low": table["mean"] - z * table["std_error"],
            "high": table["mean"] + z * table["std_error"],
            "colour": theme.QUIET,
        }
    )


SPEC = FigureSpec(
    name="spillover_effects",
    title="Effects on and between units",
    question="How much of the effect reaches units that were not treated themselves?",
    draw=draw,
    needs=("network_effects.exposure|geographic.impacts",),
    family="network",
    reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
)
