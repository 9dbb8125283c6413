"""A PostgreSQL that a fixture starts once, on the host's loopback; the tests are isolated and reach it there.

Run it by ``pytest examples/postgres``; needs Debian's postgresql. For a server that somebody else has started, such
as a service of a CI job, list its port: ``isolate(host_ports=[5432])``.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile

import pytest

BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
NOBODY = 65534  # the server refuses to run as root
pytestmark = [
    pytest.mark.skipif(not BIN, reason="needs PostgreSQL: sudo apt-get install postgresql"),
    pytest.mark.isolate(memory="200M"),
]


@pytest.fixture(scope="session")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="postgres-")
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    if options:
        os.chown(folder, NOBODY, NOBODY)
    initdb = [f"{BIN}/initdb", "-D", folder, "-U", "tester", "--auth=trust", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **options)
    command = [f"{BIN}/pg_ctl", "-D", folder, "-w", "-l", f"{folder}/log", "-o", f"-p {number} -h 127.0.0.1 -k ''"]
    subprocess.run([*command, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/", **options)
    yield number
    subprocess.run([*command, "stop", "-m", "immediate"], check=True, stdout=subprocess.DEVNULL, cwd="/", **options)
    shutil.rmtree(folder)


@pytest.fixture
def sql(port):
    def run(text):
        command = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "-d", "postgres", "-Atc", text]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    return run


def test_the_server_answers_an_isolated_test(sql):
    assert sql("select 6 * 7") == ["42"]
    assert os.getpid() == 2  # isolated


@pytest.mark.parametrize("number", range(5))
def test_what_one_test_has_written_the_next_one_reads(sql, number):
    sql("create table if not exists visits (number int)")
    sql(f"insert into visits values ({number})")
    assert str(number) in sql("select number from visits")
