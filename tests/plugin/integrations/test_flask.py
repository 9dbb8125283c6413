"""pytest-flask: its context is pushed inside."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


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
