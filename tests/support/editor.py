"""An editor that debugs: it speaks the Debug Adapter Protocol with debugpy, as VS Code does."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

_PATIENCE = 60.0


class Stop(NamedTuple):
    """Where a process stopped."""

    process: str  #: "pytest", or "child" for each that the debugger has told of
    function: str
    line: int


class Editor:
    """Debugs a program that waits for it at ``port``, and all processes that come of it, to their ends."""

    def __init__(self, port: int, file: Path, lines: list[int]) -> None:
        """:param lines: of ``file``, that have breakpoints."""
        self._port, self._file, self._lines = port, str(file), lines
        self._children: list[threading.Thread] = []
        self.stops: list[Stop] = []

    def debug(self) -> list[Stop]:
        """Go on at each breakpoint, and tell them."""
        self._session("pytest")
        for each in self._children:
            each.join(_PATIENCE)
        return self.stops

    def _session(self, process: str, **attach: Any) -> None:
        with closing(_Connection(self._port)) as adapter:
            adapter.ask("initialize", adapterID="debugpy", pathFormat="path", linesStartAt1=True)
            adapter.send("attach", justMyCode=False, subProcess=True, **attach)
            for event, body in adapter.events():
                if event == "initialized":
                    points = [{"line": line} for line in self._lines]
                    adapter.ask("setBreakpoints", source={"path": self._file}, breakpoints=points)
                    adapter.send("configurationDone")
                elif event == "stopped":
                    frame = adapter.ask("stackTrace", threadId=body["threadId"])["stackFrames"][0]
                    self.stops.append(Stop(process, frame["name"], frame["line"]))
                    adapter.send("continue", threadId=body["threadId"])
                elif event == "debugpyAttach":
                    child = {"subProcessId": body["subProcessId"]}
                    self._children.append(threading.Thread(target=self._session, args=("child",), kwargs=child))
                    self._children[-1].start()
                elif event == "terminated":
                    return


class _Connection:
    """Messages of the protocol, both ways."""

    def __init__(self, port: int) -> None:
        self._socket = _connect(port)
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._answers: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._asked = 0
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def send(self, command: str, **arguments: Any) -> int:
        self._asked += 1
        message = {"seq": self._asked, "type": "request", "command": command, "arguments": arguments}
        data = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        return self._asked

    def ask(self, command: str, **arguments: Any) -> Any:
        number = self.send(command, **arguments)
        while True:
            answered, body = self._answers.get(timeout=_PATIENCE)
            if answered == number:
                return body

    def events(self) -> Any:
        while True:
            yield self._events.get(timeout=_PATIENCE)

    def _read(self) -> None:
        with self._socket.makefile("rb") as file:
            while headers := file.readline():
                file.readline()
                message = json.loads(file.read(int(headers.split(b":")[1])))
                if message["type"] == "event":
                    self._events.put((message["event"], message.get("body")))
                elif message["type"] == "response":
                    self._answers.put((message["request_seq"], message.get("body")))
        self._events.put(("terminated", None))


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody debugs at port {port}"
            time.sleep(0.05)
