"""Draws studies of a design and adds up what the estimators that claim it say about them."""

import math
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from cqox_assets.catalog import load_estimators
from cqox_assets.measures import Status
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import Effect, EffectEstimate, Failure, Nuisance, Refusal
from cqox_assets.runner import run_guarded, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import Context, EstimatorSpec
from cqox_assets.study import Study

SEED = 20_240_117
LEVEL = 0.95
_BLOCK = 20


@dataclass(frozen=True)
class Block:
    """Consecutive draws of one design, each of which every named estimator answers.

    Parameters
    ----------
    design : str
    rows : int
        Rows of each drawn study.
    names : tuple of str
        Estimators.
    first, count, seed : int
        Draws first .. first + count - 1; see :func:`seed_of`.
    """

    design: str
    rows: int
    names: tuple[str, ...]
    first: int
    count: int
    seed: int = SEED

    @property
    def key(self) -> tuple[str, int, int, int, int]:
        """What makes two blocks draw the same studies."""
        return self.design, self.rows, self.first, self.count, self.seed


@dataclass
class Tally:
    """Sums over draws of what one estimator says of one effect; sums of disjoint draws add up.

    Parameters
    ----------
    truth : float
    answered : int
        Draws with an estimate and an interval.
    error, square, std_error, length : float
        Sums of the error, its square, the standard errors and the lengths of bounded intervals.
    errors, bounded, covered, rejected, tests : int
        Draws with a standard error, with a bounded interval, whose interval contains the truth, whose p-value is
        below 0.05, and with a p-value against a null that is true.
    """

    truth: float
    answered: int = 0
    error: float = 0.0
    square: float = 0.0
    std_error: float = 0.0
    length: float = 0.0
    errors: int = 0
    bounded: int = 0
    covered: int = 0
    rejected: int = 0
    tests: int = 0

    def add(self, effect: Effect) -> None:
        """Count one answer."""
        interval = effect.interval
        if interval is None:
            return
        self.answered += 1
        self.error += effect.estimate - self.truth
        self.square += (effect.estimate - self.truth) ** 2
        if effect.std_error is not None:
            self.std_error, self.errors = self.std_error + effect.std_error, self.errors + 1
        if math.isfinite(interval.high - interval.low):
            self.length, self.bounded = self.length + interval.high - interval.low, self.bounded + 1
        self.covered += interval.covers(self.truth)
        if effect.p_value is not None and effect.null == self.truth:
            self.tests, self.rejected = self.tests + 1, self.rejected + (effect.p_value < 1 - LEVEL)

    def plus(self, other: "Tally") -> "Tally":
        """Return the sums of both."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in asdict(self) if name != "truth"}
        return replace(self, **sums)


@dataclass
class Record:
    """What one estimator answered on the draws of one design.

    Parameters
    ----------
    draws, fits : int
        Studies, and runs of the estimator (several where it estimates one estimand at a time).
    seconds : float
        CPU seconds of all runs, without the shared nuisance models.
    effects : mapping of str to Tally
        By place: `ATE`, `ATT[low]`, ...
    refused, warned : mapping of str to int
        Draws by refusal code, and by declared diagnostic that warned.
    """

    draws: int = 0
    fits: int = 0
    seconds: float = 0.0
    effects: dict[str, Tally] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)

    def plus(self, other: "Record") -> "Record":
        """Return the record of both sets of draws."""
        effects = dict(self.effects)
        for place, tally in other.effects.items():
            effects[place] = effects[place].plus(tally) if place in effects else tally
        return Record(
            self.draws + other.draws, self.fits + other.fits, self.seconds + other.seconds, effects,
            self.refused + other.refused, self.warned + other.warned,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        # asdict would rebuild a Counter from pairs, which counts the pairs.
        return asdict(replace(self, refused=dict(self.refused), warned=dict(self.warned)))  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Record":
        """Rebuild a record from its plain values."""
        effects = {place: Tally(**tally) for place, tally in row["effects"].items()}
        return cls(row["draws"], row["fits"], row["seconds"], effects, Counter(row["refused"]), Counter(row["warned"]))


def blocks(claims: Mapping[tuple[str, int], Sequence[str]], start: int, stop: int, seed: int = SEED) -> Iterator[Block]:
    """Yield the blocks of draws `start` .. `stop` - 1 for estimators by (design, rows)."""
    for first in range(start, stop, _BLOCK):
        for (design, rows), names in claims.items():
            yield Block(design, rows, tuple(names), first, min(_BLOCK, stop - first), seed)


def run_block(block: Block) -> dict[str, Record]:
    """Draw each study of a block once, fit its shared nuisance models once, and let every estimator answer it."""
    specs = [load_estimators()[name] for name in block.names]
    records = {spec.name: Record() for spec in specs}
    for draw in range(block.first, block.first + block.count):
        study, truth = DESIGNS[block.design](block.rows, seed_of(block, draw))
        held = shared_nuisance(study) if any(spec.shares_nuisance for spec in specs) else None
        context = runner_for(Context(nuisance=held if isinstance(held, Nuisance) else None))
        for spec in specs:
            _answer(records[spec.name], spec, study, truth, context)
    return records


def seed_of(block: Block, draw: int) -> int:
    """Return the seed of a draw; designs have seeds of their own, so that bad luck in one is not bad luck in all."""
    return block.seed + zlib.crc32(block.design.encode()) + draw


def _answer(record: Record, spec: EstimatorSpec, study: Study, truth: Mapping[str, float], context: Context) -> None:
    """Add one study to the record: each estimand that has a truth, read from as few runs as possible."""
    record.draws += 1
    found: dict[str, Effect] = {}
    warned: set[str] = set()
    for estimand in map(str, spec.estimands):
        if estimand not in {_estimand(place) for place in truth} or estimand in map(_estimand, found):
            continue
        started = time.process_time()
        outcome = run_guarded(spec, study, {"estimand": estimand}, context)
        record.seconds, record.fits = record.seconds + time.process_time() - started, record.fits + 1
        if isinstance(outcome, Failure):
            raise RuntimeError(f"{spec.name} failed: {outcome.exception}\n{outcome.traceback}")
        if isinstance(outcome, Refusal):
            record.refused[outcome.code] += 1
            break
        found = _known(outcome, truth) | found
        bad = (Status.WARN, Status.FAIL)
        warned |= {item.name for item in outcome.diagnostics if item.status in bad} & set(spec.diagnostics)
    record.warned.update(warned)
    for place, effect in found.items():
        record.effects.setdefault(place, Tally(float(truth[place]))).add(effect)


def _known(outcome: EffectEstimate, truth: Mapping[str, float]) -> dict[str, Effect]:
    """Return the effects whose truth is known, by place; the headline stands for its estimand."""
    found: dict[str, Effect] = {}
    for effect in outcome.effects:
        place = f"{effect.estimand}[{', '.join(map(str, effect.at.values()))}]"
        if place not in truth and (not effect.at or effect is outcome.headline):
            place = str(effect.estimand)
        if place in truth:
            found.setdefault(place, effect)
    return found


def _estimand(place: str) -> str:
    return place.partition("[")[0]


def spread_of(tally: Tally) -> float:
    """Return the standard deviation of the estimates over the draws."""
    if tally.answered < 2:
        return math.nan
    mean = tally.error / tally.answered
    return float(np.sqrt(max(tally.square - tally.answered * mean**2, 0.0) / (tally.answered - 1)))
