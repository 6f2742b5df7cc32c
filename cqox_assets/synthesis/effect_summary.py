"""What the estimators say together: one consensus per question, the spread between them, and why some are missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.result import Effect, EffectEstimate, Failure, Outcome, Refusal
from cqox_assets.synthesis._helpers import normal_quantile, spread_of, weighted_median
from cqox_assets.synthesis.assumption_ledger import LedgerRow, assumption_ledger
from cqox_assets.synthesis.populations import other_populations, populations_of
from cqox_assets.wording import listed, short

FORMULA = (
    "consensus = median of the estimates weighted by 1/SE; its variance = weighted mean of the SE^2 (not divided by "
    "the number of estimators, which share the same rows) + weighted variance of the estimates about the consensus"
)


@dataclass(frozen=True)
class EffectGroup:
    """Estimates that answer the same question: same estimand, contrast, place and scale.

    Parameters
    ----------
    consensus, std_error, low, high : float or None
        In units of the outcome on `scale`; None where no estimator gives an uncertainty.
    spread, sampling : float
        Standard deviation between the estimators; typical standard error of one of them.
    same_sign : float
        Share of estimators on the consensus's side of the null.
    heterogeneity : float
        Cochran's Q over its degrees of freedom, less one, over the same: I squared, 0 to 1. The estimators share
        their rows, so it understates how surprising their differences are.
    agreement : str
        `single`, `close`, `moderate` or `strong_disagreement`.
    set_aside : mapping of str to str
        Estimators shown but not counted, because the study's design contradicts what they assume.
    differing, shared : tuple of str
        Assumptions that some, or all, of the counted estimators make.
    parting : str
        Where the estimators do not agree closely: the assumption that parts them most, with what those who make it
        find and what the others find.
    population : str
        Whom the average is about where a study has several arms; empty where there is only one answer to that.
    """

    estimand: str
    contrast: str
    scale: str
    at: Mapping[str, Any]
    null: float
    estimators: tuple[str, ...]
    consensus: float | None
    std_error: float | None
    low: float | None
    high: float | None
    level: float
    spread: float
    sampling: float | None
    smallest: float | None
    largest: float | None
    same_sign: float
    heterogeneity: float
    agreement: str
    sentence: str
    set_aside: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    parting: str = ""
    population: str = ""

    @property
    def label(self) -> str:
        """Estimand, contrast, place and population in words."""
        place = ", ".join(f"{key} {value}" for key, value in self.at.items())
        scale = "" if self.scale == "difference" else f" ({self.scale.replace('_', ' ')})"
        among = f" among {self.population}" if self.population else ""
        return f"{self.estimand} of {self.contrast}{scale}" + (f" at {place}" if place else "") + among


@dataclass(frozen=True)
class EffectSummary:
    """Agreement of the estimators by question, and what could not be estimated."""

    groups: tuple[EffectGroup, ...]
    preferred: str
    estimated: tuple[str, ...]
    refused: Mapping[str, str]
    failed: Mapping[str, str]
    ledger: tuple[LedgerRow, ...]
    notices: tuple[str, ...] = ()
    formula: str = FORMULA

    def targets(self) -> tuple[EffectGroup, ...]:
        """Return the groups that the decision rests on: the preferred estimand on its most widely estimated scale."""
        found = [group for group in self.groups if group.estimand == self.preferred and group.consensus is not None]
        if not found:
            return ()
        scale = max(found, key=lambda group: (len(group.estimators), group.scale == "difference")).scale
        return tuple(group for group in found if group.scale == scale and not group.at)

    @property
    def counts(self) -> str:
        """How many estimators answered, and why the others did not."""
        text = f"{len(self.estimated)} estimated, {len(self.refused)} refused, {len(self.failed)} failed"
        why = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        return f"{text} ({why})" if why else text

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "counts": self.counts}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "EffectSummary":
        """Rebuild a summary from `to_json`."""
        content = {key: value for key, value in row.items() if key != "counts"}
        lists = ("estimators", "shared", "differing")
        content["groups"] = tuple(
            EffectGroup(**{**group, **{name: tuple(group[name]) for name in lists}}) for group in row["groups"]
        )
        content["ledger"] = tuple(
            LedgerRow(**{**item, "estimators": tuple(item["estimators"])}) for item in row["ledger"]
        )
        for name in ("estimated", "notices"):
            content[name] = tuple(row[name])
        return cls(**content)

    def markdown(self) -> str:
        """Return the summary as markdown."""
        lines = [
            self.counts,
            "",
            "| question | consensus | interval | estimators | agreement |",
            "|---|---:|---|---:|---|",
        ]
        for group in self.groups:
            value = "not estimated" if group.consensus is None else short(group.consensus)
            span = "none" if group.low is None or group.high is None else f"{short(group.low)} to {short(group.high)}"
            words = group.agreement.replace("_", " ")
            lines.append(f"| {group.label} | {value} | {span} | {len(group.estimators)} | {words} |")
        lines += ["", "| assumption | state | evidence |", "|---|---|---|"]
        lines += [f"| {row.statement} | {row.state} | {row.evidence} |" for row in self.ledger]
        return "\n".join(lines) + "\n"


def summarise(
    plan: MethodPlan, estimates: Mapping[str, Outcome], gates: Sequence[Mapping[str, Any]] = ()
) -> EffectSummary:
    """Condense all results, question by question; estimands, contrasts and scales are never mixed.

    Parameters
    ----------
    plan : MethodPlan
        Gives the order, the design and the preferred estimand.
    estimates : mapping of str to EffectEstimate, Refusal or Failure
    gates : sequence of mapping
        Study-level diagnostics (name, value, status, ...) that the assumption ledger may cite.
    """
    order = {name: rank for rank, name in enumerate(plan.names)}
    names = sorted(estimates, key=lambda name: (order.get(name, len(order)), name))
    answered = {name: item for name in names if isinstance(item := estimates[name], EffectEstimate)}
    groups = tuple(
        _condense(key, members, answered, plan) for key, members in _grouped(answered).items()
    )  # fmt: skip
    preferred, notices = _preferred(plan, groups)
    return EffectSummary(
        groups=tuple(sorted(groups, key=lambda group: group.estimand != preferred)),
        preferred=preferred,
        estimated=tuple(answered),
        refused={name: item.reason for name in names if isinstance(item := estimates[name], Refusal)},
        failed={name: item.exception for name in names if isinstance(item := estimates[name], Failure)},
        ledger=assumption_ledger(answered, gates, trial=plan.design == "trial"),
        notices=notices,
    )


_Key = tuple[str, str, str, tuple[tuple[str, Any], ...]]


def _grouped(answered: Mapping[str, EffectEstimate]) -> dict[_Key, dict[str, Effect]]:
    """Put effects that answer the same question together; the arm is already in the contrast's words."""
    groups: dict[_Key, dict[str, Effect]] = {}
    for name, answer in answered.items():
        for effect in answer.effects:
            place = tuple(sorted((key, value) for key, value in effect.at.items() if key != "arm"))
            if place and effect is not answer.headline:
                continue  # curves and paths have their own figures; only their headline is a single answer
            groups.setdefault((effect.estimand, effect.contrast, effect.scale, place), {}).setdefault(name, effect)
    return groups


