"""Whether a study suits an entry: the rows and clusters that it works on, or the refusal that says what is missing."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Contrast
from cqox_assets.result import Refusal
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study, TreatmentKind

_MUST_HONOUR = (Role.WEIGHT, Role.CLUSTER)
_ALIKE = 0.001
_UNUSED = {
    Role.EVENT: "the outcome is taken as fully observed",
    Role.OFFSET: "the outcome is not taken per unit of it",
    Role.PAIR: "the pairs are not used, which is on the safe side for pairs that were randomised",
}


def suited_to(spec: EstimatorSpec, study: Study) -> tuple[Study, tuple[str, ...]]:
    """Return the rows and clusters that an entry works on, and what the reader must know about them.

    Rows of a target population are only for entries that take that role. Units that repeat are clusters, unless
    clusters are mapped or the entry needs the units themselves. A dose plays the treatment as :func:`with_dose` says.
    """
    taken, notices = spec.accepts | spec.requires, []
    study = with_dose(spec, study)
    if Role.POPULATION not in taken and len(inside := study.studied()) < len(study):
        notices.append(f"{len(study) - len(inside)} rows of the target population were left out")
        study = inside
    panel = study.repeats_units and Role.UNIT not in spec.requires and not study.has(Role.CLUSTER)
    if panel and Role.CLUSTER in taken:
        unit = study.name(Role.UNIT)
        notices.append(f"units of '{study.label(unit)}' have several rows, so each counts as a cluster")
        study = replace(study, roles={**study.roles, Role.CLUSTER: (unit,)})
    for role, meaning in _UNUSED.items():
        if study.has(role) and role not in taken and not set(study.names(role)) & set(study.names(Role.COVARIATES)):
            notices.append(f"{role} '{', '.join(study.names(role))}' does not enter this estimate: {meaning}")
    return study, tuple(notices)


def with_dose(spec: EstimatorSpec, study: Study) -> Study:
    """Return the study with its dose as a continuous treatment, where the entry takes doses or no treatment is mapped.

    Arms, and a contrast that was declared between them, are then left aside.
    """
    taken = spec.accepts | spec.requires
    if len(study.names(Role.DOSE)) != 1 or Role.TREATMENT not in taken:
        return study
    if study.has(Role.TREATMENT) and Role.DOSE not in taken:
        return study
    stated = study.declaration if not study.arms else study.declaration.model_copy(update={"contrast": Contrast()})
    roles = {**study.roles, Role.TREATMENT: study.names(Role.DOSE)}
    return replace(study, roles=roles, arms=(), declaration=stated)


def refuse_early(spec: EstimatorSpec, study: Study) -> Refusal | None:
    """Return why an entry cannot run on a study that was suited to it, or None."""
    if Role.DOSE in spec.accepts | spec.requires and len(study.names(Role.DOSE)) > 1:
        return spec.refuse(
            "several_doses",
            f"several columns play the role 'dose': {', '.join(map(repr, study.names(Role.DOSE)))}",
            "map the one whose curve is asked for in study.yaml: roles: {dose: <column>}",
        )
    useless = useless_covariates(spec, study)
    if useless is not None:
        return spec.refuse("unusable_covariates", *useless)
    for role in sorted(spec.requires):
        if not study.has(role):
            left_out = next((notice for notice in study.notices if notice.startswith(f"{role} with one value")), "")
            return spec.refuse(
                "missing_role",
                f"no column plays the role '{role}'{_or_dose(spec, role, quoted=True)}"
                + (f": {left_out}" if left_out else ""),
                f"map it in study.yaml: roles: {{{role}: <column>}}{_or_dose(spec, role)}",
            )
    unsuited = unsuited_treatment(spec, study)
    if unsuited is not None:
        return spec.refuse("treatment_kind", *unsuited)
    lacking = missing_choice(spec, study)
    if lacking is not None:
        return spec.refuse("missing_role", *lacking)
    for role in _MUST_HONOUR:
        if study.has(role) and role not in spec.accepts | spec.requires:
            return spec.refuse(
                f"{role}_not_supported",
                f"this estimator cannot use the {role} column '{study.name(role)}'",
                f"unmap the role '{role}' in study.yaml if it may be ignored, or use another estimator",
            )
    if study.repeats_units and not {Role.UNIT, Role.CLUSTER} & (spec.accepts | spec.requires):
        return spec.refuse(
            "unit_not_supported",
            f"units of '{study.name(Role.UNIT)}' have several rows, which this estimator would take as independent",
            "deliver one row per unit, unmap the role 'unit' in study.yaml if it may be ignored, or use another "
            "estimator",
        )
    studied = study.studied()  # rows of a target population need neither arm nor outcome
    if len(studied) == 0 and len(study):
        return spec.refuse(
            "one_population",
            f"column '{study.name(Role.POPULATION)}' has no studied rows",
            "mark the rows of the study with 1, those of the target population with 0",
        )
    return (
        _refuse_clusters(spec, studied)
        or (_refuse_treatment(spec, studied) if compares_arms(spec, study) else None)
        or _refuse_lone_clusters(spec, studied)
        or _refuse_unequal_strata(spec, studied)
    )


def useless_covariates(spec: EstimatorSpec, study: Study) -> tuple[str, str] | None:
    """Return reason and remedy where most covariates that a person stated cannot be adjusted for, or None.

    An estimate would then be named adjusted and be hardly so; with fewer of them a notice names each.
    """
    lost = study.unusable
    if not lost or study.confidence.get(Role.COVARIATES, 1) < 1:
        return None
    if Role.COVARIATES not in spec.accepts | spec.requires or "random_assignment" in spec.assumptions:
        return None  # nothing has to be adjusted for
    delivered = set(study.missing)
    kept = {origin_of(name, delivered) for name in study.names(Role.COVARIATES)}
    if len(lost) <= len(kept):
        return None
    found = "; ".join(list(lost.values())[:3]) + ("; ..." if len(lost) > 3 else "")
    return (
        f"{len(lost)} of {len(lost) + len(kept)} covariates cannot be adjusted for: {found}",
        "deliver them as numbers or as words of few kinds, or take them out of the covariates",
    )


def origin_of(name: str, delivered: Collection[str]) -> str:
    """Return the delivered column that an encoded covariate (`name=level`, `name (missing)`) comes from."""
    if name in delivered:
        return name
    origins = [column for column in delivered if name.startswith((f"{column}=", f"{column} (missing)"))]
    return max(origins, key=len, default=name)


def unsuited_treatment(spec: EstimatorSpec, study: Study) -> tuple[str, str] | None:
    """Return reason and remedy where an entry cannot read the kind of treatment that the study has, or None."""
    kind = study.treatment_kind
    if kind in spec.treatment or not (kind is TreatmentKind.REPEATED or compares_arms(spec, study)):
        return None
    if kind is TreatmentKind.REPEATED:
        listed = ", ".join(f"'{study.label(name)}'" for name in study.names(Role.TREATMENT))
        able = [name for name, entry in load_estimators().items() if kind in entry.treatment]
        return (
            f"the role 'treatment' lists {listed}, one treatment repeated in time; this estimator reads one column",
            f"use {' or '.join(able)}, or map one of the columns as treatment",
        )
    named = f"the treatment '{study.name(Role.TREATMENT)}'" if study.has(Role.TREATMENT) else "the treatment"
    return f"{named} is {kind}, this estimator needs {' or '.join(spec.treatment)}", treatment_remedy(spec, study)


def _or_dose(spec: EstimatorSpec, role: Role, *, quoted: bool = False) -> str:
    """Return that a dose would do as well as a treatment, where it would."""
    if role != Role.TREATMENT or Role.DOSE not in spec.accepts:
        return ""
    return " or 'dose'" if quoted else " or {dose: <column>}"


def treatment_remedy(spec: EstimatorSpec, study: Study) -> str:
    """Return what to do where the treatment's coding is none that the entry takes; it names entries that do."""
    kind = study.treatment_kind
    if kind is not TreatmentKind.CONTINUOUS and spec.treatment == (TreatmentKind.CONTINUOUS,):
        return "map the amount that each unit received in study.yaml: roles: {dose: <column>}"
    takers = [
        name
        for name, other in load_estimators().items()
        if kind in other.treatment
        and other.requires <= {Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}
        and not other.one_of
        and other.family != "resampling"
    ]
    if kind is not TreatmentKind.CONTINUOUS:
        return f"use an estimator for a {kind} treatment, such as {', '.join(takers[:3])}"
    return (
        f"code '{study.name(Role.TREATMENT)}' in at most ten arms (such as none, low, high) and map that column, or "
        f"use an estimator for a continuous treatment: {', '.join(takers)}"
    )


