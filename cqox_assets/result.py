"""What an estimator asset may hold: an estimate, a refusal or a failure; each checks itself on creation."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import ContractError
from cqox_assets.measures import Diagnostic, Status

_EDGE = 1e-9


class Estimand(StrEnum):
    """The quantity that an effect is an estimate of."""

    ATE = "ATE"
    ATT = "ATT"
    ATC = "ATC"
    ATO = "ATO"
    CATE = "CATE"
    LATE = "LATE"
    ACME = "ACME"
    ADE = "ADE"
    TOTAL = "total"
    DIRECT = "direct"
    INDIRECT = "indirect"
    OVERALL = "overall"
    TARGET_ATE = "target_ATE"
    PROPORTION_MEDIATED = "proportion_mediated"
    SLOPE = "slope"
    DOSE_CONTRAST = "dose_contrast"
    DOSE_RESPONSE = "dose_response"
    OPTIMAL_DOSE = "optimal_dose"
    LEVEL_CHANGE = "level_change"
    SLOPE_CHANGE = "slope_change"
    REGIME = "regime_contrast"
    REGIME_MEAN = "regime_mean"
    POLICY_VALUE = "policy_value"


@dataclass(frozen=True)
class Interval:
    """A confidence interval; an end may be infinite, and `region` lists the pairs of a set that is no interval."""

    low: float
    high: float
    level: float = 0.95
    region: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ContractError(f"interval ends are {self.low} and {self.high}")
        if not 0 < self.level < 1:
            raise ContractError(f"interval level is {self.level}; it must lie between 0 and 1")

    def covers(self, value: float) -> bool:
        """Whether the interval, or its region if it has one, contains the value."""
        if self.region:
            return any(low <= value <= high for low, high in self.region)
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Effect:
    """One number with its uncertainty.

    Parameters
    ----------
    estimand : str
        ATE, ATT, LATE, ...
    contrast : str
        Such as `treated - control`, in the labels of the arms.
    estimate : float
        In units of the outcome on `scale`.
    std_error : float, optional
        None where the method has none (permutation, inversion).
    interval : Interval, optional
    p_value : float, optional
        Two-sided, against `null`.
    at : mapping
        Time, group, dose, lead, exposure, arm or segment; empty for a headline of two arms.
    scale : str
        difference, log_risk_ratio, log_odds_ratio, log_rate_ratio, ...
    interval_source, p_source : str
        The procedure behind the interval and the p-value; if equal, the two must agree.
    """

    estimand: str
    contrast: str
    estimate: float
    std_error: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    at: Mapping[str, Any] = field(default_factory=dict)
    scale: str = "difference"
    null: float = 0.0
    interval_source: str = "normal"
    p_source: str = "normal"

    @property
    def label(self) -> str:
        """Estimand, contrast and place, for messages."""
        place = ", ".join(f"{key}={value}" for key, value in self.at.items())
        return f"{self.estimand} of {self.contrast}" + (f" at {place}" if place else "")

    def __post_init__(self) -> None:
        for name in ("estimate", "null"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not math.isfinite(self.estimate):
            raise ContractError(f"{self.label}: estimate is {self.estimate}; return a Refusal instead")
        if self.std_error is not None:
            object.__setattr__(self, "std_error", float(self.std_error))
            if not (self.std_error > 0 and math.isfinite(self.std_error)):
                raise ContractError(f"{self.label}: std_error must be positive and finite, got {self.std_error}")
        if self.p_value is not None:
            object.__setattr__(self, "p_value", float(self.p_value))
            if not 0 <= self.p_value <= 1:
                raise ContractError(f"{self.label}: p_value is {self.p_value}")
            self._check_agreement(self.p_value)

    def _check_agreement(self, p_value: float) -> None:
        if self.interval is None or self.p_source != self.interval_source:
            return
        excludes = not self.interval.covers(self.null)
        rejects = p_value < 1 - self.interval.level
        on_the_edge = abs(p_value - (1 - self.interval.level)) < _EDGE
        if excludes != rejects and not on_the_edge:
            raise ContractError(
                f"{self.label}: the interval ({self.interval.low}, {self.interval.high}) and the p-value {p_value} "
                "tell different stories"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an infinite end is null and `unbounded` says which."""
        row = asdict(self)
        row["at"] = {key: _plain(value) for key, value in self.at.items()}
        if self.interval is not None:
            row["interval"] = _interval_json(self.interval)
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Effect":
        """Rebuild an effect from `to_json`."""
        content = dict(row)
        if content.get("interval") is not None:
            content["interval"] = _interval_from_json(content["interval"])
        return cls(**content)


@dataclass(frozen=True)
class Sample:
    """Which rows an estimate rests on."""

    used: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    per_arm: Mapping[str, int] = field(default_factory=dict)
    clusters: int | None = None
    effective_size: float | None = None


