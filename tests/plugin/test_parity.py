"""Options and plugins that see the run as a whole see what they see in a plain one."""

from __future__ import annotations

import re
import sys

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def shown(project: Project, *options: str) -> list[str]:
    """What pytest prints with ``-v`` of each test, and its last line without the time, with its cache in use."""
    command = [sys.executable, "-m", "pytest", "-v", *project.options, *options]
    lines = project.pytester.run(*command).outlines
    tests = [line.partition("[")[0].rstrip() for line in lines if re.match(r"test_\S+::\S+ +[A-Z]", line)]
    return [*tests, re.sub(r" in [0-9.]+s.*", "", lines[-1]).strip("= ")]


def test_options_that_remember_the_last_run_choose_the_same_tests(project: Project) -> None:
    seen: dict[str, list[list[str]]] = {}
    for isolate in ("plain", "isolated"):
        option = [] if isolate == "plain" else ["--isolate-all"]
        project.write(test_a="def test_1(): pass\ndef test_2(): assert 0\ndef test_3(): assert 0\ndef test_4(): pass")
        runs = [shown(project, "--sw", *option), shown(project, "--lf", *option), shown(project, "--ff", *option)]
        project.write(test_b="def test_new(): pass")
        runs.append(shown(project, "--nf", "--maxfail=1", *option))
        seen[isolate] = runs
        (project.path / "test_b.py").unlink()
        project.pytester.run("rm", "-rf", ".pytest_cache")
    assert seen["isolated"] == seen["plain"]
    assert [len(run) for run in seen["plain"]] == [3, 2, 5, 4]


def test_coroutines_run_inside_by_pytest_asyncio_and_anyio(project: Project) -> None:
    project.load("anyio", "asyncio")
    project.write(
        test_it="""
        import asyncio, pytest

        @pytest.fixture
        def anyio_backend(): return "asyncio"

        @pytest.mark.asyncio
        async def test_by_asyncio(): await asyncio.sleep(0)

        @pytest.mark.anyio
        async def test_by_anyio():
            import anyio
            await anyio.sleep(0)
            assert 0
        """
    )
    records = project.compared("-o", "asyncio_default_fixture_loop_scope=function")
    assert sum(record["outcome"] == "failed" for record in records) == 1
    project.write(test_it="import os\nMAIN = os.getpid()\nasync def test_it(): assert os.getpid() != MAIN")
    project.isolated("-o", "asyncio_mode=auto").assert_outcomes(passed=1)


def test_what_is_shown_while_tests_run_is_shown_of_isolated_ones(project: Project) -> None:
    project.write(
        test_it="""
        import logging, os, pytest

        @pytest.fixture
        def narrow(): yield

        def test_it(narrow):
            logging.warning("logged live")
            print("written through")
            assert os.environ["PYTEST_CURRENT_TEST"] == "test_it.py::test_it (call)"
        """
    )
    options = ("--setup-show", "--capture=tee-sys", "-o", "log_cli=true", "--durations=0", "-vv")
    expected = ["*SETUP    F narrow*", "*logged live*", "*written through*", "*TEARDOWN F narrow*", "*s call *test_it"]
    for isolate in ([], ["--isolate-all"]):
        result = project.run(*options, *isolate)
        result.assert_outcomes(passed=1)
        for line in expected:
            result.stdout.fnmatch_lines([line])


def test_a_hundred_megabytes_of_output_neither_block_nor_are_lost(project: Project) -> None:
    project.write(
        conftest="""
        def pytest_runtest_logreport(report):
            if report.when == "call": print("\\nlength", len(report.capstdout), report.capstdout[-3:])
        """,
        test_it="""
        import os
        def test_it():
            for _ in range(100): os.write(1, b"x" * (1 << 20))
            os.write(1, b"end")
        """,
    )
    result = project.isolated()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"length {(100 << 20) + 3} end"])


def test_threads_that_are_left_running_are_not_waited_for_and_exit_handlers_do_not_run(project: Project) -> None:
    project.write(
        test_it="""
        import atexit, threading, time

        def test_it():
            threading.Thread(target=time.sleep, args=(1000,)).start()
            atexit.register(open, "handler_ran", "w")
        """
    )
    project.isolated("--isolate-writable=.").assert_outcomes(passed=1)
    assert not (project.path / "handler_ran").exists()


def test_what_hooks_stash_inside_stays_there_and_what_they_report_comes_out(project: Project) -> None:
    project.write(
        conftest="""
        import pytest
        key = pytest.StashKey[str]()

        def pytest_runtest_call(item):
            item.config.stash[key] = item.name
            item.user_properties.append(("reported", item.name))

        def pytest_runtest_logreport(report):
            if report.when == "call": print("\\nreported", dict(report.user_properties)["reported"])

        def pytest_terminal_summary(config): print("\\nstashed", config.stash.get(key, "nothing"))
        """,
        test_it="def test_it(): pass",
    )
    project.isolated("-s").stdout.fnmatch_lines(["reported test_it", "stashed nothing"])
    project.run("-s").stdout.fnmatch_lines(["reported test_it", "stashed test_it"])