def compares_arms(spec: EstimatorSpec, study: Study) -> bool:
    """Whether an entry reads the mapped treatment as arms or doses of its rows, not as a start in time."""
    if not study.has(Role.TREATMENT) or {Role.UNIT, Role.TIME} & spec.requires:
        return Role.TREATMENT in spec.requires
    return Role.TREATMENT in spec.requires | spec.accepts


def missing_choice(spec: EstimatorSpec, study: Study) -> tuple[str, str] | None:
    """Return why none of the groups that an entry needs one of is there, and what to do; None if one is."""
    if not spec.one_of or any(all(is_there(study, name) for name in group) for group in spec.one_of):
        return None
    reasons, remedies = [], []
    for group in spec.one_of:
        roles = [name for name in group if name in list(Role)]
        tables = [name for name in group if name not in roles]
        reasons += [f"no side table '{name}' is there" for name in tables]
        remedies += [f"deliver {name}.csv beside the data" for name in tables]
        if roles:
            named = " and ".join(f"'{name}'" for name in roles)
            reasons.append(f"no column plays the role{'s' if len(roles) > 1 else ''} {named}")
            remedies.append(f"map roles: {{{', '.join(f'{name}: <column>' for name in roles)}}} in study.yaml")
    return " and ".join(reasons), ", or ".join(remedies)


