"""What getaddrinfo(3) finds in a network of the sandbox's own, which has only loopback."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox", "netns")

LOOK = """
    import socket

    def look(name, family, flags):
        try:
            found = socket.getaddrinfo(name, 1, family, socket.SOCK_STREAM, 0, flags)
        except OSError as error:
            return type(error).__name__, error.errno
        return [address[:1] for *_, address in found]

    def test_it(record_property):
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC):
            for name in ("127.0.0.1", "::1"):
                record_property(f"{name} {family.name}", look(name, family, socket.AI_ADDRCONFIG))
        record_property("localhost", look("localhost", socket.AF_INET, socket.AI_ADDRCONFIG))
"""


@pytest.mark.parametrize(
    "options", [[], ["--isolate-session", "--isolate-session-writable=."]], ids=["test", "session"]
)
def test_with_ai_addrconfig_it_finds_on_loopback_what_it_finds_outside(project: Project, options: list[str]) -> None:
    """glibc counts other addresses than 127.0.0.1 and ::1 alone, and where there is none of a family, finds nothing."""
    project.write(test_it=LOOK)
    plain, isolated = (
        [record["properties"] for record in project.records(*given) if record["when"] == "call"]
        for given in ([], ["--isolate-all", *options])
    )
    assert [own for own in isolated[0] if not own[0].startswith("isolate_")] == plain[0]
