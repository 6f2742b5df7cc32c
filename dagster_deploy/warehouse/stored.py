"""What a warehouse holds now: the manifests of stored results, and the rows of the star that they give.

Only what a current manifest names is ever read, so parts that an earlier run left are never seen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from upath import UPath

from cqox_assets.errors import StorageError
from cqox_assets.partitions import KEY, PERIOD
from cqox_assets.results import Results
from cqox_resources import store
from dagster_deploy.warehouse.rows import Row, history_rows
from dagster_deploy.warehouse.star import BY_NAME

CARD = "decisions/decision_card"
STUDY = "gates/gated_study"
HISTORY = "ledger/effect_history"
# What a partition may hold; the ledger is stored by domain.
STAGES = ("ingestion", "mapping", "gates", "discovery", "nuisance", "estimates", "sensitivity", "synthesis", "figures",
          "moving_figures", "decisions")  # fmt: skip
_READERS = 16
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Stored:
    """One stored result of a partition, as its manifest describes it."""

    stage: str
    asset: str
    domain: str
    period: str
    folder: UPath
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str | None:
        """Hash of the study that it belongs to."""
        found: str | None = self.manifest["facts"].get("fingerprint")
        return found

    def frames(self) -> Iterator[tuple[str, str]]:
        """Yield name and file of every frame."""
        for name, file in self.manifest["frames"].items():
            yield name, str(self.folder / file)


class Warehouse:
    """Reads a warehouse as it is now.

    Parameters
    ----------
    root : UPath
        Where the I/O manager writes, on any file system.
    domain, period : str, optional
        Only this domain; only periods that begin with this text, such as `2025-03` or `2025`.

    Raises
    ------
    StorageError
        If there is no such folder, or it cannot be reached.
    """

    def __init__(self, root: UPath, domain: str | None = None, period: str | None = None) -> None:
        self.root, self._domain, self.period = root, domain, period or ""
        self._results = Results(root)
        try:
            root.fs.invalidate_cache()
            found = root.is_dir()
        except Exception as error:  # every file system raises its own
            raise StorageError(f"CQOX_WAREHOUSE is '{root}', which cannot be reached: {first_line(error)}") from error
        if not found:
            raise StorageError(
                f"CQOX_WAREHOUSE is '{root}', and nothing is stored there; name the folder that the runs write to "
                "(any fsspec URL; CQOX_HOME/warehouse where it is not set), or run an analysis first"
            )

    def domains(self) -> list[str]:
        """Return the domains that have a decision card."""
        return [self._domain] if self._domain else _folders(self.root / CARD, KEY.match)

    def periods(self, domain: str) -> list[str]:
        """Return the periods of a domain that have a decision card."""
        found = _folders(self.root / CARD / domain, PERIOD.match)
        return [name for name in found if name.startswith(self.period)]

    def card_hash(self, domain: str, period: str) -> str | None:
        """Return the hash of a partition's current card."""
        described = store.manifest(self.root / CARD / domain / period)
        return None if described is None else str(described["document"])

    def card(self, domain: str, period: str) -> dict[str, Any] | None:
        """Return a partition's current card with its hash under `_document`, or None when there is none."""
        described = store.manifest(self.root / CARD / domain / period)
        if described is None:
            return None
        key = f"{domain}|{period}"
        found = self._results.load(CARD, key, described)
        return {**found, "partition": key, "_document": described["document"]}

    def cards(self) -> list[dict[str, Any]]:
        """Return every current card."""
        keys = [(domain, period) for domain in self.domains() for period in self.periods(domain)]
        return [card for card in in_threads(lambda key: self.card(*key), keys) if card is not None]

    def stored(self, stages: Iterable[str], domain: str, period: str) -> list[Stored]:
        """Return the current results of a partition's stages."""
        keys = [(stage, asset) for stage in stages for asset in _folders(self.root / stage, KEY.match)]

        def _read(key: tuple[str, str]) -> Stored | None:
            folder = self.root / key[0] / key[1] / domain / period
            described = store.manifest(folder)
            return None if described is None else Stored(*key, domain, period, folder, described)

        return [item for item in in_threads(_read, keys) if item is not None]

    def of_current_study(self, stages: Iterable[str]) -> list[Stored]:
        """Return the results of these stages that belong to each partition's current study."""
        found = []
        for domain in self.domains_of_studies():
            for period in _folders(self.root / STUDY / domain, PERIOD.match):
                if period.startswith(self.period):
                    study = store.facts(self.root / STUDY / domain / period) or {}
                    held = self.stored(stages, domain, period)
                    found += [item for item in held if item.fingerprint in (None, study.get("fingerprint"))]
        return found

    def domains_of_studies(self) -> list[str]:
        """Return the domains that have a gated study."""
        return [self._domain] if self._domain else _folders(self.root / STUDY, KEY.match)

    def asset_rows(self, domain: str, period: str) -> Iterator[Row]:
        """Yield a partition's rows of `assets`."""
        study = (store.facts(self.root / STUDY / domain / period) or {}).get("fingerprint")
        for item in self.stored(STAGES, domain, period):
            yield {
                "domain": domain,
                "period": period,
                "stage": item.stage,
                "asset": item.asset,
                "kind": item.manifest["kind"],
                "is_current": None if item.fingerprint is None or study is None else item.fingerprint == study,
                "fingerprint": item.fingerprint,
                "run_id": item.manifest["facts"].get("run_id"),
                "document": item.manifest["document"],
                "frames": len(item.manifest["frames"]),
            }

    def history(self, domain: str) -> list[Row]:
        """Return a domain's rows of `effect_history`; none where nothing was rolled up yet."""
        described = store.manifest(self.root / HISTORY / domain)
        if described is None:
            return []
        frame = self._results.load(HISTORY, domain, described)
        rows = history_rows(frame.to_dict("records"))
        return [row for row in rows if row["period"].startswith(self.period)]

    def rows(self, table: str) -> list[Row]:
        """Return all rows of a table of the star."""
        if table == "effect_history":
            return [row for domain in self._history_domains() for row in self.history(domain)]
        if table == "assets":
            keys = [(domain, period) for domain in self.domains() for period in self.periods(domain)]
            return [row for key in keys for row in self.asset_rows(*key)]
        rows_of = BY_NAME[table].rows_of
        assert rows_of is not None
        return [row for card in self.cards() for row in rows_of(card)]

    def _history_domains(self) -> list[str]:
        return [self._domain] if self._domain else _folders(self.root / HISTORY, KEY.match)


def in_threads(read: Callable[[_T], _R], keys: Iterable[_T]) -> list[_R]:
    """Return what was read for each key, in order; an object store answers many at once."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, keys))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _folders(place: UPath, wanted: Callable[[str], Any]) -> list[str]:
    """Return the names of the folders below a place."""
    try:
        return sorted({path.name for path in place.iterdir() if wanted(path.name)})
    except (FileNotFoundError, NotADirectoryError):
        return []
