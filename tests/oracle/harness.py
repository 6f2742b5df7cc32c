"""Runs entries through adapters and judges the answers as the references' README says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import pandas as pd
from scipy.special import stdtrit

import cqox_assets as cqox
from cqox_assets.errors import CatalogError
from cqox_assets.result import EffectEstimate
from tests.oracle import adapters
from tests.oracle.cases import COMMON_KEYS, Case, UncoveredError, build_case

Z = 1.959963984540054
_RANDOM_SE = ("bootstrap", "placebo", "median_over_seeds", "forest_")
_FOLLOWS = {"normal", "t_clusters_minus_1", "t_df_minus_1", "percentile", "exp_normal", "quantiles_of_draws"}


@dataclass(frozen=True)
class Answer:
    """What the product says: the number asked for, its standard error and interval, and by-products by name.

    `curve` holds the points where the number asked for is a list.
    """

    value: float
    se: float | None = None
    ci: tuple[float, float] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    curve: list[float] | None = None


@dataclass(frozen=True)
class Verdict:
    """How an entry was judged: `met`, `missed`, `uncovered` or `reported`, and why."""

    entry: str
    method: str
    kind: str
    status: str
    detail: str
    own: float | None = None
    value: float | None = None
    own_se: float | None = None
    se: float | None = None


class RefusedError(Exception):
    """The product refused although the references have a number."""


def ask(case: Case, name: str, **params: Any) -> EffectEstimate:
    """Run an estimator through the public interface on the case's columns and roles."""
    assert case.frame is not None
    used = dict.fromkeys(name for names in case.roles.values() for name in names)
    tables = params.pop("tables", None if case.edges is None else {"edges": case.edges})
    stated = {"treatment_kind": "continuous"} if is_amount(case) else {}
    outcome = cqox.estimate(name, case.frame[list(used)], dict(case.roles), tables, stated, **params)
    if not isinstance(outcome, EffectEstimate):
        raise RefusedError(f"refused ({outcome.code}): {outcome.reason}")
    return outcome


def is_amount(case: Case) -> bool:
    """Whether the treatment is one numeric column that is not 0/1: the vocabulary then means an amount, not arms."""
    names = case.roles.get("treatment", [])
    if case.frame is None or len(names) != 1 or not pd.api.types.is_numeric_dtype(case.frame[names[0]]):
        return False
    return not case.frame[names[0]].dropna().isin((0, 1)).all()


def headline(result: EffectEstimate, **extras: Any) -> Answer:
    """Return the headline of a result as an answer."""
    interval = result.interval
    ci = None if interval is None else (interval.low, interval.high)
    return Answer(result.estimate, result.std_error, ci, extras)


def load_adapters() -> dict[str, ModuleType]:
    """Return the adapters by method: one file each, found by walking."""
    return {
        module.name: import_module(f"{adapters.__name__}.{module.name}") for module in iter_modules(adapters.__path__)
    }


def run_entry(entry: Any, folders: Sequence[Path], known: Mapping[str, ModuleType]) -> Verdict:
    """Answer and judge one entry; nothing that goes wrong with it stops the others."""
    facts = _facts(entry)
    try:
        spec = _spec_of(entry)
        if entry.get("data_available") is False:
            raise UncoveredError("the data are not available")
        adapter = known.get(str(spec.get("method")))
        if adapter is None:
            raise UncoveredError(f"method {spec.get('method')!r} has no adapter")
        _check_vocabulary(spec, adapter)
        answer = adapter.answer(build_case(spec, folders))
        problems = judge_answer(entry, answer)
        status = "reported" if spec.get("compare") == "report" else ("missed" if problems else "met")
        return Verdict(
            *facts, status, "; ".join(problems), answer.value, entry.get("value"), answer.se, entry.get("se")
        )
    except (UncoveredError, CatalogError) as error:  # a parameter that the product does not offer
        return Verdict(*facts, "uncovered", str(error))
    except Exception as error:  # a refusal or a bug where the references have a number
        return Verdict(*facts, "missed", f"{type(error).__name__}: {error}", value=entry.get("value"))


def _facts(entry: Any) -> tuple[str, str, str]:
    """Return identity, method and kind of an entry, whatever it is."""
    content = entry if isinstance(entry, Mapping) else {}
    spec = content.get("spec")
    method = spec.get("method") if isinstance(spec, Mapping) else None
    return str(content.get("id", "(no id)")), str(method or ""), str(content.get("kind", ""))


