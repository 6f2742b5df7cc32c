"""What the draws of one effect show, and whether that is what the estimator's entry claims."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cqox_assets.catalog import load_estimators
from cqox_assets.coverage.runs import Journal, Records, merged, run_blocks
from cqox_assets.coverage.simulation import LEVEL, Record, Tally, blocks, spread_of
from cqox_assets.spec import EstimatorSpec

CONFIRM = 4
_BIAS_SIGMAS = 2.0
_SIZE = (0.035, 0.065)
_WARNED = 0.8
# Imbalance before any adjustment is what adjustment is for: it never counts as the diagnostic that warned.
_INFORMS = {"raw_smd"}


@dataclass(frozen=True)
class Performance:
    """What the draws of one estimator, design and effect show.

    Parameters
    ----------
    estimator, design, effect : str
        `effect` is an estimand, with its place in brackets where there are several: `ATT[low]`.
    n, draws, answered : int
        Rows per draw, draws, and draws with an estimate and an interval.
    truth, bias, rmse, spread : float
        Mean error, its root mean square, and the standard deviation of the estimates.
    mean_std_error, length : float or None
        Means over the draws that have one; unbounded intervals do not enter the length.
    coverage : float
        Share of 95% intervals that contain the truth.
    size : float or None
        Share of p-values below 0.05 where the truth is the null.
    seconds : float
        CPU seconds per fit, without the shared nuisance models.
    """

    estimator: str
    design: str
    effect: str
    n: int
    draws: int
    answered: int
    truth: float
    bias: float
    rmse: float
    spread: float
    mean_std_error: float | None
    coverage: float
    length: float | None
    size: float | None
    seconds: float


@dataclass(frozen=True)
class Alarm:
    """What an estimator says on a design where its assumptions fail.

    Parameters
    ----------
    estimator, design : str
    n, draws : int
    warned, refused : dict of str to float
        Share of draws by diagnostic that warned, and by refusal code.
    noticed : float
        Share of draws with a refusal, or a warning of the diagnostic that warned most often.
    bias, coverage : float or None
        Of the headline, in standard deviations of the estimates; what a reader who ignores the warning would get.
    """

    estimator: str
    design: str
    n: int
    draws: int
    warned: dict[str, float]
    refused: dict[str, float]
    noticed: float
    bias: float | None
    coverage: float | None

    @property
    def held(self) -> bool:
        """Whether the failure is noticed in at least 80% of the draws."""
        return self.noticed >= _WARNED


def claimed(
    names: Sequence[str] = (), designs: Sequence[str] = (), rows: int | None = None, broken: bool = False
) -> dict[tuple[str, int], list[str]]:
    """Return the estimators by (design, rows) on which they are held to a claim.

    Parameters
    ----------
    names, designs : sequence of str
        Only these; all by default.
    rows : int, optional
        Rows of each study; by default what the entry says.
    broken : bool
        Designs where the assumptions fail instead of those where they hold.

    Notes
    -----
    An entry whose headline is another's is not drawn again, unless it is named; where assumptions fail it is, because
    its diagnostics are its own.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for name, spec in load_estimators().items():
        if spec.headline_of and not broken and name not in names:
            continue
        for design in spec.breaks if broken else spec.truths:
            if (not names or name in names) and (not designs or design in designs):
                found.setdefault((design, rows or spec.coverage_rows), []).append(name)
    return found


def performances(records: Records) -> Iterator[Performance]:
    """Yield one performance per effect, in the order of the catalogue and its truths."""
    specs = load_estimators()
    place = {(name, design): k for name, spec in specs.items() for k, design in enumerate(spec.truths)}
    for name, design, rows in sorted(records, key=lambda key: (key[0], place.get(key[:2], 0), key[2])):
        record = records[name, design, rows]
        for effect, tally in record.effects.items():
            if tally.answered:
                yield _performance((name, design, effect, rows), record, tally)


