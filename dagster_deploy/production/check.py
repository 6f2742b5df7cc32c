"""Check the settings before anything starts: ``python -m dagster_deploy.production.check ROLE``.

The one list of the variables of a cluster. What is missing or wrong is named with what was found and what is expected,
all of it at once, and the exit code is 2; nothing is half started.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

ROLES = ("web", "daemon", "code-server", "run", "migrate", "exporter")
Environment = Mapping[str, str]

_REMOTE = ("s3", "gs", "gcs", "abfs", "abfss", "az")
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg2")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_IMAGE = re.compile(r"^[\w.-]+(:\d+)?(/[\w.-]+)*(:(?P<tag>[\w][\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?$")
_PERIOD = re.compile(r"^\d{4}-(0[1-9]|1[0-2])$")
_REFERENCE = re.compile(r"\benv:\s*[\"']?(\w+)")


@dataclass(frozen=True)
class Setting:
    """One variable of the environment.

    Parameters
    ----------
    name : str
        Of the variable.
    expected : str
        What a good value is, for the message.
    valid : callable
        Whether a value is good, given the environment that it is in.
    always : bool
        Whether every role needs it. Any other is needed where `dagster.yaml` refers to it, and checked where it is set.
    """

    name: str
    expected: str
    valid: Callable[[str, Environment], bool]
    always: bool = False


def _postgres(value: str, _: Environment) -> bool:
    parts = _split(value)
    if parts is None or parts.scheme != "postgresql+psycopg2" or not parts.path.strip("/"):
        return False
    # A primary and its standbys are named as SQLAlchemy wants them: ?host=one:5432&host=two:5432.
    return bool(parts.hostname or all(parse_qs(parts.query).get("host", [""])))


def _any_postgres(value: str, _: Environment) -> bool:
    """Whether psycopg2 can follow it: SQLAlchemy's form is understood as well."""
    parts = _split(value)
    return parts is not None and parts.scheme in _POSTGRES and bool(parts.path.strip("/"))


def _place(value: str, environment: Environment) -> bool:
    """Whether every pod finds there what another has stored: in a bucket, or on the volume that all of them mount."""
    parts = _split(value)
    if parts is not None and parts.scheme in _REMOTE:
        return bool(parts.netloc)
    home = environment.get("CQOX_HOME") or ""
    return bool(home) and Path(value).is_absolute() and Path(value).is_relative_to(home)


def _home(value: str, _: Environment) -> bool:
    return Path(value).is_absolute() and Path(value).is_dir() and os.access(value, os.W_OK | os.X_OK)


def _dagster_home(value: str, _: Environment) -> bool:
    return Path(value).is_absolute() and (Path(value) / "dagster.yaml").is_file()


def _image(value: str, _: Environment) -> bool:
    found = _IMAGE.match(value)
    return found is not None and (found["digest"] is not None or found["tag"] not in (None, "latest"))


def _port(value: str, _: Environment) -> bool:
    return value.isdigit() and 0 < int(value) < 65536


def _web_address(value: str, _: Environment) -> bool:
    parts = _split(value)
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)


def _matches(pattern: re.Pattern[str]) -> Callable[[str, Environment], bool]:
    return lambda value, _: pattern.match(value) is not None


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return parts


