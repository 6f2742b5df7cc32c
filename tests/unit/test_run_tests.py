"""The test runner: what it counts, what it names as missing, and its exit code."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "run_tests.py"
REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="one"/>
<testcase classname="tests.unit.test_a.TestB" name="two"><failure message="no"/></testcase>
<testcase classname="tests.graph.test_c" name="three"><skipped message="no"/></testcase>
</testsuite></testsuites>"""
EVERY_GROUP = ("unit", "contract", "oracle", "simulation", "property", "graph", "production", "browser")


@pytest.fixture
def runner(monkeypatch):
    spec = importlib.util.spec_from_file_location("run_tests", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", ["run_tests.py"])
    monkeypatch.delenv("CI", raising=False)
    return module


def exit_code(runner, monkeypatch, codes, groups):
    monkeypatch.setattr(
        runner, "run_fast", lambda: (codes, Counter(dict.fromkeys(groups, 1)), {"browser": "no Chromium"})
    )
    return runner.main()


def test_failed_tests_count_as_run_and_skipped_ones_do_not(runner):
    assert runner.count_by_group(REPORT) == {"unit": 2}
    assert not runner.count_by_group("")


def test_groups_that_did_not_run_are_named_with_their_reason(runner, monkeypatch, capsys):
    assert exit_code(runner, monkeypatch, [0], EVERY_GROUP[:-1]) == 0
    closing = capsys.readouterr().out.splitlines()
    assert closing[-1] == "test group that did not run: browser (no Chromium)"
    assert sum("did not run" in line for line in closing) == 1


def test_a_missing_group_fails_under_ci_only(runner, monkeypatch):
    assert exit_code(runner, monkeypatch, [0, 5], EVERY_GROUP[1:]) == 0
    monkeypatch.setenv("CI", "true")
    assert exit_code(runner, monkeypatch, [0, 5], EVERY_GROUP[1:]) == 1
    assert exit_code(runner, monkeypatch, [0, 0], EVERY_GROUP) == 0


def test_a_failure_in_either_part_is_the_exit_code_and_no_test_at_all_is_a_failure(runner, monkeypatch):
    assert exit_code(runner, monkeypatch, [1, 0], EVERY_GROUP) == 1
    assert exit_code(runner, monkeypatch, [0, 2], EVERY_GROUP) == 2
    assert exit_code(runner, monkeypatch, [5, 5], ()) == 1


def test_browser_is_installed_as_root_or_under_ci_and_each_package_is_named(runner, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(runner.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")

    class Done:
        returncode = 0

    monkeypatch.setattr(runner.subprocess, "run", lambda command, **_: calls.append(command) or Done)
    monkeypatch.setattr(runner.os, "geteuid", lambda: 1000)
    assert runner.install_system_packages(["chromium"]) == "installing it needs root"
    assert not calls
    monkeypatch.setenv("CI", "true")
    assert runner.install_system_packages(["chromium"]) is None
    assert [call[:2] for call in calls] == [["sudo", "-n"]] * 2
    assert calls[-1][-1] == "chromium"
    assert "installing the system package chromium" in capsys.readouterr().out
    calls.clear()
    monkeypatch.setattr(runner.os, "geteuid", lambda: 0)
    assert runner.install_system_packages(["chromium"]) is None
    assert calls[0][0] == "env"


def test_a_browser_that_does_not_start_is_not_taken(runner, monkeypatch, tmp_path):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    working = tmp_path / "google-chrome"
    working.write_text("#!/bin/sh\necho browser 1\n")
    working.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(broken))
    monkeypatch.setattr(
        runner.shutil, "which", lambda name, path=None: str(working) if name == "google-chrome" else None
    )
    assert runner.find_chromium() == str(working)


def test_only_missing_servers_are_installed_and_what_stays_missing_is_named(runner, monkeypatch):
    there, asked = {"initdb"}, []
    monkeypatch.setattr(runner, "has_program", lambda name: name in there)

    def install(packages):
        asked.extend(packages)
        there.add("promtool")

    monkeypatch.setattr(runner, "install_system_packages", install)
    assert runner.provide_servers() == "no kubectl: not in the packages that were installed"
    assert asked == ["prometheus", "kubernetes-client"]
    there.add("kubectl")
    asked.clear()
    assert runner.provide_servers() == ""
    assert not asked
