"""The outcome's distribution by arm: histogram, cumulative shares and the Kolmogorov-Smirnov distance."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.distributions import compare, cumulative
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_MOST = 6  # arms that can be told apart
_LEAST = 2


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw histograms as shares of the arm above, cumulative shares below; unadjusted."""
    study = inputs.study.studied()
    if not study.arms or len(study.names(Role.TREATMENT)) != 1:
        raise NotDrawnError("the treatment has no arms whose outcomes could be compared")
    samples = _samples(study)
    if len(samples) < 2:
        raise NotDrawnError("fewer than two arms have rows to compare")
    every = np.concatenate(list(samples.values()))
    edges, _ = marks.bins_of(every)
    figure, (top, bottom) = theme.panels(2, 7.2, 5.6, [1, 1])
    theme.title(figure, "Outcome by arm")
    places = np.linspace(edges[0], edges[-1], 201)
    frames = []
    for arm, values in samples.items():
        colour = theme.arm_colour(study.arms, arm)
        share = np.histogram(values, edges)[0] / len(values)
        top.stairs(share, edges, color=colour, linewidth=1.8, fill=False, zorder=3)
        top.stairs(share, edges, color=colour, alpha=0.15, fill=True, zorder=2)
        below = cumulative(values, places)
        bottom.plot(places, below, color=colour, linewidth=1.8, drawstyle="steps-post")
        frames.append(pd.DataFrame({"arm": arm, "part": "histogram", "at": edges[:-1], "share": share}))
        frames.append(pd.DataFrame({"arm": arm, "part": "cumulative", "at": places, "share": below}))
    said = _distances(bottom, samples, study)
    _dress(top, bottom, edges, words.outcome(study))
    marks.legend(figure, [(f"{arm} ({len(values):,} rows)", theme.arm_colour(study.arms, arm), "line")
                          for arm, values in samples.items()])  # fmt: skip
    data = pd.concat(frames, ignore_index=True)
    more = f" {len(study.arms) - len(samples)} arms are not drawn." if len(study.arms) > len(samples) else ""
    outside = marks.outside(every, (float(edges[0]), float(edges[-1])))
    caption = f"{said} As observed, without adjustment for covariates.{outside}{more}"
    return Drawing(figure, data, caption, f"Histograms and cumulative shares of the outcome by arm. {caption}")


def _samples(study: Study) -> dict[str, np.ndarray]:
    y, codes = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    found = {arm: y[codes == code] for code, arm in enumerate(study.arms)}
    found = {arm: values[np.isfinite(values)] for arm, values in found.items()}
    return dict([(arm, values) for arm, values in found.items() if len(values) >= _LEAST][:_MOST])


def _distances(axis: Any, samples: dict[str, np.ndarray], study: Study) -> str:
    """Mark the largest distance from the reference arm on the cumulative shares and say it for each arm."""
    reference, *others = samples
    parts = []
    for arm in others:
        found = compare(samples[arm], samples[reference])
        ends = [float(cumulative(samples[name], np.array([found.at]))[0]) for name in (reference, arm)]
        axis.plot([found.at] * 2, ends, color=theme.arm_colour(study.arms, arm), linewidth=2.4, zorder=5,
                  solid_capstyle="butt", linestyle=(0, (1, 1)))  # fmt: skip
        size = f"{found.distance:.3f} ({words.p_value(found.p_value)})"
        parts.append(f"{arm} against {reference}: Kolmogorov-Smirnov distance {size}")
    return f"{'; '.join(parts)}; dotted where it is reached."


def _dress(top: Any, bottom: Any, edges: np.ndarray, outcome: str) -> None:
    for axis, text in ((top, "share of the arm"), (bottom, "share at or below")):
        theme.sides(axis)
        axis.set_ylabel(text)
        axis.set_xlim(edges[0], edges[-1])
        theme.numbers(axis)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value < 10 else "")
    top.set_ylim(bottom=0)
    top.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    bottom.set_ylim(0, 1.02)
    bottom.set_xlabel(outcome)


SPEC = FigureSpec(
    name="distribution_compare",
    title="Outcome by arm",
    question="Where do the outcome's distributions of the arms differ?",
    draw=draw,
    needs=("outcome", "treatment"),
    family="diagnostics",
    reference="Smirnov 1948, doi:10.1214/aoms/1177730256",
)
