"""One node of a network: a sandbox in which any number of programs and functions can be run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_isolate.linux.calls import calls
from pytest_isolate.sandbox.outcome import Usage
from pytest_isolate.session import launched
from pytest_isolate.session.held import Held
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.session.network.bridges import Place
from pytest_isolate.spec.errors import IsolateError, SetupError, UnsupportedError

_PATIENCE = 5.0  # seconds, for what has been killed to be gone
_OUTSIDE = ("preexec_fn", "executable", "user", "group", "extra_groups")  #: options of Popen that act on the host


class NodeError(IsolateError):
    """What was run in a node did not come to its end. :param node: its name. :param problem: what became of it."""

    def __init__(self, node: str, problem: str) -> None:
        super().__init__(node, problem)
        self.node = node
        self.problem = problem

    def __str__(self) -> str:
        return f"node {self.node}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUsage(Usage):
    """What a node has used so far; traffic is all that its interface has seen, lookups of neighbours included."""

    bytes_in: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    packets_out: int = 0


class Node:
    """One sandbox of a network, with a name and addresses, in which any number of things can be run.

    Made by :meth:`Network.node`. The file system is copy-on-write and shared by all that runs in the node.
    """

    def __init__(self, held: Held, keeper: Keeper) -> None:
        assert held.place is not None
        self.name = held.place.name  #: its host name, by which the others find it
        self.ip = held.place.address.ip  #: its IPv4 address
        self.ip6 = held.place.address.ip6  #: its IPv6 address; "" where the kernel has none
        self._held, self._keeper = held, keeper
        self._pid = calls.getpid()
        self._processes: list[subprocess.Popen[Any]] = []
        self._started = calls.monotonic()
        self._frozen = False
        self.alive = True  #: neither stopped nor killed by the methods of that name

    @property
    def place(self) -> Place:
        """Where it is connected."""
        assert self._held.place is not None
        return self._held.place

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.ip}>"

    def run(self, what: Sequence[str] | Callable[..., object], *args: object, **options: Any) -> Any:
        """Run a program or a function in the node and wait for its end.

        ``run(["program", "argument"], ...)`` takes the options of :func:`subprocess.run` and gives its
        :class:`subprocess.CompletedProcess`. ``run(function, *args)`` calls it in a fork of this process: its value,
        which must be plain data (what JSON can hold), is returned; what it changes in memory is gone afterwards.

        :raises NodeError: the function raised, or died. :raises OSError: the program could not be started.
        :raises SetupError: the node can't be entered, for example as it was killed.
        """
        if callable(what):
            return self._call(what, args, options)
        if args:
            raise TypeError("a program's arguments stand in one list: node.run(['program', 'argument'])")
        return self._run(what, **options)

    def popen(self, command: Sequence[str] | str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program in the node.

        :param options: as of :class:`subprocess.Popen`, ``cwd`` being a folder of the node. What acts on the host
            (``preexec_fn``, ``user``) is refused.
        :raises OSError: the program could not be started. :raises SetupError: the node can't be entered.
        """
        held = self._entered()
        if wrong := [name for name in _OUTSIDE if options.get(name) is not None]:
            raise TypeError(f"{wrong[0]} would act outside of the node; leave it out")
        words = ["/bin/sh", "-c", str(command)] if options.pop("shell", False) else _words(command)
        cwd = os.path.join(calls.getcwd(), os.fspath(options.pop("cwd", None) or ""))
        options["env"] = self._environment(options.get("env"))
        process = launched.start(self._keeper, held, words, cwd=cwd, name=self.name, **options)
        process.args = command
        self._processes.append(process)
        return process

    def usage(self) -> NodeUsage:
        """What all that ran in the node has used so far. A figure that the kernel does not give is None.

        :raises SetupError: the node has ended.
        """
        held = self.held()
        assert held.bridges is not None
        assert held.place is not None
        figures = held.figures()
        return NodeUsage(
            wall_seconds=calls.monotonic() - self._started,
            cpu_seconds=figures.cpu_seconds,
            memory_peak_bytes=figures.memory_peak_bytes,
            pids_peak=figures.pids_peak,
            read_bytes=figures.read_bytes,
            write_bytes=figures.write_bytes,
            **held.bridges.traffic(held.place),  # type: ignore[arg-type] # whose values are all int
        )

    def freeze(self) -> None:
        """Stop all that runs in the node where it is, as if its machine stood still; the kernel goes on taking packets.

        :raises UnsupportedError: there is no control group that could.
        """
        if not self.held().freeze():
            reason = "there is no control group with a freezer"
            raise UnsupportedError(
                "freeze",
                reason,
                "Run pytest as root, or with a delegated cgroup; see `python -m pytest_isolate docs hosts`.",
            )
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self._frozen = False
        self.held().thaw()

    def stop(self, patience: float = 5.0) -> None:
        """Ask all processes of the node to end (SIGTERM), and kill what is left after ``patience`` seconds."""
        held = self.held()
        self.thaw()
        for pid in held.processes():
            with contextlib.suppress(ProcessLookupError):
                calls.kill(pid, signal.SIGTERM)
        deadline = calls.monotonic() + patience
        while held.processes() and calls.monotonic() < deadline:
            calls.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """End the node: all its processes die at once, and its files are gone. Harmless if it has ended."""
        if self.alive and calls.getpid() == self._pid:
            self.alive = False
            self._held.thaw()  # on v1 a frozen process cannot die
            self._keeper.sandboxes.release(self._held)
            for process in self._processes:  # else each would be complained of as still running
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE)

    def close(self) -> None:
        """As :meth:`kill`, and close the pipes to all programs that were started."""
        self.kill()
        for process in self._processes:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def held(self) -> Held:
        """What :class:`~pytest_isolate.session.keeper.Keeper` has for the node.

        :raises RuntimeError: in another process than that which made it. :raises SetupError: the node has ended.
        """
        check_process(self._pid)
        if not self.alive:
            raise SetupError("enter the node", self.name, 0, "It has been stopped or killed.")
        return self._held

    def _entered(self) -> Held:
        """As :meth:`held`, to start something in it: that would stand still in the middle of it, and we with it."""
        if self._frozen:
            raise SetupError("enter the node", self.name, 0, "It is frozen; thaw() it first.")
        return self.held()

    def _environment(self, given: Any) -> dict[str, str]:
        return launched.environment(self.held(), {**os.environ}) if given is None else dict(given)

    def _call(self, function: Callable[..., object], args: Sequence[object], options: dict[str, Any]) -> object:
        outcome = self._keeper.run_in(self._entered(), lambda send: send(function(*args, **options)))
        if (failure := outcome.failure()) is not None:
            raise NodeError(self.name, f"{failure}\n{outcome.error or outcome.stacks}".rstrip())
        return outcome.value

    def _run(
        self, command: Sequence[str], *, input: Any = None, timeout: float | None = None, check: bool = False,  # noqa: A002 - subprocess's own name
        capture_output: bool = False, **options: Any,
    ) -> subprocess.CompletedProcess[Any]:  # fmt: skip
        """:func:`subprocess.run`, which cannot be told what to start processes with."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        if capture_output:
            options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(command, **options) as process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            except BaseException:
                process.kill()
                raise
            finally:
                self._processes.remove(process)
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        if check:
            done.check_returncode()
        return done


def _words(command: Sequence[str] | str) -> list[str]:
    return [command] if isinstance(command, str) else [os.fspath(word) for word in command]


def check_process(pid: int) -> None:
    """:raises RuntimeError: if this is another process than ``pid``, which made a network."""
    if calls.getpid() != pid:
        raise RuntimeError(
            "this network was made by pytest's own process, and cannot be handled from a sandbox; mark the test "
            'no_isolate, or reach the nodes by their names, in a test with network="bridge:NAME"'
        )
