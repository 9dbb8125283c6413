"""What a host's lacks mean for each capability."""

from __future__ import annotations

import pytest

from pytest_isolate.plan.degraded import Degraded
from pytest_isolate.plan.host import Host, Lack
from pytest_isolate.session.doctor import findings
from pytest_isolate.session.doctor.findings import Finding
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from pytest_isolate.spec.spec import Spec
from tests.support.hosts import HOST


class Sandboxes:
    """Lacks the keys that it is given, of every Spec that asks for them, or else of each."""

    def __init__(self, host: Host = HOST, *, always: tuple[str, ...] = (), asked: tuple[str, ...] = ()) -> None:
        self.host = host
        self._always = always
        self._asked = asked

    def missing(self, spec: Spec) -> list[UnsupportedError]:
        keys = [*self._always, *(key for key in self._asked if key in spec.asked)]
        return [UnsupportedError(key, f"cannot give {key}", f"Allow {key}.") for key in keys]

    def as_run(self, spec: Spec) -> Degraded:
        known = {"memory": "a weaker limit", "isolate": "Landlock"}
        return Degraded(stand_ins={error.key: known[error.key] for error in self.missing(spec) if error.key in known})


def states(found: list[Finding]) -> dict[str, str]:
    return {finding.key: finding.state for finding in found if finding.state != "works"}


def test_where_all_is_there_all_works() -> None:
    assert states(findings.examine(Sandboxes())) == {}


def test_a_capability_is_weaker_where_something_stands_in_and_names_it() -> None:
    found = findings.examine(Sandboxes(asked=("memory", "pids")))

    assert states(found) == {
        "memory": "weaker",
        "swap": "lacking",
        "pids": "lacking",
    }  # no cap on swap without memory's
    memory = next(finding for finding in found if finding.key == "memory")
    assert memory.stand_in == "a weaker limit"
    assert [(reason.why, reason.remedy) for reason in memory.reasons] == [("cannot give memory", "Allow memory.")]


def test_a_test_that_asks_for_another_network_says_nothing_of_the_plain_one() -> None:
    assert states(findings.examine(Sandboxes(asked=("network",)))) == {"bridge": "lacking", "nat": "lacking"}


def test_without_a_sandbox_there_is_nothing_that_needs_one_but_limits_hold() -> None:
    found = findings.examine(Sandboxes(HOST._replace(overlay=False), always=("isolate",)))

    assert states(found) == {
        "sandbox": "weaker",
        **dict.fromkeys(("overlay", "disk", "network", "bridge", "nat", "hostname"), "lacking"),
    }
    assert {reason for finding in found for reason in finding.reasons} == {
        findings.Reason("cannot give isolate", "Allow isolate.")
    }


def test_a_tree_that_is_shown_read_only_is_noted() -> None:
    lack = Lack(what="tree", step="mount overlay", target="/mnt/odd")

    overlay = findings.examine(Sandboxes(HOST._replace(lacks=(lack,))))[1]

    assert (overlay.key, overlay.state) == ("overlay", "works")
    assert "/mnt/odd" in overlay.note


def test_one_capability_that_cannot_be_tried_leaves_the_others() -> None:
    class WithoutBroker(Sandboxes):
        def missing(self, spec: Spec) -> list[UnsupportedError]:
            if spec.bridge is not None:
                raise SetupError("start the broker", "", 13, "Let it be run.")
            return []

    assert states(findings.examine(WithoutBroker())) == {"bridge": "lacking"}


def test_the_last_try_asks_for_all_that_works() -> None:
    spec = findings.everything(findings.examine(Sandboxes(asked=("memory",))))

    assert spec.asked == {"disk", "cpus", "cpuset", "pids", "io"}
    assert spec.network == "none"


@pytest.mark.parametrize("error", [UnsupportedError("isolate", "no C core", "Install."), SetupError("start", "", 0)])
def test_without_a_keeper_all_is_lacking(error: UnsupportedError | SetupError) -> None:
    found = findings.find_none(error)

    assert {finding.state for finding in found} == {"lacking"}
    assert {reason.why for finding in found for reason in finding.reasons} == {error.reason}
