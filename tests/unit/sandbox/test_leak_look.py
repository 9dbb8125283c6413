"""What is still there, as a process sees it itself: here this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.sandbox.leak_look import watched
from pytest_isolate.spec.spec import Spec


def left_by(body: Callable[[], object]) -> list[tuple[str, str, str]]:
    class Line:
        sent: list[tuple[str, str, str]]
        spec = Spec.of(network="host")  # an audit hook would stay

        def send(self, _frame: int, content: list[str]) -> None:
            kind, name, detail = content
            self.sent.append((kind, name, detail))

    line: Any = Line()
    line.sent = []
    watched(lambda _: body())(line)  # type: ignore[arg-type]  # what it returns is nobody's affair
    return line.sent  # type: ignore[no-any-return]


@pytest.fixture
def shared_memory() -> Iterator[str]:
    path = f"/dev/shm/isolate-leak-{os.getpid()}"
    yield path
    with suppress(FileNotFoundError):
        os.unlink(path)


def test_a_port_is_left_by_the_process_that_has_it(request: pytest.FixtureRequest) -> None:
    def body() -> None:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = socket.socket(family)
            request.addfinalizer(server.close)
            server.bind((address, 0))
            server.listen()
            ports.append(server.getsockname()[1])

    ports: list[int] = []

    found = left_by(body)
    assert ("port", f"127.0.0.1:{ports[0]}", "of the test itself") in found
    assert ("port", f"[::1]:{ports[1]}", "of the test itself") in found


def test_a_port_of_another_process_names_that(request: pytest.FixtureRequest) -> None:
    def body() -> None:
        listen = "import socket, time; s = socket.create_server(('', 0)); print(s.getsockname()[1], flush=True)"
        process = subprocess.Popen([sys.executable, "-c", f"{listen}; time.sleep(60)"], stdout=subprocess.PIPE)
        request.addfinalizer(process.communicate)
        request.addfinalizer(process.kill)
        assert process.stdout is not None
        ports.append(int(process.stdout.readline()))

    ports: list[int] = []

    # Other programs of this machine come and go meanwhile.
    ((kind, _, holder),) = (leak for leak in left_by(body) if leak[1] == f"0.0.0.0:{ports[0]}")
    assert kind == "port"
    assert "python" in holder


def test_a_thread_is_left_unless_it_is_about_to_end(request: pytest.FixtureRequest) -> None:
    stop = threading.Event()
    request.addfinalizer(stop.set)

    def body() -> None:
        threading.Thread(target=stop.wait, name="stays", daemon=True).start()
        threading.Thread(target=time.sleep, args=(0.03,), name="ends").start()

    assert [leak for leak in left_by(body) if leak[1] in ("stays", "ends")] == [("thread", "stays", "daemon")]


def test_shared_memory_is_left(shared_memory: str) -> None:
    assert ("ipc", shared_memory, "") in left_by(lambda: open(shared_memory, "w").close())


def test_what_was_there_before_is_nobodys_leak(shared_memory: str) -> None:
    with socket.create_server(("127.0.0.1", 0)), open(shared_memory, "w"):
        found = left_by(lambda: None)
        assert not [leak for leak in found if leak[2] == "of the test itself" or leak[1] == shared_memory]
