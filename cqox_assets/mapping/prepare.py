"""Turns a table and its roles into the study that estimators see: coded, complete and numeric, every decision noted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.declaration import Declaration
from cqox_assets.errors import MappingError
from cqox_assets.mapping.coding import Coding, code_number, code_treatment, numbers_among_words
from cqox_assets.mapping.columns import Kind, Roles, as_number, as_text, kind_of, plain_frame, read_roles
from cqox_assets.mapping.domains import GENERAL, DomainProfile, direction_of
from cqox_assets.mapping.draft import (
    Draft,
    note_outliers,
    ordered,
    place_covariates,
    place_labelled,
    place_number,
    place_numbers,
    place_time,
    place_treatment,
)
from cqox_assets.mapping.encode import MAX_LEVELS
from cqox_assets.mapping.timing import Scale
from cqox_assets.mapping.unobserved import UNOBSERVED, place_unobserved, unobserved_rows
from cqox_assets.study import Role, Study

# what a row may lack without being dropped: covariates are imputed, a cohort may be never, the rest is side information
_SPARE = (Role.COVARIATES, Role.COHORT, Role.PRE_OUTCOME, Role.COST, Role.GUARDRAILS, Role.SUBGROUP, Role.STRATUM)


def prepare(
    frame: pd.DataFrame,
    roles: Mapping[Role, tuple[str, ...]] | Mapping[str, str | Sequence[str] | None],
    *,
    declaration: Declaration | None = None,
    domain: DomainProfile | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    confidence: Mapping[Role, float] | None = None,
) -> Study:
    """Prepare a study: code the treatment and outcome, handle missing values, encode covariates and dates.

    A table that cannot be analysed (one arm, constant outcome, no rows) still becomes a study; gates and estimators
    refuse it. Numeric, complete columns keep their exact values. Rows keep their order.

    Parameters
    ----------
    frame : DataFrame
        One row per unit, or per unit and period; it is not changed.
    roles : mapping of str to str, list of str or None
        Role to its column or columns.
    declaration : Declaration, optional
        What the analyst stated: contrast, missing values, limits, guardrails and so on.
    domain : DomainProfile, optional
        Supplies limits, direction, unit and money where the declaration is silent.
    tables : mapping of str to DataFrame, optional
        Side tables. A panel's rows that lack nothing but outcome or treatment are dropped from the table and kept as
        the side table `unobserved`, because they are part of their unit's history.
    confidence : mapping of Role to float, optional
        How sure each role is; 1 by default, as for roles that a person gave.

    Raises
    ------
    MappingError
        If a role or column is not known, or a column plays two roles that exclude each other.
    DataError
        If words or dates stand where numbers are needed, or two columns have one name.
    DeclarationError
        If a declared arm or intervention time is not among the values.
    """
    stated = declaration if declaration is not None else Declaration()
    table = plain_frame(frame)
    draft = _draft(table, roles, stated)
    share = {name: _missing(draft, name).mean() if len(table) else 0.0 for name in draft.frame.columns}
    coding, silent = _drop_rows(draft, stated)
    place_treatment(draft, coding)
    scale = place_time(draft)
    for name in draft.names(Role.OUTCOME):
        place_number(draft, Role.OUTCOME, name)
    place_labelled(draft)
    place_covariates(draft)
    place_numbers(draft)
    note_outliers(draft)
    prepared = ordered(draft)
    if silent is not None and len(silent) and len(prepared):
        tables = {**(tables or {}), UNOBSERVED: place_unobserved(draft, silent, scale)}
    return Study(
        frame=prepared,
        roles={role: names for role, names in draft.roles.items() if names},
        arms=draft.arms,
        tables=dict(tables or {}),
        declaration=_filled(stated, domain, scale, draft),
        domain=domain.name if domain is not None else GENERAL,
        thresholds={**(domain.thresholds if domain is not None else {}), **stated.thresholds},
        severities={**(domain.severities if domain is not None else {}), **stated.severities},
        confidence=_confidence(draft, confidence),
        dropped=draft.dropped,
        missing={name: float(value) for name, value in share.items()},
        labels=draft.labels,
        unusable=draft.unusable,
        notices=tuple(dict.fromkeys(draft.notices)),
    )


def _draft(table: pd.DataFrame, roles: Mapping[Any, Any], stated: Declaration) -> Draft:
    given: dict[Role, tuple[str, ...]] = {
        role: names for role, names in read_roles(roles, table.columns).items() if names
    }
    if stated.guardrails and Role.GUARDRAILS not in given:
        given[Role.GUARDRAILS] = read_roles({Role.GUARDRAILS: list(stated.guardrails)}, table.columns)[Role.GUARDRAILS]
        if "covariates" not in stated.roles:
            kept = tuple(name for name in given.get(Role.COVARIATES, ()) if name not in given[Role.GUARDRAILS])
            given[Role.COVARIATES] = kept
    _refuse_contradictions(given)
    used = [name for name in table.columns if any(name in names for names in given.values())]
    kinds = {name: kind_of(table[name]) for name in used}
    draft = Draft(table[used], given, kinds)
    _read_numbers(draft)
    for name in used:
        if kinds[name].numeric and (infinite := int(np.isinf(as_number(draft.frame[name])).sum())):
            draft.notices.append(f"'{name}': {infinite} infinite values count as missing")
    return draft


def _read_numbers(draft: Draft) -> None:
    """Read covariates that hold numbers as text; the few words among them count as missing and are named."""
    elsewhere = {name for role, names in draft.roles.items() if role != Role.COVARIATES for name in names}
    for name in draft.names(Role.COVARIATES):
        series = draft.frame[name]
        if name in elsewhere or draft.kinds[name] != Kind.TEXT:
            continue
        # More levels than can be dummies, or so few rows to a level that they would be taken for ids.
        read = numbers_among_words(series, min(MAX_LEVELS, max(2, int(series.notna().sum()) // 2)))
        if read is None:
            continue
        numbers, stray = read
        draft.frame = draft.frame.assign(**{name: numbers})
        draft.kinds[name] = kind_of(draft.frame[name])
        said = f"covariate '{name}' holds numbers as text; they were read as numbers"
        if stray:
            rows = int(as_text(series).isin(stray).sum())
            said += (
                f", and {rows} {'value' if rows == 1 else 'values'} that {'is' if rows == 1 else 'are'} none "
                f"({', '.join(repr(word) for word in stray[:5])}) {'counts' if rows == 1 else 'count'} as missing"
            )
        draft.notices.append(said)


def _refuse_contradictions(roles: Roles) -> None:
    for name in roles.get(Role.OUTCOME, ()):
        for other in (Role.TREATMENT, Role.COVARIATES):
            if name in roles.get(other, ()):
                raise MappingError(f"column '{name}' cannot be both outcome and {other}; take it out of one of them")
    for name in roles.get(Role.TREATMENT, ()):
        if name in roles.get(Role.COVARIATES, ()):
            raise MappingError(f"column '{name}' cannot be both treatment and covariate; take it out of one of them")


def _missing(draft: Draft, name: str) -> np.ndarray:
    kind, series = draft.kinds[name], draft.frame[name]
    if kind == Kind.TEXT:
        return np.asarray(as_text(series).isna())
    if kind.numeric:
        return np.asarray(~np.isfinite(as_number(series)))
    return np.asarray(series.isna())


def _drop_rows(draft: Draft, stated: Declaration) -> tuple[Coding | None, pd.DataFrame | None]:
    """Drop rows that no analysis can use, count them by reason, and code the treatment of those that remain.

    Returns the coding and, of a panel, the rows that lack nothing but outcome or treatment.
    """
    treatment = draft.names(Role.TREATMENT)
    coding = None
    if treatment:
        coding = code_treatment(
            [draft.frame[name] for name in treatment],
            [draft.kinds[name] for name in treatment],
            treatment,
            stated.contrast,
            continuous=stated.treatment_kind == "continuous",
        )
        draft.notices += coding.notices
    keep = np.ones(len(draft.frame), dtype=bool)
    target = _target_rows(draft)

    def drop(lacking: np.ndarray, reason: str) -> None:
        lost = lacking & keep
        if lost.any():
            draft.dropped[reason] = int(lost.sum())
            keep[lost] = False

    if coding is not None and coding.left_out is not None:
        drop(coding.left_out, f"another arm of '{', '.join(treatment)}' than those compared")
    needed = list(dict.fromkeys(role for role in (Role.TREATMENT, Role.OUTCOME, *Role) if role not in _SPARE))
    silent = unobserved_rows(draft, coding, lambda name: _missing(draft, name), needed)
    for role in needed:
        for name in draft.names(role):
            exempt = target if role != Role.POPULATION else False
            drop(_missing(draft, name) & ~np.asarray(exempt), f"{role} '{name}' is missing")
    if stated.missing == "drop":
        for name in draft.names(Role.COVARIATES):
            if draft.kinds[name] != Kind.EMPTY:
                drop(_missing(draft, name), f"covariate '{name}' is missing")
    if not keep.all():
        draft.frame = draft.frame.loc[keep].reset_index(drop=True)
        coding = None if coding is None else Coding(coding.values[keep], coding.arms)
    return coding, silent


def _target_rows(draft: Draft) -> np.ndarray:
    """Mark rows of the target population: there, treatment and outcome need not be observed."""
    names = draft.names(Role.POPULATION)
    if len(names) != 1:
        return np.zeros(len(draft.frame), dtype=bool)
    values, _ = code_number(draft.frame[names[0]], draft.kinds[names[0]], names[0], Role.POPULATION)
    return np.asarray(values == 0)


def _filled(stated: Declaration, domain: DomainProfile | None, scale: Scale | None, draft: Draft) -> Declaration:
    """Fill what the declaration leaves open from the domain, and put its intervention time on the scale of time."""
    changes: dict[str, object] = {}
    outcome = draft.names(Role.OUTCOME)
    if stated.direction is None and outcome and (direction := direction_of(outcome[0], domain)) is not None:
        changes["direction"] = direction
        draft.notices.append(f"direction '{direction}' is assumed for '{outcome[0]}'; study.yaml may state another")
    if domain is not None:
        if stated.unit_of_outcome is None and domain.unit_of_outcome is not None:
            changes["unit_of_outcome"] = domain.unit_of_outcome
        if stated.language is None and domain.language is not None:
            changes["language"] = domain.language
        given = {key: value for key, value in stated.money.model_dump().items() if value is not None}
        if domain.money.model_dump(exclude_none=True):
            changes["money"] = domain.money.model_copy(update=given)
    if stated.intervention_time is not None and scale is not None:
        changes["intervention_time"] = scale.moment(stated.intervention_time, draft.names(Role.TIME)[0])
    return stated.model_copy(update=changes) if changes else stated


def _confidence(draft: Draft, given: Mapping[Role, float] | None) -> dict[Role, float]:
    known = {Role(str(role)): float(value) for role, value in (given or {}).items()}
    return {role: known.get(role, 1.0) for role, names in draft.roles.items() if names}
