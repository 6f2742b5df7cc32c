"""Every test runs in a home of its own; the domains of the sample studies exist before the definitions are loaded."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
_HOME = Path(tempfile.mkdtemp(prefix="cqox-tests-"))
os.environ.update(
    CQOX_HOME=str(_HOME),
    DAGSTER_HOME="",
    GX_ANALYTICS_ENABLED="false",
    DAGSTER_DISABLE_TELEMETRY="yes",
)
for variable in ("CQOX_WAREHOUSE", "CQOX_REPORTS", "CQOX_ALERT_WEBHOOK", "CQOX_FIRST_PERIOD", "DAGSTER_HOME"):
    os.environ.pop(variable, None)
(_HOME / "domains").mkdir()
for profile in (DATA / "domains").glob("*.yaml"):
    shutil.copy(profile, _HOME / "domains")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CQOX_HOME with the sample domains."""
    place = tmp_path / "home"
    shutil.copytree(_HOME / "domains", place / "domains")
    monkeypatch.setenv("CQOX_HOME", str(place))
    return place


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)