_PLACE = "a URL of a bucket such as s3://bucket/{0}, or an absolute path inside CQOX_HOME, which all pods share"
SETTINGS = (
    Setting("DAGSTER_HOME", "an absolute path of a folder that holds dagster.yaml", _dagster_home, True),
    Setting("CQOX_HOME", "an absolute path of a folder that exists and can be written to", _home, True),
    Setting("CQOX_POSTGRES_URL", "postgresql+psycopg2://user:password@host:5432/database", _postgres, True),
    Setting("CQOX_WAREHOUSE", _PLACE.format("warehouse"), _place, True),
    Setting("CQOX_REPORTS", _PLACE.format("reports"), _place, True),
    Setting("CQOX_IMAGE", "an image with a tag that is not latest, or a digest: registry/cqox:1.2.0", _image),
    Setting("CQOX_NAMESPACE", "a Kubernetes namespace: lower-case letters, digits and dashes", _matches(_LABEL)),
    Setting("CQOX_SERVICE_ACCOUNT", "a Kubernetes service account: lower case, digits, dashes", _matches(_LABEL)),
    Setting("CQOX_CODE_HOST", "the host name of the code server", lambda value, _: not re.search(r"[\s/:]", value)),
    Setting("CQOX_CODE_PORT", "the port of the code server, 1 to 65535", _port),
    Setting("CQOX_PORT", "the port of the web server, 1 to 65535", _port),
    Setting("CQOX_FIRST_PERIOD", "the first monthly partition, YYYY-MM", _matches(_PERIOD)),
    Setting("CQOX_ALERT_WEBHOOK", "an http or https URL, or nothing", _web_address),
    Setting("CQOX_BI_POSTGRES_URL", "postgresql://user:password@host:5432/database, or nothing", _any_postgres),
)


def problems(environment: Environment) -> list[str]:
    """Return one sentence per setting that is missing or wrong: the variable, what was found, what is expected."""
    needed = {setting.name for setting in SETTINGS if setting.always} | _referred(environment)
    known = {setting.name: setting for setting in SETTINGS}
    found = []
    for name in [*known, *sorted(needed - set(known))]:
        value, expected = environment.get(name) or "", known[name].expected if name in known else "a value"
        if not value and name in needed:
            found.append(f"{name}: found nothing; expected {expected}")
        elif value and name in known and not known[name].valid(value, environment):
            found.append(f"{name}: found '{without_password(value)}'; expected {expected}")
    return found


def _referred(environment: Environment) -> set[str]:
    """Return the variables that the instance's dagster.yaml takes its values from."""
    path = Path(environment.get("DAGSTER_HOME") or "/nowhere") / "dagster.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name for line in lines if not line.lstrip().startswith("#") for name in _REFERENCE.findall(line)}


def without_password(value: str) -> str:
    """Return a value as it may be printed."""
    return re.sub(r"(//[^:/@]*):.*@", r"\1:***@", value)


def unreachable(url: str, seconds: float) -> str | None:
    """Return why Postgres takes no connection within some seconds, as a sentence; None when it does.

    A server that starts is waited for; one that refuses the user or has no such database is not.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 5})
    deadline = time.monotonic() + seconds
    while True:
        try:
            engine.connect().close()
        except sqlalchemy.exc.OperationalError as error:
            said = " ".join(str(error.orig).split())
            final = any(sign in said for sign in ("authentication failed", "does not exist", "no pg_hba.conf entry"))
            if final or time.monotonic() > deadline:
                found = f"CQOX_POSTGRES_URL: found '{without_password(url)}', which says: {said}"
                return f"{found}; expected a Postgres that takes connections"
        else:
            return None
        time.sleep(1)


def require(role: str, wait_seconds: float | None = None) -> None:
    """End the process with code 2 and one message unless the environment lets this role start.

    Parameters
    ----------
    role : str
        One of `ROLES`.
    wait_seconds : float, optional
        Also connect to Postgres, for so long; not at all by default.
    """
    found = problems(os.environ)
    if not found and wait_seconds is not None:
        found = [said for said in [unreachable(os.environ["CQOX_POSTGRES_URL"], wait_seconds)] if said]
    if found:
        print(f"CQOx cannot start as '{role}'; set these and start it again:", file=sys.stderr)
        print("".join(f"  {sentence}\n" for sentence in found), end="", file=sys.stderr, flush=True)
        raise SystemExit(2)


def main() -> None:
    """Check the settings of one role."""
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.production.check", description=__doc__)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="also connect to Postgres, for so long")
    options = parser.parse_args()
    require(options.role, options.wait)
    print(f"the settings of '{options.role}' are complete")


if __name__ == "__main__":
    main()
