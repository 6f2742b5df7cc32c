"""Draws studies of a design and adds up what the estimators that claim it say about them."""

import hashlib
import json
import math
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
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


Records = dict[tuple[str, str, int], Record]


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
            return
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


@cache
def code_digest() -> str:
    """Return a hash of the package's source: draws of other code are never added to those of this one."""
    root = Path(__file__).resolve().parent.parent
    parts = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        parts.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return parts.hexdigest()[:16]


class Journal:
    """Finished blocks in a file of JSON lines, so that an interrupted run continues where it was.

    Parameters
    ----------
    path : Path, optional
        Nothing is kept without one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._done: dict[tuple[Any, ...], dict[str, Record]] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            return  # the line that was being written when the run was interrupted
        if row["code"] == code_digest():
            records = {name: Record.from_json(record) for name, record in row["records"].items()}
            self._done.setdefault(tuple(row["block"]), {}).update(records)

    def known(self, block: Block) -> dict[str, Record]:
        """Return the records of a block that are there already."""
        done = self._done.get(block.key, {})
        return {name: done[name] for name in block.names if name in done}

    def add(self, block: Block, records: Mapping[str, Record]) -> None:
        """Keep a finished block."""
        self._done.setdefault(block.key, {}).update(records)
        if self.path is not None:
            row = {"code": code_digest(), "block": block.key, "records": {n: r.to_json() for n, r in records.items()}}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")


def run_blocks(work: Iterable[Block], journal: Journal, workers: int = 1) -> Records:
    """Run blocks that the journal does not know yet, in `workers` processes, and return the records of all.

    Returns
    -------
    dict
        (estimator, design, rows) to the record of all its draws.
    """
    records: Records = {}
    todo = []
    for block in work:
        known = journal.known(block)
        _collect(records, block, known)
        left = tuple(name for name in block.names if name not in known)
        if left:
            todo.append(replace(block, names=left))
    for block, found in _finished(todo, workers):
        journal.add(block, found)
        _collect(records, block, found)
    return records


def _collect(records: Records, block: Block, found: Mapping[str, Record]) -> None:
    for name, record in found.items():
        key = (name, block.design, block.rows)
        records[key] = records.get(key, Record()).plus(record)


def _finished(todo: Sequence[Block], workers: int) -> Iterator[tuple[Block, dict[str, Record]]]:
    if workers < 2:
        yield from ((block, run_block(block)) for block in todo)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    # A forked process would inherit the threads of BLAS in an undefined state.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_block, block): block for block in todo}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def merged(first: Records, second: Records) -> Records:
    """Return the records of both."""
    return {key: first.get(key, Record()).plus(second.get(key, Record())) for key in {**first, **second}}


def spread_of(tally: Tally) -> float:
    """Return the standard deviation of the estimates over the draws."""
    if tally.answered < 2:
        return math.nan
    mean = tally.error / tally.answered
    return float(np.sqrt(max(tally.square - tally.answered * mean**2, 0.0) / (tally.answered - 1)))
