"""Words on axes and in captions that figures share: outcomes, effects and times with their units."""

from cqox_assets.figures import _theme as theme
from cqox_assets.result import Effect
from cqox_assets.spec import Inputs
from cqox_assets.study import Role, Study
from cqox_assets.wording import short_unit, with_unit


def label(study: Study, role: Role, cells: int = 40) -> str:
    """Return the label of the role's column, or the role's own name where several columns play it."""
    names = study.names(role)
    return theme.shorten(study.label(names[0]) if len(names) == 1 else str(role).replace("_", " "), cells)


def outcome(study: Study, cells: int = 50) -> str:
    """Return the outcome with its unit in at most about `cells` half-width letters; the name gives way first."""
    unit = study.declaration.unit_of_outcome
    if not unit:
        return label(study, Role.OUTCOME, cells)
    unit = theme.shorten(unit, max(10, cells - 15))
    return f"{label(study, Role.OUTCOME, max(12, cells - theme.width(unit) - 3))} ({unit})"


def effect(study: Study, scale: str = "difference", cells: int = 50) -> str:
    """Return `effect on <outcome> (unit)`, or the scale's name where it is no difference."""
    if scale != "difference":
        return f"{scale.replace('_', ' ')} of {label(study, Role.OUTCOME, cells)}"
    return f"effect on {outcome(study, cells)}"


def amount(study: Study, value: float, scale: str = "difference") -> str:
    """Return a number of outcome units as a caption says it."""
    return with_unit(value, short_unit(study.declaration) if scale == "difference" else "")


def estimator(name: str) -> str:
    """Return an estimator's name as people read it."""
    return name.replace("_", " ")


def compared(study: Study) -> str:
    """Return the compared arm of a study of two arms, for colours."""
    return study.arms[1] if len(study.arms) > 1 else ""


def arm_of(study: Study, effect: Effect) -> str:
    """Return the compared arm that an effect is about, for colours."""
    return str(effect.at["arm"]) if "arm" in effect.at else compared(study)


def side_colours(study: Study, cutoff: float) -> dict[str, str]:
    """Return the colour of each side: that of the arm that is the more common there than on the other side."""
    above = study.column(Role.RUNNING_VARIABLE) >= cutoff
    treated_right = True
    if study.has(Role.TREATMENT) and len(study.names(Role.TREATMENT)) == 1:
        treatment = study.column(Role.TREATMENT)
        treated_right = bool(treatment[above].mean() >= treatment[~above].mean())
    arm, reference = theme.arm_colour(study.arms, compared(study)), theme.REFERENCE
    return {"left": reference if treated_right else arm, "right": arm if treated_right else reference}


def p_value(value: float) -> str:
    """Return a p-value as a caption says it; none is zero."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3g}"


def percent(level: float) -> str:
    """Return a confidence level in words, such as 95%."""
    return f"{level:.0%}" if abs(level * 100 - round(level * 100)) < 1e-9 else f"{level:.1%}"


def level_of(inputs: Inputs, name: str) -> float:
    """Return the confidence level of an estimator's intervals; 0.95 where it has none."""
    found = inputs.answered().get(name)
    held = [effect.interval.level for effect in found.effects if effect.interval] if found is not None else []
    return held[0] if held else 0.95


def adjusting(study: Study) -> str:
    """Return what a caption must add where values adjust for covariates although the declared design does not."""
    design = study.declaration.design
    if design in (None, "trial", "observational"):
        return ""
    return f" These values adjust for covariates; the declared design '{design}' rests on something else."
