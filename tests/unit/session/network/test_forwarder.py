"""The forwarder's copying, between sockets of this process: what a server and its client see through it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pytest_isolate.sandbox.helper_process import HelperProcess
from pytest_isolate.session.network import forwarder

MANY = 300
LARGE = 8 << 20
LOOPBACK = "127.0.0.1"


class Through:
    """A forwarder and one stand-in for a sandbox, in whose stack it listens."""

    def __init__(self, files: int | None = None) -> None:
        self.process = HelperProcess.of_module("forwarder", forwarder.__name__)
        self.pid = self.process.pid
        if files:
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (files, files))
        self.sandbox = subprocess.Popen(["sleep", "600"])

    def open(self, *targets: tuple[str, int]) -> tuple[str, int]:
        """Where one listens that leads to ``targets``."""
        with socket.create_server((LOOPBACK, 0), backlog=MANY) as listener, closing_fd(self.sandbox.pid) as pidfd:
            self.process.send(json.dumps([targets]).encode(), [pidfd, listener.fileno()])
            return LOOPBACK, listener.getsockname()[1]

    def end_sandbox(self) -> None:
        self.sandbox.kill()
        self.sandbox.wait()

    def close(self) -> None:
        self.end_sandbox()
        self.process.close()


class closing_fd:  # noqa: N801 - as contextlib.closing
    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


@pytest.fixture
def through() -> Iterator[Through]:
    with closing(Through()) as made:
        yield made


def serving(answer: Callable[[socket.socket], None], host: str = LOOPBACK) -> tuple[str, int]:
    """A server that gives each connection to ``answer``, until the tests end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=MANY)

    def serve() -> None:
        while True:
            sock, _ = listener.accept()

            def handle(sock: socket.socket = sock) -> None:
                with sock, suppress(OSError):
                    answer(sock)

            threading.Thread(target=handle, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return host, listener.getsockname()[1]


def all_of(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def echo(sock: socket.socket) -> None:
    while piece := sock.recv(1 << 16):
        sock.sendall(piece)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_what_is_sent_before_a_half_close_is_answered_after_it(through: Through) -> None:
    address = serving(lambda sock: sock.sendall(b"heard " + all_of(sock)))
    with socket.create_connection(through.open(address)) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert all_of(client) == b"heard all of it"


def test_a_server_that_half_closes_first_still_hears_its_client(through: Through) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def answer(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        heard.append(all_of(sock))
        done.set()

    with socket.create_connection(through.open(serving(answer))) as client:
        assert all_of(client) == b"bye"
        client.sendall(b"one more thing")
    assert done.wait(30)
    assert heard == [b"one more thing"]


def test_large_transfers_in_both_directions_at_once_arrive_whole(through: Through) -> None:
    """Neither side reads before it has written all: more is under way than any buffer holds."""
    data = os.urandom(LARGE)

    with socket.create_connection(through.open(serving(echo))) as client:

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = all_of(client)
        sender.join()
    assert received == data


def test_a_reader_that_waits_holds_its_sender_up_instead_of_filling_memory(through: Through) -> None:
    sent: list[int] = []
    stuck = threading.Event()

    def answer(sock: socket.socket) -> None:
        sock.settimeout(0.5)
        with suppress(TimeoutError):
            while True:
                sent.append(sock.send(bytes(1 << 20)))
        stuck.set()
        sock.settimeout(None)
        sock.recv(1)

    with socket.create_connection(through.open(serving(answer))) as client:
        assert stuck.wait(60)
        client.sendall(b".")
        assert len(all_of(client)) == sum(sent)


def test_many_connections_at_once_do_not_get_mixed_up(through: Through) -> None:
    address = through.open(serving(echo))
    clients = [socket.create_connection(address) for _ in range(MANY)]
    for number, client in enumerate(clients):
        client.sendall(struct.pack("I", number))
    for number, client in enumerate(clients):
        assert struct.unpack("I", client.recv(4)) == (number,)
        client.close()


def test_with_too_few_descriptors_connections_wait_for_their_turn() -> None:
    with closing(Through(files=40)) as through:
        address = through.open(serving(echo))
        clients = [socket.create_connection(address) for _ in range(60)]
        for number, client in enumerate(clients):
            client.sendall(struct.pack("I", number))
            assert struct.unpack("I", client.recv(4)) == (number,)
            client.close()


def test_a_server_that_breaks_the_connection_breaks_the_clients(through: Through) -> None:
    def answer(sock: socket.socket) -> None:
        sock.recv(1)
        reset(sock)

    with socket.create_connection(through.open(serving(answer))) as client:
        client.sendall(b".")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_client_that_breaks_the_connection_breaks_the_servers(through: Through) -> None:
    seen: list[str] = []
    done = threading.Event()

    def answer(sock: socket.socket) -> None:
        sock.sendall(b".")
        try:
            sock.recv(1)
        except OSError as error:
            seen.append(type(error).__name__)
        done.set()

    client = socket.create_connection(through.open(serving(answer)))
    client.recv(1)
    reset(client)
    assert done.wait(30)
    assert seen == ["ConnectionResetError"]


def test_where_nobody_listens_the_connection_breaks_and_others_go_on(through: Through) -> None:
    with socket.create_server((LOOPBACK, 0)) as closed:
        nobody = closed.getsockname()
    with socket.create_connection(through.open(nobody)) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(through.open(serving(echo))) as client:
        client.sendall(b".")
        assert client.recv(1) == b"."


def test_the_second_address_is_tried_where_the_first_does_not_answer(through: Through) -> None:
    host, port = serving(echo)
    with socket.create_connection(through.open(("::1", port), (host, port))) as client:
        client.sendall(b".")
        assert client.recv(1) == b"."


def test_what_a_sandbox_sent_before_it_ended_arrives_and_nothing_of_it_stays_open(through: Through) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def answer(sock: socket.socket) -> None:
        heard.append(all_of(sock))
        done.wait(60)  # says nothing, and does not close

    address = through.open(serving(answer))
    with socket.create_connection(address) as client:
        client.sendall(b"last words")
        os.kill(through.pid, signal.SIGSTOP)  # so that it finds all of this at once
        waiting = socket.create_connection(address)  # accepted by nobody yet
        waiting.sendall(b"last words")
        waiting.close()
    through.end_sandbox()
    os.kill(through.pid, signal.SIGCONT)
    patience = time.monotonic() + 30
    while len(heard) < 2 or len(os.listdir(f"/proc/{through.pid}/fd")) > 8:
        assert time.monotonic() < patience
        time.sleep(0.01)
    done.set()
    assert heard == [b"last words"] * 2
    with suppress(ConnectionRefusedError):
        while True:
            socket.create_connection(address).close()


def test_it_ends_when_pytest_does_though_another_process_has_its_control_socket() -> None:
    code = """
import os, sys, signal
sys.path[:] = eval(sys.argv[2])
from pytest_isolate.sandbox.helper_process import HelperProcess
process = HelperProcess.of_module("forwarder", sys.argv[1])
if os.fork() == 0:
    os.close(1)
    signal.pause()  # with a copy of the socket
print(process.pid, os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    program = [sys.executable, "-c", code, forwarder.__name__, repr(sys.path)]
    output = subprocess.run(program, stdout=subprocess.PIPE, check=False, start_new_session=True, timeout=60).stdout
    forwarder_pid, session = map(int, output.split())
    with suppress(FileNotFoundError):
        while "forwarder" in Path(f"/proc/{forwarder_pid}/cmdline").read_text():
            time.sleep(0.01)
    os.killpg(session, signal.SIGKILL)
