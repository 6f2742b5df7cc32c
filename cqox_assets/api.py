"""The public functions: what notebooks, tests and the assets call. Every import that costs time happens inside."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cqox_assets.catalog import entry_named, load_estimators, load_figures, load_sensitivities
from cqox_assets.errors import DataError
from cqox_assets.result import EffectEstimate, Nuisance, Outcome, Refusal, SensitivityResult
from cqox_assets.runner import run_estimator, run_guarded, runner_for
from cqox_assets.spec import Context, EstimatorSpec, FigureSpec, SensitivitySpec, build_params
from cqox_assets.study import Study

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from cqox_assets.discovery.plan import MethodPlan
    from cqox_assets.ingestion.table import Table
    from cqox_assets.mapping.roles import RoleProposal

Roles = Mapping[str, str | Sequence[str]]


def read_table(path: "str | PathLike[str]") -> "Table":
    """Read a file of any supported format as one typed table.

    Raises
    ------
    IngestionError
        If the file cannot be read as one table; the message says what was found and what to do.
    """
    from cqox_assets.ingestion import read_table as read

    return read(path)  # type: ignore[no-any-return]


def infer_roles(frame: "pd.DataFrame", domain: str | None = None) -> "RoleProposal":
    """Propose the roles of a frame's columns, with confidence and evidence in words for each."""
    from cqox_assets.mapping.roles import infer_roles as infer

    return infer(frame, domain)


def estimate(
    name: str,
    frame: "pd.DataFrame",
    roles: Roles,
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    declaration: Mapping[str, Any] | None = None,
    **params: Any,
) -> EffectEstimate | Refusal:
    """Run one estimator on a frame.

    Parameters
    ----------
    name : str
        Catalogue name or alias of the estimator.
    frame : DataFrame
        Rows as delivered; it is prepared (arms coded, categories encoded, missing values handled) and not changed.
    roles : mapping of str to str or list of str
        Role to the column or columns that play it, such as `{"outcome": "y", "treatment": "d"}`.
    tables : mapping of str to DataFrame, optional
        Side tables, such as `edges`.
    declaration : mapping, optional
        Keys of `study.yaml`, such as `{"treatment_kind": "continuous"}` for a treatment that is an amount.
    **params
        Parameters of the estimator; the catalogue lists them.

    Returns
    -------
    EffectEstimate or Refusal
        A refusal says what the data lack and what to do about it.

    Raises
    ------
    CatalogError
        If there is no such estimator or parameter, or a value is out of range.
    MappingError
        If a role or a column is not known, or a column plays two roles that exclude each other. What the values of
        the columns do not allow (words or dates as outcome, nothing observed) is never raised: it is refused.
    DeclarationError
        If the declaration is not understood.
    """
    spec: EstimatorSpec = entry_named(load_estimators(), name)
    values = build_params(spec.params, params)  # a wrong parameter is said whatever the data are
    try:
        study = _study(frame, roles, tables, declaration)
    except DataError as error:
        return _unusable(spec, error)
    return run_estimator(spec, study, values, runner_for())


def estimate_all(
    frame: "pd.DataFrame",
    roles: Roles,
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    only: Iterable[str] | None = None,
    declaration: Mapping[str, Any] | None = None,
) -> dict[str, Outcome]:
    """Run every estimator, or those named, on a frame; nuisance models are fitted once and shared.

    Parameters
    ----------
    frame, roles, tables
        As in :func:`estimate`.
    params : mapping of str to mapping, optional
        Parameters per estimator.
    only : iterable of str, optional
        Names or aliases of the estimators to run; all of them by default.
    declaration : mapping, optional
        Keys of `study.yaml`, such as `{"treatment_kind": "continuous"}` for a treatment that is an amount.

    Returns
    -------
    dict of str to EffectEstimate, Refusal or Failure
        By catalogue name. A bug in one estimator is its `Failure` and does not stop the others.

    Raises
    ------
    CatalogError
        If a name is not known, or `params` has a bad parameter.
    MappingError
        If a role or a column is not known, or a column plays two roles that exclude each other. What the values of
        the columns do not allow (words or dates as outcome, nothing observed) is never raised: it is refused.
    DeclarationError
        If the declaration is not understood.
    """
    catalogue = load_estimators()
    chosen = catalogue if only is None else {spec.name: spec for spec in (entry_named(catalogue, n) for n in only)}
    asked = {entry_named(catalogue, name).name: dict(values) for name, values in (params or {}).items()}
    for name, values in asked.items():
        build_params(catalogue[name].params, values)  # a wrong parameter is said before anything runs
    try:
        study = _study(frame, roles, tables, declaration)
    except DataError as error:
        return {name: _unusable(spec, error) for name, spec in chosen.items()}
    return estimate_study(study, chosen, asked)[0]


