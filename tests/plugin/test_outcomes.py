"""A file with every outcome, kind of output and warning there is, compared report by report with a plain run of it."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

ALL_OUTCOMES = """
import logging, os, sys, warnings
import pytest

class Custom(Warning):
    def __init__(self, a, b): super().__init__(a, b)

@pytest.fixture(scope="module")
def wide():
    print("wide up"); logging.warning("wide up"); warnings.warn("from wide")
    yield
    print("wide down"); logging.warning("wide down"); warnings.warn("from wide, down")

@pytest.fixture
def narrow(wide):
    print("up"); logging.warning("up"); sys.stderr.write("to stderr")
    yield 1
    print("down"); logging.warning("down")

def test_passes(narrow): print("in it")
def test_fails(narrow): logging.error("in it"); warnings.warn(Custom(1, 2)); assert narrow == 2
def test_skips(narrow): pytest.skip("in it")
def test_xfails(narrow): pytest.xfail("in it")
@pytest.mark.skip(reason="mark")
def test_skip_mark(narrow): pass
@pytest.mark.skipif("sys.platform != 'none'", reason="condition")
def test_skip_condition(): pass
@pytest.mark.xfail(reason="mark")
def test_xfail_mark(): assert 0
@pytest.mark.xfail(run=False, reason="mark")
def test_xfail_not_run(): os._exit(1)
@pytest.mark.xfail(strict=True, reason="mark")
def test_xpass_strict(): pass
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail(raises=OSError)
def test_xfail_of_another_kind(): assert 0
def test_xfail_added(request): request.applymarker(pytest.mark.xfail); assert 0
def test_missing_fixture(nonsense): pass
def test_raw_bytes(request):
    if request.config.getoption("capture") == "fd": os.write(1, b"no text: \\xff")
def test_chained():
    try: 1 / 0
    except ZeroDivisionError as error: raise ValueError("while") from error
def test_system_exit(): sys.exit(3)
def test_property(record_property):
    record_property("number", 1); record_property("object", len); record_property("list", [1, None])
def test_capsys(capsys): print("taken"); assert capsys.readouterr().out == "taken\\n"; print("left"); assert 0
def test_capfd(capfd): os.write(1, b"taken"); assert capfd.readouterr().out == "taken"; assert 0
def test_caplog(caplog): logging.warning("seen"); assert "seen" in caplog.text
def test_local_warning():
    class Local(UserWarning): pass
    warnings.warn(Local("here"))
@pytest.mark.filterwarnings("error")
def test_warning_as_error(): warnings.warn("boom")
@pytest.mark.filterwarnings("ignore")
def test_ignored_warning(): warnings.warn("unheard")
@pytest.mark.parametrize("value", [1, "two", None])
def test_parametrized(value): assert value
@pytest.mark.parametrize("name", ["getpid", "write", "read", "_exit", "waitpid", "kill", "fork"])
def test_replaced_in_os_until_the_tear_down(monkeypatch, name): monkeypatch.setattr(os, name, lambda *args: 3)
def test_unraisable():
    class Bad:
        def __del__(self): raise ValueError("in del")
    Bad()
def test_thread():
    import threading
    thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
def test_big_output(): print("x" * 3_000_000); assert 0
"""


@pytest.mark.parametrize(
    "options",
    [(), ("--capture=sys",), ("--tb=short",),
     ("--runxfail", "--deselect=test_it.py::test_xfail_not_run"), ("-W", "error", "-p", "no:asyncio"),
     ("--log-level=INFO",), ("-p", "no:logging"), ("--maxfail=3",), ("-x",), ("-k", "warning")],
    ids=" ".join,
)  # fmt: skip
def test_reports_and_warnings_are_those_of_a_plain_run(project: Project, options: tuple[str, ...]) -> None:
    if options[:1] in {("-x",), ("--maxfail=3",)} and pytest.version_tuple < (8, 2):
        pytest.skip("this pytest forgets the higher-scoped tear-down of the last test (pytest#11706), we don't")
    project.write(test_it=ALL_OUTCOMES)
    assert project.compared(*options)
