"""Marker, command line and ini file, as a user meets them: what a test's Spec becomes, and what a wrong value says.

Only the options are loaded, by a plugin of a few lines, so that nothing here needs a sandbox.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pytest_isolate.keys import KEYS

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[2] / "docs" / "options.md"

OPTIONS_ONLY = """
import pytest
from pytest_isolate import hookspecs, options

def pytest_addoption(parser):
    options.add_options(parser)

def pytest_addhooks(pluginmanager):
    pluginmanager.add_hookspecs(hookspecs)

def pytest_configure(config):
    options.configure(config)

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    options.check_items(config, items)

@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    options.raise_worker_errors(node)

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    with open("specs.txt", "a") as file:
        file.write(f"{item.name}: {options.spec_for(item)}\\n")
    return True
"""


@pytest.fixture
def options(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Options:
    return Options(pytester, monkeypatch)


class Options:
    """A project in a folder of its own, run with the options only."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT", "PYTEST_PLUGINS"):
            monkeypatch.delenv(name, raising=False)
        pytester.makepyfile(options_only=OPTIONS_ONLY)
        monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
        self._pytester = pytester

    def run(self, *arguments: str) -> pytest.RunResult:
        known = ("-p", "no:pytest_isolate", "-p", "options_only", "-p", "no:cacheprovider", "-p", "no:asyncio")
        return self._pytester.runpytest_subprocess(*known, *arguments)

    def specs(self, *arguments: str) -> dict[str, str]:
        """Each test that ran, with its Spec as text."""
        result = self.run(*arguments)
        assert not result.errlines, result.errlines
        written = self._pytester.path.joinpath("specs.txt")
        lines = written.read_text().splitlines()
        written.unlink()
        return dict(line.split(": ", 1) for line in lines)

    def errors(self, *arguments: str) -> list[str]:
        """The lines of a usage error."""
        result = self.run(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR, result.outlines
        return [line.removeprefix("ERROR: ") for line in result.errlines if line]


def test_a_test_is_isolated_by_its_marker_and_by_nothing_else(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.isolate
        def test_bare(): pass
        @pytest.mark.isolate()
        def test_called(): pass
        @pytest.mark.isolate(memory="50M", cpus=0.5, pids=64, timeout=10)
        def test_limits(): pass
        def test_plain(): pass
        """
    )
    specs = options.specs()

    assert specs["test_bare"] == specs["test_called"]
    assert specs["test_bare"].startswith("Spec(limits=Limits(memory=None,")
    assert "memory=52428800, swap=0, cpus=0.5, cpuset=None, pids=64" in specs["test_limits"]
    assert "timeout=10.0" in specs["test_limits"]
    assert specs["test_plain"] == "None"


def test_isolate_all_takes_every_test_but_those_marked_no_isolate(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_plain(): pass
        @pytest.mark.no_isolate
        def test_out(): pass
        """
    )
    specs = options.specs("--isolate-all")

    assert specs["test_plain"].startswith("Spec(")
    assert specs["test_out"] == "None"


def test_isolate_off_wins_over_marker_and_isolate_all(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.isolate\ndef test_in(): pass\n")

    assert options.specs("--isolate-all", "--isolate-off") == {"test_in": "None"}


def test_the_closer_of_isolate_and_no_isolate_decides(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.isolate(memory="50M")
        @pytest.mark.no_isolate
        class TestOut:
            def test_out(self): pass
            @pytest.mark.isolate
            def test_in_again(self): pass
        class TestDerived(TestOut):
            pytestmark = pytest.mark.isolate
            def test_in_by_class(self): pass
        def test_in(): pass
        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.no_isolate)])
        def test_param(n): pass
        """
    )
    specs = options.specs()

    isolated = {name for name, spec in specs.items() if "memory=52428800" in spec}
    assert isolated == {
        "test_in_again",
        "test_in_by_class",
        "test_in",
        "test_param[1]",
        "test_out",
    }  # test_out: TestDerived's, the last
    assert specs["test_param[2]"] == "None"
    assert options.specs("-k", "TestOut and test_out") == {"test_out": "None"}


def test_the_closest_place_wins_key_by_key(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nisolate_memory = 1M\nisolate_pids = 1\nisolate_swap = 1M\nisolate_disk = 7M\n"
        "isolate_hostname = ini\n"
    )
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            package = [node for node in items[0].listchain() if isinstance(node, pytest.Package)][-1]
            package.add_marker(pytest.mark.isolate(memory="3M", pids=3, swap="3M", disk="3M"))
        """
    )
    pytester.mkpydir("pack").joinpath("test_it.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.isolate(memory='4M', pids=4, swap='4M')\n"
        "@pytest.mark.isolate(memory='5M', pids=5)\n"
        "class TestIt:\n"
        "    @pytest.mark.isolate(memory='6M')\n"
        "    @pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.isolate(memory='7M')), 2])\n"
        "    def test_it(self, n): pass\n"
    )
    specs = options.specs("--isolate-memory=2M", "--isolate-pids=2", "--isolate-hostname=line")

    rest = f"swap={4 << 20}, cpus=None, cpuset=None, pids=5, io_read=None, io_write=None, disk={3 << 20}, timeout=None"
    assert (
        f"memory={7 << 20}, {rest}), network='none', host_ports=(), image=None, hostname='line'" in specs["test_it[1]"]
    )
    assert (
        f"memory={6 << 20}, {rest}), network='none', host_ports=(), image=None, hostname='line'" in specs["test_it[2]"]
    )


