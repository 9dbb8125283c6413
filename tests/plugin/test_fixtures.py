"""Fixtures: wider-scoped ones once, in pytest's own process; those of a test inside; all when a plain run has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.needs("sandbox")

#: Fixtures note what they do, and whether in pytest's process, in a file that is bound through.
LOG = """
import os, pytest
FILE = os.path.join(os.path.dirname(__file__), "log.txt")
MAIN = os.getpid()

def log(what):
    with open(FILE, "a") as file:
        file.write(f"{what}\\n")

def where():
    return "outside" if os.getpid() == MAIN else "inside"

def noted(name, scope="function", **more):
    @pytest.fixture(scope=scope, name=name, **more)
    def fixture(request):
        log(f"{name} up {where()}")
        yield getattr(request, "param", None)
        log(f"{name} down {where()}")
    return fixture
"""


def logged(project: Project, *arguments: str) -> list[str]:
    file = project.path / "log.txt"
    file.write_text("")
    project.run(f"--isolate-writable={project.path}", *arguments)
    return file.read_text().splitlines()


def test_a_session_fixture_is_made_once_and_outside_and_those_of_a_test_inside(project: Project) -> None:
    project.write(
        fixture_log=LOG,
        test_it="""
        from fixture_log import noted
        wide, narrow = noted("wide", "session"), noted("narrow")
        def test_1(wide, narrow): pass
        def test_2(narrow, wide): pass
        """,
    )
    assert logged(project, "--isolate-all") == [
        "wide up outside", "narrow up inside", "narrow down inside",
        "narrow up inside", "narrow down inside", "wide down outside",
    ]  # fmt: skip


@pytest.mark.skipif(pytest.version_tuple < (8, 4), reason="would be torn down inside: see docs/parity.md")
def test_a_session_fixture_that_one_of_a_test_overrides_is_made_once_and_outside(project: Project) -> None:
    project.write(
        fixture_log=LOG,
        conftest="""
        import pytest
        from fixture_log import noted
        deep = noted("deep", "session")

        @pytest.fixture(scope="session")
        def server(deep):
            from fixture_log import log, where
            log(f"server up {where()}")
            yield ["server"]
            log(f"server down {where()}")

        other = noted("other", "module")

        @pytest.fixture
        def client(other): return ["client"]
        """,
        test_it="""
        import pytest
        @pytest.fixture
        def server(server): return [*server, "of the module"]
        @pytest.fixture
        def client(client): return [*client, "of the module"]

        def test_1(server, client): assert server == ["server", "of the module"]
        def test_2(server, client): assert client == ["client", "of the module"]

        class TestOverridingTwice:
            @pytest.fixture
            def server(self, server): return [*server, "of the class"]
            def test_3(self, server): assert server == ["server", "of the module", "of the class"]

        @pytest.mark.parametrize("server", [1, 2])
        def test_4(server): assert server in (1, 2)
        """,
    )
    seen = logged(project, "--isolate-all")

    assert sorted(seen[:3]) == ["deep up outside", "other up outside", "server up outside"]
    assert sorted(seen[3:]) == ["deep down outside", "other down outside", "server down outside"]
    project.run("--isolate-all").assert_outcomes(passed=5)


def test_fixtures_of_all_scopes_come_and_go_in_the_order_of_a_plain_run(project: Project) -> None:
    project.write(
        fixture_log=LOG,
        test_it="""
        import pytest
        from fixture_log import log, noted
        session, package, module = noted("session", "session"), noted("package", "package"), noted("module", "module")
        of_class, narrow = noted("of_class", "class"), noted("narrow")
        letters = noted("letters", "module", params=["a", "b"])
        auto = noted("auto", "class", autouse=True)
        def setup_module(): log("setup_module")
        def teardown_module(): log("teardown_module")
        class TestClass:
            @classmethod
            def setup_class(cls): log("setup_class")
            @classmethod
            def teardown_class(cls): log("teardown_class")
            def setup_method(self): log("setup_method")
            def test_1(self, narrow, of_class, session): log("test_1")
            def test_2(self, letters, package): log("test_2")
        def test_3(letters, module): log("test_3")
        def test_4(of_class): log("test_4")
        @pytest.mark.parametrize("letters", ["c", "d"], indirect=True, scope="session")
        def test_5(letters): log("test_5")
        """,
        test_other="""
        from fixture_log import noted
        narrow, module = noted("narrow"), noted("module", "module")
        def test_6(narrow, module): pass
        """,
    )
    plain = logged(project)
    assert len(plain) > 40
    isolated = [line.replace(" inside", " outside") for line in logged(project, "--isolate-all")]
    assert isolated == plain


def test_a_fixture_that_the_ini_file_names_is_made_by_each_sandbox_with_those_that_need_it(project: Project) -> None:
    project.pytester.makeini("[pytest]\nisolate_fixtures_inside = named")
    project.write(
        fixture_log=LOG,
        test_it="""
        from fixture_log import log, noted, pytest, where
        named, wide = noted("named", "session", autouse=True), noted("wide", "session")

        @pytest.fixture(scope="module")
        def needs(named, wide):
            log(f"needs up {where()}")

        def test_1(needs): pass
        @pytest.mark.no_isolate
        def test_outside(needs): pass
        def test_2(needs): pass
        """,
    )
    found = logged(project, "--isolate-all")
    assert found[:-2] == [
        "wide up outside", "named up inside", "needs up inside", "named down inside",
        "named up outside", "needs up outside",
        "named up inside", "needs up inside", "named down inside",
    ]  # fmt: skip
    assert sorted(found[-2:]) == ["named down outside", "wide down outside"]  # pytest 8.0 has them the other way round


def test_a_thread_is_the_tests_own_where_its_fixture_is_made_inside_and_named_where_it_is_not(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        from concurrent.futures import ThreadPoolExecutor

        @pytest.fixture(scope="session")
        def client(pool): return pool.submit

        @pytest.fixture(scope="session")
        def pool():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(int).result()
                yield pool

        @pytest.mark.parametrize("number", range(2))
        def test_1(client, number): assert client(abs, number).result(2) == number
        """
    )
    project.isolated("-o", "isolate_fixtures_inside=pool").assert_outcomes(passed=2)
    result = project.isolated("-o", "isolate_fixtures_inside=pol")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["isolate: isolate_fixtures_inside names what is no fixture of this run: pol"])
    result.stdout.fnmatch_lines(['*here ThreadPoolExecutor*"isolate_fixtures_inside = pool" in the ini file*'])


