"""What a session is called, also where one is within another in the same process."""

from __future__ import annotations

import os

import pytest

from pytest_isolate.session import names
from pytest_isolate.session.network.session_listeners import COOKIE


def test_a_run_within_a_run_of_the_same_process_is_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COOKIE, raising=False)
    session = names.new_name()
    assert names.new_worker(session) == "main"
    names.mark_descendants(session)
    inner = names.new_worker(session)
    assert inner != "main"
    assert names.new_worker(session) != inner


def test_a_run_within_a_worker_of_xdist_gives_the_controllers_name_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COOKIE, "controller")
    undo = names.mark_descendants(names.new_name())
    assert os.environ[COOKIE] == names.new_name()
    undo()
    assert os.environ[COOKIE] == "controller"


def test_the_name_goes_with_the_run_unless_another_is_there_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COOKIE, raising=False)
    undo = names.mark_descendants("first")
    monkeypatch.setenv(COOKIE, "second")
    undo()
    assert os.environ[COOKIE] == "second"
    monkeypatch.setenv(COOKIE, "first")
    undo()
    assert COOKIE not in os.environ
    monkeypatch.setenv(COOKIE, "first")  # for what monkeypatch undoes