def _condense(
    key: _Key, members: Mapping[str, Effect], answered: Mapping[str, EffectEstimate], plan: MethodPlan
) -> EffectGroup:
    aside = {name: reason for name in members if (reason := _contradicted(answered[name], plan))}
    aside |= _repeated({name: effect for name, effect in members.items() if name not in aside})
    counted = {name: effect for name, effect in members.items() if name not in aside}
    # In a trial chance makes the units of any two arms like those of all.
    places = {} if plan.design == "trial" else populations_of(members)
    population, others = other_populations(places, counted)
    aside |= others
    counted = {name: effect for name, effect in counted.items() if name not in others}
    estimand, contrast, scale, place = key
    null = next(iter(members.values())).null
    numbers = consensus_of(list(counted.values()))
    assumed = [{item.name for item in answered[name].assumptions} for name in counted]
    shared = set.intersection(*assumed) if assumed else set()
    parting = _parting(counted, assumed, numbers["agreement"])
    return EffectGroup(
        estimand=estimand,
        contrast=contrast,
        scale=scale,
        at=dict(place),
        null=null,
        estimators=tuple(counted),
        set_aside=aside,
        shared=tuple(sorted(shared)),
        differing=tuple(sorted(set().union(*assumed) - shared)),
        sentence=" ".join(
            part
            for part in (
                _sentence(numbers, tuple(counted), aside),
                f"It averages over {population}." if population else "",
                parting,
            )
            if part
        ),
        parting=parting,
        population=population,
        **numbers,
    )


