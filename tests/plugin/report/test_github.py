"""A run in GitHub Actions, by its environment variables."""

from __future__ import annotations

import pytest

from tests.support.project import Project


def test_github_actions_is_told_of_isolated_tests(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.fake_keeper()
    project.write(
        test_it="import pytest\n@pytest.mark.isolate\ndef test_fails():\n    assert 0\ndef test_plain(): assert 0"
    )
    file = project.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))

    result = project.run()

    place = f"file={project.path.name}/test_it.py,line=4,title=test_it.py%3A%3Atest_fails"
    assert [line for line in result.outlines if line.startswith("::")] == [f"::error {place}::assert 0"]
    text = file.read_text()
    assert text.startswith("### Isolated tests: 0 passed, 1 failed\n")
    assert "| `test_it.py::test_fails` | `assert 0` |" in text
    assert "#### Isolated tests by wall time" in text

    result = project.run("--isolate-github=off")

    result.stdout.no_fnmatch_line("::*")
    assert file.read_text() == text
