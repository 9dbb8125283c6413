"""The protections that ``python -m tests.mutate`` takes out of the code are still found there, and so are the tests."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.mutate.mutation import Mutation
from tests.mutate.mutations import MUTATIONS
from tests.mutate.workbench import REPOSITORY

beside_the_code = pytest.mark.skipif(not (REPOSITORY / "pytest_isolate").is_dir(), reason="the code is elsewhere")


@beside_the_code
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_protection_is_found_in_the_code_and_its_tests_are_there(mutation: Mutation) -> None:
    for edit in mutation.edits:
        text = (REPOSITORY / edit.file).read_text()
        assert edit.apply(text) != text
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (REPOSITORY / path).read_text() if name else (REPOSITORY / path).is_file()


def test_no_two_have_one_name() -> None:
    assert max(Counter(mutation.name for mutation in MUTATIONS).values()) == 1


def test_the_page_on_security_has_each_mutation_and_names_only_tests_that_are_there() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text()
    tests = REPOSITORY / "tests"
    code = "".join(path.read_text() for path in tests.glob("*/**/test_*.py"))
    assert [mutation.name for mutation in MUTATIONS if f"| {mutation.name} |" not in page] == []
    assert [name for name in re.findall(r"\b(?:kernel|plugin|unit)/[\w/.]+", page) if not (tests / name).exists()] == []
    assert [name for name in re.findall(r"\btest_\w+\b(?!\.py)", page) if f"def {name}(" not in code] == []
