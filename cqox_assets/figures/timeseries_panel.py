"""The outcome over time, taken apart: trend, cycle and season."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.seasonal import decompose
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_EVER, _NEVER = "units ever treated", "units never treated"
_MOST = 6  # lines
_PERIODS = 4  # fewest that a path needs
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw means per period with the trend, and below it the cycle and the season where the series has them."""
    study = inputs.study.studied()
    rows = means_of(study)
    paths = {str(line): block for line, block in rows.groupby("line", sort=False) if len(block) >= _PERIODS}
    if not paths:
        raise NotDrawnError(f"nothing was observed in {_PERIODS} periods or more, so there is nothing to take apart")
    monthly = "(month," in study.label(study.name(Role.TIME))
    parts = []
    for line, block in list(paths.items())[:_MOST]:
        year = 12 if monthly and len(block) >= 24 else None
        frame, season = decompose(block["time"].to_numpy(), block["mean"].to_numpy(), year)
        parts.append(frame.assign(line=line, std_error=block["std_error"].to_numpy(), rows=block["rows"].to_numpy(),
                                  season_length=np.nan if season is None else season))  # fmt: skip
    data = pd.concat(parts, ignore_index=True)
    below = [name for name in ("cycle", "season") if np.ptp(data[name].to_numpy()) > 0]

    def scene(size: tuple[float, float]) -> motion.Timed:
        figure, axes = theme.panels(1 + len(below), *size, [2.2, *([1.0] * len(below))])
        theme.title(figure, SPEC.title)
        _draw(axes, study, data, below)
        axes[-1].set_xlabel(words.label(study, Role.TIME, 60))
        entries = [(name, _colour(study, name), "line") for name in data["line"].unique()]
        marks.legend(figure, entries if len(entries) > 1 else [("trend; thin: mean per period", entries[0][1], "line")])
        return figure, axes

    figure, frames = motion.unveiled(scene, (7.2, 3.6 + 1.3 * len(below)), form)
    caption = _caption(study, data, len(paths))
    alt = f"Time series of the mean outcome with its trend. {caption}"
    return Drawing(figure, data, caption, alt, frames=frames)


def means_of(study: Study) -> pd.DataFrame:
    """Return one row per line and period: line, time, mean, std_error, rows.

    Lines are the arms; of units that change arms, those ever and never treated; of one series or without arms, `all`.
    """
    time, value = study.column(Role.TIME), study.column(Role.OUTCOME)
    frame = pd.DataFrame({"line": _lines(study), "time": time, "value": value})
    frame = frame[np.isfinite(frame["time"])]
    found = frame.groupby(["line", "time"], sort=True)["value"].agg(["mean", "std", "count"]).reset_index()
    order = {name: place for place, name in enumerate([*study.arms, _NEVER, _EVER])}
    found = found.assign(place=found["line"].map(order).fillna(0)).sort_values(["place", "time"], kind="stable")
    return pd.DataFrame(
        {"line": found["line"], "time": found["time"], "mean": found["mean"],
         "std_error": found["std"] / np.sqrt(found["count"]), "rows": found["count"]}
    ).reset_index(drop=True)  # fmt: skip


def _lines(study: Study) -> np.ndarray:
    count = len(study)
    single = study.frame[study.name(Role.TIME)].is_unique  # its arms are before and after, not lines of their own
    if single or not study.arms or len(study.names(Role.TREATMENT)) != 1:
        return np.full(count, "all", dtype=object)
    codes = study.column(Role.TREATMENT).astype(int)
    if study.repeats_units:
        treated = pd.Series(codes).groupby(study.frame[study.name(Role.UNIT)].to_numpy()).transform("max").to_numpy()
        if (treated != codes).any():
            return np.where(treated > 0, _EVER, _NEVER).astype(object)
    return np.asarray(np.array(study.arms, dtype=object)[codes])


def _draw(axes: list[Any], study: Study, data: pd.DataFrame, below: list[str]) -> None:
    z = marks.errors(_LEVEL)
    data = data.assign(low=data["value"] - z * data["std_error"], high=data["value"] + z * data["std_error"])
    for line, block in data.groupby("line", sort=False):
        colour = _colour(study, str(line))
        marks.band(axes[0], block["time"], (block["low"], block["high"]), colour, 0.15)
        axes[0].plot(block["time"], block["value"], color=colour, linewidth=0.9, alpha=0.6)
        axes[0].plot(block["time"], block["trend"], color=colour, linewidth=2.2)
        for axis, name in zip(axes[1:], below, strict=True):
            axis.plot(block["time"], block[name], color=colour, linewidth=1.6)
    axes[0].set_ylim(*marks.reach(data["value"], data[["low", "high"]], list(data["value"][:1])))
    small = 1.1 * float(np.abs(data[below].to_numpy()).max(initial=0.0))
    for axis, text in zip(axes, (words.outcome(study, 30), *below), strict=True):
        theme.sides(axis)
        axis.set_ylabel(text)
        theme.times(axis, data["time"])
        if axis is not axes[0]:
            axis.set_ylim(-small, small)  # one scale, so that what is small looks small
            axis.axhline(0, color=theme.INK, linewidth=0.8)
            axis.yaxis.get_major_locator().set_params(nbins=4)


def _colour(study: Study, line: str) -> str:
    if line in (_EVER, _NEVER):
        return theme.REFERENCE if line == _NEVER else theme.arm_colour(study.arms, words.compared(study))
    return theme.arm_colour(study.arms, line) if line in study.arms else theme.ARMS[0]


def _caption(study: Study, data: pd.DataFrame, lines: int) -> str:
    spans = []
    for line, block in data.groupby("line", sort=False):
        first, last = (words.amount(study, float(block["trend"].iloc[place])) for place in (0, -1))
        length = block["season_length"].iloc[0]
        season = "no season found" if np.isnan(length) else f"season of {length:.0f} periods"
        spans.append(f"{line}: trend {first} to {last}, {season}")
    more = f" {lines - _MOST} more lines are not drawn." if lines > _MOST else ""
    return (
        f"{'; '.join(spans)}. Thin lines are means per period with 95% intervals, thick ones the trend (local "
        f"regression); the cycle is a moving average of what trend and season leave.{more}"
    )


SPEC = FigureSpec(
    name="timeseries_panel",
    title="The outcome over time",
    question="How does the outcome move over time, and is there a trend, a cycle or a season?",
    draw=draw,
    needs=("outcome", "time"),
    family="diagnostics",
    forms=("2d", "animated"),
    reference="Cleveland et al. 1990, STL: A Seasonal-Trend Decomposition Procedure Based on Loess",
)