def test_a_derived_class_wins_over_its_base(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.isolate(pids=1, memory="1M")
        class Base:
            def test_it(self): pass
        @pytest.mark.isolate(pids=2)
        class TestDerived(Base): pass
        """
    )
    spec = options.specs()["test_it"]

    assert "pids=2" in spec
    assert "memory=1048576" in spec


def test_every_option_reaches_the_spec_from_command_line_and_ini(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    given = {"memory": "2G", "swap": "1M", "cpus": "2", "cpuset": "0", "pids": "9", "disk": "5M", "timeout": "3",
             "network": "host", "hostname": "box", "user": "root", "writable": "out"}  # fmt: skip

    by_line = options.specs("--isolate-all", *(f"--isolate-{key}={value}" for key, value in given.items()))
    pytester.makeini("[pytest]\n" + "".join(f"isolate_{key} = {value}\n" for key, value in given.items()))
    by_ini = options.specs("--isolate-all")

    expected = (
        f"Spec(limits=Limits(memory={2 << 30}, swap=1048576, cpus=2.0, cpuset='0', pids=9, io_read=None, "
        f"io_write=None, disk={5 << 20}, timeout=3.0), network='host', host_ports=(), image=None, hostname='box', "
        f"user='root', writable=('{pytester.path}/out',), env=(), asked="
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


def test_wrong_markers_are_all_told_once_with_their_place(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest

        @pytest.mark.parametrize("n", range(3))
        @pytest.mark.isolate(memory="50X",
                             memroy=1)
        def test_three(n): pass

        @pytest.mark.isolate("50M")
        class TestClass:
            def test_one(self): pass
            def test_two(self): pass

        @pytest.mark.no_isolate("why")
        def test_out(): pass

        @pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.isolate(pids=0))])
        def test_param(n): pass
        """,
        test_b="import pytest\npytestmark = [pytest.mark.isolate(timeout=0)]\ndef test_b(): pass\n",
    )
    errors = options.errors()

    assert len(errors) == 6
    assert errors[0].startswith("test_a.py:4: @pytest.mark.isolate: memory='50X': allowed is bytes as an int")
    assert errors[1].startswith(
        "test_a.py:4: @pytest.mark.isolate: memroy=1: there is no key 'memroy'; allowed are memory,"
    )
    assert errors[2] == (
        "test_a.py:8: @pytest.mark.isolate: '50M': it takes no positional arguments; name the key, as in memory='50M'."
    )
    assert errors[3] == "test_a.py:13: @pytest.mark.no_isolate: it takes no arguments; write @pytest.mark.no_isolate."
    assert (
        errors[4] == "test_a.py::test_param[1]: pytest.mark.isolate: pids=0: allowed is a whole number of at least 1."
    )
    assert errors[5].startswith(
        "test_b.py: pytestmark = pytest.mark.isolate: timeout=0: allowed is a number of seconds"
    )