@pytest.mark.parametrize("options", [(), ("--log-level=INFO",)])
def test_what_a_server_of_a_wider_fixture_logs_is_in_the_report_as_in_a_plain_run(
    project: Project, options: tuple[str, ...]
) -> None:
    project.write(
        test_it="""
        import http.server, logging, threading
        from urllib.request import urlopen
        import pytest

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                logging.getLogger("server").info("asked for %s", self.path)
                logging.getLogger("access").warning("no %s there", self.path)  # reaches pytest from 9.2 on
                logging.getLogger("server").warning("no %s here", self.path)
                self.send_response(200)
                self.end_headers()
            def log_message(self, *arguments): pass

        @pytest.fixture(scope="session")
        def server():
            logging.getLogger("access").propagate = False
            logging.getLogger("access").addHandler(logging.NullHandler())
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
                threading.Thread(target=server.serve_forever).start()
                yield lambda path: pytest.fail(str(urlopen(f"http://127.0.0.1:{server.server_port}{path}").read()))
                server.shutdown()

        def test_one(server):
            logging.warning("asking")
            server("/one")
        def test_two(server): server("/two")
        def test_handlers(server): assert len(logging.root.handlers) == 4, logging.root.handlers
        """
    )
    sections = [section for record in project.compared(*options) for section in record["sections"]]
    logged = [text.count(" here") for name, text in sections if name == "Captured log call"]
    assert logged == [1, 1, 1, 1]  # in the reports of call and tear-down


