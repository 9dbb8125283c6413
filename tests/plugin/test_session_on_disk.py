"""``--isolate-session`` where writable layers are on disk, as a user's are before Linux 6.6."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.traces import NOTHING, settled

pytestmark = [
    pytest.mark.needs("sandbox"),
    pytest.mark.skipif(os.geteuid() == 0, reason="every tmpfs can hold those of root"),
]

ON_DISK = """
    from pytest_isolate.sandbox.probe import probe as module
    from pytest_isolate.session import sandbox_pool, session_sandbox

    def on_disk(*arguments, real=module.probe, **keywords):
        return real(*arguments, **keywords)._replace(scratch=module._usual_scratch()[0])

    sandbox_pool.probe = session_sandbox.probe = on_disk
"""


def test_tests_have_their_layers_on_disk_too_above_those_of_the_session(project: Any) -> None:
    project.pytester.makepyfile(
        plugin_on_disk=ON_DISK,
        test_it="""
        import os, pathlib, shutil
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def wide(tmp_path_factory):
            folder = tmp_path_factory.mktemp("wide")
            (folder / "file").write_text("of the fixture")
            return folder

        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(3))
        def test_sees_what_fixtures_wrote_and_changes_it_for_itself(wide, number):
            assert (wide / "file").read_text() == "of the fixture"
            shutil.rmtree(wide)
            wide.mkdir()  # opaque: what it covers must not come back
            assert os.listdir(wide) == []

        def test_changes_stay_inside(wide):
            assert (wide / "file").read_text() == "of the fixture"
        """,
    )

    result = project.run("-p", "plugin_on_disk", "--isolate-session")

    result.assert_outcomes(passed=4)
    assert settled() == NOTHING
