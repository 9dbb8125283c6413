"""A run that leaves nothing: Redis, PostgreSQL, a daemon and files of session fixtures, all in the session's sandbox.

Run it by ``pytest --isolate-session --isolate-all examples/hermetic``, also twice at the same time: each run has both
servers at their usual ports. Needs Debian's redis-server and postgresql.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
NOBODY = 65534  # PostgreSQL refuses to run as root
OTHER_USER = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
QUIET = {"stdout": subprocess.DEVNULL, "cwd": "/"}
FOLDER = "/tmp/hermetic-postgres"
FOLDERS = [os.path.expanduser("~"), "/dev/shm", ".", *(["/etc"] if os.access("/etc", os.W_OK) else [])]
SOCKET = f"{'/run' if os.access('/run', os.W_OK) else '/tmp'}/hermetic.sock"
DAEMON = f"import os, socketserver; os.setsid(); socketserver.UnixStreamServer({SOCKET!r}, print).serve_forever()"

pytestmark = [
    pytest.mark.skipif(not BIN, reason="needs PostgreSQL: sudo apt-get install postgresql"),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs Redis: sudo apt-get install redis-server"),
]


def eventually(condition, patience=20.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def reaches(family, address):
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0


@pytest.fixture(scope="session", autouse=True)
def surroundings(request):
    """Never torn down: all of it goes with the sandbox."""
    if not (request.config.getoption("isolate_session") and request.config.getoption("isolate_all")):
        pytest.skip("it is for --isolate-session --isolate-all: else this would be left on the machine")
    for folder in FOLDERS:
        with open(f"{folder}/hermetic.txt", "w") as file:
            file.write("of the fixture")
    subprocess.Popen([sys.executable, "-c", DAEMON])
    subprocess.Popen(["redis-server", "--port", "6379", "--save", ""], **QUIET)
    os.mkdir(FOLDER)
    if OTHER_USER:
        os.chown(FOLDER, NOBODY, NOBODY)
    initdb = [f"{BIN}/initdb", "-D", FOLDER, "-U", "tester", "--auth=trust", "--no-sync"]
    subprocess.run(initdb, check=True, **QUIET, **OTHER_USER)
    start = [f"{BIN}/pg_ctl", "-D", FOLDER, "-w", "-l", f"{FOLDER}/log", "-o", f"-p 5432 -h 127.0.0.1 -k {FOLDER}"]
    subprocess.run([*start, "start"], check=True, **QUIET, **OTHER_USER)
    eventually(lambda: reaches(socket.AF_INET, ("127.0.0.1", 6379)))
    eventually(lambda: reaches(socket.AF_UNIX, SOCKET))


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_of_the_fixture_are_there(folder):
    with open(f"{folder}/hermetic.txt") as file:
        assert file.read() == "of the fixture"


def test_redis_answers():
    assert subprocess.check_output(["redis-cli", "ping"], text=True) == "PONG\n"


@pytest.mark.parametrize("host", ["127.0.0.1", FOLDER])
def test_postgres_answers_at_its_port_and_at_its_socket(host):
    command = ["psql", "-h", host, "-U", "tester", "-d", "postgres", "-Atc", "select 6 * 7"]
    assert subprocess.check_output(command, text=True) == "42\n"


def test_the_daemon_answers():
    assert reaches(socket.AF_UNIX, SOCKET)
