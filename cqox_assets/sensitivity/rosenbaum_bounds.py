"""Rosenbaum bounds: how much hidden bias within matched pairs would explain the result away."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.measures import Status, judge
from cqox_assets.numerics.signed_rank import critical_gamma, lower_p, signed_ranks, upper_p
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Role, Study

_FEWEST_PAIRS = 10
_LARGEST = 1e6


@dataclass(frozen=True)
class RosenbaumParams(CommonParams):
    """Parameters of the Rosenbaum bounds.

    Parameters
    ----------
    gammas : tuple of float
        Hidden biases, as factors on the odds of treatment within a pair, at which the bounds are tabled.
    alpha : float
        One-sided significance level.
    zeros : str
        Pairs without a difference: `keep` ranks them with the rest, `drop` leaves them out.
    """

    gammas: tuple[float, ...] = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0)
    alpha: float = 0.05
    zeros: Literal["keep", "drop"] = "keep"


def run(
    study: Study, estimate: EffectEstimate, params: RosenbaumParams, context: Context
) -> SensitivityResult | Refusal:
    """Answer for the pairs of each contrast: those of the role `pair`, else matched one to one without replacement.

    Notes
    -----
    Wilcoxon's signed rank test in the direction of the estimate. With a hidden bias of gamma two units of a pair
    differ in their odds of treatment by at most that factor (Rosenbaum 2002, doi:10.1007/978-1-4757-3692-2).
    """
    fingerprint, study = study.fingerprint, study.studied()
    rows: list[dict[str, Any]] = []
    for arm, part in study.contrasts():
        outcomes, origin = _paired_outcomes(part, context)
        if outcomes is None or len(outcomes) < _FEWEST_PAIRS:
            number = 0 if outcomes is None else len(outcomes)
            return Refusal(
                SPEC.name, "too_few_pairs", f"{number} pairs of {arm} and {part.arms[0]} ({origin}), "
                f"{_FEWEST_PAIRS} are needed", "map the role pair, or covariates that units can be matched on",
            )  # fmt: skip
        rows += _contrast(part, estimate, outcomes, params, origin)
    head = rows[0]
    return SensitivityResult(
        name=SPEC.name,
        estimator=estimate.estimator,
        estimand=estimate.estimand,
        value=head["value"],
        unit="odds of treatment within a pair",
        status=Status(head["status"]),
        meaning=head["meaning"],
        advice=head["advice"],
        table=pd.DataFrame(rows),
        provenance={"fingerprint": fingerprint},
    )


def _paired_outcomes(study: Study, context: Context) -> tuple[np.ndarray | None, str]:
    """Return treated and control outcome of each pair, shape (m, 2), and where the pairs come from."""
    y, d = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    if study.has(Role.PAIR):
        frame = pd.DataFrame({"pair": study.codes(Role.PAIR), "d": d, "y": y})
        counts = frame.groupby("pair")["d"].agg(["size", "sum"])
        whole = counts.index[(counts["size"] == 2) & (counts["sum"] == 1)]
        sides = frame[frame["pair"].isin(whole)].sort_values(["pair", "d"], ascending=[True, False])
        return sides["y"].to_numpy().reshape(-1, 2), "of the role pair"
    if context.runner is None:
        return None, "no pairs are mapped"
    matched = context.runner("propensity_matching", study, {"replacement": False, "ratio": 1, "estimand": "ATT"})
    if not isinstance(matched, EffectEstimate):
        return None, getattr(matched, "reason", "matching failed")
    pairs = matched.tables["matches"]
    return np.column_stack([y[pairs[side].to_numpy()] for side in ("row", "match")]), "matched on the propensity score"


def _contrast(
    study: Study, estimate: EffectEstimate, outcomes: np.ndarray, params: RosenbaumParams, origin: str
) -> list[dict[str, Any]]:
    contrast = f"{study.arms[1]} - {study.arms[0]}"
    effect = next((item for item in estimate.effects if item.contrast == contrast), estimate.headline)
    sign = -1.0 if effect.estimate < effect.null else 1.0
    differences, magnitude = sign * (outcomes[:, 0] - outcomes[:, 1]), np.abs(outcomes).max(axis=1)
    ranks = signed_ranks(differences, params.zeros, magnitude)
    critical = critical_gamma(ranks, params.alpha, _LARGEST)
    value = 1.0 if critical is None else critical
    judged = judge("rosenbaum_gamma", value, thresholds=study.thresholds, severities=study.severities)
    status = Status.WARN if critical is None else judged.status
    meaning, advice = _sentences(study, critical, len(outcomes), origin, params.alpha, status)
    both = {rule: signed_ranks(differences, rule, magnitude) for rule in ("keep", "drop")}
    other = {f"value_{rule}": critical_gamma(found, params.alpha, _LARGEST) or 1.0 for rule, found in both.items()}
    zeros = both["keep"].zeros
    if zeros:
        meaning = (
            f"{meaning[:-1]}; with the {zeros} pairs that do not differ ranked it is {other['value_keep']:.2f}, "
            f"without them {other['value_drop']:.2f}."
        )
    facts = {"contrast": contrast, "status": status.value, "value": value, "meaning": meaning, "advice": advice,
             "pairs": len(outcomes), "zeros": zeros, **other}  # fmt: skip
    return [
        facts
        | {"gamma": float(gamma), "p_upper": upper_p(ranks, gamma), "p_lower": lower_p(ranks, gamma)}
        | {f"p_upper_{rule}": upper_p(found, gamma) for rule, found in both.items()}
        for gamma in params.gammas
    ]


def _sentences(
    study: Study, critical: float | None, pairs: int, origin: str, alpha: float, status: Status
) -> tuple[str, str]:
    if critical is None:
        meaning = (
            f"Without any hidden bias the {pairs} pairs ({origin}) do not differ at the {alpha:.0%} level, so there is "
            "nothing for a hidden bias to explain."
        )
        return meaning, "Gather more pairs before asking about hidden confounding: chance alone explains the result."
    least = "more than 1,000,000" if critical >= _LARGEST else f"{critical:.2f}"
    meaning = (
        f"Within pairs ({pairs}, {origin}) a hidden cause would have to change the odds of treatment {least} times to "
        f"explain the difference away at the {alpha:.0%} level."
    )
    if study.declaration.design == "trial":
        return meaning, "Assignment was random, so this informs about drop-out and broken randomisation only."
    if status is Status.PASS:
        return (
            meaning,
            f"Ask whether an unmeasured cause could change the odds {least} times; if none is known, rely on it.",
        )
    return meaning, "Match on further causes of the treatment, or run a trial: a small hidden bias would be enough."


SPEC = SensitivitySpec(
    name="rosenbaum_bounds",
    title="Rosenbaum bounds",
    question="How much hidden bias within matched pairs would explain the result away?",
    run=run,
    holds="Only a strong hidden bias within the pairs could explain the difference away.",
    breaks="A small hidden bias within the pairs, or chance alone, could explain the difference away.",
    applies_to=("propensity_matching",),
    informs_in_trial=True,
    reference="Rosenbaum 2002, doi:10.1007/978-1-4757-3692-2",
    params=RosenbaumParams,
)
