"""Settings: read from the environment when they are asked for, never at import."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from upath import UPath


@dataclass(frozen=True)
class Settings:
    """Where things live and how the product behaves.

    Parameters
    ----------
    home : Path
        `CQOX_HOME`: inbox, quarantine, domains, alerts; `.cqox` in the working directory by default.
    warehouse : UPath
        `CQOX_WAREHOUSE`: stored assets, any fsspec URL; `home/warehouse` by default.
    reports : UPath
        `CQOX_REPORTS`: decision cards and figures; `home/reports` by default.
    first_period : str
        `CQOX_FIRST_PERIOD`: first monthly partition, `YYYY-MM`.
    alert_webhook : str or None
        `CQOX_ALERT_WEBHOOK`: alerts are posted there as JSON.
    reports_url : str
        `CQOX_REPORTS_URL`: prefix of links to reports, as the web server serves them.
    bi_postgres_url : str or None
        `CQOX_BI_POSTGRES_URL`: Postgres database whose tables follow each success, for BI tools.
    """

    home: Path
    warehouse: UPath
    reports: UPath
    first_period: str = "2015-01"
    alert_webhook: str | None = None
    reports_url: str = "/reports"
    bi_postgres_url: str | None = field(default=None, repr=False)  # it holds a password

    @classmethod
    def from_env(cls) -> "Settings":
        """Read the settings as the environment has them now."""
        home = Path(os.environ.get("CQOX_HOME") or ".cqox").expanduser().absolute()
        return cls(
            home=home,
            warehouse=UPath(os.environ.get("CQOX_WAREHOUSE") or home / "warehouse"),
            reports=UPath(os.environ.get("CQOX_REPORTS") or home / "reports"),
            first_period=os.environ.get("CQOX_FIRST_PERIOD") or "2015-01",
            alert_webhook=os.environ.get("CQOX_ALERT_WEBHOOK") or None,
            reports_url=os.environ.get("CQOX_REPORTS_URL") or "/reports",
            bi_postgres_url=os.environ.get("CQOX_BI_POSTGRES_URL") or None,
        )

    @property
    def inbox(self) -> Path:
        """Folder of delivered files: `inbox/<domain>/<YYYY-MM>/`."""
        return self.home / "inbox"

    @property
    def quarantine(self) -> Path:
        """Folder of files that could not be taken, each with a JSON reason."""
        return self.home / "quarantine"

    @property
    def domains(self) -> Path:
        """Folder of the user's own domain profiles."""
        return self.home / "domains"

    @property
    def alerts(self) -> Path:
        """Folder of alert records."""
        return self.home / "alerts"

    def initialise(self) -> None:
        """Create the folders that people put things into."""
        for folder in (self.inbox, self.quarantine, self.domains, self.alerts):
            folder.mkdir(parents=True, exist_ok=True)
