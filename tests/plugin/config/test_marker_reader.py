"""What a wrong marker says."""

from __future__ import annotations

import pytest

from tests.support.options import Options


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