def test_a_class_fixture_of_a_test_outside_any_class_is_made_inside(project: Project) -> None:
    project.write(
        fixture_log=LOG,
        test_it="""
        from fixture_log import noted
        of_class = noted("of_class", "class")
        def test_it(of_class): pass
        """,
    )
    assert logged(project, "--isolate-all") == ["of_class up inside", "of_class down inside"]


def test_a_wider_fixture_asked_for_in_the_test_is_made_and_torn_down_inside(project: Project) -> None:
    project.write(
        fixture_log=LOG,
        test_it="""
        from fixture_log import noted
        wide, base = noted("wide", "session"), noted("base", "session")
        def test_1(request, base): request.getfixturevalue("wide")
        def test_2(request, base): request.getfixturevalue("wide")
        """,
    )
    assert logged(project, "--isolate-all") == [
        "base up outside", "wide up inside", "wide down inside",
        "wide up inside", "wide down inside", "base down outside",
    ]  # fmt: skip


def test_what_the_test_does_to_a_wider_fixture_is_not_seen_by_the_next(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.fixture(scope="session")
        def things(): return []
        def test_1(things): things.append(1)
        def test_2(things): assert things == []
        """
    )
    project.isolated().assert_outcomes(passed=2)


def test_isolated_and_other_tests_mix_and_share_their_wider_fixtures(project: Project) -> None:
    project.write(
        fixture_log=LOG,
        test_it="""
        import pytest
        from fixture_log import noted
        wide, module = noted("wide", "session"), noted("module", "module")
        def test_1(wide, module): pass
        @pytest.mark.isolate
        def test_2(wide, module): pass
        def test_3(wide): pass
        """,
        test_next="""
        def test_4(): pass
        """,
    )
    assert logged(project) == ["wide up outside", "module up outside", "module down outside", "wide down outside"]
    project.run().assert_outcomes(passed=4)


@pytest.mark.parametrize(
    "body",
    [
        'raise ValueError("up")',
        'pytest.skip("not here")',
        'yield; raise ValueError("down")',
        'pytest.fail("no", pytrace=False)',
        "1 / 0; yield",
    ],
)
@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
def test_a_fixture_that_fails_or_skips_does_so_on_the_test_and_phase_of_a_plain_run(
    project: Project, scope: str, body: str
) -> None:
    project.write(
        test_it=f"""
        import pytest
        @pytest.fixture(scope="{scope}")
        def broken():
            print("begins")
            {body}
        class TestClass:
            def test_1(self, broken): print("runs")
            def test_2(self, broken): pass
        def test_3(): pass
        """
    )
    records = project.compared()
    assert {record["outcome"] for record in records} != {"passed"}


def test_a_parametrized_wider_fixture_that_fails_on_its_way_out_fails_the_next_test_as_in_a_plain_run(
    project: Project,
) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.fixture(scope="module", params=[1, 2, 3])
        def number(request):
            yield request.param
            if request.param == 2: raise ValueError("down")
        def test_it(number): pass
        """
    )
    records = project.compared()
    assert sum(record["outcome"] == "failed" for record in records) == 1


def test_hooks_of_a_conftest_that_skip_come_before_fixtures_that_fail(project: Project) -> None:
    project.write(
        conftest="""
        import pytest
        def pytest_runtest_setup(item):
            if "database" in item.fixturenames: pytest.skip("no database here")
        """,
        test_it="""
        import pytest
        @pytest.fixture(scope="session")
        def database(): raise OSError("no connection")
        def test_it(database): pass
        """,
    )
    project.isolated().assert_outcomes(skipped=1)


