"""Domain profiles: the words, limits and typical columns of a field of work, and which of them a table resembles."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cqox_assets.declaration import Money
from cqox_assets.errors import DeclarationError
from cqox_assets.mapping.columns import suggest
from cqox_assets.mapping.words import Lexicon
from cqox_assets.measures import MEASURES
from cqox_assets.study import Role

if TYPE_CHECKING:
    from cqox_assets.mapping.profile import ColumnProfile

SHIPPED = Path(__file__).parent.parent / "domains"
# A checkout knows the domains of its sample studies before anybody has delivered them; an installed wheel has none.
SAMPLES = Path(__file__).resolve().parent.parent.parent / "data" / "domains"
GENERAL = "general"
HELPER_GROUPS = ("trait", "counterfactual", "before", "after", "neutral", "harm", "identifier")
_NAME = re.compile(r"[a-z0-9_-]+")


class DomainProfile(BaseModel):
    """What is usual in one field of work; every key of the YAML file is optional.

    `words` maps a role (or helper group) to words in English, Japanese and German; `columns` lists words that are
    typical of the field's tables; `designs` lists preferred designs, best first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    extends: str | None = None
    words: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    thresholds: Mapping[str, float] = Field(default_factory=dict)
    severities: Mapping[str, Literal["warn", "block"]] = Field(default_factory=dict)
    money: Money = Money()
    designs: tuple[str, ...] = ()
    direction: Literal["higher_is_better", "lower_is_better"] | None = None
    unit_of_outcome: str | None = None
    language: Literal["en", "ja"] | None = None
    columns: tuple[str, ...] = ()

    @field_validator("words")
    @classmethod
    def _known_groups(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for group in value:
            if group not in (*Role, *HELPER_GROUPS):
                raise ValueError(f"'{group}' is not a role; {suggest(group, [*Role, *HELPER_GROUPS])}")
        return value

    @field_validator("thresholds", "severities")
    @classmethod
    def _known_measures(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in value:
            if name.removesuffix("_fail") not in MEASURES:
                raise ValueError(f"'{name}' is not a measure; {suggest(name, MEASURES)}")
        return value


@dataclass(frozen=True)
class DomainMatch:
    """Which domain a table resembles: the best one (`general` if none), a score per domain that sums to 1, and why."""

    best: str
    scores: Mapping[str, float]
    evidence: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DomainMatch":
        """Rebuild a match from `to_json`."""
        return cls(**row)


def load_domains(extra: Path | None = None) -> dict[str, DomainProfile]:
    """Return every domain profile by name: the shipped ones and the `*.yaml` files of a folder.

    A profile with `extends` inherits: its words and columns come before the inherited ones, its other values replace
    them. A profile of the folder replaces a shipped one of the same name, which it may extend.

    Parameters
    ----------
    extra : Path, optional
        Folder with the user's own profiles; it need not exist.

    Raises
    ------
    DeclarationError
        If a file is no valid profile; the message names the file and the key.
    """
    profiles = dict(_shipped())
    if extra is None:
        return profiles
    paths = [path for folder in (SAMPLES, extra) if folder.is_dir() for path in sorted(folder.glob("*.yaml"))]
    waiting = {path.stem: _read(path) for path in paths if not path.name.startswith((".", "_"))}
    while waiting:
        ready = [name for name, (_, raw) in waiting.items() if _parent(raw, name) not in waiting]
        if not ready:
            path, raw = next(iter(waiting.values()))
            raise DeclarationError(
                f"{path.name}: 'extends: {raw['extends']}' goes round in a circle; remove one of them"
            )
        for name in ready:
            path, raw = waiting.pop(name)
            profiles[name] = _build(path, raw, profiles)
    return dict(sorted(profiles.items()))


@cache
def common_words() -> Mapping[str, tuple[str, ...]]:
    """Return the words for roles and helper groups that every domain shares."""
    path, raw = _read(SHIPPED / "_common.yaml")
    return _validate(path, {**raw, "name": "common"}).words


@cache
def _shipped() -> Mapping[str, DomainProfile]:
    paths = sorted(path for path in SHIPPED.glob("*.yaml") if not path.name.startswith("_"))
    return {path.stem: _build(*_read(path), {}) for path in paths}


def _parent(raw: Mapping[str, Any], name: str) -> str | None:
    return raw.get("extends") if raw.get("extends") != name else None


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    if not _NAME.fullmatch(path.stem):
        raise DeclarationError(f"{path.name}: a domain's name may hold a-z, 0-9, _ and - only; rename the file")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path.name} is not valid YAML in UTF-8; correct the file ({error})") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise DeclarationError(f"{path.name} must be a mapping of keys to values, found a {type(raw).__name__}")
    return path, raw


def _build(path: Path, raw: dict[str, Any], known: Mapping[str, DomainProfile]) -> DomainProfile:
    if raw.get("name", path.stem) != path.stem:
        raise DeclarationError(f"{path.name}: 'name' is '{raw['name']}'; name and file must agree")
    own = _validate(path, {"title": path.stem.replace("_", " ").capitalize(), **raw, "name": path.stem})
    if own.extends is None:
        return own
    if own.extends not in known:
        raise DeclarationError(f"{path.name}: 'extends' names domain '{own.extends}'; {suggest(own.extends, known)}")
    base = known[own.extends]
    stated = {name: getattr(own, name) for name in own.model_fields_set}
    merged = {**dict(base), **stated, "columns": tuple(dict.fromkeys(own.columns + base.columns))}
    merged["words"] = {
        group: tuple(dict.fromkeys((*own.words.get(group, ()), *base.words.get(group, ()))))
        for group in {**base.words, **own.words}
    }
    merged["thresholds"] = {**base.thresholds, **own.thresholds}
    merged["severities"] = {**base.severities, **own.severities}
    merged["money"] = base.money.model_copy(update=own.money.model_dump(exclude_unset=True))
    return DomainProfile.model_construct(**merged)


def _validate(path: Path, raw: dict[str, Any]) -> DomainProfile:
    try:
        return DomainProfile.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            message = f"key '{where}' is not known; {suggest(where, DomainProfile.model_fields)}"
        else:
            message = f"'{where}' is {str(problem.get('input'))[:80]!r}: {problem['msg']}"
        raise DeclarationError(f"{path.name}: {message}") from error


def direction_of(outcome: str, profile: DomainProfile | None) -> str | None:
    """Return which direction is good for an outcome of that name: less of a harm, else what the domain says."""
    harm = lexicon(profile).read(outcome).get("harm")
    if harm is not None and harm.strength >= 0.8:
        return "lower_is_better"
    return profile.direction if profile is not None else None


def lexicon(profile: DomainProfile | None) -> Lexicon:
    """Return the shared words and, in groups marked `domain:<role>`, the domain's own, ready for look-up."""
    own = {f"domain:{group}": words for group, words in profile.words.items()} if profile is not None else {}
    return _lexicon(tuple(own.items()))


@cache
def _lexicon(own: tuple[tuple[str, tuple[str, ...]], ...]) -> Lexicon:
    return Lexicon({**common_words(), **dict(own)})


def match_domain(profile: "ColumnProfile", domains: Mapping[str, DomainProfile] | None = None) -> DomainMatch:
    """Say which domain a table's column names resemble.

    Each column votes for the domains whose typical words its name contains; a word of k domains counts 1/k for each.
    A domain and those that extend it count as one there, and on a tie the one that extends nothing wins.
    """
    profiles = load_domains() if domains is None else domains
    readers = {name: Lexicon({name: _vocabulary(item)}) for name, item in profiles.items()}
    votes = dict.fromkeys(profiles, 0.0)
    why: dict[str, list[str]] = {name: [] for name in profiles}
    for column in profile.columns:
        hits = {name: found[name].strength for name in profiles if (found := readers[name].read(column.name))}
        hits = {name: strength for name, strength in hits.items() if strength >= 0.4}
        for name, strength in hits.items():
            votes[name] += strength / len({_root(other, profiles) for other in hits})
            why[name].append(column.name)
    total = sum(votes.values())
    scores = {name: round(votes[name] / total, 4) if total else 0.0 for name in profiles}
    best = max(profiles, key=lambda name: (votes[name], profiles[name].extends is None), default=GENERAL)
    if len(why.get(best, ())) < 2:
        return DomainMatch(GENERAL, scores, "fewer than two column names are typical of one domain")
    return DomainMatch(best, scores, f"columns {', '.join(why[best][:8])} are typical of {best}")


def _root(name: str, profiles: Mapping[str, DomainProfile]) -> str:
    seen = {name}
    while (parent := profiles[name].extends) in profiles and parent not in seen:
        name = str(parent)
        seen.add(name)
    return name


def _vocabulary(profile: DomainProfile) -> tuple[str, ...]:
    named = (profile.words.get(role, ()) for role in (Role.TREATMENT, Role.OUTCOME, Role.UNIT, Role.CLUSTER))
    return (*profile.columns, *(word for words in named for word in words))