def test_a_wrong_marker_is_told_of_tests_that_are_not_isolated_too(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.isolate(memory="lots")
        @pytest.mark.no_isolate
        def test_out(): pass
        """
    )
    assert len(options.errors()) == 1
    assert len(options.errors("--isolate-off")) == 1


def test_a_wrong_marker_of_a_base_class_is_told_where_it_stands(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        base="import pytest\n\n@pytest.mark.isolate(pids=-1)\nclass Base:\n    def test_it(self): pass\n",
        test_a="from base import Base\nclass TestA(Base): pass\nclass TestB(Base): pass\n",
    )
    assert options.errors() == ["base.py:3: @pytest.mark.isolate: pids=-1: allowed is a whole number of at least 1."]


@pytest.mark.parametrize("workers", ["-n2", "-n1"])
def test_wrong_markers_are_told_the_same_way_under_xdist(
    options: Options, pytester: pytest.Pytester, workers: str
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.isolate(memory="50X")
        def test_a(): pass
        @pytest.mark.isolate(pids=0)
        def test_b(): pass
        """
    )
    assert options.errors(workers) == options.errors()
    assert not pytester.path.joinpath("specs.txt").exists(), "a test was run"


def test_wrong_options_are_told_once_under_xdist(options: Options, pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile("def test_a(): pass")

    assert len(options.errors("-n2", "--isolate-all", "--isolate-memory=lots")) == 1


def test_specs_reach_xdist_workers(options: Options, pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile("def test_a(): pass")

    assert "memory=52428800" in options.specs("-n1", "--isolate-all", "--isolate-memory=50M")["test_a"]


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


def test_swap_without_memory_is_told_where_a_marker_asks_for_it(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest
        @pytest.mark.isolate(swap="1M")
        @pytest.mark.parametrize("n", [1, 2])
        def test_a(n): pass
        """
    )
    (error,) = options.errors()

    assert error.startswith(
        'test_a.py:2: @pytest.mark.isolate: swap="1M" comes on top of memory, and no memory is set;'
    )
    assert "memory=5242880, swap=1048576" in options.specs("--isolate-memory=5M")["test_a[1]"]


def test_swap_without_memory_is_told_once_however_tests_combine_it(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.isolate(swap="1M")
        class TestIt:
            @pytest.mark.isolate(pids=1)
            def test_a(self): pass
            @pytest.mark.isolate(pids=2)
            def test_b(self): pass
            @pytest.mark.isolate(memory="5M")
            def test_c(self): pass
        """
    )
    assert len(options.errors()) == 1


def test_a_wrong_memory_beside_swap_is_one_error(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.isolate(swap='1M', memory='5X')\ndef test_a(): pass\n")

    (error,) = options.errors()

    assert "memory='5X'" in error


def test_swap_as_a_default_waits_for_tests_that_have_memory(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.isolate\ndef test_a(): pass\n")

    assert "memory=None, swap=1048576" in options.specs("--isolate-swap=1M")["test_a"]


TIMEOUTS = """
import pytest
pytestmark = pytest.mark.timeout(30)
@pytest.mark.timeout(5)
@pytest.mark.isolate(memory="50M")
def test_theirs(): pass
@pytest.mark.timeout(timeout=5)
@pytest.mark.isolate(timeout=7)
def test_both(): pass
@pytest.mark.isolate
def test_module(): pass
@pytest.mark.timeout(0)
@pytest.mark.isolate
def test_lifted(): pass
"""


def test_pytest_timeouts_marker_counts_where_it_is_closer(options: Options, pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_timeout")
    pytester.makepyfile(TIMEOUTS)

    specs = options.specs("--isolate-timeout=9")

    for name, seconds in (
        ("test_theirs", "5.0"),
        ("test_both", "7.0"),
        ("test_module", "30.0"),
        ("test_lifted", "None"),
    ):
        assert f"timeout={seconds})" in specs[name], name


def test_pytest_timeouts_marker_means_nothing_without_the_plugin(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TIMEOUTS)

    specs = options.specs("-p", "no:timeout", "--isolate-timeout=9")

    for name, seconds in (("test_theirs", "9.0"), ("test_both", "7.0"), ("test_module", "9.0"), ("test_lifted", "9.0")):
        assert f"timeout={seconds})" in specs[name], name


def test_pytest_timeouts_options_come_after_ours_of_the_same_kind(
    options: Options, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pytest_timeout")
    pytester.makepyfile("def test_a(): pass")

    def timeout(*arguments: str) -> str:
        return options.specs("--isolate-all", *arguments)["test_a"].split("timeout=")[1].split(")")[0]

    assert timeout() == "None"
    assert timeout("-otimeout=1") == "1.0"
    assert timeout("-otimeout=1", "-oisolate_timeout=2") == "2.0"
    assert timeout("-oisolate_timeout=2", "--timeout=3") == "3.0"
    assert timeout("--timeout=3", "--isolate-timeout=4") == "4.0"
    assert timeout("--timeout=0", "-oisolate_timeout=2") == "None"
    monkeypatch.setenv("PYTEST_TIMEOUT", "5")
    assert timeout("-oisolate_timeout=2") == "5.0"


def test_a_wrong_time_out_of_pytest_timeout_is_told_with_its_own_name(
    options: Options, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("pytest_timeout")
    pytester.makepyfile(
        test_a="import pytest\n@pytest.mark.isolate\n@pytest.mark.timeout('soon')\ndef test_a(): pass\n"
    )

    assert options.errors()[0].startswith(
        "test_a.py:3: @pytest.mark.timeout: timeout='soon': allowed is a number of seconds"
    )


def test_a_hook_may_replace_the_spec_of_an_isolated_test(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import dataclasses
        def pytest_isolate_spec(item, spec):
            if item.name == "test_changed":
                return dataclasses.replace(spec, hostname=item.name.replace("_", "-"))
            assert item.name != "test_plain"
        """
    )
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.isolate
        def test_changed(): pass
        @pytest.mark.isolate
        def test_kept(): pass
        def test_plain(): pass
        """
    )
    specs = options.specs()

    assert "hostname='test-changed'" in specs["test_changed"]
    assert "hostname='isolated'" in specs["test_kept"]
    assert specs["test_plain"] == "None"


def test_a_hook_that_returns_something_else_is_told_so(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_isolate_spec(item, spec): return {'memory': 1}")
    pytester.makepyfile(test_a="def test_a(): pass")

    assert options.errors("--isolate-all") == [
        "test_a.py::test_a: a pytest_isolate_spec hook returned {'memory': 1}; allowed is a Spec or None."
    ]


def test_a_marker_added_by_a_conftest_hook_counts(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.isolate(pids=7))
        """
    )
    pytester.makepyfile("def test_a(): pass")

    assert "pids=7" in options.specs()["test_a"]


def test_unittest_classes_and_doctests_are_isolated_too(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a='''
        import unittest, pytest
        @pytest.mark.isolate(pids=3)
        class Case(unittest.TestCase):
            @pytest.mark.isolate(memory="5M")
            def test_it(self): pass
        def add():
            """
            >>> 1 + 1
            2
            """
        '''
    )
    specs = options.specs("--isolate-all", "--doctest-modules", "test_a.py")

    assert "memory=5242880" in specs["test_it"]
    assert "pids=3" in specs["test_it"]
    assert specs["test_a.add"].startswith("Spec(")


def test_help_and_markers_list_everything(options: Options) -> None:
    text = options.run("--help").stdout.str()
    for name in ("all", "off", "unsupported", "usage", "cgroup", "memory", "swap", "cpus", "cpuset", "pids", "disk",
                 "timeout", "network", "host-port", "image", "hostname", "user", "writable"):  # fmt: skip
        assert f"--isolate-{name}" in text
    for name in ("unsupported", "memory", "host_ports", "writable"):
        assert f"isolate_{name} (" in text

    options.run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.isolate(memory, swap, cpus, *", "@pytest.mark.no_isolate: *"]
    )


def test_the_docs_table_has_every_key_option_and_ini_value(options: Options) -> None:
    text = options.run("--help").stdout.str()
    options_there = set(re.findall(r"--isolate-[a-z-]+", text))
    ini_there = set(re.findall(r"^ +(isolate_[a-z_]+) \(", text, re.MULTILINE))
    docs = DOCS.read_text()
    table = [line for line in docs.splitlines() if line.startswith("| `")]

    assert options_there == set(re.findall(r"`(--isolate-[a-z-]+)", "\n".join(table)))
    assert ini_there == set(re.findall(r"`(isolate_[a-z_]+)`", "\n".join(table)))
    assert [line.split("`")[1] for line in table][: len(KEYS)] == list(KEYS)


def test_the_docs_errors_are_those_that_a_user_sees(options: Options, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest


        @pytest.mark.isolate(memory="1,5G")
        def test_a(): pass



        @pytest.mark.isolate(memroy="50M")
        def test_b(): pass
        """,
        test_b="import pytest\npytestmark = pytest.mark.isolate(user='Root')\ndef test_c(): pass\n",
    )
    quoted = re.findall(r"^ERROR: (test_.*)$", DOCS.read_text(), re.MULTILINE)

    assert quoted == options.errors()
    assert options.errors("--isolate-cpus=half")[0] in DOCS.read_text()
