"""What ``python -m tests.fuzz`` tries for hours, for a moment: its seeds, which have what it has found."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from pytest_isolate.linux import native
from tests.fuzz.engine import check
from tests.fuzz.parser import Taker, edited
from tests.fuzz.parsers import PARSERS
from tests.mutate.workbench import REPOSITORY

_APART = ("reports", "layers", "plans")  # what they need stands in the way of other tests
_TRIES = 100
_COMMAND = """
from tests.fuzz.engine import check
from tests.fuzz.parsers import PARSERS
for name in {names}:
    check(PARSERS[name], {tries})
"""


@pytest.mark.parametrize("name", [name for name in PARSERS if name not in _APART])
def test_a_parser_takes_whatever_comes(name: str) -> None:
    check(PARSERS[name], _TRIES)


def _check_apart(*names: str) -> None:
    command = _COMMAND.format(names=names, tries=_TRIES)
    done = subprocess.run([sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_pytest_can_show_what_is_made_of_reports_that_a_test_has_forged() -> None:
    _check_apart("reports")


@pytest.mark.needs("userns")
def test_a_layer_is_unpacked_or_refused() -> None:
    _check_apart("layers")


@pytest.mark.skipif(
    shutil.which("gcc") is None or not native.BUILDER.with_name("plan_decode.c").exists(),
    reason="needs gcc and the code",
)
def test_the_builder_reads_a_plan_or_knows_that_it_is_none() -> None:
    """Under the sanitizers."""
    _check_apart("plans")


def test_a_document_is_edited_in_all_of_its_parts() -> None:
    """Or what the parsers see would be less than it seems."""
    document = {"a": [1, {"b": "c"}], "d": None}
    made = {repr(edited(document, Taker(bytes([0, part, how, 1])))) for part in range(6) for how in range(6)}
    assert len(made) > 12
    assert document == {"a": [1, {"b": "c"}], "d": None}
