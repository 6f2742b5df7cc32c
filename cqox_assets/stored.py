"""How each kind of asset value is stored: codecs between values and documents with frames."""

import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cqox_assets.declaration import Declaration
from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.gates.data import DataDiagnostics
from cqox_assets.gates.suite import GateReport
from cqox_assets.ingestion.table import Table
from cqox_assets.mapping.domains import DomainMatch
from cqox_assets.mapping.profile import ColumnProfile
from cqox_assets.mapping.roles import RoleProposal
from cqox_assets.result import (
    EffectEstimate,
    Failure,
    Findings,
    Nuisance,
    Outcome,
    Refusal,
    SensitivityResult,
    outcome_from_json,
    to_text,
)
from cqox_assets.study import Study
from cqox_assets.synthesis.critique import Critique
from cqox_assets.synthesis.effect_summary import EffectSummary
from cqox_assets.synthesis.quality_score import QualityScore
from cqox_resources.store import LazyFrames, Parts


@dataclass(frozen=True)
class Delivery:
    """What a partition's inbox folder held: one table, the declaration and the side tables."""

    table: Table
    declaration: Declaration = field(default_factory=Declaration)
    declaration_sha256: str | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    quarantined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answers:
    """What one sensitivity question found for every estimate that it applies to."""

    question: str
    results: Mapping[str, SensitivityResult | Refusal | Failure]


@dataclass(frozen=True)
class FigureRecord:
    """A figure as it was drawn, or why it was not: `status` is `drawn` or `not_drawn`."""

    name: str
    title: str
    question: str
    status: str
    reason: str = ""
    caption: str = ""
    alt: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    data: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class KindCodec:
    """A codec made of a type, an encoder and a decoder."""

    kind: str
    types: tuple[type, ...]
    encoder: Callable[[Any], Parts]
    decoder: Callable[[Mapping[str, Any], LazyFrames], Any]

    def accepts(self, value: Any) -> bool:
        """Whether the value has one of the codec's types."""
        return isinstance(value, self.types)

    def encode(self, value: Any) -> Parts:
        """Return the parts of a value."""
        return self.encoder(value)

    def decode(self, document: Mapping[str, Any], frames: LazyFrames) -> Any:
        """Return the value of its parts."""
        return self.decoder(document, frames)


def _plain(content: Any) -> Any:
    return json.loads(to_text(content))


def _encode_delivery(value: Delivery) -> Parts:
    document = {
        "table": value.table.facts(),
        "declaration": value.declaration.model_dump(mode="json"),
        "declaration_sha256": value.declaration_sha256,
        "tables": sorted(value.tables),
        "quarantined": list(value.quarantined),
    }
    frames: dict[str, pd.DataFrame | Path] = {f"side_{name}": table for name, table in value.tables.items()}
    return Parts("delivery", _plain(document), {"rows": Path(value.table.path), **frames})


def _decode_delivery(document: Mapping[str, Any], frames: LazyFrames) -> Delivery:
    table = Table.from_facts(document["table"], frames.local("rows"))
    weakref.finalize(table, lambda held: None, frames)  # a copy of a remote file lives as long as the table
    return Delivery(
        table=table,
        declaration=Declaration.model_validate(document["declaration"]),
        declaration_sha256=document["declaration_sha256"],
        tables={name: frames[f"side_{name}"] for name in document["tables"]},
        quarantined=tuple(document["quarantined"]),
    )


def _encode_study(study: Study) -> Parts:
    frames: dict[str, pd.DataFrame | Path] = {f"side_{name}": table for name, table in study.tables.items()}
    facts = {"rows": len(study), "arms": list(study.arms), "fingerprint": study.fingerprint}
    return Parts(
        "study", _plain({**study.facts(), "tables": sorted(study.tables)}), {"rows": study.frame, **frames}, facts
    )