def _spec_of(entry: Any) -> Mapping[str, Any]:
    """Return the spec of an entry that has everything an entry needs."""
    if not isinstance(entry, Mapping):
        raise UncoveredError(f"the entry is a {type(entry).__name__}, not an object")
    for key in ("spec", "kind", "value"):
        if key not in entry:
            raise UncoveredError(f"the entry has no '{key}'")
    spec = entry["spec"]
    if not isinstance(spec, Mapping):
        raise UncoveredError(f"the entry's spec is a {type(spec).__name__}, not an object")
    for key in ("params", "roles"):
        if not isinstance(spec.get(key) or {}, Mapping):
            raise UncoveredError(f"spec.{key} is a {type(spec[key]).__name__}, not an object")
    return spec


def _check_vocabulary(spec: Mapping[str, Any], adapter: ModuleType) -> None:
    """Leave an entry uncovered if it says something that the adapter would ignore."""
    for said, followed, what in (
        ({key for key, value in spec.items() if value is not None}, COMMON_KEYS | set(adapter.KEYS), "key"),
        ({key for key, value in (spec.get("params") or {}).items() if value is not None}, set(adapter.PARAMS), "param"),
        ({key for key, value in (spec.get("roles") or {}).items() if value}, set(adapter.ROLES), "role"),
    ):
        strange = sorted(said - followed)
        if strange:
            raise UncoveredError(f"{what} '{strange[0]}' is not known to the adapter")


def judge_answer(entry: Mapping[str, Any], own: Answer) -> list[str]:
    """Return what the answer misses; an empty list is a hit. `spec.compare` says how."""
    spec, tolerance, value = entry["spec"], entry.get("tolerance") or {}, entry["value"]
    compare, params = spec.get("compare", "tolerance"), spec.get("params") or {}
    if compare == "report":
        return []
    if compare == "interval":
        inside = own.ci is not None and own.ci[0] <= value <= own.ci[1]
        return [] if inside else [f"the interval {own.ci} does not cover {value:.6g}"]
    if compare == "bootstrap_se":
        room = params["max_bootstrap_se"] * (own.se or 0.0)
        return [] if abs(own.value - value) <= room else [f"{own.value:.6g} is more than {room:.3g} from {value:.6g}"]
    if compare == "upper_bound":
        bound = tolerance["value_upper_bound"]
        return [] if own.value <= bound else [f"{own.value:.6g} exceeds {bound:.6g}"]
    if compare == "not_worse":
        bound = value * (1 + tolerance["value_rtol"])
        return [] if own.value <= bound else [f"{own.value:.6g} exceeds {bound:.6g}"]
    problems = _tolerances(entry, own)
    if compare == "tolerance_or_fit" and problems:
        fit = own.extras.get("pre_rmspe")
        return [] if fit is not None and fit <= 1.02 * params["pre_rmspe"] else problems
    return problems


def _tolerances(entry: Mapping[str, Any], own: Answer) -> list[str]:
    spec, tolerance = entry["spec"], entry.get("tolerance") or {}
    relative, absolute = tolerance.get("value_rtol"), tolerance.get("value_abs")
    room, se_room = None, None
    if isinstance(entry["value"], list):
        problems = _curve(own.curve or [], entry["value"], relative, absolute)
    else:
        room = _room(relative, absolute, entry["value"])
        problems = _differs("value", own.value, entry["value"], room)
    if entry.get("se") is not None:
        relative = tolerance.get("se_rtol")
        if relative is not None and str(spec.get("se")).startswith(_RANDOM_SE):
            relative = max(relative, 0.15)
        se_room = _room(relative, tolerance.get("se_abs"), entry["se"])
        problems += _differs("se", own.se, entry["se"], se_room)
    problems += _interval(entry, own, room, se_room)
    if entry["kind"] == "exact":
        relative = tolerance.get("value_rtol") or 1e-6
        for name, wanted in own.extras.items():
            if entry.get(name) is not None:
                problems += _same(name, wanted, entry[name], relative)
    return problems


def _interval(entry: Mapping[str, Any], own: Answer, room: float | None, se_room: float | None) -> list[str]:
    """Compare the ends: within `ci_abs` if given, else within what value and standard error allow together."""
    ends, absolute = entry.get("ci"), (entry.get("tolerance") or {}).get("ci_abs")
    if not ends or own.ci is None or entry["spec"].get("ci") not in _FOLLOWS:
        return []
    if absolute is None and (room is None or se_room is None):
        return []
    allowed = absolute if absolute is not None else 1.001 * ((room or 0.0) + Z * (se_room or 0.0))
    pairs = zip(("low", "high"), own.ci, ends, strict=True)
    return [text for name, mine, end in pairs if end is not None for text in _differs(f"ci {name}", mine, end, allowed)]