def estimate_study(
    study: Study, chosen: Iterable[str], params: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[dict[str, Outcome], Nuisance | None]:
    """Run the named estimators on a prepared study and return what they found and the nuisance models they shared."""
    from cqox_assets.nuisance.shared import shared_nuisance

    specs = {name: load_estimators()[name] for name in chosen}
    held = shared_nuisance(study) if any(spec.shares_nuisance for spec in specs.values()) else None
    shared = held if isinstance(held, Nuisance) else None
    context = runner_for(Context(nuisance=shared))
    found = {name: run_guarded(spec, study, (params or {}).get(name, {}), context) for name, spec in specs.items()}
    return found, shared


def sensitivity(
    name: str,
    frame: "pd.DataFrame",
    roles: Roles,
    estimate: EffectEstimate,
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    declaration: Mapping[str, Any] | None = None,
    **params: Any,
) -> SensitivityResult | Refusal:
    """Ask one sensitivity question about an estimate of the same frame, roles and declaration.

    Raises
    ------
    CatalogError
        If there is no such question or parameter.
    """
    spec: SensitivitySpec = entry_named(load_sensitivities(), name)
    values = build_params(spec.params, params)
    if spec.applies_to and not {estimate.estimator, estimate.estimand} & set(spec.applies_to):
        return Refusal(
            spec.name,
            "not_applicable",
            f"the question is not about the {estimate.estimand} of {estimate.estimator}",
            f"ask it about {', '.join(spec.applies_to)}",
        )
    from cqox_assets.nuisance.shared import shared_nuisance

    try:
        study, catalogue = _study(frame, roles, tables, declaration), load_estimators()
    except DataError as error:
        return _unusable(spec, error)
    sharing = estimate.estimator in catalogue and catalogue[estimate.estimator].shares_nuisance
    held = shared_nuisance(study) if sharing else None
    shared = held if isinstance(held, Nuisance) else None
    context = runner_for(Context(nuisance=shared, budget_seconds=spec.budget_seconds))
    return spec.told(study, spec.run(study, estimate, values, context), context)


def plan(
    frame: "pd.DataFrame",
    roles: Roles,
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    declaration: Mapping[str, Any] | None = None,
) -> "MethodPlan":
    """Rank the estimators for a frame: `.ranked` holds (name, reason), `.refused` name to remedy.

    Parameters
    ----------
    frame, roles, tables
        As in :func:`estimate`.
    declaration : mapping, optional
        Keys of `study.yaml`, such as `{"design": "trial"}`.

    Raises
    ------
    MappingError
        If a role or a column is not known, or a column plays two roles that exclude each other. What the values of
        the columns do not allow (words or dates as outcome, nothing observed) is never raised: it is refused.
    DeclarationError
        If the declaration is not understood.
    """
    from cqox_assets.discovery.plan import nothing_planned, plan_methods

    try:
        study = _study(frame, roles, tables, declaration)
    except DataError as error:
        return nothing_planned(error.message)
    return plan_methods(study)


def estimators() -> dict[str, EstimatorSpec]:
    """Return every estimator by name."""
    return dict(load_estimators())


def sensitivities() -> dict[str, SensitivitySpec]:
    """Return every sensitivity question by name."""
    return dict(load_sensitivities())


def figures() -> dict[str, FigureSpec]:
    """Return every figure by name."""
    return dict(load_figures())


def _unusable(spec: EstimatorSpec | SensitivitySpec, error: DataError) -> Refusal:
    """Return the refusal of a table that no study can be made of."""
    reason, _, remedy = error.message.rpartition("; ")
    return Refusal(spec.name, error.code, reason, remedy)


def _study(
    frame: "pd.DataFrame",
    roles: Roles,
    tables: "Mapping[str, pd.DataFrame] | None",
    declaration: Mapping[str, Any] | None = None,
) -> Study:
    from cqox_assets.declaration import read_declaration
    from cqox_assets.mapping.prepare import prepare

    return prepare(frame, roles, tables=tables, declaration=read_declaration(declaration or {}, "declaration"))