def _decode_study(document: Mapping[str, Any], frames: LazyFrames) -> Study:
    study = Study.from_facts(document, frames["rows"], {name: frames[f"side_{name}"] for name in document["tables"]})
    # The fingerprint was computed from these very rows when they were written; hashing them again per step is waste.
    study.__dict__["fingerprint"] = document["fingerprint"]
    return study


def _encode_outcome(value: Outcome) -> Parts:
    tables = dict(value.tables) if isinstance(value, EffectEstimate) else {}
    return Parts("outcome", _plain(value.to_json()), tables, {"fingerprint": value.provenance.get("fingerprint")})


def _answer_from_json(row: Mapping[str, Any], frames: LazyFrames, name: str) -> SensitivityResult | Refusal | Failure:
    if row["kind"] == "sensitivity":
        return SensitivityResult.from_json(row, frames[name])
    return outcome_from_json(row)  # type: ignore[return-value]


def _encode_answers(value: Answers) -> Parts:
    document = {
        "question": value.question,
        "results": {name: result.to_json() for name, result in value.results.items()},
    }
    frames = {name: item.table for name, item in value.results.items() if isinstance(item, SensitivityResult)}
    return Parts("answers", _plain(document), frames)


def _decode_answers(document: Mapping[str, Any], frames: LazyFrames) -> Answers:
    results = {name: _answer_from_json(row, frames, name) for name, row in document["results"].items()}
    return Answers(document["question"], results)


def _encode_figure(value: FigureRecord) -> Parts:
    names = ("name", "title", "question", "status", "reason", "caption", "alt", "files")
    return Parts("figure", _plain({name: getattr(value, name) for name in names}), {"drawn": value.data})


def _json_codec(kind: str, cls: type) -> KindCodec:
    """Return the codec of a type whose `to_json` and `from_json` carry everything."""
    return KindCodec(
        kind,
        (cls,),
        lambda value: Parts(kind, _plain(value.to_json())),
        lambda document, _: cls.from_json(document),  # type: ignore[attr-defined]
    )


CODECS: tuple[KindCodec, ...] = (
    KindCodec("delivery", (Delivery,), _encode_delivery, _decode_delivery),
    KindCodec("study", (Study,), _encode_study, _decode_study),
    KindCodec(
        "outcome", (EffectEstimate, Refusal, Failure), _encode_outcome, outcome_from_json
    ),
    KindCodec("answers", (Answers,), _encode_answers, _decode_answers),
    KindCodec("figure", (FigureRecord,), _encode_figure, lambda row, frames: FigureRecord(**row, data=frames["drawn"])),
    KindCodec(
        "nuisance",
        (Nuisance,),
        lambda value: Parts("nuisance", _plain({**value.to_json(), "arms": list(value.predictions)}),
                            {f"arm_{k}": frame for k, frame in enumerate(value.predictions.values())}),
        lambda row, frames: Nuisance.from_json(row, {arm: frames[f"arm_{k}"] for k, arm in enumerate(row["arms"])}),
    ),
    KindCodec(
        "data_diagnostics",
        (DataDiagnostics,),
        lambda value: Parts("data_diagnostics", _plain(value.to_json()), dict(value.tables)),
        lambda row, frames: DataDiagnostics.from_json(row, dict(frames)),
    ),
    KindCodec(
        "findings",
        (Findings,),
        lambda value: Parts("findings", _plain(value.to_json()), dict(value.tables)),
        Findings,
    ),
    _json_codec("column_profile", ColumnProfile),
    _json_codec("domain_match", DomainMatch),
    _json_codec("column_roles", RoleProposal),
    _json_codec("method_plan", MethodPlan),
    _json_codec("gate_report", GateReport),
    _json_codec("effect_summary", EffectSummary),
    _json_codec("quality_score", QualityScore),
    _json_codec("critique", Critique),
    KindCodec(
        "frame", (pd.DataFrame,), lambda value: Parts("frame", {}, {"rows": value}), lambda _, frames: frames["rows"]
    ),
    KindCodec("document", (dict,), lambda value: Parts("document", _plain(value)), lambda document, _: dict(document)),
)  # fmt: skip