def _performance(key: tuple[str, str, str, int], record: Record, tally: Tally) -> Performance:
    count = tally.answered
    return Performance(
        *key, draws=record.draws, answered=count, truth=tally.truth,
        bias=tally.error / count, rmse=math.sqrt(tally.square / count), spread=spread_of(tally),
        mean_std_error=tally.std_error / tally.errors if tally.errors else None, coverage=tally.covered / count,
        length=tally.length / tally.bounded if tally.bounded else None,
        size=tally.rejected / tally.tests if tally.tests else None, seconds=record.seconds / max(record.fits, 1),
    )  # fmt: skip


def misses(found: Performance, spec: EstimatorSpec, sigmas: float = 0.0) -> list[str]:
    """Return in words what falls outside of the entry's claim; empty if it is held.

    Parameters
    ----------
    found : Performance
    spec : EstimatorSpec
    sigmas : float
        With few draws: how many standard errors of the simulation are allowed around 95% instead of the limits,
        where that is more.
    """
    least, most = spec.coverage_limits
    largest, least = spec.claim_designs.get(found.design, (spec.claim_bias, least))
    usual = spec.claim_coverage is None
    low, high = (_SIZE[0] if most < 1 else 0.0, _SIZE[1]) if usual else (1 - most, 1 - least)
    noise = sigmas * math.sqrt(LEVEL * (1 - LEVEL) / found.answered)
    wrong = []
    if found.answered < (1 - spec.claim_unanswered) * found.draws:
        wrong.append(f"{found.draws - found.answered} of {found.draws} draws have no interval")
    allowed = largest + max(_BIAS_SIGMAS, sigmas) / math.sqrt(found.answered)
    if abs(found.bias) > allowed * found.spread:
        wrong.append(f"bias {found.bias / found.spread:+.2f} SD, allowed {allowed:.2f}")
    slack = max(noise - (LEVEL - 0.93), 0.0)
    if not least - slack <= found.coverage <= most + slack:
        wrong.append(f"coverage {found.coverage:.3f}, claimed {least:.2f} to {most:.2f}")
    slack = max(noise - (_SIZE[1] - (1 - LEVEL)), 0.0)
    if found.size is not None and not low - slack <= found.size <= high + slack:
        wrong.append(f"size {found.size:.3f}, claimed {low:.3f} to {high:.3f}")
    return wrong


def measure(
    claims: dict[tuple[str, int], list[str]],
    draws: int,
    journal: Journal | None = None,
    workers: int = 1,
    tell: Callable[[str], None] | None = None,
) -> Records:
    """Draw what is claimed; what then misses its claim gets four times the draws before it is judged.

    Among some hundred cases that are all as they should be, several miss limits this narrow by chance in 1,000
    draws; a true miss stays one when the chance is taken away.
    """
    journal = Journal() if journal is None else journal
    records = run_blocks(blocks(claims, 0, draws), journal, workers, tell)
    specs = load_estimators()
    again: dict[tuple[str, int], list[str]] = {}
    for found in performances(records):
        names = again.setdefault((found.design, found.n), [])
        if found.estimator not in names and misses(found, specs[found.estimator]):
            names.append(found.estimator)
    again = {key: names for key, names in again.items() if names}
    if not again:
        return records
    return merged(records, run_blocks(blocks(again, draws, CONFIRM * draws), journal, workers, tell))


def alarms(records: Records) -> Iterator[Alarm]:
    """Yield what was noticed on the designs where assumptions fail."""
    specs = load_estimators()
    for (name, design, rows), record in sorted(records.items()):
        count = record.draws
        warned = {item: number / count for item, number in record.warned.most_common()}
        refused = {code: number / count for code, number in record.refused.most_common()}
        named = [share for item, share in warned.items() if item not in _INFORMS]
        tally = next(iter(record.effects.values()), None)
        spread = spread_of(tally) if tally else math.nan
        told = tally is not None and tally.answered > 1 and spread > 0
        yield Alarm(
            specs[name].name, design, rows, count, warned, refused, sum(refused.values()) + max(named, default=0.0),
            tally.error / tally.answered / spread if tally and told else None,
            tally.covered / tally.answered if tally and told else None,
        )  # fmt: skip
