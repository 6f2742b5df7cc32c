"""The study: a validated frame with its roles; the only input of an estimator."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.declaration import NO_NUMBER_DEPENDS_ON, Declaration
from cqox_assets.errors import MappingError


class Role(StrEnum):
    """What a column is for."""

    OUTCOME = "outcome"
    TREATMENT = "treatment"
    UNIT = "unit"
    TIME = "time"
    WEIGHT = "weight"
    COHORT = "cohort"
    COVARIATES = "covariates"
    INSTRUMENTS = "instruments"
    RUNNING_VARIABLE = "running_variable"
    CLUSTER = "cluster"
    MEDIATOR = "mediator"
    DOSE = "dose"
    COST = "cost"
    LATITUDE = "latitude"
    LONGITUDE = "longitude"
    TREATMENT_PROXY = "treatment_proxy"
    OUTCOME_PROXY = "outcome_proxy"
    POPULATION = "population"
    PROPENSITY = "propensity"
    SUBGROUP = "subgroup"
    PRE_OUTCOME = "pre_outcome"
    PAIR = "pair"
    STRATUM = "stratum"
    OFFSET = "offset"
    EVENT = "event"
    GUARDRAILS = "guardrails"


class TreatmentKind(StrEnum):
    """How the treatment column is coded in a study."""

    NONE = "none"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    CONTINUOUS = "continuous"
    REPEATED = "repeated"


@dataclass(frozen=True)
class Study:
    """One data set with the roles of its columns and its declaration.

    Parameters
    ----------
    frame : DataFrame
        Analysis-ready rows. Outcome and covariates are float64 without missing values; a treatment with
        arms is coded 0, 1, ..., in the order of `arms`; cluster, unit, stratum and subgroup keep their labels.
    roles : mapping of Role to tuple of str
        Columns that play each role. Covariates list the encoded columns (dummies, missingness indicators).
    arms : tuple of str
        Labels of the treatment arms, reference first; empty if the treatment is continuous or not mapped.
    tables : mapping of str to DataFrame
        Side tables, such as `edges`.
    declaration : Declaration
        What the analyst stated before looking at results.
    thresholds, severities : mapping
        Measure name to the limit, and to `warn` or `block`, where the profile or declaration changes the default.
    confidence : mapping of Role to float
        How sure the mapping of a role is, 0 to 1; a role that a person stated has 1.
    dropped : mapping of str to int
        Reason to number of rows that preparation removed.
    missing : mapping of str to float
        Delivered column that plays a role to the share of its cells that were missing before preparation,
        0 included; empty when preparation did not record it.
    unusable : mapping of str to str
        Mapped covariate that cannot be adjusted for, because it is empty or holds words of too many kinds, to what was
        found in it.
    labels : mapping of str to str
        Column to the label that people read in figures; a column without an entry is its own label.
    """

    frame: pd.DataFrame
    roles: Mapping[Role, tuple[str, ...]]
    arms: tuple[str, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    declaration: Declaration = field(default_factory=Declaration)
    domain: str = "general"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    severities: Mapping[str, str] = field(default_factory=dict)
    confidence: Mapping[Role, float] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for role, names in self.roles.items():
            for name in names:
                if name not in self.frame.columns:
                    raise MappingError(
                        f"role '{role}' names column '{name}', which the table does not have; "
                        f"its columns are {', '.join(map(str, self.frame.columns[:20]))}"
                    )

    def __len__(self) -> int:
        return len(self.frame)

    def has(self, role: Role) -> bool:
        """Whether at least one column plays the role."""
        return bool(self.roles.get(role))

    def names(self, role: Role) -> tuple[str, ...]:
        """Columns that play the role, possibly none."""
        return tuple(self.roles.get(role, ()))

    def name(self, role: Role) -> str:
        """Return the one column that plays the role.

        Raises
        ------
        MappingError
            If no column or more than one column plays it.
        """
        names = self.names(role)
        if len(names) != 1:
            found = f"columns {', '.join(names)}" if names else "no column"
            raise MappingError(f"role '{role}' needs exactly one column, found {found}; state it in study.yaml")
        return names[0]

    def column(self, role: Role) -> np.ndarray:
        """Values of the role's one column as a float64 array of shape (n,)."""
        return self._floats(self.name(role))

    def matrix(self, role: Role = Role.COVARIATES) -> np.ndarray:
        """Values of the role's columns as a float64 array of shape (n, k); k may be 0."""
        return self._floats(list(self.names(role)))

    def codes(self, role: Role) -> np.ndarray | None:
        """Integer codes 0..G-1 of the role's column, or None when nothing plays it."""
        if not self.has(role):
            return None
        return np.asarray(pd.factorize(self.frame[self.name(role)], sort=True)[0])

    def weights(self) -> np.ndarray | None:
        """Return sampling weights scaled to mean one, or None when no column plays the role."""
        if not self.has(Role.WEIGHT):
            return None
        weight = self.column(Role.WEIGHT)
        if len(weight) == 0:
            return weight
        if not np.all(np.isfinite(weight)) or weight.min() < 0 or weight.sum() == 0:
            raise MappingError(
                f"weight column '{self.name(Role.WEIGHT)}' has negative or missing values; "
                "sampling weights must be zero or positive"
            )
        return np.asarray(weight / weight.mean())

    def label(self, column: str) -> str:
        """Return the name of a column as people read it."""
        return self.labels.get(column, column)

    @property
    def treatment_kind(self) -> TreatmentKind:
        """How the treatment is coded; several columns are one treatment that is repeated in time."""
        if not self.has(Role.TREATMENT):
            return TreatmentKind.NONE
        if len(self.names(Role.TREATMENT)) > 1:
            return TreatmentKind.REPEATED
        if not self.arms:
            return TreatmentKind.CONTINUOUS
        return TreatmentKind.BINARY if len(self.arms) <= 2 else TreatmentKind.CATEGORICAL

    @cached_property
    def repeats_units(self) -> bool:
        """Whether a unit has more than one row, as in a panel."""
        return len(self.names(Role.UNIT)) == 1 and bool(self.frame[self.name(Role.UNIT)].duplicated().any())

    def studied(self) -> "Study":
        """Return the rows of the studied population; all of them when nothing plays the role `population`."""
        if len(self.names(Role.POPULATION)) != 1:
            return self
        inside = self.column(Role.POPULATION) != 0
        return self if inside.all() else self.take(inside)

    def contrasts(self) -> Iterator[tuple[str, "Study"]]:
        """Yield (arm label, study of that arm and the reference arm) for every arm but the reference."""
        if len(self.arms) <= 2:
            yield (self.arms[1] if len(self.arms) == 2 else "", self)
            return
        name = self.name(Role.TREATMENT)
        codes = self.frame[name].to_numpy()
        target = np.zeros(len(codes), dtype=bool)
        if len(self.names(Role.POPULATION)) == 1:
            target = self.column(Role.POPULATION) == 0  # no arm of theirs was studied; every contrast is about them
        for code, arm in enumerate(self.arms[1:], start=1):
            part = self.frame.loc[(codes == 0) | (codes == code) | target].reset_index(drop=True)
            part[name] = (part[name] == code).astype(float).where(part[name].isin((0, code)))
            yield arm, replace(self, frame=part, arms=(self.arms[0], arm))

    def take(self, rows: np.ndarray) -> "Study":
        """Return the study of the given rows (positions or boolean mask), in that order, with the ties among them."""
        taken = replace(self, frame=self.frame.iloc[np.asarray(rows)].reset_index(drop=True))
        edges = self.tables.get("edges")
        if edges is None or not {"source", "target"} <= set(edges.columns):
            return taken
        kept = np.arange(len(self))[np.asarray(rows)]
        if len(np.unique(kept)) < len(kept):
            return taken  # a resample with repeats is no part of the network
        return replace(taken, tables={**self.tables, "edges": self._ties_among(kept, edges)})

    def _ties_among(self, kept: np.ndarray, edges: pd.DataFrame) -> pd.DataFrame:
        """Return the edges without those of units that are left out; edges of strangers stay, to be refused."""
        if not self.has(Role.UNIT):  # units are then named by their place in the table
            place = pd.Series(np.arange(len(kept)), index=kept)
            moved = {end: pd.to_numeric(edges[end], errors="coerce").map(place) for end in ("source", "target")}
            return edges.assign(**moved).dropna(subset=["source", "target"]).reset_index(drop=True)
        units = self.frame[self.name(Role.UNIT)]
        left_out = set(units) - set(units.iloc[kept])
        if not left_out:
            return edges
        texts = left_out | {str(unit) for unit in left_out}
        lost = edges["source"].isin(texts) | edges["target"].isin(texts)
        return edges[~lost.to_numpy()].reset_index(drop=True)

    def redrawn(self, rows: np.ndarray) -> "Study":
        """Return the rows (positions) of a bootstrap sample of a panel.

        A unit that is drawn twice becomes two units, and a cluster alike.
        """
        copy = pd.Series(rows).groupby(rows).cumcount().to_numpy()
        drawn = self.take(rows)
        for role in (Role.UNIT, Role.CLUSTER):
            codes = self.codes(role)
            if codes is not None:
                drawn = drawn.with_column(f"{role} drawn", codes[rows] + copy * (int(codes.max()) + 1), role)
        return drawn

    def with_column(self, name: str, values: np.ndarray, role: Role) -> "Study":
        """Return a copy in which a column holds `values` and plays `role` alone."""
        frame = self.frame.copy(deep=False)
        frame[name] = values
        return replace(self, frame=frame, roles={**self.roles, role: (name,)})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of rows, roles, arms, side tables, declaration and limits: equal studies have equal fingerprints."""
        digest = self._rows_hash()
        facts = {
            "roles": {str(role): list(names) for role, names in sorted(self.roles.items())},
            "arms": self.arms,
            "declaration": self.declaration.model_dump(mode="json", exclude=NO_NUMBER_DEPENDS_ON),
            "thresholds": dict(sorted(self.thresholds.items())),
            "severities": dict(sorted(self.severities.items())),
            "domain": self.domain,
        }
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:32]

    @property
    def data_fingerprint(self) -> str:
        """Hash of the rows and side tables alone, whatever is declared about them."""
        return self._rows_hash().hexdigest()[:32]

    def _rows_hash(self) -> "hashlib._Hash":
        digest = hashlib.sha256(_frame_hash(self.frame))
        for name in sorted(self.tables):
            digest.update(name.encode() + _frame_hash(self.tables[name]))
        return digest

    def facts(self) -> dict[str, Any]:
        """Return everything but the rows, ready for JSON."""
        return {
            "roles": {str(role): list(names) for role, names in self.roles.items()},
            "arms": list(self.arms),
            "declaration": self.declaration.model_dump(mode="json"),
            "domain": self.domain,
            "thresholds": dict(self.thresholds),
            "severities": dict(self.severities),
            "confidence": {str(role): float(value) for role, value in self.confidence.items()},
            "dropped": {reason: int(rows) for reason, rows in self.dropped.items()},
            "missing": {column: float(share) for column, share in self.missing.items()},
            "labels": dict(self.labels),
            "unusable": dict(self.unusable),
            "notices": list(self.notices),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], frame: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> "Study":
        """Rebuild a study from `facts` and its frames."""
        return cls(
            frame=frame,
            roles={Role(role): tuple(names) for role, names in facts["roles"].items()},
            arms=tuple(facts["arms"]),
            tables=dict(tables),
            declaration=Declaration.model_validate(facts["declaration"]),
            domain=facts["domain"],
            thresholds=facts["thresholds"],
            severities=facts["severities"],
            confidence={Role(role): value for role, value in facts["confidence"].items()},
            dropped=facts["dropped"],
            missing=facts.get("missing", {}),
            labels=facts["labels"],
            unusable=facts.get("unusable", {}),
            notices=tuple(facts["notices"]),
        )

    def _floats(self, names: str | list[str]) -> np.ndarray:
        """Return a copy of one column, shape (n,), or of several, shape (n, k), as float64."""
        try:
            return np.array(self.frame[names].to_numpy(dtype=np.float64, na_value=np.nan), order="C")
        except (TypeError, ValueError) as error:
            names = [names] if isinstance(names, str) else names
            texts = [name for name in names if not pd.api.types.is_numeric_dtype(self.frame[name])]
            raise MappingError(
                f"column {', '.join(texts) or names} is not numeric ({error}); prepare the study before estimating"
            ) from error


def _frame_hash(frame: pd.DataFrame) -> bytes:
    """Hash values and column names; the index and the order of columns do not matter, the order of rows does."""
    ordered = frame[sorted(frame.columns, key=str)]
    digest = hashlib.sha256(json.dumps([str(name) for name in ordered.columns]).encode())
    digest.update(pd.util.hash_pandas_object(ordered, index=False).to_numpy().tobytes())
    return digest.digest()
