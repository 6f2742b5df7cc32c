"""The image: small at the end, nobody's root, and its roles work where only /tmp and CQOX_HOME can be written."""

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.production.manifests import PRODUCTION, ROOT, built, containers, pod_templates
from tests.production.servers import Postgres, answers, free_port, stop, wait_for

USER = 10001
#: Root without root's powers, so that a file without the write bit cannot be written: as every other user.
PLAIN = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def stages() -> dict[str, list[str]]:
    """Instructions of each stage, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (PRODUCTION / "Dockerfile").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"FROM \S+ AS (\w+)", line):
            found[match.group(1)] = []
        elif line and not line.startswith("#") and found:
            found[next(reversed(found))].append(line)
    return found


def test_the_last_stage_builds_nothing_and_is_not_root() -> None:
    found = stages()
    assert list(found) == ["build", "final"]
    last = found["final"]
    assert last[-1] == 'CMD ["web"]'
    assert f"USER {USER}:{USER}" in last
    installed = re.search(r"apt-get install -y --no-install-recommends ([\w .-]+?) &&", " ".join(last))
    assert installed
    assert set(installed.group(1).split()) == {"libgomp1", "postgresql-client"}
    assert not re.search(r"pip install|gcc|build-essential|COPY (?!--from=build)", "\n".join(last))
    assert "ensurepip" in " ".join(last), "pip is taken out"


def test_bytecode_is_compiled_where_nothing_can_be_written_later() -> None:
    build = "\n".join(stages()["build"])
    assert "compileall" in build
    assert "--invalidation-mode unchecked-hash" in build
    assert "--constraint requirements.lock" in build, "the versions that were tested"


def test_manifests_and_instance_agree_with_the_image() -> None:
    last = " ".join(stages()["final"])
    launcher = yaml.safe_load((PRODUCTION / "dagster.yaml").read_text(encoding="utf-8"))["run_launcher"]["config"]
    assert f"DAGSTER_HOME={launcher['dagster_home']}" in last
    assert f"cp dagster_deploy/production/dagster.yaml {launcher['dagster_home']}/dagster.yaml" in " ".join(
        stages()["build"]
    )
    assert launcher["run_k8s_config"]["pod_spec_config"]["security_context"]["runAsUser"] == USER
    settings = next(each for each in built("production") if each["metadata"]["name"] == "cqox-settings")["data"]
    assert f"CQOX_HOME={settings['CQOX_HOME']}" in last
    for what, template in pod_templates(built("production")):
        assert template["spec"]["securityContext"]["runAsUser"] == USER, what
        assert all(each["command"][:2] == ["python", "-m"] for each in containers(template)), what


def test_the_builder_is_sent_what_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {word for line in stages()["build"] if line.startswith("COPY") for word in line.split()[1:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The code as the image has it: bytecode compiled, owned by root, and nothing in it can be written."""
    root = Path("/tmp") / f"cqox-image-{os.getpid()}"
    root.mkdir(mode=0o755)
    for name in ("cqox_assets", "cqox_resources", "dagster_deploy"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(root)], check=True
    )
    (root / "dagster").mkdir()
    shutil.copy(PRODUCTION / "compose" / "dagster.yaml", root / "dagster" / "dagster.yaml")
    text = (
        (root / "dagster" / "dagster.yaml")
        .read_text()
        .replace("/var/lib/cqox", str(root.with_name(f"{root.name}-home")))
    )
    (root / "dagster" / "dagster.yaml").write_text(text)
    for path in [root, *root.rglob("*")]:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    yield root
    for path in [root, *(each for each in root.rglob("*") if each.is_dir())]:
        path.chmod(0o755)
    shutil.rmtree(root)


@pytest.mark.parametrize("daemon", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_roles_work_on_a_read_only_file_system(daemon: bool, tree: Path, postgres: Postgres) -> None:
    """The servers where the code cannot be written, which is seen by trying."""
    assert subprocess.run([*PLAIN, "touch", str(tree / "probe")], capture_output=True, check=False).returncode != 0
    home = tree.with_name(f"{tree.name}-home")
    home.mkdir()
    code, web, metrics = free_port(), free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home),
        "DAGSTER_HOME": str(tree / "dagster"), "CQOX_HOME": str(home), "CQOX_POSTGRES_URL": postgres.url,
        "CQOX_WAREHOUSE": str(home / "warehouse"), "CQOX_REPORTS": str(home / "reports"),
        "CQOX_IMAGE": "registry.example.com/cqox:0.1.0", "CQOX_CODE_HOST": "127.0.0.1", "CQOX_CODE_PORT": str(code),
        "CQOX_PORT": str(web), "MPLCONFIGDIR": str(home / "matplotlib"), "NUMBA_CACHE_DIR": str(home / "numba"),
    }  # fmt: skip

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PLAIN, sys.executable, "-m", *arguments], cwd="/", env=environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip

    def start(role: str) -> "subprocess.Popen[bytes]":
        told = {"CQOX_METRICS_PORT": str(metrics)} if role == "daemon" else {}
        with (home / f"{role}.log").open("wb") as log:
            return subprocess.Popen(
                [*PLAIN, sys.executable, "-m", "dagster_deploy.production.entrypoint", role], cwd="/",
                env={**environment, **told}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def said() -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in home.glob("*.log"))

    migrated = call("dagster_deploy.production.entrypoint", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    before, roles = _contents(tree), ("code-server", "web", *(["daemon"] if daemon else []))
    processes = [start(role) for role in roles]
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{web}/server_info"), 120, said)
        probe = ("dagster", "api", "grpc-health-check", "--port", str(code))
        _wait_for_command(lambda: call(*probe).returncode, 120, said)
        if daemon:  # its probe says no until each of its threads has written a heartbeat
            _wait_for_command(lambda: call("dagster._daemon", "liveness-check").returncode, 180, said)
            assert answers(f"http://127.0.0.1:{metrics}/metrics")
        assert all(process.poll() is None for process in processes), said()
    finally:
        for process in processes:
            stop(process)
    assert _contents(tree) == before
    assert "Read-only" not in said()
    assert "Permission denied" not in said()
    shutil.rmtree(home)


def _contents(tree: Path) -> set[str]:
    return {str(path) for path in tree.rglob("*")}


def _wait_for_command(call: "object", seconds: float, said: "object") -> None:
    deadline = time.monotonic() + seconds
    while call():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError(said())  # type: ignore[operator]
