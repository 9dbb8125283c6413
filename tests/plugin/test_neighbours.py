"""Other plugins beside ours: what they show and write is what they show and write in a plain run.

Each test loads its neighbour alone, by name, and needs it to be installed: `tox -e neighbours` has them all.
docs/neighbours.md is the table of what was found.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

OUTCOMES = """
    import random
    import pytest

    def test_pass(): print("passing")
    def test_fail(): print("said before"); assert 1 == 2
    @pytest.mark.xfail
    def test_xfail(): assert 0
    @pytest.mark.skip(reason="not now")
    def test_skip(): pass
    @pytest.fixture
    def broken(): raise ValueError("in set-up")
    def test_error(broken): pass
    @pytest.mark.parametrize("number", [1, 2])
    def test_random(number): assert not random.random()
"""


class Neighbourhood:
    """A project whose runs load our plugin and those named, and no others that may be installed."""

    def __init__(self, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        if "pytest_isolate.pytest_plugin" not in project.options:
            project.options += ["-p", "pytest_isolate.pytest_plugin"]
        self.project = project
        self.path: Path = project.path

    def load(self, *plugins: str) -> None:
        for plugin in plugins:
            self.project.options += ["-p", plugin]

    def plain(self, *arguments: str) -> list[str]:
        """What a plain run shows, without what differs from run to run."""
        return _lasting(self.project.run("test_it.py", *arguments).outlines)

    def isolated(self, *arguments: str) -> list[str]:
        """What an isolated run shows besides our own header."""
        shown = self.project.isolated("--isolate-usage=0", "test_it.py", *arguments).outlines
        ours = [line for line in shown if line.startswith("isolate: ")]
        assert ours, "nothing is isolated"
        return _lasting([line for line in shown if line not in ours])

    def same(self, *arguments: str) -> str:
        """Run both ways, see that the terminal shows the same, and return that."""
        plain, isolated = self.plain(*arguments), self.isolated(*arguments)
        assert not [*unified_diff(plain, isolated, "plain", "isolated", lineterm="")]
        return "\n".join(plain)

    def same_tree(self, name: str, *arguments: str) -> str:
        """As :meth:`same`, and see that both runs make the same of the folder ``name``; leave it so."""
        before, after, shown = _tree(self.path / name), [], []
        for run in (self.plain, self.isolated):
            shutil.rmtree(self.path / name, ignore_errors=True)
            for path, content in before.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            shown.append(run(*arguments))
            after.append(_tree(self.path / name))
        plain, isolated = shown
        assert not [*unified_diff(plain, isolated, "plain", "isolated", lineterm="")]
        assert after[1] == after[0]
        return "\n".join(plain)

    def files(self, name: str, *arguments: str) -> tuple[str, str]:
        """The file ``name`` that a plain run writes, and that of an isolated one."""
        texts = []
        for run in (self.plain, self.isolated):
            (self.path / name).unlink(missing_ok=True)
            run(*arguments)
            texts.append((self.path / name).read_text())
        return texts[0], texts[1]


def _tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _lasting(lines: list[str]) -> list[str]:
    """Without times and addresses."""
    return [re.sub(r"0x[0-9a-f]{6,}|\b[0-9]+\.[0-9]+ ?m?s\b|={2,}", "~", line) for line in lines]


@pytest.fixture
def neighbours(project: Any, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    return Neighbourhood(project, monkeypatch)


@pytest.mark.needs("sandbox", "pytest-timeout")
def test_the_timeout_of_pytest_timeout_becomes_the_sandboxs(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_timeout")
    neighbours.project.write(
        test_it="""
        import time
        import pytest

        @pytest.mark.timeout(0.5)
        def test_slow(): time.sleep(60)
        @pytest.mark.timeout(60)
        def test_quick(): pass
        """
    )
    result = neighbours.project.isolated()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*exceeded timeout=0.5 s*", "*in test_slow"])


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_failures_are_rerun_by_pytest_rerunfailures(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_rerunfailures")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.fixture(scope="module")
        def wide():
            yield []
            print("torn down once")

        @pytest.fixture
        def narrow(request):
            yield
            print("torn down after attempt", request.node.execution_count)

        @pytest.mark.flaky(reruns=2)
        def test_third_time_lucky(request, wide, narrow):
            print("attempt", request.node.execution_count)
            assert request.node.execution_count == 3
        def test_never(wide): assert 0
        def test_once(wide): pass
        @pytest.fixture
        def broken(request): assert request.node.execution_count == 2
        def test_of_a_flaky_fixture(broken): pass
        """
    )
    shown = neighbours.same("-v", "-rR", "--reruns=1")
    assert "2 failed" not in shown
    assert "1 failed, 3 passed, 4 rerun" in shown


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_a_death_is_rerun_in_a_new_sandbox(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_rerunfailures")
    neighbours.project.write(
        test_it="""
        import os, pathlib, time
        import pytest

        @pytest.mark.flaky(reruns=2)
        @pytest.mark.isolate(writable="trace")
        def test_comes_to_life():
            trace = pathlib.Path("trace/attempts")
            attempts = trace.read_text() if trace.exists() else ""
            trace.write_text(attempts + "x")
            if len(attempts) < 2:  # the third follows an ordinary failure, in the same sandbox
                assert not pathlib.Path("left").exists()
            pathlib.Path("left").touch()
            if not attempts:
                os.abort()
            assert attempts == "xx"
        @pytest.mark.flaky(reruns=1)
        def test_stays_dead(): os.abort()
        @pytest.mark.flaky(reruns=3)
        @pytest.mark.xfail
        def test_is_expected_to_die(): os.abort()
        """
    )
    (neighbours.path / "trace").mkdir()
    result = neighbours.project.isolated("-v")
    result.stdout.fnmatch_lines(["*comes_to_life RERUN*"] * 2 + ["*comes_to_life PASSED*", "*dead RERUN*"])
    result.stdout.fnmatch_lines(["*killed by SIGABRT"])
    result.stdout.fnmatch_lines(["*1 failed, 1 passed, 1 xfailed, 3 rerun*"])


@pytest.mark.needs("sandbox", "flaky")
def test_failures_are_rerun_by_flaky(neighbours: Neighbourhood) -> None:
    neighbours.load("flaky.flaky_pytest_plugin")
    neighbours.project.write(
        test_it="""
        import pytest
        attempts = []

        @pytest.mark.flaky(max_runs=3)
        def test_third_time_lucky():
            attempts.append(1)
            assert len(attempts) == 3
        @pytest.mark.flaky(max_runs=2)
        def test_never(): assert 0
        """
    )
    assert "1 failed, 1 passed" in neighbours.same("-v", "--no-flaky-report")


@pytest.mark.needs("sandbox", "pytest-randomly")
def test_pytest_randomly_shuffles_and_seeds_as_in_a_plain_run(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_randomly")
    neighbours.project.write(test_it=OUTCOMES)
    assert "assert not 0." in neighbours.same("-v", "-p", "no:cacheprovider", "--randomly-seed=7")


@pytest.mark.needs("sandbox", "pytest-order")
def test_pytest_order_orders(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_order.plugin")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.order(2)
        def test_second(): pass
        @pytest.mark.order(1)
        def test_first(): pass
        """
    )
    shown = neighbours.same("-v")
    assert shown.index("test_first") < shown.index("test_second")


@pytest.mark.needs("sandbox", "pytest-benchmark")
def test_figures_of_pytest_benchmark_come_out(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_benchmark.plugin")
    neighbours.project.write(
        test_it="""
        import time
        import pytest

        @pytest.mark.benchmark(group="sleeps")
        @pytest.mark.parametrize("count", [3, 4])
        def test_sleep(benchmark, count):
            benchmark.extra_info["why"] = "to see"
            benchmark.pedantic(time.sleep, args=(0.001,), rounds=count, iterations=2)
        def test_none(): pass
        """
    )
    plain, isolated = (json.loads(text) for text in neighbours.files("b.json", "--benchmark-json=b.json"))
    for bench in (*plain["benchmarks"], *isolated["benchmarks"]):
        stats = bench.pop("stats")
        assert 0.001 < stats["min"] <= stats["mean"] <= stats["max"]
        bench["rounds"] = stats["rounds"], stats["iterations"], len(stats["data"])
    assert isolated["benchmarks"] == plain["benchmarks"]
    assert sorted(bench["rounds"] for bench in isolated["benchmarks"]) == [(3, 2, 3), (4, 2, 4)]


@pytest.mark.needs("sandbox", "pytest-mock", "pytest-subprocess")
def test_pytest_mock_and_pytest_subprocess_patch_inside(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_mock", "pytest_subprocess.fixtures")
    neighbours.project.write(
        test_it="""
        import os, subprocess

        def test_mocked(mocker):
            mocker.patch("os.getcwd", return_value="elsewhere")
            assert os.getcwd() == "elsewhere"
        def test_mocked_no_more(): assert os.getcwd() != "elsewhere"
        def test_fake(fp):
            fp.register(["no-such-program"], stdout="faked")
            assert subprocess.check_output(["no-such-program"]) == b"faked"
        def test_real(): assert subprocess.check_output(["echo", "real"]) == b"real\\n"
        def test_called(mocker): mocker.patch("os.getcwd").assert_called_once_with(1)
        """
    )
    assert "1 failed, 4 passed" in neighbours.same()


@pytest.mark.needs("sandbox", "pytest-sugar")
def test_pytest_sugar_shows_the_same(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_sugar")
    neighbours.project.write(test_it=OUTCOMES.replace("not random.random()", "number == 1"))
    assert "3 failed" not in neighbours.same("--force-sugar")


@pytest.mark.needs("sandbox", "pytest-instafail")
def test_pytest_instafail_shows_failures_at_once(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_instafail")
    neighbours.project.write(test_it=OUTCOMES.replace("not random.random()", "number == 1"))
    shown = neighbours.same("--instafail", "-v")
    assert shown.index("said before") < shown.index("::test_xfail")


@pytest.mark.needs("sandbox", "pytest-html")
def test_pytest_html_writes_the_same_rows_and_extras(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_metadata.plugin", "pytest_html.plugin", "pytest_html.fixtures")
    neighbours.project.write(
        conftest="""
        import pytest, pytest_html

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(item, call):
            report = (yield).get_result()
            if report.when == "call":
                report.extras = [*getattr(report, "extras", []), pytest_html.extras.text("told by " + item.name)]
        """,
        test_it=OUTCOMES.replace("not random.random()", "number == 1"),
    )
    pages = neighbours.files("page.html", "--html=page.html", "--self-contained-html")
    plain, isolated = (
        json.loads(re.findall(r'data-jsonblob="([^"]*)"', page)[0].replace("&#34;", '"').replace("&amp;", "&"))["tests"]
        for page in pages
    )
    assert _without_times(isolated) == _without_times(plain)
    assert str(isolated).count("'format_type': 'text'") == 5  # one of each call


@pytest.mark.needs("sandbox", "pytest-httpserver")
def test_what_a_test_tells_the_server_of_pytest_httpserver_is_answered(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_httpserver.pytest_plugin")
    neighbours.project.write(
        test_it="""
        import pytest
        from urllib.request import urlopen

        @pytest.mark.parametrize("answer", ["one", "two"])
        def test_answer(httpserver, answer):
            httpserver.expect_request("/").respond_with_data(answer)
            assert urlopen(httpserver.url_for("/")).read().decode() == answer
            assert len(httpserver.log) == 1
        def test_nothing_expected(httpserver): urlopen(httpserver.url_for("/"))
        """
    )
    assert neighbours.isolated()[-1] == neighbours.plain()[-1]
    assert "2 passed, 1 failed" in neighbours.isolated()[-1] or "1 failed, 2 passed" in neighbours.isolated()[-1]


@pytest.mark.needs("sandbox", "pytest-reportlog")
def test_pytest_reportlog_writes_the_same(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_reportlog.plugin")
    neighbours.project.write(test_it=OUTCOMES.replace("not random.random()", "number == 1"))
    logs = neighbours.files("log.jsonl", "--report-log=log.jsonl")
    plain, isolated = ([_without_times(json.loads(line)) for line in log.splitlines()] for log in logs)
    assert isolated == plain


@pytest.mark.needs("sandbox", "pytest-json-report")
def test_pytest_json_report_writes_the_same_and_its_metadata(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_metadata.plugin", "pytest_jsonreport.plugin")
    neighbours.project.write(
        test_it=OUTCOMES.replace("not random.random()", "number == 1")
        + "    def test_metadata(json_metadata): json_metadata['found'] = [1, 2]\n"
    )
    plain, isolated = map(
        json.loads, neighbours.files("report.json", "--json-report", "--json-report-file=report.json")
    )
    assert isolated["summary"] == plain["summary"]
    assert _without_times(isolated["tests"]) == _without_times(plain["tests"])
    assert isolated["tests"][-1]["metadata"] == {"found": [1, 2]}


@pytest.mark.needs("sandbox", "pytest-socket")
def test_pytest_socket_blocks_inside_and_no_further(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_socket")
    neighbours.project.write(
        test_it="""
        import socket
        import pytest

        def test_blocked(): socket.socket()
        @pytest.mark.enable_socket
        def test_allowed(): socket.socket().close()
        @pytest.mark.allow_hosts(["127.0.0.1"])
        def test_other_hosts(): socket.create_connection(("192.0.2.1", 1))
        """
    )
    shown = neighbours.same("--disable-socket", "-rA")
    assert "2 failed, 1 passed" in shown


@pytest.mark.needs("sandbox", "pytest-memray")
def test_pytest_memray_limits_and_can_report(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_memray.plugin")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.limit_memory("20 MB")
        def test_under(): bytearray(5 << 20)
        @pytest.mark.limit_memory("20 MB")
        def test_over(): bytearray(50 << 20)
        """
    )
    (neighbours.path / "bin").mkdir()
    arguments = ["--memray", "--memray-bin-path=bin"]
    shown = "\n".join(neighbours.isolated(*arguments))
    assert "1 failed, 1 passed" in shown
    assert "Allocation results" not in shown  # as docs/neighbours.md says
    shown = "\n".join(neighbours.isolated(*arguments, "--isolate-writable=bin"))
    assert "Allocation results for test_it.py::test_under" in shown


@pytest.mark.needs("sandbox", "pytest-django")
def test_pytest_django_has_one_database_and_rolls_back(
    neighbours: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours.load("pytest_django.plugin")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site_settings")
    neighbours.project.write(
        site_settings="""
        from django.http import HttpResponse
        from django.urls import path

        SECRET_KEY = "x"
        USE_TZ = True
        DATABASES = {"default": {
            "ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "TEST": {"NAME": "test_db.sqlite3"},
        }}
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
        ROOT_URLCONF = "site_settings"
        urlpatterns = [path("", lambda request: HttpResponse("hello"))]
        """,
        test_it="""
        import pytest
        from django.contrib.auth.models import User

        @pytest.mark.django_db
        def test_makes_a_user():
            User.objects.create(username="a")
            assert User.objects.count() == 1
        @pytest.mark.django_db(transaction=True)
        def test_makes_one_for_good():
            assert User.objects.count() == 0
            User.objects.create(username="a")
        @pytest.mark.django_db
        def test_sees_neither(): assert User.objects.count() == 0
        def test_page(client): assert client.get("/").content == b"hello"
        def test_no_database(): User.objects.count()
        """,
    )
    assert "1 failed, 4 passed" in neighbours.same()
    assert not (neighbours.path / "test_db.sqlite3").exists()


@pytest.mark.needs("sandbox", "pytest-retry")
def test_failures_are_retried_by_pytest_retry(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_retry.retry_plugin")
    neighbours.project.write(
        test_it="""
        import pytest

        attempts = []
        @pytest.mark.flaky(retries=2)
        def test_second_time_lucky():
            attempts.append(1)
            assert len(attempts) == 2
        @pytest.mark.flaky(retries=1)
        def test_never(): assert 0
        def test_once(): pass
        """
    )
    shown = neighbours.same("-v")
    assert "passed on attempt 2!" in shown
    assert "1 failed, 2 passed, 2 retried" in shown


@pytest.mark.needs("sandbox", "pytest-dependency")
def test_pytest_dependency_knows_how_tests_ended(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_dependency")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.dependency
        def test_good(): pass
        @pytest.mark.dependency
        def test_bad(): assert 0
        @pytest.mark.dependency
        @pytest.mark.skip
        def test_skipped(): pass
        @pytest.fixture(scope="class")
        def wide():
            yield
            assert 0
        class TestTornDown:
            @pytest.mark.dependency(name="torn down")
            def test_passes(self, wide): pass
        @pytest.mark.dependency(depends=["test_good"])
        def test_run(): pass
        @pytest.mark.dependency(depends=["test_run", "test_bad"])
        def test_after_bad(): pass
        @pytest.mark.dependency(depends=["test_skipped"])
        def test_after_skipped(): pass
        @pytest.mark.dependency(depends=["torn down"])
        def test_after_a_failed_tear_down(): pass
        """
    )
    shown = neighbours.same("-rs")
    assert "1 failed, 3 passed, 4 skipped, 1 error" in shown


@pytest.mark.needs("sandbox", "syrupy")
def test_syrupy_writes_and_deletes_what_it_does_in_a_plain_run(neighbours: Neighbourhood) -> None:
    neighbours.load("syrupy")
    tests = """
        import pytest
        from syrupy.extensions.json import JSONSnapshotExtension
        from syrupy.extensions.single_file import SingleFileSnapshotExtension

        class Ours(JSONSnapshotExtension): pass
        @pytest.fixture
        def ours(snapshot): return snapshot.use_extension(Ours)
        @pytest.mark.parametrize("number", [1, 2])
        def test_number(snapshot, number): assert snapshot == number
        def test_several(snapshot):
            assert snapshot == "first"
            assert snapshot(name="named") == "second"
            assert "third" == snapshot
        def test_ours(ours): assert ours == {"a": [1]}
        def test_bytes(snapshot): assert snapshot(extension_class=SingleFileSnapshotExtension) == b"\\0\\xff"
        @pytest.mark.skip
        def test_skipped(snapshot): assert snapshot == 1
    """
    changed = tests.replace("== number", "== -number").replace("test_several", "test_renamed")
    neighbours.project.write(test_it=tests)
    for step in ("--snapshot-update", "-rs"):
        assert "snapshots" in neighbours.same_tree("__snapshots__", step)
    neighbours.project.write(test_it=changed)
    assert "3 snapshots failed" in neighbours.same_tree("__snapshots__", "-rs")
    assert "3 unused snapshots deleted" in neighbours.same_tree("__snapshots__", "--snapshot-update")


@pytest.mark.needs("sandbox", "syrupy")
def test_a_snapshot_of_a_class_that_is_made_inside_is_known_and_not_deleted(neighbours: Neighbourhood) -> None:
    neighbours.load("syrupy")
    neighbours.project.write(
        test_it="""
        import pytest
        from syrupy.extensions.json import JSONSnapshotExtension

        @pytest.fixture
        def ours(snapshot):
            class Local(JSONSnapshotExtension): pass
            return snapshot.use_extension(Local)
        def test_it(ours): assert ours == [1]
        """
    )
    neighbours.plain("--snapshot-update")
    assert "1 snapshot passed" in neighbours.same_tree("__snapshots__")
    (snapshot,) = (neighbours.path / "__snapshots__").rglob("*.json")
    snapshot.unlink()
    neighbours.project.isolated("--snapshot-update").stdout.fnmatch_lines(
        ["*test_it: a snapshot is not written*Local*"]
    )


@pytest.mark.needs("sandbox", "pytest-bdd")
def test_pytest_bdd_reports_the_steps(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_bdd.plugin")
    (neighbours.path / "it.feature").write_text(
        """
        Feature: It
          Scenario: works
            Given something
            Then it holds
          Scenario: fails
            Given something
            Then it does not hold
        """
    )
    neighbours.project.write(
        test_it="""
        from pytest_bdd import scenarios, given, then

        scenarios("it.feature")
        @given("something", target_fixture="something")
        def something(): return 1
        @then("it holds")
        def holds(something): assert something == 1
        @then("it does not hold")
        def does_not_hold(something): assert something == 2
        """
    )
    assert "Then it does not hold" in neighbours.same("--gherkin-terminal-reporter", "-vv")
    plain, isolated = map(json.loads, neighbours.files("it.json", "--cucumberjson=it.json"))
    assert _without_times(isolated) == _without_times(plain)
    assert [len(scenario["steps"]) for scenario in isolated[0]["elements"]] == [2, 2]


ALLURE = """
    import allure
    import pytest

    @pytest.fixture(scope="module")
    def wide(): yield
    @pytest.fixture
    def narrow(wide): yield
    @allure.step("a step of {name}")
    def step(name): pass
    @allure.title("With a title")
    @allure.feature("It")
    def test_pass(narrow):
        step("ours")
        with allure.step("outer"):
            allure.attach("text", "note", allure.attachment_type.TEXT)
    @pytest.mark.parametrize("number", [1, 2])
    def test_number(number, wide):
        allure.dynamic.link("https://example.org")
        print("said")
        assert number == 1
    @pytest.mark.xfail(reason="known")
    def test_xfail(): assert 0
    @pytest.mark.skip(reason="not now")
    def test_skip(wide): pass
    def test_skips(): pytest.skip("found out")
"""


@pytest.mark.needs("sandbox", "allure-pytest")
def test_allure_writes_the_same_results(neighbours: Neighbourhood) -> None:
    neighbours.load("allure_pytest.plugin")
    neighbours.project.write(test_it=ALLURE)
    found = []
    for run in (neighbours.plain, neighbours.isolated):
        run("--alluredir=results", "--clean-alluredir")
        found.append(_allure_results(neighbours.path / "results"))
    plain, isolated = found
    assert isolated == plain
    assert [result["status"] for result in isolated[0]] == ["passed"] * 2 + ["failed"] + ["skipped"] * 3


@pytest.mark.needs("sandbox", "allure-pytest")
def test_allure_has_a_result_of_a_test_that_died(neighbours: Neighbourhood) -> None:
    neighbours.load("allure_pytest.plugin")
    neighbours.project.write(
        test_it="""
        import os, allure

        @allure.feature("It")
        def test_dies(): os.kill(os.getpid(), 9)
        """
    )
    neighbours.isolated("--alluredir=results")
    ((result,), _) = _allure_results(neighbours.path / "results")
    assert (result["name"], result["status"]) == ("test_dies", "failed")
    assert "killed by SIGKILL" in result["statusDetails"]["message"]
    assert {"name": "feature", "value": "It"} in result["labels"]


def _allure_results(folder: Path) -> tuple[list[Any], list[int]]:
    """Tests by name, with the texts of their attachments, and how many tests the fixture ``wide`` was for."""
    tests = [json.loads(path.read_text()) for path in folder.glob("*-result.json")]
    groups = [json.loads(path.read_text()) for path in folder.glob("*-container.json")]
    for test in tests:
        test["labels"] = [label for label in test["labels"] if label["name"] != "thread"]
        for part in (test, *test.get("steps", ())):
            for attachment in part.get("attachments", ()):
                attachment["source"] = (folder / attachment["source"]).read_text()
    wide = [len(group["children"]) for group in groups if "wide" in [before["name"] for before in group["befores"]]]
    return sorted(_without_times(tests), key=str), wide


@pytest.mark.needs("sandbox", "pytest-flask")
def test_pytest_flask_pushes_its_context_inside(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_flask.plugin")
    neighbours.project.write(
        test_it="""
        import pytest
        from flask import Flask, url_for

        @pytest.fixture(scope="session")
        def app():
            app = Flask("it")
            app.add_url_rule("/", "index", lambda: {"a": 1})
            return app

        def test_page(client): assert client.get(url_for("index")).json == {"a": 1}
        def test_config(config): assert config["TESTING"] is False
        def test_wrong(client): assert client.get(url_for("index")).json == {"a": 2}
        """
    )
    assert "1 failed, 2 passed" in neighbours.same()


def _without_times(data: Any) -> Any:
    """Parsed JSON without durations and other times, and without our own properties and sections."""
    if isinstance(data, dict):
        return {
            key: _without_times(value)
            for key, value in data.items()
            if key not in {"duration", "start", "stop", "created", "user_properties", "pid", "uuid"}
        }
    if isinstance(data, list):
        return [_without_times(entry) for entry in data]
    return re.sub(r"0x[0-9a-f]{6,}|[0-9]+ ms|[0-9:]{8}", "~", data) if isinstance(data, str) else data


def test_the_table_names_all_that_are_tested_here() -> None:
    table = Path(os.path.dirname(__file__), "..", "..", "docs", "neighbours.md").read_text()
    names = r"pytest-[a-z-]+|flaky|syrupy|allure-pytest"
    tested = set(re.findall(f'"({names})"', Path(__file__).read_text()))
    assert tested == set(re.findall(rf"^\| ({names})\b", table, re.MULTILINE))
