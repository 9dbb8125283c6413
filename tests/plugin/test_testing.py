"""The fixture ``isolated``: a test can assert that it is where it believes to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.needs("sandbox")


@pytest.mark.needs("memory", "pids")
def test_a_test_sees_its_limits_what_is_in_force_and_what_it_has_used(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.mark.isolate(memory="200M", pids=50)
        def test_it(isolated):
            assert isolated
            assert isolated.limits.memory == 200 << 20
            assert isolated.spec.hostname == "isolated"
            in_force = {key: isolated.in_force(key) for key in ("isolate", "memory", "pids", "network", "cpus", "io")}
            assert in_force == {
                "isolate": True, "memory": True, "pids": True, "network": True, "cpus": False, "io": False
            }
            before = isolated.usage()
            kept = bytearray(30 << 20)
            after = isolated.usage()
            assert after.memory_peak_bytes - before.memory_peak_bytes > 20 << 20
            assert 0 < before.cpu_seconds <= after.cpu_seconds
            assert before.wall_seconds < after.wall_seconds
            with pytest.raises(ValueError, match="there is no key 'memroy'.*Did you mean memory"):
                isolated.in_force("memroy")
        def test_many_answers(isolated):
            assert len([isolated.usage() for _ in range(300)]) == 300
        """
    )
    project.isolated().assert_outcomes(passed=2)


@pytest.mark.parametrize("options", [(), ("--isolate-all", "--isolate-off")])
def test_a_test_outside_of_any_sandbox_is_told_so(project: Project, options: tuple[str, ...]) -> None:
    project.write(
        test_it="""
        import pytest
        def test_it(isolated):
            assert not isolated
            assert not isolated.in_force("isolate") and not isolated.in_force("network")
            assert isolated.limits.memory is None
            with pytest.raises(RuntimeError, match="pytest's own process"): isolated.usage()
        """
    )
    project.run(*options).assert_outcomes(passed=1)
