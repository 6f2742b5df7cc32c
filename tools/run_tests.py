"""Run the tests: ``python tools/run_tests.py [--slow]``; `make test` and `make test-slow` call it.

The groups are the folders of tests/. Most share two worker processes; the groups production and browser, which need
programs of the system, run alone after them. At the end the groups that did not run are listed with their reason; under
CI=true that is a failure.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ("unit", "contract", "oracle", "simulation", "property", "graph", "production", "browser")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SERVER_PACKAGES = {"initdb": "postgresql", "promtool": "prometheus", "kubectl": "kubernetes-client"}
PLACES = "/usr/lib/postgresql/*/bin/{}"
NO_TESTS = 5


def find_chromium() -> str | None:
    """Return the path of a browser that starts, or None; the variable CHROMIUM is asked first."""
    named = os.environ.get("CHROMIUM")
    candidates = [named] if named else []
    candidates += [path for name in BROWSERS if (path := shutil.which(name) or shutil.which(name, path="/usr/bin"))]
    for path in candidates:
        try:
            subprocess.run([path, "--version"], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            continue
        return path
    return None


def install_system_packages(packages: Sequence[str]) -> str | None:
    """Install packages from the system's packages; return why it was not done, or None.

    Only as root on a system with apt-get, or under CI=true, where sudo may be used if it asks for no password.
    """
    if shutil.which("apt-get") is None:
        return "no apt-get on this system"
    prefix: list[str] = []
    if os.geteuid() != 0:
        if not under_ci():
            return "installing it needs root"
        if shutil.which("sudo") is None:
            return "installing it needs root or sudo"
        prefix = ["sudo", "-n"]
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    subprocess.run([*apt, "update"], check=False, stdin=subprocess.DEVNULL)
    for package in packages:
        print(f"installing the system package {package} with apt-get", flush=True)
        command = [*apt, "install", "-y", "--no-install-recommends", package]
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
            return f"apt-get could not install {package}"
    return None


def under_ci() -> bool:
    """Whether CI=true is set."""
    return os.environ.get("CI", "").lower() == "true"


def provide_chromium() -> str:
    """Make sure there is a browser and name it in CHROMIUM; return why there is none, or nothing."""
    path, reason = find_chromium(), None
    if path is None:
        reason = install_system_packages(["chromium"])
        path = find_chromium()
    if path is None:
        return f"no Chromium: {reason or 'the installed one does not start'}; install it or name it in CHROMIUM"
    os.environ["CHROMIUM"] = path
    return ""


def has_program(name: str) -> bool:
    """Whether a program is on the path or where Debian keeps those of Postgres."""
    return shutil.which(name) is not None or any(Path("/").glob(PLACES.format(name).lstrip("/")))


def provide_servers() -> str:
    """Make sure that Postgres, Prometheus and kubectl are there; return what is missing and why, or nothing."""
    missing = {name: package for name, package in SERVER_PACKAGES.items() if not has_program(name)}
    if not missing:
        return ""
    reason = install_system_packages(list(missing.values()))
    left = [name for name in missing if not has_program(name)]
    return f"no {', '.join(left)}: {reason or 'not in the packages that were installed'}" if left else ""


def pytest(*arguments: str) -> tuple[int, Counter[str]]:
    """Run pytest on the repository; return its exit code and the number of tests that ran, by group."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments]
        code = subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode
        return code, count_by_group(report.read_text(encoding="utf-8") if report.is_file() else "")


def count_by_group(report: str) -> Counter[str]:
    """Count the tests of a JUnit report that were not skipped, by folder below tests/."""
    counts: Counter[str] = Counter()
    if not report:
        return counts
    for case in ElementTree.fromstring(report).iter("testcase"):
        parts = case.get("classname", "").split(".")
        if case.find("skipped") is None and len(parts) > 1 and parts[0] == "tests":
            counts[parts[1]] += 1
    return counts


def run_fast() -> tuple[list[int], Counter[str], dict[str, str]]:
    """Run every test but the slow ones; return exit codes, tests by group and reasons for groups that did not run."""
    alone = {"production": provide_servers, "browser": provide_chromium}
    shared = [f"--ignore=tests/{name}" for name in alone]
    code, counts = pytest("tests", *shared, "-m", "not slow", "-n", "2", "--dist", "loadfile")
    codes, reasons = [code], {}
    for name, provide in alone.items():
        if not any((ROOT / "tests" / name).rglob("test_*.py")):
            continue
        reasons[name] = provide()
        if not reasons[name]:
            code, found = pytest(f"tests/{name}", "-m", "not slow")
            codes.append(code)
            counts += found
    return codes, counts, {name: reason for name, reason in reasons.items() if reason}


def closing_lines(counts: Counter[str], reasons: dict[str, str]) -> list[str]:
    """Say which groups ran, and which did not and why."""
    ran = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts))
    lines = [f"test groups that ran: {ran or 'none'}"]
    missing = [name for name in GROUPS if not counts[name]]
    lines += [f"test group that did not run: {name} ({reasons.get(name, 'no test in it')})" for name in missing]
    return lines


def main() -> int:
    """Run the tests and return the exit code: the first of pytest that is not 0, or 1 for a missing group in CI."""
    parser = argparse.ArgumentParser(prog="python tools/run_tests.py", description="Run the tests of CQOx.")
    parser.add_argument("--slow", action="store_true", help="run the slow tests instead of the others")
    if parser.parse_args().slow:
        reason = provide_servers()
        if reason:
            print(reason, flush=True)
        code, counts = pytest("tests", "-m", "slow", "-n", "2", "--dist", "loadfile")
        return 0 if code == NO_TESTS and not counts else code
    codes, counts, reasons = run_fast()
    lines = closing_lines(counts, reasons)
    print("\n" + "\n".join(lines), flush=True)
    failed = [code for code in codes if code not in (0, NO_TESTS)]
    if failed:
        return failed[0]
    if not counts:
        return 1
    return 1 if under_ci() and len(lines) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
