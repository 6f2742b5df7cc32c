"""Paths from treatment to outcome: through each mediator and around them, with the effects beside them."""

from typing import Any

import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_NAME = "mediation"
_MOST = 5  # mediators that a page can carry legibly
_WORDS = {"ACME": "through the mediators", "ADE": "around the mediators", "total": "together"}


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the paths with their coefficients above and the effects with intervals below, for the first contrast."""
    answer, study = inputs.answered()[_NAME], inputs.study
    arm = answer.headline.at.get("arm")
    paths = answer.tables["mediators"]
    paths = paths[paths["arm"] == arm] if arm is not None and "arm" in paths else paths
    rows = effects(study, answer, arm)
    count = min(len(paths), _MOST)
    figure, (top, bottom) = theme.panels(
        2, 7.2, 1.6 + 0.75 * count + 0.34 * (len(rows) + 2), [1.1 + 0.75 * count, 0.34 * (len(rows) + 2)]
    )
    theme.title(figure, "Paths of the effect")
    _paths(top, study, paths.head(_MOST), rows, str(arm or words.compared(study)))
    limits = marks.reach(rows["estimate"], rows[["low", "high"]], [0.0])
    marks.forest(bottom, rows, limits, 0.0, 36)
    bottom.set_xlabel(words.effect(study))
    data = pd.concat(
        [rows.drop(columns="colour"),
         pd.DataFrame({"label": paths["mediator"].map(study.label), "effect": "path", "to_mediator": paths["a"],
                       "to_mediator_error": paths["se_a"], "to_outcome": paths["b"],
                       "to_outcome_error": paths["se_b"]})],
        ignore_index=True,
    )  # fmt: skip
    caption = _caption(study, answer, rows, len(paths))
    return Drawing(figure, data, caption, f"Diagram of paths from treatment over mediators to outcome. {caption}")


def effects(study: Study, answer: EffectEstimate, arm: object) -> pd.DataFrame:
    """Return one row per effect on the outcome's scale: label, effect, estimate, low, high, colour."""
    found = []
    for effect in answer.effects:
        if effect.scale != "difference" or (arm is not None and effect.at.get("arm") != arm):
            continue
        mediator = effect.at.get("mediator")
        name = str(effect.estimand)
        label = f"through {study.label(str(mediator))}" if mediator is not None else _WORDS.get(name, name)
        interval = effect.interval
        low, high = (float("nan"),) * 2 if interval is None else (interval.low, interval.high)
        found.append((label, name, effect.estimate, low, high, theme.QUIET if mediator is not None else theme.ARMS[0]))
    return pd.DataFrame(found, columns=["label", "effect", "estimate", "low", "high", "colour"])


def _paths(axis: Any, study: Study, paths: pd.DataFrame, rows: pd.DataFrame, arm: str) -> None:
    axis.set_axis_off()
    count = len(paths)
    axis.set_xlim(0, 10)
    axis.set_ylim(-0.9, count + 0.1)
    colour = theme.arm_colour(study.arms, arm) if arm else theme.ARMS[0]
    cause = marks.box(axis, (1.2, -0.35), theme.shorten(arm or words.label(study, Role.TREATMENT), 20), colour)
    result = marks.box(axis, (8.8, -0.35), theme.shorten(words.label(study, Role.OUTCOME), 20), theme.INK)
    for place, (_, path) in enumerate(paths.iterrows()):
        name = theme.shorten(study.label(str(path["mediator"])), 22)
        mediator = marks.box(axis, (5, count - 0.4 - place), name, theme.ARMS[2])
        marks.arrow(axis, cause, mediator, f"{path['a']:.3g} ± {1.96 * path['se_a']:.2g}", share=0.6)
        marks.arrow(axis, mediator, result, f"{path['b']:.3g} ± {1.96 * path['se_b']:.2g}", share=0.4)
    direct = rows[rows["effect"] == "ADE"]
    marks.arrow(axis, cause, result, f"direct {direct['estimate'].iloc[0]:.3g}" if len(direct) else "")


def _caption(study: Study, answer: EffectEstimate, rows: pd.DataFrame, mediators: int) -> str:
    values = {row["effect"]: row["estimate"] for _, row in rows[::-1].iterrows()}
    share = next((item for item in answer.effects if item.scale == "proportion"), None)
    parts = [f"{_WORDS[name]} {words.amount(study, values[name])}" for name in _WORDS if name in values]
    mediated = "" if share is None else f" {share.estimate:.0%} of the effect is mediated."
    more = f" {mediators - _MOST} more mediators are not drawn." if mediators > _MOST else ""
    arms = "" if len(study.arms) <= 2 else f" Drawn for {answer.headline.contrast}."
    return f"Effect {', '.join(parts)}.{mediated} On the arrows: coefficient ± 1.96 standard errors.{arms}{more}"


SPEC = FigureSpec(
    name="mediation_paths",
    title="Paths of the effect",
    question="How much of the effect runs through the mediators?",
    draw=draw,
    needs=("mediation.mediators",),
    family="designs",
    reference="Imai, Keele & Tingley 2010, doi:10.1037/a0020761",
)
