"""pytest-mock and pytest-subprocess: they patch inside and no further."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-mock", "pytest-subprocess")
def test_pytest_mock_and_pytest_subprocess_patch_inside(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_mock", "pytest_subprocess.fixtures")
    neighbours.project.write(
        test_it="""
        import os, subprocess

        def test_mocked(mocker):
            mocker.patch("os.getcwd", return_value="elsewhere")
            assert os.getcwd() == "elsewhere"
        def test_mocked_no_more(): assert os.getcwd() != "elsewhere"
        def test_fake(fp):
            fp.register(["no-such-program"], stdout="faked")
            assert subprocess.check_output(["no-such-program"]) == b"faked"
        def test_real(): assert subprocess.check_output(["echo", "real"]) == b"real\\n"
        def test_called(mocker): mocker.patch("os.getcwd").assert_called_once_with(1)
        """
    )
    assert "1 failed, 4 passed" in neighbours.same()
