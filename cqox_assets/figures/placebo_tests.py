"""Estimates on changed data: where there is nothing they should find nothing, elsewhere they should not move."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.measures import Status
from cqox_assets.result import SensitivityResult
from cqox_assets.spec import Drawing, FigureSpec, Inputs

# Question -> its words, and whether the refits should find no effect (else the same one).
QUESTIONS = {
    "placebo_treatment": ("treatment dealt out at random", True),
    "dummy_outcome": ("outcome replaced by noise", True),
    "random_common_cause": ("a random covariate added", False),
    "data_subset": ("random parts of the rows", False),
    "leave_one_out": ("one covariate or cluster left out", False),
}
_GOLDEN = 0.6180339887498949
_COLOURS = {Status.PASS: theme.SURE, Status.WARN: theme.UNSURE, Status.FAIL: theme.WRONG}


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw every refit as a dot, their mean as a bar; full lines are where the dots should be."""
    held = _answers(inputs)
    if not held:
        raise NotDrawnError("no question that estimates again on changed data was answered")
    name = next(iter(held.values())).estimator
    answer = inputs.answered().get(name)
    if answer is None:
        raise NotDrawnError("the estimate that the questions were asked about is not there")
    head = answer.headline
    data = pd.concat([_rows(question, item) for question, item in held.items()], ignore_index=True)
    figure, axis = theme.single(7.2, 1.5 + 0.62 * len(held))
    theme.title(figure, "Estimates on changed data")
    limits = marks.reach(data["estimate"], (), [head.null, head.estimate])
    for place, (question, item) in enumerate(reversed(held.items())):
        _line(axis, place, data[data["question"] == question], item, limits)
    axis.axvline(head.null, color=theme.INK, linewidth=1.2)
    axis.axvline(head.estimate, color=theme.ARMS[0], linewidth=1.6, linestyle=(0, (4, 2.5)))
    labels = [QUESTIONS[question][0] for question in reversed(held)]
    visuals.names(axis, labels, range(len(held)), 8.5, 36)
    axis.set_xlim(*limits)
    axis.set_ylim(-0.6, len(held) - 0.4)
    theme.numbers(axis, "x")
    axis.set_xlabel(words.effect(inputs.study, head.scale))
    marks.legend(
        figure,
        [("no effect", theme.INK, "line"), ("the estimate", theme.ARMS[0], "dashes"),
         ("a refit, passed", theme.SURE, "dot"), ("a refit, warned (cross)", theme.UNSURE, "dot")],
    )  # fmt: skip
    contrast = f" of {head.contrast}" if len(inputs.study.arms) > 2 else ""
    caption = (
        f"{words.estimator(name)}{contrast}: {words.amount(inputs.study, head.estimate, head.scale)}. {_said(held)}"
    )
    return Drawing(figure, data, caption, f"Dots of estimates on changed data by kind of change. {caption}")


def _answers(inputs: Inputs) -> dict[str, SensitivityResult]:
    """Return the answers about one estimator, the one that most questions were asked about."""
    found = {question: inputs.asked(question) for question in QUESTIONS}
    names = [name for items in found.values() for name in items]
    if not names:
        return {}
    best = max(dict.fromkeys(names), key=names.count)
    return {
        question: items[best]
        for question, items in found.items()
        if best in items and {"estimate"} <= set(items[best].table) and len(items[best].table)
    }


def _rows(question: str, item: SensitivityResult) -> pd.DataFrame:
    columns = [name for name in ("estimate", "std_error", "low", "high") if name in item.table]
    return item.table[columns].assign(question=question, status=str(item.status), expected_none=QUESTIONS[question][1])


def _line(axis: Any, place: int, rows: pd.DataFrame, item: SensitivityResult, limits: tuple[float, float]) -> None:
    colour = _COLOURS.get(item.status, theme.QUIET)
    spread = ((np.arange(1, len(rows) + 1) * _GOLDEN) % 1 - 0.5) * 0.5
    inside = rows["estimate"].clip(*limits)
    marker = "o" if item.status is Status.PASS else "X"
    axis.scatter(inside, place + spread, s=22, color=colour, alpha=0.55, linewidths=0, marker=marker, zorder=3)
    axis.plot([float(rows["estimate"].mean())] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2.6, zorder=4)


def _said(held: dict[str, SensitivityResult]) -> str:
    passed = [QUESTIONS[question][0] for question, item in held.items() if item.status is Status.PASS]
    warned = [QUESTIONS[question][0] for question, item in held.items() if item.status is not Status.PASS]
    parts = [f"Passed: {', '.join(passed)}." if passed else "", f"Warned: {', '.join(warned)}." if warned else ""]
    return " ".join(part for part in parts if part) + " Bars are means over the refits."


SPEC = FigureSpec(
    name="placebo_tests",
    title="Estimates on changed data",
    question="Does the estimator find nothing where there is nothing, and the same where nothing changed?",
    draw=draw,
    needs=("placebo_treatment|dummy_outcome|random_common_cause|data_subset|leave_one_out",),
    family="sensitivity",
    reference="Eggers, Tunon & Dafoe 2024, doi:10.1111/ajps.12818",
)