def test_classes_of_unittest_set_up_once_and_their_tests_run_inside(project: Project) -> None:
    project.write(
        test_it="""
        import os, unittest
        MAIN = os.getpid()
        class TestCase(unittest.TestCase):
            @classmethod
            def setUpClass(cls): cls.made_in = os.getpid(); print("class up")
            @classmethod
            def tearDownClass(cls): print("class down")
            def setUp(self): print("up"); self.addCleanup(print, "cleaned")
            def tearDown(self): print("down")
            def test_1(self): assert self.made_in == MAIN
            def test_2(self): self.fail("so")
            @unittest.skip("not now")
            def test_3(self): pass
            @unittest.expectedFailure
            def test_4(self): assert 0
            @unittest.expectedFailure
            def test_5(self): pass
            def test_6(self): self.skipTest("in it")
        class TestBroken(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise ValueError("class")
            def test_1(self): pass
            def test_2(self): pass
        class TestSkipped(unittest.TestCase):
            @classmethod
            def setUpClass(cls): raise unittest.SkipTest("class")
            def test_1(self): pass
        class TestBrokenDown(unittest.TestCase):
            @classmethod
            def tearDownClass(cls): raise ValueError("class down")
            def test_1(self): pass
        """
    )
    records = project.compared()
    assert len({record["test"] for record in records}) == 10


def test_doctests_run_inside_with_their_fixtures(project: Project) -> None:
    project.write(
        conftest="""
        import os, pytest
        MAIN = os.getpid()
        @pytest.fixture(scope="session", autouse=True)
        def name(doctest_namespace): doctest_namespace["main"] = MAIN
        """,
        module='''
        def right():
            """
            >>> import os; os.getpid() != main
            True
            >>> tmp = getfixture("tmp_path")
            """
        def wrong():
            """
            >>> 1
            2
            """
        ''',
    )
    project.isolated("--doctest-modules").assert_outcomes(passed=1, failed=1)


def test_the_base_of_temporary_folders_is_the_same_for_all_tests(project: Project) -> None:
    project.write(
        test_it="""
        def test_1(tmp_path, request): assert tmp_path.parent == request.config._tmp_path_factory.getbasetemp()
        def test_2(tmp_path): print(tmp_path.parent.name); assert 0
        def test_3(tmp_path): print(tmp_path.parent.name); assert 0
        """
    )
    records = project.records("--isolate-all", f"--basetemp={project.path / 'base'}")
    assert [record["sections"][0] for record in records if record["outcome"] == "failed"] == [
        ["Captured stdout call", "base\n"]
    ] * 2


def test_a_session_that_stops_in_the_middle_of_a_module_tears_it_down_with_output_and_log(project: Project) -> None:
    project.write(
        test_it="""
        import logging, pytest

        @pytest.fixture(scope="module", autouse=True)
        def server():
            yield
            print("stopped")
            logging.getLogger().warning("logged")

        def test_first(): pass
        def test_second(): assert False
        def test_third(): pass
        """
    )
    records = project.compared("-x")
    assert [record["test"] for record in records if record["when"] == "call"] == [
        "test_it.py::test_first",
        "test_it.py::test_second",
    ]
    assert [name for name, _ in records[-1]["sections"]] == ["Captured stdout teardown", "Captured log teardown"]


def test_threads_that_log_while_a_test_is_forked_do_not_block_its_own_logging(project: Project) -> None:
    project.write(
        test_it="""
        import logging, os, threading, pytest

        logger = logging.getLogger("busy")
        logger.addHandler(logging.StreamHandler(open(os.devnull, "w")))
        logger.propagate = False

        def log():
            while True:
                logger.error("busy")

        for _ in range(4):
            threading.Thread(target=log, daemon=True).start()

        @pytest.mark.parametrize("number", range(30))
        def test_it(number):
            logger.error("inside")
        """
    )
    project.isolated("--isolate-timeout=20").assert_outcomes(passed=30)
