"""Every test that the assumptions could have failed, by its p-value or its distance in standard errors."""

import math
from typing import Any

import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.measures import MEASURES, Status
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_MOST = 16  # lines per panel
_FLOOR = 1e-6
_COLOURS = {Status.PASS: theme.SURE, Status.WARN: theme.UNSURE, Status.FAIL: theme.WRONG}
_MARKERS = {Status.PASS: "o", Status.WARN: "X", Status.FAIL: "s"}
_DISTANCES = ("placebo_treatment", "dummy_outcome", "placebo_outcome", "random_common_cause", "leave_one_out")


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw tests by p-value above and refutations by distance below; of several estimators the worst is drawn."""
    tests, distances = tests_of(inputs), distances_of(inputs)
    parts = [part for part in (tests, distances) if len(part)]
    if not parts:
        raise NotDrawnError("no assumption of this study could be tested")
    drawn = [part.head(_MOST) for part in parts]
    figure, axes = theme.panels(len(drawn), 7.2, 1.1 + sum(0.3 * len(part) + 0.85 for part in drawn),
                                [len(part) + 2.4 for part in drawn])  # fmt: skip
    theme.title(figure, "Falsification checks")
    for axis, part in zip(axes, drawn, strict=True):
        _lines(axis, part)
        if part["kind"].iloc[0] == "test":
            _p_axis(axis)
        else:
            axis.set_xlim(*_distance_limits(part))
            theme.numbers(axis, "x")
            axis.set_xlabel("distance in standard errors")
    marks.legend(figure, [("passed", theme.SURE, "dot"), ("warned (cross)", theme.UNSURE, "dot"),
                          ("failed (square)", theme.WRONG, "dot"), ("limit", theme.LIMIT, "dashes")])  # fmt: skip
    data = pd.concat(drawn, ignore_index=True)
    bad = data[data["status"] != str(Status.PASS)]
    listed = f" Not passed: {', '.join(dict.fromkeys(bad['label']))}." if len(bad) else ""
    more = sum(len(part) for part in parts) - len(data)
    left = f" {more} more checks passed and are not drawn." if more else ""
    caption = f"{len(data) - len(bad)} of {len(data)} checks passed.{listed}{left}"
    return Drawing(figure, data, caption, f"Dot plot of falsification checks by status. {caption}")


def tests_of(inputs: Inputs) -> pd.DataFrame:
    """Return one row per tested assumption, the worst over estimators: label, value (p), limit, status, estimator."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, answer in inputs.answered().items():
        for item in answer.diagnostics:
            known = item.value is not None and math.isfinite(item.value)
            if not item.name.endswith("_p") or not known or item.threshold is None or not 0 <= (item.value or 0) <= 1:
                continue
            if item.name not in found or (item.value or 0) < found[item.name][2]:
                title = MEASURES[item.name].title if item.name in MEASURES else item.name
                found[item.name] = ("test", title, item.value, item.threshold, str(item.status), name)
    return _frame(list(found.values())).sort_values("value", kind="stable").reset_index(drop=True)


def distances_of(inputs: Inputs) -> pd.DataFrame:
    """Return one row per refutation judged in standard errors, the worst over estimators, in the columns of tests."""
    rows = []
    for question in _DISTANCES:
        answers = list(inputs.asked(question).values())
        if answers:
            worst = max(answers, key=lambda item: (item.status is not Status.PASS, item.value))
            label = question.replace("_", " ")
            rows.append(("refutation", label, worst.value, math.nan, str(worst.status), worst.estimator))
    return _frame(rows).sort_values("value", ascending=False, kind="stable").reset_index(drop=True)


def _frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["kind", "label", "value", "limit", "status", "estimator"])


def _lines(axis: Any, rows: pd.DataFrame) -> None:
    places = list(range(len(rows) - 1, -1, -1))
    test = rows["kind"].iloc[0] == "test"
    right = _distance_limits(rows)[1]
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        status = Status(row["status"])
        value = max(row["value"], _FLOOR) if test else min(row["value"], 0.99 * right)
        axis.plot([value], [place], _MARKERS.get(status, "o"), color=_COLOURS.get(status, theme.QUIET), markersize=7,
                  clip_on=False, zorder=4)  # fmt: skip
        if not math.isnan(row["limit"]):
            axis.plot([max(row["limit"], _FLOOR)] * 2, [place - 0.38, place + 0.38], color=theme.LIMIT, linewidth=1.4,
                      linestyle=(0, (2, 1.5)))  # fmt: skip
    axis.hlines(places, *(axis.get_xlim() if not test else (_FLOOR, 1)), color=theme.GRID, linewidth=0.8, zorder=0)
    labels = [f"{row['label']} ({words.estimator(row['estimator'])})" for _, row in rows.iterrows()]
    visuals.names(axis, labels, places, 8.5, 54)
    axis.set_ylim(-0.7, len(rows) - 0.3)


def _distance_limits(rows: pd.DataFrame) -> tuple[float, float]:
    right = 1.1 * max(3.0, float(rows["value"].clip(upper=50).max()))
    return -0.03 * right, right


def _p_axis(axis: Any) -> None:
    axis.set_xscale("log")
    axis.set_xlim(0.45 * _FLOOR, 1.5)
    axis.set_xticks([1e-6, 1e-4, 1e-2, 0.1, 1], ["under 0.000001", "0.0001", "0.01", "0.1", "1"])
    axis.minorticks_off()
    axis.set_xlabel("p-value of the test that the assumption could have failed")


SPEC = FigureSpec(
    name="falsification_checks",
    title="Falsification checks",
    question="Which tests could the assumptions have failed, and did they?",
    draw=draw,
    needs=("estimates",),
    family="sensitivity",
    reference="Lipsitch, Tchetgen Tchetgen & Cohen 2010, doi:10.1097/EDE.0b013e3181d61eeb",
)
