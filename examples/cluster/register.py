"""A register kept by several nodes, each at port 7000 of its own: it holds as long as most of them reach each other.

    python register.py NAME NAME NAME     the names of all nodes; this one's is its host name

A request is one line of JSON, and so is the answer: ["write", value] -> true, ["read"] -> value, or null where too few
nodes could be asked. Between nodes: ["store", version, value] and ["load"].
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

PORT = 7000
PATIENCE = 0.3  # seconds for a peer to answer


class Register:
    def __init__(self, own, names):
        self.peers = [name for name in names if name != own]
        self.enough = len(names) // 2 + 1
        self.version, self.value = 0, None

    def answer(self, request):
        match request:
            case ["load"]:
                return [self.version, self.value]
            case ["store", version, value]:
                if version > self.version:
                    self.version, self.value = version, value
                return True
            case ["write", value]:
                known = self.of_all(["load"], [self.version, self.value])
                if len(known) < self.enough:
                    return None
                version = max(version for version, _ in known) + 1
                stored = self.of_all(["store", version, value], self.answer(["store", version, value]))
                return True if len(stored) >= self.enough else None
            case ["read"]:
                known = self.of_all(["load"], [self.version, self.value])
                return max(known)[1] if len(known) >= self.enough else None

    def of_all(self, request, own):
        with ThreadPoolExecutor() as pool:
            answers = pool.map(lambda peer: tried(peer, request), self.peers)
        return [own, *(answer for answer in answers if answer is not None)]


def ask(host, request, patience=5):
    with socket.create_connection((host, PORT), timeout=patience) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def tried(host, request):
    try:
        return ask(host, request, PATIENCE)
    except OSError:
        return None


def main(names):
    register = Register(socket.gethostname(), names)
    server = socket.create_server(("", PORT))
    print("ready", flush=True)

    def serve(connection):
        with connection, connection.makefile("rw") as file:
            file.write(json.dumps(register.answer(json.loads(file.readline()))) + "\n")

    while True:
        threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