def is_there(study: Study, name: str) -> bool:
    """Whether a study has a role, or a side table, of that name."""
    return study.has(Role(name)) if name in list(Role) else name in study.tables


def _refuse_unequal_strata(spec: EstimatorSpec, study: Study) -> Refusal | None:
    """Refuse a plain comparison of arms that were not assigned alike in all strata."""
    if "random_assignment" not in spec.assumptions or Role.STRATUM in spec.accepts or not study.arms:
        return None
    strata = study.codes(Role.STRATUM)
    if strata is None:
        return None
    from scipy.special import chdtrc

    counts = pd.crosstab(strata, study.column(Role.TREATMENT)).to_numpy()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    degrees = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    if degrees < 1 or chdtrc(degrees, float(np.sum((counts - expected) ** 2 / expected))) > _ALIKE:
        return None
    return spec.refuse(
        "unequal_strata",
        f"the strata of '{study.name(Role.STRATUM)}' have different shares of the arms, so the arms differ by stratum",
        "use an estimator that adjusts for the strata, or unmap the role",
    )


def separating_covariates(study: Study) -> list[str]:
    """Return the covariates that by themselves tell the two arms apart, as people read their names."""
    if not study.has(Role.COVARIATES) or study.treatment_kind is not TreatmentKind.BINARY:
        return []
    x, treated = study.matrix(), study.column(Role.TREATMENT) == 1
    if treated.all() or not treated.any():
        return []
    one, zero = x[treated], x[~treated]
    apart = (one.min(0) > zero.max(0)) | (zero.min(0) > one.max(0))
    return [study.label(name) for name, found in zip(study.names(Role.COVARIATES), apart, strict=True) if found]


