"""What the most trusted sandboxes are known to get wrong: each case inside, and a look from outside afterwards.

One run of pytest has them all, for each root that a test can have; ``python -m tests.matrix`` has them on all kernels.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_isolate.linux.remove_tree import remove_tree
from tests.cases.catalogue import CASES, LAYOUTS, Case
from tests.cases.outside import Outside
from tests.support.image_layers import entry, layout, tar
from tests.support.project import QUICK

pytestmark = pytest.mark.needs("sandbox")

_REPOSITORY = Path(__file__).parents[2]
_INSIDE = _REPOSITORY / "tests" / "cases" / "inside"
_IMAGE = tar(
    *(entry(name, mode=0o1777) for name in ("tmp/", "var/tmp/")), entry("etc/passwd", "root:x:0:0::/:/bin/sh\n")
)


@dataclass(frozen=True)
class Seen:
    """What came of one run."""

    reports: Mapping[str, list[str]]  #: by case, what each of its reports says; "" for a pass
    outside: Mapping[str, str]
    output: str


#: The plainest root, and the one with most of ours below it; ``python -m tests.matrix`` has them all.
_CHOSEN = os.environ.get("ISOLATE_LAYOUTS", "host,session+image").split(",")


@pytest.fixture(scope="module", params=_CHOSEN)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("cases")
    layout(folder / "fixtures_images/tiny", _IMAGE)
    with closing(Outside(folder, request.param)) as outside:
        output = _run(folder, request.param, outside.describe())
        results = folder / "out" / "results.xml"
        yield Seen(_reports(results) if results.exists() else {}, outside.problems(), output)
    remove_tree(folder, ignore_errors=True)


def _run(folder: Path, of: str, known: str) -> str:
    """A run of all cases, in a folder that has nothing else; what it printed."""
    (folder / "pytest.ini").write_text("[pytest]\npython_files = *.py\n")
    (folder / "out").mkdir()
    group = [f"--isolate-cgroup={name}"] if (name := os.environ.get("ISOLATE_CGROUP")) else []
    command = [
        *(sys.executable, "-m", "pytest", *QUICK, "-p", "no:cacheprovider", "-p", "no:randomly", *group),
        *("-c", "pytest.ini", "--rootdir=.", "--noconftest", "--isolate-all", "--junitxml=out/results.xml", "-v"),
        f"--confcutdir={_INSIDE}",  # else pytest looks into each folder above, which a user may not
        *(*LAYOUTS[of], str(_INSIDE)),
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_"))},
        "ISOLATE_CASES": known,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(_REPOSITORY),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def _reports(results: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in ET.parse(results).iter("testcase"):
        name = (case.get("name") or "").partition("[")[0].removeprefix("test_")
        said = [f"{each.tag}: {each.get('message')}\n{each.text}" for each in case if each.tag in _NOT_PASSED]
        found.setdefault(name, []).append("\n".join(said))
    return found


_NOT_PASSED = ("failure", "error", "skipped")


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, id=each.name, marks=pytest.mark.needs(*each.needs)) for each in CASES if each.inside],
)
def test_case(case: Case, seen: Seen) -> None:
    assert case.name in seen.reports, seen.output
    assert seen.outside.get(case.name, "") == ""
    for said in seen.reports[case.name]:
        if case.kernel and re.match(f"skipped: {case.kernel}", said):
            pytest.skip(said.partition("\n")[0].removeprefix("skipped: "))
        if case.kernel and said.startswith("error: ") and (reason := re.search(case.kernel, said)):
            pytest.skip(reason[0])
        if case.fails:
            assert said.startswith("failure: ")
            assert re.search(case.fails, said)
        else:
            assert said == ""
