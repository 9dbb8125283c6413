"""``ISOLATE_DEBUG=plan`` shows what a sandbox is built of, and where that failed."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def test_each_operation_is_shown_and_that_a_sandbox_stands(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOLATE_DEBUG", "plan")
    project.write(test_it="def test_it(): pass")
    result = project.isolated("-s")
    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines(
        ["isolate: plan *: namespaces *", "isolate: *stage*", "isolate: *pivot*", "isolate: plan *: t* stands*"]
    )


def test_the_operation_that_failed_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOLATE_DEBUG", "plan")
    project.write(
        test_it="""
        import pytest

        @pytest.mark.isolate(writable="/nowhere")
        def test_it(): pass
        """
    )
    result = project.isolated("-s")
    result.assert_outcomes(errors=1)
    result.stderr.fnmatch_lines(["isolate: FAILED at operation *, mount */nowhere*: ENOENT on */nowhere"])


def test_nothing_is_shown_otherwise(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    result = project.isolated("-s")
    assert not [line for line in result.errlines if line.startswith("isolate: ")]