def _refuse_lone_clusters(spec: EstimatorSpec, study: Study) -> Refusal | None:
    """Refuse an arm within one cluster: how its mean varies between clusters cannot be known."""
    cluster = study.codes(Role.CLUSTER)
    if cluster is None or not study.arms or not compares_arms(spec, study) or Role.UNIT in spec.requires:
        return None
    if study.treatment_kind is TreatmentKind.REPEATED:
        return None  # units change their arm over time; the entry compares regimes
    codes = study.column(Role.TREATMENT)
    for code, arm in enumerate(study.arms):
        if len(np.unique(cluster[codes == code])) < 2:
            return spec.refuse(
                "too_few_clusters",
                f"all rows of arm '{arm}' lie in one cluster of '{study.name(Role.CLUSTER)}', so an effect cannot be "
                "told from a difference between clusters",
                "deliver at least two clusters per arm, or unmap the role if the rows are independent",
            )
    return None


def _refuse_clusters(spec: EstimatorSpec, study: Study) -> Refusal | None:
    cluster = study.codes(Role.CLUSTER) if study.has(Role.CLUSTER) and len(study) else None
    if cluster is None or (cluster.min() >= 0 and cluster.max() >= 1):
        return None
    missing = int((cluster < 0).sum())
    found = f"has {missing} rows without a label" if missing else "has the same value in every row"
    return spec.refuse(
        "missing_cluster" if missing else "too_few_clusters",
        f"cluster column '{study.name(Role.CLUSTER)}' {found}",
        "map a complete cluster column with at least two values, or unmap the role",
    )


def _refuse_equal_doses(spec: EstimatorSpec, study: Study) -> Refusal | None:
    doses, weights = study.matrix(Role.TREATMENT), study.weights()
    doses = doses if weights is None else doses[weights > 0]
    constant = np.ptp(doses, axis=0) == 0 if len(doses) else np.ones(doses.shape[1], dtype=bool)
    if not constant.any():
        return None
    name = study.names(Role.TREATMENT)[int(constant.argmax())]
    only = f"{doses[0, int(constant.argmax())]:g}" if len(doses) else "nothing"
    return spec.refuse(
        "one_arm_only", f"every row of '{name}' has the same treatment: {only}", "map a treatment column that varies"
    )


def _refuse_treatment(spec: EstimatorSpec, study: Study) -> Refusal | None:
    if study.treatment_kind is TreatmentKind.CONTINUOUS:
        refusal = _refuse_equal_doses(spec, study)
        if refusal is not None:
            return refusal
    if study.treatment_kind in (TreatmentKind.BINARY, TreatmentKind.CATEGORICAL):
        codes, weights = study.column(Role.TREATMENT), study.weights()
        codes = codes if weights is None else codes[weights > 0]
        filled = [arm for code, arm in enumerate(study.arms) if (codes == code).any()]
        if len(filled) < 2:
            only = f"'{filled[0]}'" if filled else "nothing"
            return spec.refuse(
                "one_arm_only",
                f"every row of '{study.name(Role.TREATMENT)}' has the same treatment: {only}",
                "map a treatment column that varies",
            )
        empty = sorted(set(study.arms) - set(filled))
        if empty:
            return spec.refuse(
                "empty_arm", f"arm '{empty[0]}' has no rows", "leave the arm out of contrast in study.yaml"
            )
    outcome = study.column(Role.OUTCOME) if Role.OUTCOME in spec.requires else np.arange(2.0)
    if not (outcome[1:] != outcome[:1]).any():
        return spec.refuse(
            "constant_outcome",
            f"outcome '{study.name(Role.OUTCOME)}' is the same in every row",
            "map an outcome that varies",
        )
    return None
