"""What is no UTF-8 (names of files, command lines, environment) is escaped in reports."""

from __future__ import annotations

import json
import os
from xml.etree import ElementTree as ET

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

_TESTS = r"""
import logging, os, subprocess, sys, time, warnings
import pytest

NAME = "caf\udce9"

def test_makes_a_file(tmp_path):
    open(os.fsencode(tmp_path) + b"/caf\xe9", "w").close()

def test_fails_with_it(): assert not NAME, NAME

def test_prints_it():
    os.write(1, b"caf\xe9\x1b\x00\n")
    assert 0

def test_logs_it():
    logging.warning(NAME)
    assert 0

def test_records_it(record_property): record_property(NAME, {NAME: [NAME]})

def test_warns_of_it(): warnings.warn(NAME)

def test_is_skipped_for_it(): pytest.skip(NAME)

def test_has_it_in_the_environment():
    os.environ[NAME] = NAME
    subprocess.run(["true"], check=True)
    raise KeyError(os.environ)

@pytest.mark.isolate(timeout=0.7)
def test_leaves_it_running():
    subprocess.Popen([b"sleep", b"--", b"99", b"\xe9"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)", b"caf\xe9"])
    time.sleep(99)

@pytest.mark.isolate(writable=[os.path.abspath("gone/" + NAME)])
def test_is_given_a_folder_that_is_not_there(): pass

def test_comes_after(): pass
"""


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:backslashreplace")  # pytester reads UTF-8


def expect(result: pytest.RunResult) -> None:
    result.assert_outcomes(passed=4, failed=5, errors=1, skipped=1, warnings=1)
    assert r"caf\xe9" in result.stdout.str()


def test_under_xdist_it_is_carried_to_the_controller(project: Project) -> None:
    pytest.importorskip("xdist")
    project.patience = 60
    project.write(test_it=_TESTS)

    expect(project.isolated("-n1", "-rA", "--junitxml=of.xml", "-o", "junit_family=legacy"))

    text = {case.get("name"): "".join(case.itertext()) for case in ET.parse(project.path / "of.xml").iter("testcase")}
    assert r"caf\xe9" in text["test_fails_with_it"]
    assert r"caf\xe9" in text["test_is_given_a_folder_that_is_not_there"]


def test_it_is_written_to_files(project: Project) -> None:
    project.patience = 60
    pytest.importorskip("pytest_reportlog")
    project.write(test_it=_TESTS)

    expect(project.isolated("-rA", "--junitxml=of.xml", "-o", "junit_family=legacy", "--report-log=of.jsonl"))

    assert "test_comes_after" in (project.path / "of.xml").read_text("utf-8")
    reports = [json.loads(line) for line in (project.path / "of.jsonl").read_text("ascii").splitlines()]
    changed = [text for report in reports for name, text in report.get("sections", ()) if name.startswith("Files ")]
    assert any(text.endswith(r"caf\xe9") for text in changed)


def test_a_module_of_such_a_name_is_still_found(project: Project) -> None:
    with open(os.fsencode(project.path) + b"/test_caf\xe9.py", "w", encoding="ascii") as file:
        file.write("def test_it(): pass\ndef test_fails(): assert 0\n")

    project.isolated().assert_outcomes(passed=1, failed=1)
