"""What a test may not do whoever runs it: the sets of capabilities, new privileges and system calls that are left."""

from __future__ import annotations

import os

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

TESTS = """
    import os
    import subprocess
    import pytest

    # By number, as linux/capability.h has them: what acts on the machine, of which a sandbox has no part of its own.
    THE_MACHINES = {
        "LINUX_IMMUTABLE": 9, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PACCT": 20, "SYS_BOOT": 22, "SYS_TIME": 25,
        "SYS_TTY_CONFIG": 26, "LEASE": 28, "AUDIT_CONTROL": 30, "MAC_OVERRIDE": 32, "MAC_ADMIN": 33, "SYSLOG": 34,
        "WAKE_ALARM": 35, "BLOCK_SUSPEND": 36, "AUDIT_READ": 37, "PERFMON": 38, "BPF": 39, "CHECKPOINT_RESTORE": 40,
    }

    def status(text):
        return dict(line.split(":\\t", 1) for line in text.splitlines() if ":\\t" in line)

    def here():
        with open("/proc/self/status") as file:
            return status(file.read())

    def after_exec():  # what a program gets, which for root is what the bounding set allows
        return status(subprocess.check_output(["cat", "/proc/self/status"], text=True))

    def held(found, name):
        mask = int(found[name], 16)
        return {name for name, number in THE_MACHINES.items() if mask >> number & 1}

    @pytest.mark.parametrize("look", [here, after_exec])
    @pytest.mark.parametrize("name", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    def test_no_capability_over_the_machine(look, name):
        assert held(look(), name) == set()

    @pytest.mark.parametrize("look", [here, after_exec])
    @pytest.mark.parametrize("name", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    @pytest.mark.isolate(user="root")
    def test_nor_for_root_inside(look, name):
        assert held(look(), name) == set()

    @pytest.mark.parametrize("look", [here, after_exec])
    def test_nothing_is_left_to_a_user(look):
        found = look()
        if os.getuid():
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(found[name], 16) == 0, name

    @pytest.mark.parametrize("look", [here, after_exec])
    def test_no_new_privileges_and_a_filter_of_system_calls(look):
        assert (look()["NoNewPrivs"], look()["Seccomp"]) == ("1", "2")
"""


def test_a_test_has_no_rights_over_the_machine_and_gains_none(project: Project) -> None:
    project.write(test_it=TESTS)

    project.isolated().assert_outcomes(passed=24)


def test_what_a_plain_run_has_is_what_the_sandbox_takes_away(project: Project) -> None:
    """Else the test above would see nothing."""
    if os.geteuid() != 0:
        pytest.skip("a user has nothing to lose")
    project.write(test_it=TESTS)

    assert project.run().parseoutcomes()["failed"] >= 2


@pytest.mark.needs("real_root")
def test_pytest_that_has_given_up_its_rights_is_told_as_the_reason(project: Project) -> None:
    project.write(
        test_it="""
        import os
        import pytest
        @pytest.fixture(scope="module")
        def nobody():
            os.seteuid(65534)
            yield
            os.seteuid(0)
        def test_it(nobody): pass
        """
    )

    result = project.isolated()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["sandbox: cannot join *EPERM*effective user of * is 65534, its real one 0*"])
