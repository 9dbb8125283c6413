"""Time-outs that were set for pytest-timeout."""

from __future__ import annotations

import pytest

from tests.support.options import Options

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
