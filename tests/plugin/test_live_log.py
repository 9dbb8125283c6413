"""pytest's ``log_cli``: what is shown while tests run."""

from __future__ import annotations

import re

import pytest

from tests.support.project import Project

TALKING = """
    import logging
    import pytest

    log = logging.getLogger("told")

    @pytest.fixture(scope="module")
    def server():
        log.warning("server starts")
        yield
        log.warning("server ends")

    @pytest.fixture
    def each(request):
        log.warning("set up for %s", request.node.name, extra={"colour": "green"})
        yield
        try: 1 / 0
        except ZeroDivisionError: log.exception("torn down with an error")
        log.error("torn down, last line")

    def test_of_server(server, each): log.warning("called")
    def test_that_fails(server, each): assert 0
    def test_that_is_silent(): pass
    def test_that_is_skipped_in_its_set_up(each, server): pytest.skip("so")
    @pytest.fixture
    def broken(each): raise ValueError
    def test_that_has_no_set_up(broken): pass
    @pytest.fixture
    def unclosed(): yield; log.warning("before the end"); raise ValueError
    def test_whose_tear_down_fails(unclosed): log.warning("called")
    def test_in_tear_down_only(request): request.addfinalizer(lambda: [log.error("one"), log.error("two")])
    @pytest.mark.parametrize("number", range(3))
    def test_last(number, each): log.critical("called %d", number)
"""


@pytest.mark.parametrize("options", [["-v"], ["-q"], ["-rA", "-s"], ["--color=yes"]], ids=" ".join)
@pytest.mark.parametrize("jobs", [1, 3])
def test_live_logs_are_where_a_plain_run_has_them(project: Project, options: list[str], jobs: int) -> None:
    project.write(test_it=TALKING)
    options = [*options, "-o", "log_cli=true", "--isolate-usage=0"]
    plain = shown(project, *options)
    assert sum("torn down, last line" in line for line in plain) >= 7
    assert shown(project, *options, "--isolate-all", f"--isolate-jobs={jobs}") == plain


def test_a_record_that_does_not_fit_its_format_and_one_of_a_thread_do_no_harm(project: Project) -> None:
    project.write(
        test_it="""
        import logging, os, threading

        def test_it(request):
            @request.addfinalizer
            def talk():
                thread = threading.Thread(target=logging.warning, args=("of a thread",))
                thread.start(); thread.join()
                if (pid := os.fork()) == 0:
                    logging.warning("of a process")
                    os._exit(0)
                os.waitpid(pid, 0)
                logging.warning("last \\udcff %s", 5)
            logging.warning("first")
        """
    )
    result = project.isolated("-o", "log_cli=true", "-p", "no:threadexception")
    result.assert_outcomes(passed=1)
    for text in ("first", "of a thread", "of a process", "last *5"):
        result.stdout.fnmatch_lines([f"WARNING *{text}"])


def shown(project: Project, *options: str) -> list[str]:
    """Lines of a run, without times and what the plugin says of itself; the colours of logging in one order."""
    lines = [re.sub(r"\d+\.\d+s|=+", "", line) for line in project.run(*options).outlines]
    lines = [line.replace("\x1b[31m\x1b[1m", "\x1b[1m\x1b[31m") for line in lines]
    return [line for line in lines if not line.startswith(("isolate: ", "plugins: "))]
