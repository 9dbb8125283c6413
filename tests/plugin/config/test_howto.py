"""What docs/howto.md says beside what it shows: :mod:`tests.plugin.test_documents` follows that."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

from tests.support.documents import REPOSITORY, blocks
from tests.support.project import Project

PAGE = REPOSITORY / "docs/howto.md"

pytestmark = pytest.mark.needs("sandbox", "memory")


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server on an address of this machine that no sandbox reaches."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline())

    with socketserver.TCPServer(("127.0.0.9", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield str(server.server_address[0]), int(server.server_address[1])
        server.shutdown()


def test_one_host_is_reached_through_a_fixture_and_properties_are_those_of_the_page(
    project: Project, echo: tuple[str, int]
) -> None:
    for block in blocks(PAGE, "python"):
        if block.section == "My test may reach one host, and no other":
            (project.path / block.title).write_text(block.text.replace('("db.example.com", 5432)', repr(echo)))
    project.write(test_direct=f"import socket\ndef test_direct():\n    socket.create_connection({echo}, timeout=5)")

    result = project.isolated("--junitxml=run.xml", "--isolate-leaks=report")

    result.assert_outcomes(passed=1, failed=1)
    names = {str(tag.get("name")) for tag in ET.parse(project.path / "run.xml").iter("property")}
    documented = set(re.findall(r"`(isolate_\w+)`", PAGE.read_text()))
    assert names <= documented
    assert {"isolate_wall_seconds", "isolate_memory_peak_bytes"} <= names
