"""Effects of panel matching by period since treatment, with a simultaneous band and the earlier periods."""

import numpy as np

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_NAME = "panel_matching"


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw effects above and the sizes of the matched sets below; the film adds period after period."""
    answer, study = inputs.answered()[_NAME], inputs.study
    rows = answer.tables["event_study"].sort_values("event_time").reset_index(drop=True)
    sizes = answer.tables["matched_sets"]["controls"]
    level, colour = words.level_of(inputs, _NAME), theme.arm_colour(study.arms, words.compared(study))

    def scene(size: tuple[float, float]) -> motion.Timed:
        figure, (top, bottom) = theme.panels(2, *size, [3, 1.2])
        theme.title(figure, SPEC.title)
        visuals.event_path(top, rows, colour)
        top.set_xlabel("periods since treatment")
        top.set_ylabel(words.effect(study, cells=22))
        edges, _ = marks.bins_of(sizes, 30)
        marks.bars(bottom, edges, np.histogram(sizes, edges)[0], theme.REFERENCE)
        theme.sides(bottom)
        theme.numbers(bottom)
        bottom.set_xlabel("controls matched to a treated observation")
        bottom.set_ylabel("matched sets")
        marks.legend(figure, [(f"estimate, {words.percent(level)} interval", colour, "dot"),
                              ("band around all periods at once", colour, "area")])  # fmt: skip
        return figure, [top]

    figure, frames = motion.unveiled(scene, (7.2, 5.2), form)
    share = answer.diagnostic("matched_share")
    matched = "" if share is None or share.value is None else f" {share.value:.0%} of the treated found a match."
    caption = (
        f"Mean effect over the leads: {words.amount(study, answer.estimate)}; {len(sizes):,} treated observations with "
        f"{sizes.median():.0f} matched controls each at the median.{matched}"
    )
    alt = f"Effects with intervals by periods since treatment. {caption}"
    return Drawing(figure, rows, caption, alt, frames=frames)


SPEC = FigureSpec(
    name="panel_matching_effects",
    title="Effects since treatment, matched on history",
    question="How does the effect unfold among units that were matched on their history?",
    draw=draw,
    needs=("panel_matching.event_study", "panel_matching.matched_sets"),
    family="designs",
    forms=("2d", "animated"),
    reference="Imai, Kim & Wang 2023, doi:10.1111/ajps.12685",
)
