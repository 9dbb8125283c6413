"""Regular expressions that tests compile, which no test before has: they are compiled outside, once."""

from __future__ import annotations

import re
import warnings

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.patterns import Patterns
from tests.support.project import Project

#: Whether a test has to compile a pattern, or ``re`` has it.
LOOK = """
    import re
    import pytest
    try:
        from re import _compiler as compiler
    except ImportError:  # before 3.11
        import sre_compile as compiler

    @pytest.fixture
    def compiled(monkeypatch):
        found, compile = [], compiler.compile
        monkeypatch.setattr(compiler, "compile", lambda *what: found.append(what) or compile(*what))
        return found
"""


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("pattern", [r"'x(y|z)+ of nobody else', re.I", r"b'\\xff[^\\x80]'", r"'(?x) \udc80 # half'"])
def test_a_pattern_that_two_tests_compile_is_there_for_those_after(project: Project, jobs: int, pattern: str) -> None:
    project.write(
        conftest=LOOK,
        test_it=f"""
        import re
        import pytest

        @pytest.mark.parametrize("number", range(40))
        def test_it(number, compiled):
            re.compile({pattern})
            assert bool(compiled) == (number < 2) or 1 < number < 20 and {jobs} > 1  # these may have begun ahead
        """,
    )
    project.isolated(f"--isolate-jobs={jobs}").assert_outcomes(passed=40)


@pytest.mark.needs("sandbox")
def test_it_is_there_also_where_re_keeps_as_many_as_it_can(project: Project) -> None:
    project.write(
        conftest=LOOK,
        test_it="""
        import re
        import pytest

        for number in range(700):
            re.compile(f"number {number}")

        @pytest.mark.parametrize("number", range(5))
        def test_it(number, compiled):
            re.compile("one more")
            assert bool(compiled) == (number < 2)
        """,
    )
    project.isolated("--isolate-jobs=1").assert_outcomes(passed=5)


@pytest.mark.needs("sandbox")
def test_a_pattern_that_warns_warns_in_each_test(project: Project) -> None:
    project.write(
        test_it="""
        import re
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            with pytest.warns(FutureWarning, match="nested set"):
                re.compile("[[a]")
        """
    )
    project.isolated("-W", "default").assert_outcomes(passed=4)


@pytest.mark.parametrize("told", [["(", 0], ["[[a]", 0], ["a", -1], ["a", int(re.LOCALE)], ["a" * 100_000 + "**", 0]])
def test_a_test_that_forges_its_message_breaks_nothing(pytestconfig: pytest.Config, told: list[object]) -> None:
    patterns = Patterns(pytestconfig)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            patterns.receive(None, messages.PATTERNS, [[False, *told]])  # type: ignore[arg-type]
