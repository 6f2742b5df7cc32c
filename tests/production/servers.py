"""Servers that tests start on loopback and stop again: Postgres and an object store with the S3 interface."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POSTGRES_PLACES = "/usr/lib/postgresql"
_S3 = """
import sys
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = lambda: "") -> None:
    """Wait until a condition holds; say what was seen when it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds} s: {explain()}")


def answers(url: str) -> bool:
    """Whether a server answers a GET, with whatever status."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except (urllib.error.URLError, OSError):
        return False


def stop(process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """End a process and its group."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Postgres:
    """A Postgres cluster of its own in a folder that is removed with it.

    Parameters
    ----------
    settings : dict of str, optional
        Of `postgresql.conf`.
    """

    user = "cqox"
    database = "cqox"

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self.root = Path(tempfile.mkdtemp(prefix="cqox-postgres-"))
        self.data = self.root / "data"
        self._bin = postgres_programs()
        self._as: dict[str, str] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(self.root, "postgres")
            self._as = {"user": "postgres"}
        self.program("initdb", "-D", str(self.data), "-U", self.user, "-A", "trust", "-E", "UTF8", "--no-sync")
        lines = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.root), "fsync": "off"}
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in {**lines, **(settings or {})}.items())
        self.start()
        self.program("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, self.database)

    @property
    def url(self) -> str:
        """The database in the form that SQLAlchemy reads."""
        return f"postgresql+psycopg2://{self.user}@127.0.0.1:{self.port}/{self.database}"

    def program(self, name: str, *arguments: str) -> str:
        """Run one of the server's programs and return what it says."""
        done = subprocess.run(
            [str(self._bin / name), *arguments], cwd=self.root, capture_output=True, text=True, check=False, **self._as
        )  # type: ignore[call-overload]
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")
        return str(done.stdout)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        log = str(self.root / "server.log")
        self.program("pg_ctl", "-D", str(self.data), "-o", f"-p {self.port}", "-l", log, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `smart`, `fast`, or `immediate`, which is what a crash looks like."""
        self.program("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement and return its rows."""
        import psycopg2

        with psycopg2.connect(self.url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """Stop the server if it runs, and remove its folder."""
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.root, ignore_errors=True)


def postgres_programs() -> Path:
    """Return the folder of initdb, pg_ctl and pg_dump of the newest Postgres that is installed."""
    found = sorted(Path(_POSTGRES_PLACES).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    if not found and named is None:
        raise RuntimeError("no Postgres server is installed; on Debian: apt-get install postgresql")
    return found[-1].parent if found else Path(str(named)).resolve().parent


@contextmanager
def postgres(settings: dict[str, str] | None = None) -> Iterator[Postgres]:
    """Run a Postgres server of its own."""
    server = Postgres(settings)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def object_store(bucket: str = "cqox") -> Iterator[dict[str, str]]:
    """Run an object store with the S3 interface; yield the environment with which boto and s3fs reach it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", _S3, str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    environment = {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    try:
        wait_for(lambda: answers(url), 60)
        request = urllib.request.Request(f"{url}/{bucket}", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            _forget_stores()
            yield environment
    finally:
        stop(process)
        _forget_stores()


def _forget_stores() -> None:
    """Connections that this process keeps would go on asking a server that has been stopped."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