@dataclass(frozen=True)
class Assumption:
    """Something that must hold for the number to mean what it says."""

    name: str
    statement: str
    testable: bool = False
    diagnostics: tuple[str, ...] = ()


@dataclass(frozen=True)
class EffectEstimate:
    """The answer of one estimator; the first effect is the headline."""

    estimator: str
    version: str
    effects: tuple[Effect, ...]
    inference: str
    sample: Sample
    diagnostics: tuple[Diagnostic, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.effects:
            raise ContractError(f"{self.estimator}: an estimate needs at least one effect; return a Refusal instead")
        names = [diagnostic.name for diagnostic in self.diagnostics]
        if len(set(names)) != len(names):
            raise ContractError(f"{self.estimator}: a diagnostic is listed twice among {', '.join(names)}")
        for name, table in self.tables.items() if isinstance(self.tables, dict) else ():
            if not isinstance(table, pd.DataFrame) or not all(isinstance(column, str) for column in table.columns):
                raise ContractError(f"{self.estimator}: table '{name}' must be a frame with text column names")

    @property
    def headline(self) -> Effect:
        """The first effect."""
        return self.effects[0]

    @property
    def estimate(self) -> float:
        """Estimate of the headline, in units of the outcome."""
        return self.headline.estimate

    @property
    def std_error(self) -> float | None:
        """Standard error of the headline."""
        return self.headline.std_error

    @property
    def interval(self) -> Interval | None:
        """Interval of the headline."""
        return self.headline.interval

    @property
    def p_value(self) -> float | None:
        """P-value of the headline."""
        return self.headline.p_value

    @property
    def estimand(self) -> str:
        """Estimand of the headline."""
        return self.headline.estimand

    def diagnostic(self, name: str) -> Diagnostic | None:
        """Return the diagnostic of that name, or None."""
        return next((item for item in self.diagnostics if item.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tables, as plain values."""
        return {
            "kind": "estimate",
            "estimator": self.estimator,
            "version": self.version,
            "effects": [effect.to_json() for effect in self.effects],
            "inference": self.inference,
            "sample": _plain(asdict(self.sample)),
            "diagnostics": [diagnostic_json(item) for item in self.diagnostics],
            "assumptions": [_plain(asdict(item)) for item in self.assumptions],
            "tables": {name: {"rows": len(table), "columns": list(table)} for name, table in self.tables.items()},
            "notices": list(self.notices),
            "provenance": _plain(dict(self.provenance)),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame] | None = None) -> "EffectEstimate":
        """Rebuild an estimate from `to_json` and its tables."""
        return cls(
            estimator=row["estimator"],
            version=row["version"],
            effects=tuple(Effect.from_json(effect) for effect in row["effects"]),
            inference=row["inference"],
            sample=Sample(**row["sample"]),
            diagnostics=tuple(diagnostic_from_json(item) for item in row["diagnostics"]),
            assumptions=tuple(
                Assumption(**{**item, "diagnostics": tuple(item["diagnostics"])}) for item in row["assumptions"]
            ),
            # Kept as it is: stored tables are read from disk only when somebody asks for one.
            tables={} if tables is None else tables,
            notices=tuple(row["notices"]),
            provenance=dict(row["provenance"]),
        )


@dataclass(frozen=True)
class Refusal:
    """The data do not allow this; `code` is stable, `reason` and `remedy` are sentences."""

    estimator: str
    code: str
    reason: str
    remedy: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"kind": "refusal", **_plain(asdict(self))}


@dataclass(frozen=True)
class Failure:
    """A bug: what was raised, and where."""

    estimator: str
    exception: str
    traceback: str
    run_id: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"kind": "failure", **_plain(asdict(self))}


Outcome = EffectEstimate | Refusal | Failure


def outcome_from_json(row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame] | None = None) -> Outcome:
    """Rebuild an estimate, refusal or failure from its `to_json`."""
    content = {key: value for key, value in row.items() if key != "kind"}
    if row["kind"] == "refusal":
        return Refusal(**content)
    if row["kind"] == "failure":
        return Failure(**content)
    return EffectEstimate.from_json(row, tables)


@dataclass(frozen=True)
class SensitivityResult:
    """The answer to one question of how wrong an assumption may be before the conclusion changes.

    `asked` is the question, `meaning` what came out, `implies` what that means for the conclusion, `advice` what to do:
    one sentence each. `asked` and `implies` are the catalogue entry's, see `SensitivitySpec.told`.
    """

    name: str
    estimator: str
    estimand: str
    value: float
    unit: str
    status: Status
    meaning: str
    advice: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    asked: str = ""
    implies: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ContractError(f"{self.name}: value is {self.value}; return a Refusal instead")

    def to_json(self) -> dict[str, Any]:
        """Return everything but the table, as plain values."""
        names = ("name", "estimator", "estimand", "value", "unit", "status", "asked", "meaning", "implies", "advice",
                 "provenance")  # fmt: skip
        return {"kind": "sensitivity", **{name: _plain(getattr(self, name)) for name in names}}

    @classmethod
    def from_json(cls, row: Mapping[str, Any], table: pd.DataFrame | None = None) -> "SensitivityResult":
        """Rebuild a result from `to_json` and its table."""
        content = {key: value for key, value in row.items() if key != "kind"}
        content["status"] = Status(content["status"])
        return cls(**content, table=pd.DataFrame() if table is None else table)


@dataclass(frozen=True)
class Nuisance:
    """Cross-fitted predictions that estimators share.

    Parameters
    ----------
    predictions : mapping of str to DataFrame
        Compared arm to a frame with one row per unit of that contrast's study, in its order, and the columns
        `propensity` (of the compared arm), `outcome_reference`, `outcome_compared`, `best_reference`,
        `best_compared` (the same outcomes, with the shrinkage that predicts best) and `fold`; for small studies the
        same columns again, prefixed `again_`, from other folds.
    learner, seed, folds : str, int, int
        What was fitted; an estimator that asks for something else fits its own.
    clipped : int
        Rows whose propensity was moved to the clipping bound.
    folded : mapping of str to Folded
        Compared arm to its rows in folds, with the designs made of them, for further models in the process that fitted
        the nuisances; never stored.
    """

    predictions: Mapping[str, pd.DataFrame]
    learner: str
    seed: int
    folds: int
    fingerprint: str
    diagnostics: tuple[Diagnostic, ...] = ()
    clipped: int = 0
    notices: tuple[str, ...] = ()
    folded: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the predictions, as plain values."""
        return {
            "learner": self.learner,
            "seed": self.seed,
            "folds": self.folds,
            "fingerprint": self.fingerprint,
            "diagnostics": [diagnostic_json(item) for item in self.diagnostics],
            "clipped": self.clipped,
            "notices": list(self.notices),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any], predictions: Mapping[str, pd.DataFrame]) -> "Nuisance":
        """Rebuild nuisances from `to_json` and the predictions."""
        return cls(
            predictions=dict(predictions),
            learner=row["learner"],
            seed=row["seed"],
            folds=row["folds"],
            fingerprint=row["fingerprint"],
            diagnostics=tuple(diagnostic_from_json(item) for item in row["diagnostics"]),
            clipped=row["clipped"],
            notices=tuple(row["notices"]),
        )


@dataclass(frozen=True)
class Findings:
    """What a summary over results found: plain values and tables.

    `content` has a `status`: `computed`, or `not_computed` with `code`, `reason` and `remedy`.
    """

    content: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        status = self.content.get("status")
        if status not in ("computed", "not_computed"):
            raise ContractError(f"findings have status {status!r}; it must be computed or not_computed")
        if status == "not_computed" and not all(self.content.get(key) for key in ("code", "reason", "remedy")):
            raise ContractError("findings that were not computed need a code, a reason and a remedy")

    @property
    def computed(self) -> bool:
        """Whether there is an answer."""
        return bool(self.content["status"] == "computed")

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tables, as plain values."""
        return dict(_plain(self.content))


def diagnostic_json(item: Diagnostic) -> dict[str, Any]:
    """Return a diagnostic as plain values."""
    return dict(_plain(asdict(item)))


def diagnostic_from_json(row: Mapping[str, Any]) -> Diagnostic:
    """Rebuild a diagnostic from `diagnostic_json`."""
    return Diagnostic(**{**row, "status": Status(row["status"])})


def with_provenance(outcome: Outcome, **facts: Any) -> Outcome:
    """Return the outcome with more facts about how it came to be."""
    return replace(outcome, provenance={**outcome.provenance, **facts})


def to_text(content: Any) -> str:
    """Return JSON text of plain or numpy values; a non-finite number becomes null."""
    return json.dumps(_plain(content), ensure_ascii=False, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """Turn numpy scalars, tuples and enums into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _interval_json(interval: Interval) -> dict[str, Any]:
    low, high = math.isfinite(interval.low), math.isfinite(interval.high)
    row: dict[str, Any] = {
        "low": interval.low if low else None,
        "high": interval.high if high else None,
        "level": interval.level,
    }
    if not (low and high):
        row["unbounded"] = "both" if not (low or high) else ("high" if low else "low")
    if interval.region:
        row["region"] = [[_plain(end) for end in pair] for pair in interval.region]
    return row


def _interval_from_json(row: Mapping[str, Any]) -> Interval:
    def ends(low: float | None, high: float | None) -> tuple[float, float]:
        return (-math.inf if low is None else low, math.inf if high is None else high)

    low, high = ends(row["low"], row["high"])
    return Interval(low, high, row["level"], tuple(ends(*pair) for pair in row.get("region", ())))