def _repeated(members: Mapping[str, Effect]) -> dict[str, str]:
    """Return those that give another's number to the last digit: one calculation is one vote, whatever its names.

    Another standard error for the same number, such as the bootstrap's, does not make it another vote.
    """
    first: dict[str, str] = {}
    found = {}
    for name, effect in members.items():
        key = f"{effect.estimate:.10g}"
        if first.setdefault(key, name) != name:
            found[name] = f"it is the same calculation as {first[key]}, which counts once"
    return found


def _contradicted(answer: EffectEstimate, plan: MethodPlan) -> str:
    """Return why an estimate does not count here: it needs a randomised treatment and nobody declared one."""
    if plan.design != "trial" and "random_assignment" in {item.name for item in answer.assumptions}:
        return "it is right only under random assignment, which study.yaml does not declare"
    return ""


def consensus_of(effects: Sequence[Effect]) -> dict[str, Any]:
    """Return consensus, uncertainty and agreement of effects that answer the same question.

    Notes
    -----
    With weights w proportional to 1/SE (an estimate without one gets the median weight): the consensus t is the
    weighted median; sampling^2 = sum w SE^2; spread^2 = sum w (t_i - t)^2; the interval is t -/+ c sqrt(sampling^2 +
    spread^2), c the estimates' own number of standard errors (Student's with few clusters) and at least the normal one.
    Estimators that share rows are almost perfectly correlated, so sampling error does not shrink with
    their number. One estimator alone keeps its own interval.
    """
    if not effects:
        return dict.fromkeys(("consensus", "std_error", "low", "high", "sampling", "smallest", "largest")) | {
            "level": 0.95, "spread": 0.0, "same_sign": 0.0, "heterogeneity": 0.0, "agreement": "single",
        }  # fmt: skip
    values, errors = [effect.estimate for effect in effects], [spread_of(effect) for effect in effects]
    known = [error for error in errors if error is not None]
    typical = weighted_median(known, [1.0] * len(known)) if known else 1.0
    raw = [1 / (typical if error is None else error) for error in errors]
    weights = [weight / sum(raw) for weight in raw]
    centre, null = weighted_median(values, weights), effects[0].null
    level = next((effect.interval.level for effect in effects if effect.interval is not None), 0.95)
    spread = math.sqrt(sum(weight * (value - centre) ** 2 for weight, value in zip(weights, values, strict=True)))
    sampling = _sampling(weights, errors)
    total = None if sampling is None else math.hypot(sampling, spread)
    low = high = None
    if len(effects) == 1 and effects[0].interval is not None:
        ends = (effects[0].interval.low, effects[0].interval.high)
        low, high = (end if math.isfinite(end) else None for end in ends)
    elif total is not None:
        reach = _reach(effects, level) * total
        low, high = centre - reach, centre + reach
    same = sum((value - null) * (centre - null) > 0 for value in values) / len(values)
    return {
        "consensus": centre, "std_error": total, "low": low, "high": high, "level": level,
        "spread": spread, "sampling": sampling, "smallest": min(values), "largest": max(values),
        "same_sign": same, "heterogeneity": _i_squared(values, errors),
        "agreement": _agreement(effects, spread, sampling, abs(centre - null)),
    }  # fmt: skip


def _reach(effects: Sequence[Effect], level: float) -> float:
    """Return how many standard errors the interval reaches to either side: the median of the estimates' own."""
    own = [
        (effect.interval.high - effect.interval.low) / 2 / effect.std_error
        for effect in effects
        if effect.std_error is not None
        and effect.interval is not None
        and effect.interval.level == level
        and math.isfinite(effect.interval.high - effect.interval.low)
    ]
    return max([normal_quantile(level), *([weighted_median(own, [1.0] * len(own))] if own else [])])


def _sampling(weights: Sequence[float], errors: Sequence[float | None]) -> float | None:
    pairs = [(weight, error) for weight, error in zip(weights, errors, strict=True) if error is not None]
    if not pairs:
        return None
    return math.sqrt(sum(weight * error**2 for weight, error in pairs) / sum(weight for weight, _ in pairs))


