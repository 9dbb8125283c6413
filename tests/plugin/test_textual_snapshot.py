"""The report of pytest-textual-snapshot has what tests write for it.

The plugin wants an old pytest and an old syrupy, so here is what it does instead of itself.
"""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_tests_write_for_the_report_is_there_at_its_end(project: Any, jobs: int) -> None:
    project.pytester.makeconftest(
        """
        import os, pathlib, shutil, tempfile
        import pytest

        def pytest_sessionstart():
            os.environ["TEXTUAL_SNAPSHOT_TEMPDIR"] = tempfile.mkdtemp()

        @pytest.fixture
        def snap_compare(request):
            folder = pathlib.Path(os.environ["TEXTUAL_SNAPSHOT_TEMPDIR"])
            return (folder / request.node.name).write_bytes

        def pytest_sessionfinish():
            folder = os.environ["TEXTUAL_SNAPSHOT_TEMPDIR"]
            print("\\nshown:", *sorted(os.listdir(folder)))
            shutil.rmtree(folder)
        """
    )
    project.pytester.makepyfile(
        """
        import os, pathlib

        def test_one(snap_compare): snap_compare(b"1")
        def test_two(snap_compare): snap_compare(b"2")
        def test_other():
            pathlib.Path(os.environ["TEXTUAL_SNAPSHOT_TEMPDIR"], "other").touch()
        """
    )

    result = project.run("--isolate-all", f"--isolate-jobs={jobs}")

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["shown: test_one test_two"])
