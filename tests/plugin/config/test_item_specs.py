"""Which tests are isolated, and what their Specs become."""

from __future__ import annotations

import pytest

from tests.support.options import Options


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
