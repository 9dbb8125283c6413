"""Command line and ini file, as a user meets them: what they set, and what a wrong value says."""

from __future__ import annotations

import pytest

from pytest_isolate.spec.keys import flag
from tests.support.options import Options


def test_every_option_reaches_the_spec_from_command_line_and_ini(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    given = {"memory": "2G", "swap": "1M", "cpus": "2", "cpuset": "0", "pids": "9", "disk": "5M", "timeout": "3",
             "network": "host", "hostname": "box", "user": "root", "writable": "out",
             "devices": "/dev/full", "nested": "true"}  # fmt: skip

    by_line = options.specs("--isolate-all", *(f"{flag(key)}={value}" for key, value in given.items()))
    pytester.makeini("[pytest]\n" + "".join(f"isolate_{key} = {value}\n" for key, value in given.items()))
    by_ini = options.specs("--isolate-all")

    expected = (
        f"Spec(limits=Limits(memory={2 << 30}, swap=1048576, cpus=2.0, cpuset='0', pids=9, io_read=None, "
        f"io_write=None, disk={5 << 20}, timeout=3.0), network='host', host_ports=(), image=None, hostname='box', "
        f"user='root', writable=('{pytester.path}/out',), devices=('/dev/full',), nested=True, leaks='off', "
        "leaks_allowed=(), env=(), exclusive=None, asked="
    )
    assert by_line["test_it"].startswith(expected)
    assert by_ini["test_it"].startswith(expected)
    assert all(f"'{key}'" in by_ini["test_it"] for key in given)


def test_writable_counts_from_the_rootdir_but_on_the_command_line_from_where_one_is(
    options: Options, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\nisolate_writable =\n    a b\n    /c\n")
    pytester.mkdir("sub").joinpath("test_it.py").write_text(
        "import pytest\n@pytest.mark.isolate(writable='d')\ndef test_marked(): pass\n"
        "@pytest.mark.isolate\ndef test_bare(): pass\n"
    )
    rootdir = pytester.path

    from_ini = options.specs()
    pytester.chdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(rootdir / "sub")
        result = options.run("--isolate-writable=e", "--isolate-writable=f")
        assert not result.errlines
        from_line = (rootdir / "sub" / "specs.txt").read_text()

    assert f"writable=('{rootdir}/d',)" in from_ini["test_marked"]
    assert f"writable=('{rootdir}/a b', '/c')" in from_ini["test_bare"]
    assert f"writable=('{rootdir}/sub/e', '{rootdir}/sub/f')" in from_line


def test_wrong_options_are_told_once_under_xdist(options: Options, pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile("def test_a(): pass")

    assert len(options.errors("-n2", "--isolate-all", "--isolate-memory=lots")) == 1


def test_specs_reach_xdist_workers(options: Options, pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile("def test_a(): pass")

    assert "memory=52428800" in options.specs("-n1", "--isolate-all", "--isolate-memory=50M")["test_a"]


@pytest.mark.parametrize(("value", "spec"), [("true", "memory=52428800"), ("false", "None")])
def test_the_ini_file_can_isolate_all_tests(options: Options, pytester: pytest.Pytester, value: str, spec: str) -> None:
    pytester.makeini(f"[pytest]\nisolate_all = {value}\nisolate_memory = 50M\n")
    pytester.makepyfile("def test_a(): pass")

    assert spec in options.specs()["test_a"]


def test_wrong_options_and_ini_values_are_all_told_with_their_place(
    options: Options, pytester: pytest.Pytester
) -> None:
    pytester.makeini(
        "[pytest]\nisolate_pids = few\nisolate_unsupported = skp\nisolate_memroy = 5M\n"
        "isolate_mem_limit = 5\nisolate_io = 1\n"
    )
    pytester.makepyfile("def test_a(): pass")

    errors = options.errors(
        "--isolate-memory=lots",
        "--isolate-host-port=80",
        "--isolate-host-port=http",
        "--isolate-usage=-1",
        "--isolate-cgroup=/sys/fs/cgroup/x",
        "-oisolate_cpus=0",
    )

    for start, end in (
        ("tox.ini: isolate_memroy: there is no such value; allowed are", "Did you mean isolate_memory?"),
        ("tox.ini: isolate_mem_limit: there is no such value; it belongs to PyPI's pytest-isolate", "."),
        ("tox.ini: isolate_io: there is no such value; io can be written in the marker only.", "."),
        ("tox.ini: isolate_unsupported: 'skp': allowed is", "Did you mean skip?"),
        ("command line: --isolate-usage: '-1': allowed is a whole number of at least 0.", "."),
        ("command line: --isolate-cgroup: '/sys/fs/cgroup/x': write the path from the cgroup root", "/x."),
        ("command line: --isolate-memory: memory='lots': allowed is", '"1.5G".'),
        ("command line: --isolate-host-port: host_ports=['80', 'http']: 'http' is no port; allowed is", "."),
        ("tox.ini: isolate_pids: pids='few': allowed is a whole number", "."),
        ("command line: -o isolate_cpus: cpus='0': allowed is", "."),
    ):
        matching = [line for line in errors if line.startswith(start) and line.endswith(end)]
        assert len(matching) == 1, (start, errors)
    assert len(errors) == 10