def test_what_conftest_files_learn_of_reports_outside_is_known_to_the_next_test(project: Project) -> None:
    """pytest's recipe for steps that build on one another, and a wrapper that adds to reports and keeps them."""
    project.write(
        conftest="""
        import pytest

        def pytest_runtest_makereport(item, call):
            if "incremental" in item.keywords and call.excinfo is not None:
                item.parent._previousfailed = item
        def pytest_runtest_setup(item):
            if "incremental" in item.keywords:
                previousfailed = getattr(item.parent, "_previousfailed", None)
                if previousfailed is not None:
                    pytest.xfail(f"previous test failed ({previousfailed.name})")
        """,
        wraps="""
        import pytest

        kept = []
        @pytest.fixture
        def learnt(): return kept
        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_runtest_makereport(item, call):
            outcome = yield
            report = outcome.get_result()
            if call.when == "call":
                report.sections.append(("kept", report.outcome))
                report.user_properties.append(("kept", len(kept)))
            kept.append((item.name, report.when, report.outcome, call.when, call.excinfo is None))
        """,
        test_it="""
        import pytest

        @pytest.mark.incremental
        class TestSteps:
            def test_login(self): pass
            def test_modification(self): assert 0
            def test_deletion(self): pass
        @pytest.mark.skip
        def test_skipped(): pass
        @pytest.mark.xfail
        def test_xfail(): assert 0
        def test_learnt(learnt): assert 0, learnt
        """,
    )
    project.compared("-p", "wraps", "-W", "ignore", "-oisolate_makereport_outside=conftest wraps")
    result = project.isolated("-oisolate_makereport_outside=conftest wrops")
    result.stdout.fnmatch_lines(["isolate: isolate_makereport_outside names what is no plugin of this run: wrops"])


def test_a_hook_that_works_by_the_next_item_ends_the_class_in_each_sandbox_and_a_fixture_once(project: Project) -> None:
    project.fake_keeper()
    project.write(
        conftest="""
        import os, pytest
        begun = []

        def pytest_runtest_setup(item):
            if item.parent not in begun:
                begun.append(item.parent)
                os.write(1, b"hook begins\\n")

        def pytest_runtest_teardown(item, nextitem):
            if nextitem is None or nextitem.parent is not item.parent:
                os.write(1, b"hook ends\\n")
        """,
        test_it="""
        import os, pytest
        class TestIt:
            @pytest.fixture(scope="class", autouse=True)
            def shared(self):
                os.write(1, b"fixture begins\\n")
                yield
                os.write(1, b"fixture ends\\n")
            def test_1(self): pass
            def test_2(self): pass
        """,
    )
    plain, isolated = project.run("-s").stdout.str(), project.isolated("-s").stdout.str()
    for said, times in {"hook begins": 2, "hook ends": 2, "fixture begins": 1, "fixture ends": 1}.items():
        assert plain.count(said) == 1
        assert isolated.count(said) == times


def test_the_summary_names_an_item_of_another_kind_as_a_plain_run_does(project: Project) -> None:
    project.write(
        conftest="""
        import pytest

        class Rule(pytest.Item):
            def runtest(self): assert "[rule" not in self.name

        class Rules(pytest.File):
            def collect(self):
                for name in ("[rule]one", "[rule]", "two[rule][a::b]"):
                    yield Rule.from_parent(self, name=name)

        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".rules":
                return Rules.from_parent(parent, path=file_path)
        """
    )
    (project.path / "it.rules").touch()
    plain, isolated = (
        [line for line in project.run("it.rules", *options).outlines if line.startswith("FAILED")]
        for options in ((), ("--isolate-all",))
    )
    assert len(plain) == 3
    assert isolated == plain


@pytest.mark.parametrize("colour", ["yes", "no"])
def test_a_failure_that_is_no_traceback_looks_as_plainly(project: Project, colour: str) -> None:
    project.write(
        test_it="""
        import pytest
        def returns_one():
            '''
            >>> returns_one()
            2
            '''
            return 1
        def test_lacks_a_fixture(unknown): pass
        """,
        conftest="""
        import pytest
        class Case(pytest.Item):
            def runtest(self): raise ValueError("of the case")
            def repr_failure(self, excinfo): return f"first line\\n{excinfo.value}"
        class Cases(pytest.File):
            def collect(self): yield Case.from_parent(self, name="case")
        def pytest_collect_file(parent, file_path):
            if file_path.suffix == ".case": return Cases.from_parent(parent, path=file_path)
        """,
    )
    (project.path / "a.case").touch()
    plain, isolated = (
        [re.sub(r" in [0-9.]+s", "", line) for line in project.run("-q", "--doctest-modules", *options).outlines]
        for options in ([f"--color={colour}"], [f"--color={colour}", "--isolate-all", "--isolate-usage=0"])
    )
    assert isolated == plain
    assert ("\x1b[31mE       fixture" in "\n".join(plain)) == (colour == "yes")
