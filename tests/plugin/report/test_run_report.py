"""``--isolate-report``: who writes it, what of a sandbox is in it."""

from __future__ import annotations

import json

import pytest

from tests.support.options import Options
from tests.support.project import Project


@pytest.mark.needs("sandbox")
def test_a_controller_of_xdist_writes_what_its_workers_saw(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write(
        test_it="""
        import os, pytest

        def test_passes(tmp_path):
            (tmp_path / "file").write_text("")
            open("/var/tmp/isolate-report", "w").close()

        @pytest.mark.isolate(timeout=2)
        def test_takes_too_long():
            print("on its way")
            import time; time.sleep(60)

        @pytest.mark.no_isolate
        def test_plain(): pass
        """,
        test_broken="import nowhere",
    )

    result = project.isolated(
        "-n2", "-p", "xdist", "--isolate-report=new/run.json", "--isolate-report=new/run.html",
        "--continue-on-collection-errors",
    )  # fmt: skip

    result.stdout.fnmatch_lines(
        ["isolate: report written to *new/run.json", "isolate: report written to *new/run.html"]
    )
    found = json.loads((project.path / "new" / "run.json").read_text())
    tests = {test["id"].rpartition("::")[2]: test for test in found["tests"]}
    assert found["totals"] == {"failed": 1, "error": 0, "xpassed": 0, "xfailed": 0, "skipped": 0, "passed": 2}
    assert [each["id"] for each in found["not_collected"]] == ["test_broken.py"]
    assert {test["worker"] for test in tests.values()} <= {"gw0", "gw1"}
    assert tests["test_plain"]["sandbox"] is None
    assert tests["test_passes"]["sandbox"]["changes"] == ["A /var/tmp/isolate-report"]
    slow = tests["test_takes_too_long"]
    assert slow["sandbox"]["failure"] == "exceeded timeout=2 s"
    assert slow["sandbox"]["limits"]["timeout"] == 2
    assert slow["output"] == {"Captured stdout call": "on its way\n"}
    assert "exceeded timeout=2 s" in slow["text"]
    assert slow["started"] + slow["seconds"] <= found["run"]["seconds"]
    assert "1 failed, 2 passed</title>" in (project.path / "new" / "run.html").read_text()


def test_a_report_that_cannot_be_written_is_told_and_fails_no_test(project: Project) -> None:
    project.write(test_it="def test_it(): pass", file="")

    result = project.run("--isolate-report=file.py/run.html")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["isolate: cannot write the report *file.py/run.html: *"])


def test_other_kinds_of_files_are_a_usage_error(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.mkdir("folder.html")
    for name in ("run.xml", "folder.html"):
        (error,) = options.errors(f"--isolate-report={name}")
        assert error.startswith("command line: --isolate-report: ")
        assert error.endswith(f"{name}: allowed is a file whose name ends in .html or .json.")
    assert options.errors("-oisolate_report=run")[0].startswith("command line: -o isolate_report: ")
