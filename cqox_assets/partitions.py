"""Partitions: a business domain by a calendar month."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from cqox_assets.errors import StorageError
from cqox_assets.mapping.domains import SAMPLES, SHIPPED
from cqox_resources.settings import Settings

KEY = re.compile(r"^[a-z0-9_-]+$")
PERIOD = re.compile(r"^\d{4}-(0[1-9]|1[0-2])$")


@dataclass(frozen=True)
class Partition:
    """One domain and one period; as text `healthcare|2025-03`."""

    domain: str
    period: str

    @classmethod
    def parse(cls, key: str) -> "Partition":
        """Read a key as the CLI (text) or the UI (a MultiPartitionKey) gives it.

        Raises
        ------
        StorageError
            If it is no `domain|YYYY-MM`.
        """
        if isinstance(key, dg.MultiPartitionKey):
            dimensions = key.keys_by_dimension
            return cls(dimensions["domain"], dimensions["period"])
        domain, separator, period = str(key).partition("|")
        if not (separator and KEY.match(domain) and PERIOD.match(period)):
            raise StorageError(f"partition key is '{key}'; it must read like 'healthcare|2025-03'")
        return cls(domain, period)

    @property
    def key(self) -> str:
        """Text form, as the CLI takes it."""
        return f"{self.domain}|{self.period}"

    @property
    def path(self) -> str:
        """Folder below a stage's asset, the inbox or the reports."""
        return f"{self.domain}/{self.period}"


def domain_names(extra: Path) -> list[str]:
    """Return the names of the shipped domain profiles, of a checkout's sample studies, and of a folder of the user's.

    Only names are read: a profile with a mistake in it must not keep the whole product from loading.
    """
    paths = [path for folder in (SHIPPED, SAMPLES, extra) if folder.is_dir() for path in folder.glob("*.yaml")]
    return sorted({path.stem for path in paths if KEY.match(path.stem) and not path.stem.startswith("_")})


_SETTINGS = Settings.from_env()
DOMAINS: Sequence[str] = domain_names(_SETTINGS.domains)
DOMAIN_PARTITIONS = dg.StaticPartitionsDefinition(DOMAINS)
PERIODS = dg.TimeWindowPartitionsDefinition(
    start=_SETTINGS.first_period, cron_schedule="0 0 1 * *", fmt="%Y-%m", end_offset=1
)
PARTITIONS = dg.MultiPartitionsDefinition({"domain": DOMAIN_PARTITIONS, "period": PERIODS})
