"""Cases: processes and signals."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cases.inside.machine import HOST, MARK, NO, answer, libc, syscall

X86_64 = os.uname().machine == "x86_64"
_VICTIM: int = HOST["victim"]


def _sleep() -> None:
    while True:
        time.sleep(600)


def _states() -> dict[int, str]:
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found[int(pid)] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
    return found


@pytest.mark.isolate(pids=20)
def test_fork_bomb() -> None:
    while True:
        if os.fork() == 0:
            _sleep()


@pytest.mark.isolate(pids=20)
def test_thread_bomb() -> None:
    with pytest.raises(RuntimeError):
        _start_threads(30)


def _start_threads(number: int) -> None:
    for _ in range(number):
        threading.Thread(target=_sleep, daemon=True).start()


def test_daemon_survives() -> None:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.write(writer, b".")
            _sleep()
        os._exit(0)
    os.wait()
    assert os.read(reader, 1) == b"."


def test_orphan_reparent() -> None:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            while os.getppid() == child:
                time.sleep(0.01)
            while os.getppid() != 1:
                time.sleep(0.01)
            os.write(writer, b".")
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"."


def test_zombie_reap() -> None:
    mine = os.fork()
    if mine == 0:
        os._exit(7)
    if (parent := os.fork()) == 0:
        for _ in range(100):
            if os.fork() == 0:
                os._exit(0)
        os._exit(0)  # PID 1 gets a hundred dead children
    os.waitpid(parent, 0)
    while any(state == "Z" for pid, state in _states().items() if pid != mine):
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(os.waitpid(mine, 0)[1]) == 7


def test_self_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_self_abort() -> None:
    os.abort()


def test_self_sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_segv() -> None:
    ctypes.string_at(0)


def test_os_exit() -> None:
    os._exit(0)


def test_kill_parent() -> None:
    assert os.getppid() == 0
    assert [pid for pid in (_VICTIM, HOST["pid"]) if pid in _states()] == []
    os.kill(os.getppid(), signal.SIGKILL)  # its process group


def test_kill_all() -> None:
    child = os.fork()
    if child == 0:
        _sleep()
    os.kill(-1, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.isolate(timeout=1)
def test_sigstop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_host_pids_invisible() -> None:
    assert len(_states()) <= 3  # PID 1, this one, and what reads standard error of a fork
    for pid in _states():
        assert MARK.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_ptrace_of_host() -> None:
    attach, seize = 16, 0x4206
    for request in (attach, seize):
        assert libc.ptrace(request, _VICTIM, None, None) == -1


def test_process_vm_readv_of_host() -> None:
    word = (ctypes.c_size_t * 2)(HOST["address"], 8)
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    assert libc.process_vm_readv(_VICTIM, local, 1, word, 1, 0) == -1


def test_pidfd_of_host() -> None:
    """Without a pidfd there is no pidfd_getfd(2), and no setns(2)."""
    assert answer(lambda: os.close(os.pidfd_open(_VICTIM))) != 0
    assert not os.path.exists(f"/proc/{_VICTIM}/ns")


def test_priority_raise() -> None:
    assert answer(lambda: os.nice(-1)) in NO
    assert answer(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))) in NO


def test_oom_immunity() -> None:
    assert answer(lambda: Path("/proc/self/oom_score_adj").write_text("-999")) in NO


def test_exe_overwrite() -> None:
    """CVE-2019-5736: a container's root wrote into the program of the host that had started it."""
    with suppress(OSError), open("/proc/self/exe", "r+b", buffering=0) as file:
        file.write(b"\x7fELF")  # a copy, if anything; the interpreter outside is looked at afterwards


def test_directory_descriptor() -> None:
    """CVE-2024-21626, CVE-2016-9962: a descriptor of a folder of the host was a way out."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    folders = [os.readlink(link) for link in links if os.path.isdir(link)]
    assert set(folders) <= {f"/proc/{os.getpid()}/fd"}  # listdir() had one
    assert os.getcwd() == os.path.realpath("/proc/self/cwd")


@pytest.mark.isolate(user="root")
def test_chroot_escape() -> None:
    before = os.stat("/")
    os.mkdir(f"/tmp/{MARK}-chroot")
    os.chdir("/")
    os.chroot(f"/tmp/{MARK}-chroot")  # the working folder is outside of the root now
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    after = os.stat("/")
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)


@pytest.mark.isolate(user="root")
def test_machine_calls() -> None:
    """What acts on the machine is refused before its arguments, which are wrong, are looked at."""
    numbers = (
        {"reboot": 169, "init_module": 175, "delete_module": 176, "swapon": 167, "swapoff": 168, "acct": 163}
        | {"settimeofday": 164, "syslog": 103, "quotactl": 179}
        if X86_64
        else {"reboot": 142, "init_module": 105, "delete_module": 106, "swapon": 224, "swapoff": 225, "acct": 89}
        | {"settimeofday": 170, "syslog": 116, "quotactl": 60}
    )
    wrong = ctypes.create_string_buffer(b"\xff" * 64)
    arguments: dict[str, tuple[Any, ...]] = {
        "reboot": (0, 0, 0, 0),
        "syslog": (8, None, 99),
        "quotactl": (0x800002 << 8, b"/nowhere", 0, None),
        "acct": (b"/nowhere",),
        "swapon": (b"/nowhere", 0),
        "settimeofday": (None, None),
    }
    answers = {name: syscall(number, *arguments.get(name, (wrong, wrong, wrong))) for name, number in numbers.items()}
    assert {name: code for name, code in answers.items() if code not in NO} == {}
