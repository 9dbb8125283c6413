"""The jobs of docs/ci.md, the action and the workflow of a release, as far as they can be read without the service.

`.ci/recipes` runs their commands.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_isolate.session.doctor.findings import CAPABILITIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/ci.md").read_text()
ACTION = ROOT / "action.yml"
RELEASE = ROOT / ".github/workflows/release.yml"
#: GitHub puts these in before a shell sees the command.
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


#: The last two are not there where the installed package is tested.
TEXTS = [*fenced("yaml"), *(path.read_text() for path in (ACTION, RELEASE) if path.exists())]
DOCUMENTS = [yaml.safe_load(text) for text in TEXTS]


def commands(document: Any) -> Iterator[str]:
    """What shells are given, by the names of all the services."""
    if isinstance(document, list):
        for each in document:
            yield from commands(each)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name in ("run", "script", "args", "command") and isinstance(value, str | list):
                yield from [value] if isinstance(value, str) else map(str, value)
            else:
                yield from commands(value)


def is_shell(text: str) -> bool:
    return subprocess.run(["bash", "-n"], input=EXPRESSION.sub("x", text), text=True, check=False).returncode == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_command_of_a_job_is_one_that_a_shell_can_read(document: Any) -> None:
    found = [*commands(document)]
    assert found
    assert [each for each in found if not is_shell(each)] == []


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if "jobs" in each])
def test_a_job_of_github_has_a_runner_and_steps_that_do_one_thing(document: Any) -> None:
    assert document[True]  # "on", which is a truth value in YAML 1.1
    for job in document["jobs"].values():
        assert job["runs-on"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        assert set(job.get("needs", [])) <= set(document["jobs"]) or job["needs"] in document["jobs"]


def test_doctor_knows_what_the_jobs_and_the_page_ask_for() -> None:
    known = {each.key for each in CAPABILITIES}
    texts = [PAGE, *(path.read_text() for path in (ACTION, RELEASE, ROOT / "pyproject.toml") if path.exists())]
    lists = [words for text in texts for words in re.findall(r"(?:doctor --strict|{strict:) ([a-z ]+)", text)]
    asked = {word for words in lists for word in words.split()}
    assert {"sandbox", "memory"} <= asked <= known


@pytest.mark.skipif(not ACTION.exists(), reason="the installed package is tested, without the action")
def test_the_page_lists_the_inputs_of_the_action_and_their_defaults() -> None:
    inputs = yaml.safe_load(ACTION.read_text())["inputs"]
    assert all(each["description"] and isinstance(each["default"], str) for each in inputs.values())
    used = set(re.findall(r"inputs\.(\w+)", ACTION.read_text()))
    listed = dict(re.findall(r"^\| `(\w+)` \|.*\| `\"?(.*?)\"?` \|$", PAGE, re.MULTILINE))
    assert listed == {name: each["default"] for name, each in inputs.items()}
    assert used == set(inputs)


@pytest.mark.skipif(not RELEASE.exists(), reason="the installed package is tested, without the workflow")
def test_a_release_needs_no_secret_and_only_its_last_job_may_say_who_it_is() -> None:
    text = RELEASE.read_text()
    document = yaml.safe_load(text)
    assert "secrets." not in text
    assert "password" not in text
    assert document["permissions"] == {"contents": "read"}
    assert [name for name, job in document["jobs"].items() if "permissions" in job] == ["publish"]
    assert document["jobs"]["publish"]["if"] == "github.ref_type == 'tag'"


def test_the_shell_commands_of_the_page_and_of_jenkins_can_be_read() -> None:
    stages = [each for text in fenced("groovy") for each in re.findall(r"sh '(.*)'", text)]
    assert stages
    assert [each for each in [*fenced("sh"), *stages] if not is_shell(each)] == []
