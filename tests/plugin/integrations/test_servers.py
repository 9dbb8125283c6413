"""Plugins whose server is a thread that serves what the test tells it: each sandbox has its own."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

pytestmark = pytest.mark.needs("sandbox")


@pytest.mark.needs("pytest-localftpserver")
@pytest.mark.parametrize("scope", ["module", "session"])
def test_files_that_a_test_gives_to_pytest_localftpserver_are_served(
    neighbours: Neighbourhood, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    monkeypatch.setenv("FTP_FIXTURE_SCOPE", scope)
    neighbours.load("pytest_localftpserver.plugin")
    neighbours.project.options += ["-W", "ignore::DeprecationWarning"]  # of its own imports
    neighbours.project.write(
        test_it="""
        import ftplib, time
        import pytest

        def connect(client, port):
            for _ in range(200):  # the fixture does not wait for its thread
                try: return client.connect("127.0.0.1", port)
                except ConnectionRefusedError: time.sleep(0.05)

        @pytest.mark.parametrize("name", ["one.py", "two.py"])
        def test_it(ftpserver, name):
            ftpserver.put_files({"src": __file__, "dest": name})
            client = ftplib.FTP()
            connect(client, ftpserver.server_port)
            client.login(ftpserver.username, ftpserver.password)
            assert name in client.nlst()
        """
    )
    assert "2 passed" in neighbours.same()


@pytest.mark.needs("pytest-sftpserver")
def test_what_a_test_tells_the_server_of_pytest_sftpserver_is_served(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_sftpserver.plugin")
    neighbours.project.options += ["-W", "ignore::pytest.PytestWarning"]  # of its own fixture
    neighbours.project.write(
        test_it="""
        import paramiko
        import pytest

        @pytest.mark.parametrize("text", ["one", "two"])
        def test_it(sftpserver, text):
            with sftpserver.serve_content({"name": text}):
                transport = paramiko.Transport((sftpserver.host, sftpserver.port))
                transport.connect(username="a", password="b")
                with paramiko.SFTPClient.from_transport(transport).open("/name") as file:
                    assert file.read().decode() == text
                transport.close()
        """
    )
    assert "2 passed" in neighbours.same()


@pytest.mark.needs("pytest-localserver")
def test_what_a_test_tells_the_server_of_pytest_localserver_is_served(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_localserver.plugin")
    neighbours.project.write(
        test_it="""
        import pytest
        from urllib.request import urlopen

        @pytest.mark.parametrize("text", ["one", "two"])
        def test_it(httpserver, text):
            httpserver.serve_content(text)
            assert urlopen(httpserver.url).read().decode() == text
        """
    )
    assert "2 passed" in neighbours.same()


def test_a_fixture_of_the_project_that_has_the_name_of_a_plugins_is_set_up_outside(neighbours: Neighbourhood) -> None:
    neighbours.project.write(
        test_it="""
        import os, pytest

        @pytest.fixture(scope="session")
        def live_server(): return os.getpid()

        def test_it(live_server, isolated): assert live_server != os.getpid() or not isolated
        """
    )
    assert "1 passed" in neighbours.same()


@pytest.mark.needs("pytest-httpserver")
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