def _i_squared(values: Sequence[float], errors: Sequence[float | None]) -> float:
    pairs = [(value, error) for value, error in zip(values, errors, strict=True) if error is not None]
    if len(pairs) < 2:
        return 0.0
    precision = [1 / error**2 for _, error in pairs]
    mean = sum(weight * value for weight, (value, _) in zip(precision, pairs, strict=True)) / sum(precision)
    q = sum(weight * (value - mean) ** 2 for weight, (value, _) in zip(precision, pairs, strict=True))
    return max(0.0, 1 - (len(pairs) - 1) / q) if q > 0 else 0.0


def _agreement(effects: Sequence[Effect], spread: float, sampling: float | None, size: float) -> str:
    """Name the agreement; opposite significant answers, or a spread beyond chance and half the effect, are strong."""
    if len(effects) == 1:
        return "single"
    sides = {
        math.copysign(1, effect.estimate - effect.null)
        for effect in effects
        if effect.interval is not None and not effect.interval.covers(effect.null)
    }
    chance = 0.0 if sampling is None else sampling
    if len(sides) == 2 or (spread > chance and spread > size / 2):
        return "strong_disagreement"
    return "moderate" if spread > chance / 2 and spread > size / 20 else "close"


def _sentence(numbers: Mapping[str, Any], names: Sequence[str], aside: Mapping[str, str]) -> str:
    left_out = "".join(
        f" {listed([name for name in aside if aside[name] == reason])} shown but not counted: {reason}."
        for reason in dict.fromkeys(aside.values())
    )
    if numbers["consensus"] is None:
        return f"No estimator that this design supports answered.{left_out}"
    if len(names) == 1:
        return f"Only {names[0]} answers this question, so agreement cannot be measured.{left_out}"
    words = {
        "close": "agree closely",
        "moderate": "agree in direction but differ in size" if numbers["same_sign"] == 1 else "differ",
        "strong_disagreement": "disagree strongly",
    }[numbers["agreement"]]
    text = (
        f"{len(names)} estimators {words}: {short(numbers['smallest'])} to {short(numbers['largest'])}, "
        f"{numbers['same_sign']:.0%} on the same side of no effect; between-estimator SD {short(numbers['spread'])}"
    )
    against = (
        "" if numbers["sampling"] is None else f" against a typical standard error of {short(numbers['sampling'])}"
    )
    return f"{text}{against} (I squared {numbers['heterogeneity']:.0%}).{left_out}"


def _parting(counted: Mapping[str, Effect], assumed: Sequence[set[str]], agreement: str) -> str:
    """Name the assumption that parts disagreeing estimators: its makers' median is furthest from the others'."""
    if agreement not in ("moderate", "strong_disagreement"):
        return ""
    values = [effect.estimate for effect in counted.values()]
    gaps: list[tuple[float, str, float, float]] = []
    every = {name for made in assumed for name in made}
    for name in sorted(name for name in every if not all(name in made for made in assumed)):
        sides = [
            [value for value, made in zip(values, assumed, strict=True) if (name in made) is yes]
            for yes in (True, False)
        ]
        with_it, without = (weighted_median(side, [1.0] * len(side)) for side in sides)
        gaps.append((abs(with_it - without), name, with_it, without))
    if not gaps:
        return "They make the same assumptions, so their models or their samples part them."
    _, name, with_it, without = max(gaps, key=lambda item: item[0])
    makers = [estimator for estimator, made in zip(counted, assumed, strict=True) if name in made]
    return (
        f"The assumption that parts them most is {name.replace('_', ' ')}: {listed(makers, 4)} make it and find "
        f"{short(with_it)}, the others {short(without)}."
    )


def _preferred(plan: MethodPlan, groups: Sequence[EffectGroup]) -> tuple[str, tuple[str, ...]]:
    """Return the plan's estimand, or the best-supported other one with a notice that says so."""
    usable = [group for group in groups if group.consensus is not None and not group.at]
    if not usable or any(group.estimand == plan.estimand for group in usable):
        return plan.estimand, ()
    other = max(usable, key=lambda group: len(group.estimators)).estimand
    return other, (f"No estimator answered for the {plan.estimand}; the decision rests on the {other} instead.",)
