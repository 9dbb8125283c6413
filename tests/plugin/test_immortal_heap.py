"""Functions, classes and constants of pytest's process become immortal, which nobody notices who does not look."""

from __future__ import annotations

import sys

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

needs_immortals = pytest.mark.skipif(sys.version_info < (3, 12), reason="immortal objects came with Python 3.12")

#: So many that it pays. The last runs in pytest's process.
_MANY = """
import sys
import pytest

def function(): pass

@pytest.mark.parametrize("number", range(60))
def test_isolated(number):
    assert (sys.getrefcount(function) >= 1 << 31) == EXPECTED

@pytest.mark.no_isolate
def test_outside():
    assert (sys.getrefcount(function) >= 1 << 31) == EXPECTED
"""


@needs_immortals
def test_what_does_not_die_is_made_immortal_before_many_isolated_tests(project: Project) -> None:
    project.write(test_it=_MANY.replace("EXPECTED", "True"))
    project.isolated().assert_outcomes(passed=61)


def test_nothing_is_said_where_warnings_are_errors(project: Project) -> None:
    project.write(test_it=_MANY.replace("== EXPECTED", "in (True, False)"))
    project.isolated("-W", "error").assert_outcomes(passed=61)


@needs_immortals
def test_what_pytest_looks_at_for_each_test_is_immortal_too_and_plugins_come_and_go_as_before(project: Project) -> None:
    project.write(
        test_it="""
        import sys
        import pytest
        from _pytest import logging, skipping

        class Plugin:
            calls = 0
            def pytest_runtest_call(self): self.calls += 1

        @pytest.fixture(scope="module")
        def plugin(pytestconfig):
            plugin = Plugin()
            pytestconfig.pluginmanager.register(plugin)
            yield plugin
            pytestconfig.pluginmanager.unregister(plugin)

        def count(held): return sys.getrefcount(held)

        @pytest.mark.parametrize("number", range(60))
        def test_immortal(number, pytestconfig):
            caller = pytestconfig.hook.pytest_runtest_call
            keys = [skipping.xfailed_key, logging.caplog_handler_key]
            for held in (pytestconfig, vars(pytestconfig), caller, caller._hookimpls, *keys):
                assert count(held) >= 1 << 31

        def test_with(plugin):
            assert plugin.calls == 1

        @pytest.mark.no_isolate
        def test_without(pytestconfig, plugin):
            pytestconfig.pluginmanager.unregister(plugin)
            assert plugin not in [hook.plugin for hook in pytestconfig.hook.pytest_runtest_call.get_hookimpls()]
            pytestconfig.pluginmanager.register(plugin)
        """
    )
    project.isolated().assert_outcomes(passed=62)


def test_few_tests_leave_it_alone(project: Project) -> None:
    project.write(test_it=_MANY.replace("EXPECTED", "False").replace("60", "10"))
    project.isolated().assert_outcomes(passed=11)


@pytest.mark.parametrize("way", ["option", "ini"])
def test_it_can_be_switched_off(project: Project, way: str) -> None:
    project.write(test_it=_MANY.replace("EXPECTED", "False"))
    if way == "ini":
        project.pytester.makeini("[pytest]\nisolate_immortal_heap = false\n")
    options = ["--isolate-no-immortal-heap"] if way == "option" else []
    project.isolated(*options).assert_outcomes(passed=61)


def test_a_value_that_is_neither_true_nor_false_is_a_usage_error(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    project.pytester.makeini("[pytest]\nisolate_immortal_heap = mortal\n")
    result = project.isolated()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*tox.ini: isolate_immortal_heap: *mortal*Allowed are true and false.*"])


def test_fixtures_and_files_of_the_process_end_as_before(project: Project) -> None:
    project.is_forked = False
    project.write(
        conftest="""
        import atexit, gc, os, weakref
        import pytest

        def say(what): log.write(what + "\\n")
        class Ends:
            def __init__(self, name): self.name = name
            def __del__(self): say(f"end of {self.name}")
        class Held: pass
        at_exit = Ends("the module's instance")
        log = open(os.path.join(os.path.dirname(__file__), "log"), "w")
        atexit.register(say, "atexit")

        @pytest.fixture(scope="session")
        def session():
            held = Ends("the session's instance")
            weak = weakref.ref(held, lambda _: say("weak reference"))
            yield held
            say("session torn down")
            del held
            gc.collect()

        @pytest.fixture(scope="module")
        def module(session):
            Held.file = open(os.path.join(os.path.dirname(__file__), "log2"), "w")
            Held.file.write("given to a class, and still open")
            yield Ends("the module's fixture")
            say("module torn down")
        """,
        test_one="""
        import pytest
        @pytest.mark.parametrize("number", range(60))
        def test_one(number, module): pass
        """,
        test_two="""
        import gc, sys
        import pytest

        class Deleted: pass

        @pytest.fixture(scope="module", autouse=True)
        def deleting():
            yield
            global Deleted
            del Deleted, sys.modules["test_two"]
            gc.collect()

        def test_two(module): pass
        """,
    )
    found = []
    for options in (["--isolate-no-immortal-heap"], []):
        result = project.isolated(*options)
        result.assert_outcomes(passed=61)
        assert not result.errlines
        found.append([(project.path / name).read_text() for name in ("log", "log2")])
    mortal, immortal = found
    assert immortal == mortal
    assert mortal[0].splitlines()[-2:] == ["atexit", "end of the module's instance"]
    assert mortal[1] == "given to a class, and still open"


def test_an_isolated_test_may_delete_its_module_and_class_and_see_its_own_objects_collected(project: Project) -> None:
    project.write(
        test_it="""
        import gc, sys, weakref
        import pytest

        class Deleted: pass

        @pytest.mark.parametrize("number", range(60))
        def test_deletes(number):
            global Deleted
            instance = Deleted()
            weak = weakref.ref(instance)
            class Local: pass
            local = weakref.ref(Local)
            assert any(one is instance for one in gc.get_objects())
            assert sys.getrefcount(instance) == 2
            del instance, Local, Deleted, sys.modules[__name__]
            gc.collect()
            assert weak() is None and local() is None
        """
    )
    project.isolated().assert_outcomes(passed=60)
