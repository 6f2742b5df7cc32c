"""Propensity by arm, mirrored, with the range that both arms share."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.overlap import best_trim, overlap_share
from cqox_assets.errors import ContractError
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.result import Nuisance
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_BINS = 40
_FEW = 0.01  # share of clipped propensities beyond which their bound decides the best trimming
_MOST = 8  # contrasts that a page can carry legibly


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one panel per contrast; heights are shares of the arm, so that arms of unequal size compare."""
    nuisance = inputs.nuisance
    if nuisance is None:
        raise ContractError("propensity_overlap was drawn although its need 'nuisance' is unmet")
    parts = _parts(inputs.study, nuisance)
    shown = parts[:_MOST]
    figure, axes = theme.panels(len(shown), 7.2, 1.0 + 2.4 * len(shown))
    theme.title(figure, "Propensity overlap")
    frames, words = [], []
    for axis, (arm, propensity, treated) in zip(axes, shown, strict=True):
        low, high = common_support(propensity, treated)
        frame = bins_of(arm, propensity, treated)
        share = overlap_share(propensity, treated)
        bounded = nuisance.clipped > _FEW * len(inputs.study)
        trim = 0.0 if bounded else best_trim(propensity)
        _panel(axis, inputs.study, arm, frame, (low, high), share)
        _trimming(axis, trim)
        frames.append(frame.assign(support_low=low, support_high=high, overlap=share, trim=trim))
        words.append(
            f"{arm} against {inputs.study.arms[0]}: {share:.0%} of the units lie in the common support, "
            f"{'trimming cannot be judged where propensities were clipped' if bounded else advice(propensity, trim)}"
        )
    axes[-1].set_xlabel("estimated propensity: probability of the compared arm given the covariates")
    left_out = f" {len(parts) - _MOST} more contrasts are not shown." if len(parts) > _MOST else ""
    clipped = f" {nuisance.clipped} propensities were clipped." if nuisance.clipped else ""
    caption = "; ".join(words) + f" (1st to 99th percentile of both arms).{clipped}{left_out}"
    return Drawing(
        figure,
        pd.concat(frames, ignore_index=True),
        caption,
        f"Mirrored histograms of the propensity by arm. {caption}",
    )


def advice(propensity: np.ndarray, trim: float) -> str:
    """Say whether the average effect would be estimated more precisely without units of extreme propensity."""
    if trim == 0:
        return "no trimming is needed"
    lost = float(np.mean((propensity < trim) | (propensity > 1 - trim)))
    return f"trim: {trim:.2f} would leave out {lost:.1%} of the units and is the most precise (dotted lines)"


def _trimming(axis: Any, trim: float) -> None:
    for at in (trim, 1 - trim) if trim > 0 else ():
        axis.axvline(at, color=theme.LIMIT, linewidth=1, linestyle=(0, (1, 2)), zorder=4)


def common_support(propensity: np.ndarray, treated: np.ndarray) -> tuple[float, float]:
    """Return the range between the larger 1st and the smaller 99th percentile of the arms; low > high is none."""
    one, zero = propensity[treated == 1], propensity[treated == 0]
    low = max(np.quantile(one, 0.01), np.quantile(zero, 0.01))
    high = min(np.quantile(one, 0.99), np.quantile(zero, 0.99))
    return float(low), float(high)


def bins_of(arm: str, propensity: np.ndarray, treated: np.ndarray) -> pd.DataFrame:
    """Return one row per bin: arm, left, right, and the share of each arm's units in it."""
    edges = np.linspace(0, 1, _BINS + 1)
    shares = {
        name: np.histogram(propensity[treated == value], edges)[0] / max(int((treated == value).sum()), 1)
        for name, value in (("compared", 1), ("reference", 0))
    }
    return pd.DataFrame({"arm": arm, "left": edges[:-1], "right": edges[1:], **shares})


def _parts(study: Study, nuisance: Nuisance) -> list[tuple[str, np.ndarray, np.ndarray]]:
    found = []
    for arm, part in study.contrasts():
        frame = nuisance.predictions.get(arm)
        if frame is not None and len(frame) == len(part):
            found.append((arm, frame["propensity"].to_numpy(dtype=float), part.column(Role.TREATMENT)))
    if not found:
        raise ContractError("the nuisance predictions do not belong to this study's rows")
    return found


def _panel(axis: Any, study: Study, arm: str, frame: pd.DataFrame, support: tuple[float, float], share: float) -> None:
    colours = (theme.arm_colour(study.arms, arm), theme.arm_colour(study.arms, study.arms[0]))
    edges = np.append(frame["left"].to_numpy(), frame["right"].iloc[-1])
    low, high = support
    if low <= high:
        axis.axvspan(low, high, color="#f1f4d9", zorder=0)
    visuals.mirrored_histogram(axis, edges, frame["compared"].to_numpy(), frame["reference"].to_numpy(), colours)
    axis.set_xlim(0, 1)
    axis.set_ylabel("share of the arm")
    words = f"{share:.0%} in the common support" if low <= high else "no common support"
    for text, place, anchor, colour in (
        (arm, 0.97, "top", colours[0]), (study.arms[0], 0.03, "bottom", colours[1])
    ):  # fmt: skip
        axis.text(
            0.99, place, theme.squeeze(text, 40), transform=axis.transAxes, ha="right", va=anchor, fontsize=9,
            fontweight="bold", color=colour,
        )  # fmt: skip
    axis.set_title(words, loc="right", fontsize=8.5, color=theme.QUIET)


SPEC = FigureSpec(
    name="propensity_overlap",
    title="Propensity overlap",
    question="Does every unit have comparable units in the other arm, and should some be left out?",
    draw=draw,
    needs=("nuisance",),
    family="diagnostics",
    reference="Crump et al. 2009, doi:10.1093/biomet/asn055",
)
