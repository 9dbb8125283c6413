"""When another sandbox is tried for: directories come and go while one is built."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate.plan.host import ESSENTIAL, Host
from pytest_isolate.plan.host_tree import Entry, HostTree
from pytest_isolate.session.sandbox_pool import Sandboxes
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

_GONE = [Entry(path=f"/gone-{number}", kind="directory") for number in range(20)]
_SANDBOX: Any = "sandbox"


class _Builder:
    """Answers in turn, and then for ever with the last answer; raises those that are errors."""

    def __init__(self, *answers: Any, is_alive: bool = True) -> None:
        self._answers = [*answers]
        self._is_alive = is_alive
        self.asked = 0

    def get(self, _number: int) -> Any:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, SetupError):
            raise answer
        return answer

    def alive(self) -> bool:
        return self._is_alive


def _pool(monkeypatch: pytest.MonkeyPatch, builder: _Builder) -> Sandboxes:
    pool = Sandboxes.__new__(Sandboxes)
    pool.builders = SimpleNamespace(of=lambda _spec: builder)  # type: ignore[assignment]
    pool.host = Host(
        uid=0, gid=0, real_root=False, namespaces=ESSENTIAL, tree=HostTree(mounts=(), points={}, traps=tuple(_GONE))
    )
    pool._planned = {}
    for name, answer in (("_plan_once", SimpleNamespace(number=1)), ("_host_has_changed", True)):
        monkeypatch.setattr(pool, name, lambda _spec, answer=answer: answer, raising=False)
    monkeypatch.setattr(pool, "_look_at_copies", lambda: None)
    monkeypatch.setattr(pool, "_replace", lambda _builder: None)
    return pool


def _missing(path: str) -> SetupError:
    return SetupError("mount overlay", f"/new{path}", errno.ENOENT)


def test_directories_may_be_removed_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _pool(monkeypatch, _Builder(*[_missing(entry.path) for entry in _GONE], _SANDBOX))

    assert pool._sandbox(Spec()) is _SANDBOX
    assert [*pool.host.tree.left_out] == [entry.path for entry in _GONE]


@pytest.mark.parametrize("path", [_GONE[0].path, "/of-no-concern"])
def test_what_is_missing_nevertheless_is_an_error(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    builder = _Builder(_missing(path))

    with pytest.raises(SetupError, match="ENOENT"):
        _pool(monkeypatch, builder)._sandbox(Spec())
    assert builder.asked <= 3


@pytest.mark.parametrize("is_alive", [True, False])
def test_what_else_fails_is_tried_once_more(monkeypatch: pytest.MonkeyPatch, *, is_alive: bool) -> None:
    builder = _Builder(SetupError("mount proc", "/proc", errno.EPERM), is_alive=is_alive)

    with pytest.raises(SetupError, match="EPERM"):
        _pool(monkeypatch, builder)._sandbox(Spec())
    assert builder.asked == 2


@pytest.mark.parametrize(("code", "asked"), [(errno.ESRCH, 2), (errno.EPERM, 1)])
def test_a_sandbox_whose_first_process_was_killed_is_built_anew_on_the_same_host(
    monkeypatch: pytest.MonkeyPatch, code: int, asked: int
) -> None:
    builder = _Builder(SetupError("start PID 1", "", code), _SANDBOX)
    pool = _pool(monkeypatch, builder)
    monkeypatch.setattr(pool, "_host_has_changed", lambda _spec: False)

    with nullcontext() if asked == 2 else pytest.raises(SetupError):
        assert pool._sandbox(Spec()) is _SANDBOX
    assert builder.asked == asked
