"""A second Postgres that follows a first one and can take its place."""

import shutil
import tempfile
from pathlib import Path

from tests.production.servers import Postgres, free_port, postgres_programs, wait_for


class Standby(Postgres):
    """A synchronous standby: the primary acknowledges a write when both have it.

    Parameters
    ----------
    primary : Postgres
        A running server.
    """

    def __init__(self, primary: Postgres) -> None:
        self.port = free_port()
        self.root = Path(tempfile.mkdtemp(prefix="cqox-standby-"))
        self.data = self.root / "data"
        self._bin, self._as = postgres_programs(), primary._as
        if self._as:
            shutil.chown(self.root, "postgres")
        source = f"host=127.0.0.1 port={primary.port} user={self.user}"
        self.program("pg_basebackup", "-d", source, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast")
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"unix_socket_directories = '{self.root}'\n")
        self.start()
        try:
            self._become_synchronous(primary)
        except BaseException:
            self.close()
            raise

    def _become_synchronous(self, primary: Postgres) -> None:
        with (primary.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("synchronous_standby_names = '*'\n")
        primary.sql("select pg_reload_conf()")
        state = "select sync_state from pg_stat_replication"
        wait_for(lambda: primary.sql(state) == [("sync",)], 60, lambda: str(primary.sql(state)))

    def promote(self) -> None:
        """Become the primary."""
        self.program("pg_ctl", "-D", str(self.data), "-w", "promote")


def url_of(*servers: Postgres) -> str:
    """Return the database in the form that SQLAlchemy reads: whichever of the servers takes writes."""
    hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in servers)
    return (
        f"postgresql+psycopg2://{Postgres.user}@/{Postgres.database}?{hosts}"
        "&target_session_attrs=read-write&connect_timeout=5"
    )