def _curve(own: list[float], wanted: list[float], relative: float | None, absolute: float | None) -> list[str]:
    if len(own) != len(wanted):
        return [f"value has {len(own)} points, the reference {len(wanted)}"]
    pairs = enumerate(zip(own, wanted, strict=True))
    return [text for i, (a, b) in pairs for text in _differs(f"value[{i}]", a, b, _room(relative, absolute, b))]


def _room(relative: float | None, absolute: float | None, value: float | None) -> float | None:
    if value is None or (relative is None and absolute is None):
        return None
    return max(abs(value) * (relative or 0.0), absolute or 0.0)


def _differs(name: str, own: float | None, wanted: float | None, room: float | None) -> list[str]:
    if room is None or wanted is None:
        return []
    if own is None or not math.isfinite(own):
        return [f"{name} is {own}, the reference is {wanted:.8g}"]
    return [] if abs(own - wanted) <= room else [f"{name} is {own:.8g}, the reference is {wanted:.8g} +/- {room:.2g}"]


def _same(name: str, own: Any, wanted: Any, relative: float) -> list[str]:
    """Compare by-products, nested ones too; only what both have."""
    if isinstance(own, Mapping) and isinstance(wanted, Mapping):
        return [
            text for key in own if key in wanted for text in _same(f"{name}.{key}", own[key], wanted[key], relative)
        ]
    if isinstance(own, (list, tuple)) and isinstance(wanted, (list, tuple)):
        if len(own) != len(wanted):
            return [f"{name} has {len(own)} values, the reference {len(wanted)}"]
        pairs = enumerate(zip(own, wanted, strict=True))
        return [text for i, (a, b) in pairs for text in _same(f"{name}[{i}]", a, b, relative)]
    if own is None or wanted is None:
        return []
    if isinstance(wanted, str):
        return [] if own == wanted else [f"{name} is {own!r}, the reference is {wanted!r}"]
    return _differs(name, float(own), float(wanted), max(1e-12, relative * abs(float(wanted))))


def interval_form(case: Case, clustered_se: str | None = None, *, restated: bool = False) -> str:
    """Return the estimator's `interval_form` for the spec's `ci`; another form leaves the entry uncovered.

    What no estimator offers (residual degrees of freedom less one) is possible if `restated`: the adapter then calls
    :func:`with_interval`.
    """
    clustered = str(clustered_se or case.spec.get("se")).startswith("CR")
    known = {None: "auto", "normal": "normal", **({"t_clusters_minus_1": "t"} if clustered else {})}
    others = {"t_df_minus_1": "normal", "t_clusters_minus_1": "normal"} if restated else {}
    return str(case.choose("ci", others | known))


def with_interval(case: Case, own: Answer, df: float) -> Answer:
    """Return the answer with the interval that the spec's `ci` makes of its value and standard error.

    `df` are the residual degrees of freedom. What `ci` says is arithmetic on the two, so it is the same everywhere.
    """
    clusters = case.roles.get("cluster")
    known: dict[str | None, float | None] = {None: None, "normal": math.inf, "t_df_minus_1": df - 1}
    if clusters and case.frame is not None:
        known["t_clusters_minus_1"] = float(case.frame[clusters[0]].nunique() - 1)
    degrees = case.choose("ci", known)
    if degrees is None or own.se is None:
        return own
    reach = own.se * (Z if math.isinf(degrees) else float(stdtrit(degrees, 0.975)))
    return replace(own, ci=(own.value - reach, own.value + reach))


def standard_error(case: Case, *offered: str) -> str:
    """Return the spec's `se` if it is offered, `auto` if the spec asks for none."""
    return str(case.choose("se", {None: "auto", **{name: name for name in offered}}))


def renamed(case: Case, **names: str) -> Case:
    """Return the case with roles under the product's own names, such as `selection="population"`."""
    return Case(case.spec, case.frame, {names.get(key, key): list(v) for key, v in case.roles.items()}, case.edges)


def without(case: Case, role: str) -> Case:
    """Return the case with one role unmapped."""
    return Case(case.spec, case.frame, {key: names for key, names in case.roles.items() if key != role}, case.edges)


def with_propensity(case: Case) -> Case:
    """Return the case with the role `propensity` mapped only if the spec says that it is known."""
    known = case.choose("propensity", {"logit": False, "known": True})
    if known and "propensity" not in case.roles:
        raise UncoveredError("the propensity is known, but no column plays the role")
    return case if known else without(case, "propensity")
