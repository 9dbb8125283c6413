"""What was asked for and no test gets: told, once, by a warning and in the header."""

from __future__ import annotations

import pytest

from tests.support.project import Project

_HEADER = "isolate: NOT in force, as no test is isolated (see --isolate-all): "


@pytest.fixture
def plain(project: Project) -> Project:
    """A project without a marker."""
    project.write(test_a="def test_a(): pass")
    return project


def test_an_option_is_told_where_no_test_is_isolated(plain: Project) -> None:
    given = ["--isolate-memory=50M", "--isolate-pids=9", "--isolate-timeout=5", "--isolate-host-port=80"]
    result = plain.run(*given)

    result.stdout.fnmatch_lines(
        [_HEADER + ", ".join(given), f"*Warning: not in force: {', '.join(given)}, as no test*--isolate-all*"]
    )
    result.assert_outcomes(passed=1, warnings=1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\nisolate_memory = 50M\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nisolate_memory = '50M'\n"),
        ("pytest.ini", "[pytest]\nisolate_memory = 50M\nisolate_all = false\n"),
    ],
)
def test_an_ini_value_is_told_where_no_test_is_isolated(plain: Project, name: str, text: str) -> None:
    (plain.path / name).write_text(text)

    result = plain.run()

    result.stdout.fnmatch_lines([f"{_HEADER}isolate_memory = 50M", "*Warning: not in force: isolate_memory = 50M, as*"])
    result.assert_outcomes(passed=1, warnings=1)


def test_no_isolate_everywhere_is_told_as_well(project: Project) -> None:
    project.write(test_a="import pytest\npytestmark = pytest.mark.no_isolate\ndef test_a(): pass")

    project.run("--isolate-memory=50M").stdout.fnmatch_lines(["*Warning: not in force: --isolate-memory=50M*"])


def test_an_xdist_controller_tells_it_once(plain: Project) -> None:
    pytest.importorskip("xdist")
    result = plain.run("-n2", "--isolate-memory=50M")

    result.stdout.fnmatch_lines([f"{_HEADER}--isolate-memory=50M"])
    result.stdout.fnmatch_lines(["*Warning: not in force: --isolate-memory=50M, as no test*"])
    result.assert_outcomes(passed=1, warnings=1)


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_it_is_a_usage_error_where_warnings_are_errors(plain: Project, workers: tuple[str, ...]) -> None:
    if workers:
        pytest.importorskip("xdist")
    result = plain.run("-Werror::pytest.PytestConfigWarning", "--isolate-memory=50M", *workers)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: not in force: --isolate-memory=50M, as no test*"])


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_an_ini_value_is_no_error_as_it_may_be_for_the_tests_of_other_files(
    plain: Project, workers: tuple[str, ...]
) -> None:
    if workers:
        pytest.importorskip("xdist")
    plain.run("-Werror::pytest.PytestConfigWarning", "-oisolate_memory=50M", *workers).assert_outcomes(passed=1)


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_nothing_is_told_where_a_test_gets_it_or_nobody_asked(project: Project, workers: tuple[str, ...]) -> None:
    for plugin in ("xdist",) if workers else ("pytest_timeout",):
        pytest.importorskip(plugin)
    project.fake_keeper()
    project.write(
        test_a="""
        import pytest
        @pytest.mark.isolate
        def test_in(): pass
        def test_out(): pass
        """
    )
    for arguments in (
        ("--isolate-memory=50M",),
        ("-oisolate_memory=50M",),
        ("--isolate-memory=50M", "-k", "test_out", "--isolate-off"),
        ("--timeout=60", "-otimeout=60", "-k", "test_out"),  # pytest-timeout's own
        ("--isolate-memory=50M", "-k", "nothing"),
        ("--isolate-memory=50M", "-k", "test_out", "--collect-only"),
    ):
        result = project.run(*arguments, *workers)
        result.stdout.no_re_match_line(".*(not|NOT) in force")
        assert "warning" not in result.stdout.str(), arguments


def test_a_marker_that_looks_like_ours_is_told_with_its_place(project: Project) -> None:
    meant = dict.fromkeys(["isolated", "isolates", "isolate_", "Isolate", "isolation", "isoalte"], "isolate")
    meant |= dict.fromkeys(["noisolate", "not_isolated"], "no_isolate")
    tests = [
        f"@pytest.mark.{name}\n@pytest.mark.parametrize('n', [1, 2])\ndef test_{name}(n): pass\n" for name in meant
    ]
    project.write(test_a="import pytest\n" + "".join(tests))

    lines = project.run("-Wignore::pytest.PytestUnknownMarkWarning").outlines

    told = [line for line in lines if "there is no such marker" in line]
    assert len(told) == len(meant)
    for number, ((name, near), line) in enumerate(zip(meant.items(), told, strict=True)):
        assert f"test_a.py:{2 + 3 * number}: @pytest.mark.{name}: there is no such marker, so it isolates" in line
        assert f"Did you mean {near}?" in line


def test_a_misspelt_marker_is_told_once_under_xdist(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write(test_a="import pytest\npytestmark = pytest.mark.isolated\ndef test_a(): pass")

    project.run("-n2", "-Wignore::pytest.PytestUnknownMarkWarning").assert_outcomes(passed=1, warnings=1)


def test_a_marker_that_somebody_has_registered_is_theirs(project: Project) -> None:
    (project.path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    isolated: the project's own\n    isolation(name): another\n    isolates\n"
    )
    project.write(
        test_a="import pytest\npytestmark = [pytest.mark.isolated, pytest.mark.isolation, pytest.mark.isolates]\n"
        "def test_a(): pass"
    )
    project.run().assert_outcomes(passed=1, warnings=0)


def test_a_marker_in_a_conftest_file_is_told_as_pytest_does_not_look_there(project: Project) -> None:
    project.write(conftest="import pytest\npytestmark = pytest.mark.isolate", test_a="def test_a(): pass")

    project.run().stdout.fnmatch_lines(["*Warning: conftest.py: pytestmark = pytest.mark.isolate: pytest takes no*"])
