"""teamcity-messages, which PyCharm reads: both sides of comparisons that failed come out."""

from __future__ import annotations

import re

import pytest

from tests.support.neighbourhood import Neighbourhood

TESTS = """
    import unittest

    class Thing: pass

    class TestCase(unittest.TestCase):
        def test_dicts(self): self.assertEqual({"a": 1, "b": [1] * 40}, {"a": 2})
        def test_texts(self): self.assertEqual("one", "two")
        def test_caught(self):
            with self.assertRaises(AssertionError): self.assertEqual(1, 2)

    def test_lists(): assert list(range(50)) == list(range(49))
    def test_texts(): assert "one" == "two"
    def test_numbers(): assert Thing.__name__ == 3
    def test_nothing_compared(): raise ValueError
    def test_passed(): pass
"""


@pytest.mark.needs("sandbox", "teamcity-messages")
@pytest.mark.parametrize("primitives", [False, True])
@pytest.mark.parametrize("options", [[], ["--jb-swapdiff"]], ids=["", "swapped"])
def test_both_sides_of_a_failed_comparison_come_out(
    neighbours: Neighbourhood, monkeypatch: pytest.MonkeyPatch, options: list[str], *, primitives: bool
) -> None:
    """``_JB_PPRINT_PRIMITIVES`` is PyCharm's."""
    neighbours.load("teamcity.pytest_plugin")
    neighbours.project.write(test_it=TESTS.replace("self.assertEqual(1, 2)", "raise AssertionError"))
    if primitives:
        monkeypatch.setenv("_JB_PPRINT_PRIMITIVES", "1")
    plain, isolated = (
        re.findall(r"##teamcity\[testFailed .*", re.sub(r"(timestamp|duration)='[^']*'", "", "\n".join(lines)))
        for lines in (neighbours.plain("--teamcity", *options), neighbours.isolated("--teamcity", *options))
    )
    assert isolated == plain
    assert [" actual=" in message for message in plain] == [True] * 5 + [False]


@pytest.mark.needs("sandbox", "teamcity-messages")
def test_a_comparison_of_unittest_that_was_caught_is_not_told_of_the_next_test(neighbours: Neighbourhood) -> None:
    neighbours.load("teamcity.pytest_plugin")
    neighbours.project.write(test_it=TESTS)
    isolated = "\n".join(neighbours.isolated("--teamcity", "-k", "caught or nothing_compared"))
    assert isolated.count("testFailed") == 1
    assert "actual=" not in isolated


@pytest.mark.needs("sandbox", "teamcity-messages")
def test_a_value_that_cannot_be_shown_changes_nothing(neighbours: Neighbourhood) -> None:
    neighbours.load("teamcity.pytest_plugin")
    neighbours.project.write(
        test_it="""
        class Hidden:
            def __repr__(self): raise ValueError
        def test_fails(): assert Hidden() == 1
        def test_passes():
            try: assert Hidden() == 2
            except AssertionError: pass
        """
    )
    assert "1 failed, 1 passed" in "\n".join(neighbours.isolated("--teamcity"))
