"""The one reader of stored results: what exists for a partition's current study, and nothing of an older one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pandas as pd
from upath import UPath

from cqox_assets.catalog import load_estimators, load_sensitivities, study_figures
from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.errors import StorageError
from cqox_assets.gates.data import DataDiagnostics
from cqox_assets.result import Nuisance, Outcome
from cqox_assets.spec import Inputs
from cqox_assets.stored import CODECS, Answers, FigureRecord
from cqox_assets.study import Study
from cqox_assets.synthesis.critique import Critique
from cqox_assets.synthesis.quality_score import QualityScore
from cqox_resources import store

FINDINGS = ("quality_score", "policy_value", "counterfactual_systems", "effect_summary")
_BY_KIND = {codec.kind: codec for codec in CODECS}


class _WhenAsked(Mapping[str, Any]):
    """Values that are read when they are asked for, once."""

    def __init__(self, readers: Mapping[str, Callable[[], Any]]) -> None:
        self._readers, self._read = readers, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = self._readers[name]()
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


@dataclass(frozen=True)
class Present:
    """The results that exist for one partition's current study; each is read when it is asked for."""

    study: Study
    fingerprint: str
    partition: str
    _warehouse: UPath = field(repr=False)
    _earlier_cards: Callable[[], list[dict[str, Any]]] = field(default=list, repr=False)

    def find(self, key: str) -> Any | None:
        """Return the value stored under `stage/name`, or None when there is none for this study."""
        folder = _folder(self._warehouse, key, self.partition)
        manifest = store.manifest(folder)
        if manifest is None or manifest["facts"].get("fingerprint") != self.fingerprint:
            return None
        return store.load(folder, _BY_KIND, manifest)

    @cached_property
    def plan(self) -> MethodPlan | None:
        """Ranked methods."""
        return self.find("discovery/method_plan")

    @cached_property
    def data(self) -> DataDiagnostics | None:
        """What was known before any model."""
        return self.find("gates/data_diagnostics")

    @cached_property
    def nuisance(self) -> Nuisance | None:
        """Shared cross-fitted predictions."""
        found = self.find("nuisance/nuisance_models")
        return found if isinstance(found, Nuisance) else None

    @cached_property
    def estimates(self) -> dict[str, Outcome]:
        """Estimates, refusals and failures by estimator."""
        return {name: value for name, value in self._stage("estimates", load_estimators())}

    @cached_property
    def sensitivity(self) -> dict[str, Answers]:
        """Answers by sensitivity question."""
        return {name: value for name, value in self._stage("sensitivity", load_sensitivities())}

    @cached_property
    def figures(self) -> dict[str, FigureRecord]:
        """Figures, drawn or not, by name."""
        return {name: value for name, value in self._stage("figures", study_figures())}

    @cached_property
    def moving(self) -> dict[str, FigureRecord]:
        """Figures that turn or move, drawn or not, by name."""
        return {name: value for name, value in self._stage("moving_figures", study_figures())}

    @cached_property
    def quality(self) -> QualityScore | None:
        """Five-axis quality score."""
        return self.find("synthesis/quality_score")

    @cached_property
    def critique(self) -> Critique | None:
        """Verdict of the review, with every round."""
        return self.find("synthesis/critique")

    def inputs(self) -> Inputs:
        """Return what a figure may draw from."""
        order = tuple(name for name, _ in self.plan.ranked) if self.plan else ()
        answers = {
            f"{question}: {name}": item
            for question, answer in self.sensitivity.items()
            for name, item in answer.results.items()
        }
        findings = {name: partial(self.find, f"synthesis/{name}") for name in FINDINGS}
        asked = _WhenAsked({**findings, "history": self.history})
        return Inputs(self.study, self.estimates, self.nuisance, answers, order, asked)

    def history(self) -> pd.DataFrame | None:
        """Return the summarised effects of this period and of the earlier ones with the same question, by period.

        Columns: period, estimand, contrast, scale, estimate, std_error, low, high, rows. None without a summary.
        """
        from cqox_assets.ledger.history import own_history

        summary = self.find("synthesis/effect_summary")
        if summary is None:
            return None
        return own_history(self._earlier_cards(), self.study, summary, self.partition.partition("|")[2])

    def _stage(self, stage: str, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name in names:
            value = self.find(f"{stage}/{name}")
            if value is not None:
                yield name, value


class Results:
    """Reads stored asset values of a warehouse.

    Parameters
    ----------
    warehouse : UPath
        Where the I/O manager writes.
    """

    def __init__(self, warehouse: UPath) -> None:
        self._warehouse = warehouse

    def folder(self, key: str, partition: str) -> UPath:
        """Return where an asset's value of a partition is stored."""
        return _folder(self._warehouse, key, partition)

    def load(self, key: str, partition: str, manifest: Mapping[str, Any] | None = None) -> Any:
        """Return one stored value, whatever study it belongs to; its manifest is given where it was read already.

        Raises
        ------
        FileNotFoundError
            If nothing is stored.
        """
        return store.load(self.folder(key, partition), _BY_KIND, manifest)

    def present(self, partition: str) -> Present:
        """Return what exists for the partition's current gated study.

        Parameters
        ----------
        partition : str
            `domain|period`.

        Raises
        ------
        StorageError
            If the partition has no gated study yet.
        """
        described = store.manifest(self.folder("gates/gated_study", partition))
        if described is None:
            raise StorageError(f"partition '{partition}' has no gated study; materialize gates/gated_study first")
        cards = partial(self._before, "decisions/decision_card", partition)
        study = self.load("gates/gated_study", partition, described)
        return Present(study, described["facts"]["fingerprint"], partition, self._warehouse, cards)

    def _before(self, key: str, partition: str) -> list[Any]:
        """Return the stored values of all earlier periods of the domain, oldest first."""
        domain, _, period = partition.partition("|")
        folder = self._warehouse / key / domain
        names = sorted(path.name for path in folder.iterdir() if path.name < period) if folder.is_dir() else []
        held = [name for name in names if store.facts(folder / name) is not None]
        return [self.load(key, f"{domain}|{name}") for name in held]

    def earlier(self, key: str, partition: str) -> tuple[str, Any] | None:
        """Return period and stored value of the latest earlier period of the same domain, or None.

        Parameters
        ----------
        key : str
            `stage/name`.
        partition : str
            `domain|period`.
        """
        domain, _, period = partition.partition("|")
        folder = self._warehouse / key / domain
        periods = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        for name in reversed([name for name in periods if name < period]):
            if store.facts(folder / name) is not None:
                return name, self.load(key, f"{domain}|{name}")
        return None


def _folder(warehouse: UPath, key: str, partition: str) -> UPath:
    return warehouse / key / partition.replace("|", "/")
