"""Servers that tell their names, of a session and beside it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: A server that tells its name to whoever connects, in this process, a child of it, or one that has left the tree.
SERVERS = """
import contextlib, os, socket, subprocess, sys, threading

class Server:
    def __init__(self, name, host="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, args=(name.encode(),), daemon=True).start()

    def serve(self, name):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                with sock:
                    sock.sendall(name)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

def main(name):
    server = Server(name)
    print(server.port, flush=True)
    sys.stdin.read()

def child(name, *, leave=False):
    # With leave, as a daemon does: the process that was started forks, and ends; its child has another parent then.
    fork = "os.fork() and os._exit(0); os.setsid(); " if leave else ""
    code = f"import os, servers; {fork}servers.main({name!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.port = int(process.stdout.readline())
    return process

def heard(port, host="127.0.0.1"):
    with socket.create_connection((host, port), timeout=20) as sock:
        return sock.recv(100).decode()

def refused(port, host="127.0.0.1"):
    try:
        heard(port, host)
    except ConnectionRefusedError:
        return True
    return False
"""


@contextmanager
def on_the_host() -> Iterator[int]:
    """A server that is no part of the session that is tested; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.sendall(b"the host")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
