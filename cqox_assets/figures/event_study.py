"""Effects by time since treatment with simultaneous bands, and what the earlier periods say."""

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Study


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the first event study in plan order, periods before treatment hollow; the film adds period after period."""
    study, answer = inputs.study, inputs.first_with("event_study")
    if answer is None:
        raise NotDrawnError("no estimator followed the effect over time")
    rows = answer.tables["event_study"].sort_values("event_time").reset_index(drop=True)
    colour, level = theme.arm_colour(study.arms, words.compared(study)), words.level_of(inputs, answer.estimator)

    def scene(size: tuple[float, float]) -> motion.Timed:
        figure, axis = theme.single(*size)
        theme.title(figure, SPEC.title)
        visuals.event_path(axis, rows, colour)
        axis.set_xlabel("periods since treatment (before it: hollow)")
        axis.set_ylabel(words.effect(study, cells=30))
        shown = [(f"estimate, {words.percent(level)} interval", colour, "dot")]
        if {"band_low", "band_high"} <= set(rows):
            shown.append(("band around all periods at once", colour, "area"))
        marks.legend(figure, shown)
        return figure, [axis]

    figure, frames = motion.unveiled(scene, (7.2, 4.4), form)
    caption = _caption(study, answer)
    alt = f"Effects with intervals by time since treatment. {caption}"
    return Drawing(figure, rows, caption, alt, frames=frames)


def _caption(study: Study, answer: EffectEstimate) -> str:
    rows = answer.tables["event_study"]
    early, late = rows[rows["event_time"] < 0], rows[rows["event_time"] >= 0]
    test = answer.diagnostic("pretrend_p")
    said = "could not be tested" if test is None or test.value is None else f"have joint {words.p_value(test.value)}"
    clear = 0
    if {"band_low", "band_high"} <= set(rows):
        clear = int(((late["band_low"] > 0) | (late["band_high"] < 0)).sum())
    sizes = f"{words.amount(study, late['estimate'].min())} to {words.amount(study, late['estimate'].max())}"
    after = f"{len(late)} periods after treatment: {sizes}, {clear} with a band off zero." if len(late) else ""
    return (
        f"By {words.estimator(answer.estimator)}. {after} The {len(early)} earlier periods {said}; effects there would "
        "be differences that treatment cannot have made."
    )


SPEC = FigureSpec(
    name="event_study",
    title="Effect by time since treatment",
    question="How does the effect unfold over time, and was there one before treatment?",
    draw=draw,
    needs=("event_study",),
    family="diagnostics",
    forms=("2d", "animated"),
    reference="Callaway & Sant'Anna 2021, doi:10.1016/j.jeconom.2020.12.001",
)
