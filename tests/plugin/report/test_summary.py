"""The usage table at the end of a run."""

from __future__ import annotations

import pytest

from tests.support.project import Project

USAGE = (
    "Usage(wall_seconds=0.0123, cpu_seconds=0.01, memory_peak_bytes=5 << 20, pids_peak=2, "
    "read_bytes=0, write_bytes=4096, changes=())"
)
HEADER = "  wall     cpu  memory  pids  read  written  files  test"
LINE = "12.3ms  10.0ms    5.0M     2     0     4.0K      0  test_it.py::"


@pytest.fixture
def measured(project: Project) -> Project:
    project.fake_keeper(usage=USAGE)
    project.write(
        test_it="""
        import pytest
        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(12))
        def test_many(number): pass
        def test_plain(): pass
        """
    )
    return project


def test_it_shows_the_ten_heaviest_tests(measured: Project) -> None:
    result = measured.run()
    result.stdout.fnmatch_lines(["*the 10 heaviest of 12 isolated tests, by memory peak*", HEADER, f"{LINE}test_many*"])
    assert sum(line.startswith(LINE) for line in result.outlines) == 10
    result.stdout.no_fnmatch_line("*test_plain*")


def test_its_length_can_be_chosen(measured: Project) -> None:
    lines = measured.run("--isolate-usage=3").outlines
    assert sum(line.startswith(LINE) for line in lines) == 3


def test_it_can_be_left_out(measured: Project) -> None:
    measured.run("--isolate-usage=0").stdout.no_fnmatch_line("*heaviest*")


def test_the_ini_file_can_leave_it_out(measured: Project) -> None:
    measured.run("-oisolate_usage=0").stdout.no_fnmatch_line("*heaviest*")


@pytest.mark.parametrize(("arguments", "rows"), [(("-q",), 0), (("-q", "-v"), 10), (("-q", "--isolate-usage=3"), 3),
                                                 (("-q", "-oisolate_usage=2"), 2)])  # fmt: skip
def test_quiet_runs_have_one_only_if_it_is_asked_for(measured: Project, arguments: tuple[str, ...], rows: int) -> None:
    lines = measured.run(*arguments).outlines
    assert sum(line.startswith(LINE) for line in lines) == rows


def test_a_run_without_isolated_tests_has_none(measured: Project) -> None:
    measured.run("-k", "test_plain").stdout.no_re_match_line("isolate:|.*isolated tests")


def test_an_xdist_controller_shows_it(measured: Project) -> None:
    pytest.importorskip("xdist")
    measured.run("-n2").stdout.fnmatch_lines(["*the 10 heaviest of 12*", HEADER, f"{LINE}test_many*"])


def test_junit_xml_carries_the_figures_of_each_test(measured: Project) -> None:
    measured.run("--junitxml=junit.xml")
    text = (measured.path / "junit.xml").read_text()
    for name, value in {
        "wall_seconds": "0.0123", "cpu_seconds": "0.01", "memory_peak_bytes": "5242880", "pids_peak": "2",
        "read_bytes": "0",
        "write_bytes": "4096", "files_changed": "0",
    }.items():  # fmt: skip
        assert text.count(f'<property name="isolate_{name}" value="{value}" />') == 12
