"""What a test's markers ask for, from the closest outwards.

Closest is the parameter's, then the function's, the class's, its bases', the module's, the package's. This is pytest's
own order but for two cases: pytest puts the marks of a ``pytest.param`` behind the function's, and those of a class
behind its bases'. In both, the more particular one is what a user means to win.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin.config import pytest_timeout
from pytest_isolate.spec import device_paths, image_names
from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.key_values import KeyValues, parse_all
from pytest_isolate.spec.messages import shown

if TYPE_CHECKING:
    from pytest_isolate.spec.spec import Spec

_NAMES = ("isolate", "no_isolate", "timeout")


class MarkerReader:
    """Reads the markers of many items; each marker, and each combination of them, once.

    :param rootpath: the directory from which relative paths count, and in terms of which problems name places.
    :param everything: isolate items without a marker too.
    :param defaults: what lies below the markers, the stronger first.
    :param images: the folder that has the images.
    :param honour_timeout: take pytest-timeout's marker for our key ``timeout`` where that is closer.
    """

    def __init__(
        self, rootpath: Path, *, everything: bool, defaults: Sequence[KeyValues], honour_timeout: bool, images: str
    ) -> None:
        self.problems: list[str] = []  #: what was wrong so far, one line each
        self._rootpath = rootpath
        self._everything = everything
        self._defaults = tuple(defaults)
        self._honour_timeout = honour_timeout
        self._images = images
        # By identity, as marks may hold unhashable values; the mark is kept, so that its id is not used again.
        self._layers: dict[int, tuple[pytest.Mark, KeyValues]] = {}
        self._specs: dict[tuple[int, ...], Spec] = {}

    def spec(self, item: pytest.Item) -> Spec | None:
        """What ``item`` asks for; None if it is not to be isolated. What is wrong goes to :attr:`problems`.

        Marks that have no say, below a closer ``no_isolate`` say, are checked too.
        """
        marks = list(closest_first(item))
        layers = [(node, mark, self._layer(node, mark)) for node, mark in marks]
        if not self._isolated(marks):
            return None
        from pytest_isolate.spec.spec import Spec, conflict  # noqa: PLC0415 - not before a test is isolated

        combination = tuple(id(mark) for _, mark in marks)
        if combination not in self._specs:
            spec = Spec.merge([*(layer for _, _, layer in layers), *self._defaults])
            self._check(conflict(spec), layers)
            self._specs[combination] = spec
        return self._specs[combination]

    def _isolated(self, marks: Sequence[tuple[Any, pytest.Mark]]) -> bool:
        """The closer of the two markers decides."""
        deciding = next((mark.name for _, mark in marks if mark.name != "timeout"), None)
        return self._everything if deciding is None else deciding == "isolate"

    def _layer(self, node: Any, mark: pytest.Mark) -> KeyValues:
        if id(mark) not in self._layers:
            layer, problems = self._read(mark)
            if problems:
                where = place(node, mark, self._rootpath)
                self.problems += [str(SpecError(where, problem)) for problem in problems]
            self._layers[id(mark)] = (mark, layer)
        return self._layers[id(mark)][1]

    def _read(self, mark: pytest.Mark) -> tuple[KeyValues, list[str]]:
        if mark.name == "timeout":
            return self._read_timeout(mark) if self._honour_timeout else ({}, [])
        if mark.name == "no_isolate":
            return {}, ["it takes no arguments; write @pytest.mark.no_isolate."] if mark.args or mark.kwargs else []
        layer, errors = parse_all(mark.kwargs, "", str(self._rootpath))
        problems = [error.problem for error in errors]
        if problem := device_paths.problem(layer.get("devices", {}).get("devices")):
            problems.append(problem)
        if problem := image_names.problem(layer.get("image", {}).get("image"), self._images):
            problems.append(problem)
        if mark.args:
            given, example = ", ".join(shown(value) for value in mark.args), _example(mark.args[0])
            problems.insert(0, f"{given}: it takes no positional arguments; name the key, as in memory={example}.")
        return layer, problems

    def _read_timeout(self, mark: pytest.Mark) -> tuple[KeyValues, list[str]]:
        """pytest-timeout's marker; what is wrong with its other arguments that plugin says itself."""
        value = mark.args[0] if mark.args else mark.kwargs.get("timeout")
        if value is None:
            return {}, []
        try:
            return pytest_timeout.read(value, ""), []
        except SpecError as error:
            return {}, [error.problem]

    def _check(self, found: tuple[str, str] | None, layers: Sequence[tuple[Any, pytest.Mark, KeyValues]]) -> None:
        """Complain of keys that don't go together, unless they only come from the defaults, which are for all tests."""
        wrong = any(mark.name == "isolate" and mark.kwargs.keys() != layer.keys() for _, mark, layer in layers)
        if found is None or wrong:  # a wrong key has been told already, and may be the missing one
            return
        key, problem = found
        for node, mark, layer in layers:
            if key in layer:
                text = str(SpecError(place(node, mark, self._rootpath), problem))
                if text not in self.problems:
                    self.problems.append(text)
                return


def closest_first(item: pytest.Item) -> Iterator[tuple[Any, pytest.Mark]]:
    """The marks that concern us, with the node that bears each; at one node, ours before pytest-timeout's."""
    for node in reversed(item.listchain()):
        marks = [mark for mark in node.own_markers if mark.name in _NAMES]
        if len(marks) > 1:
            marks.sort(key=lambda mark: (mark.name == "timeout", _distance(node, mark)))
        for mark in marks:
            yield node, mark


def _distance(node: Any, mark: pytest.Mark) -> int:
    """How far ``mark`` is from ``node``: the parameter's before the function's, the class's before its bases'."""
    if isinstance(node, pytest.Class):
        owner = _owner(node.obj, mark)
        return 0 if owner is None else node.obj.__mro__.index(owner)
    callspec = getattr(node, "callspec", None)
    return 0 if callspec is not None and any(mark is other for other in callspec.marks) else 1


def _owner(cls: type, mark: pytest.Mark) -> type | None:
    """The class, ``cls`` or a base, that bears ``mark``."""
    return next((each for each in cls.__mro__ if _bears(vars(each), mark)), None)


def _bears(namespace: Mapping[str, Any], mark: pytest.Mark) -> bool:
    marks = namespace.get("pytestmark", [])
    return any(getattr(each, "mark", each) is mark for each in (marks if isinstance(marks, list) else [marks]))


def place(node: Any, mark: pytest.Mark, rootpath: Path) -> str:
    """Where ``mark`` stands: ``tests/test_a.py:7: @pytest.mark.isolate``; without line if it can't be found."""
    written = f"pytest.mark.{mark.name}"
    target = getattr(node, "obj", None)
    if isinstance(node, pytest.Class):
        target = _owner(node.obj, mark)
    elif not isinstance(node, pytest.Module) and not _bears(getattr(target, "__dict__", {}), mark):
        target = None  # of a parameter, or added by a hook
    if target is None:
        return f"{node.nodeid}: {written}"
    try:
        path = Path(inspect.getsourcefile(target) or "")
        lines, first = ([], 0) if isinstance(node, pytest.Module) else inspect.getsourcelines(target)
    except (OSError, TypeError):
        return f"{node.nodeid}: {written}"
    shown_path = path.relative_to(rootpath) if path.is_relative_to(rootpath) else path
    if isinstance(node, pytest.Module):
        return f"{shown_path.as_posix()}: pytestmark = {written}"
    offset = next((number for number, line in enumerate(lines) if re.search(rf"\bmark\.{mark.name}\b", line)), 0)
    return f"{shown_path.as_posix()}:{first + offset}: @{written}"


def _example(value: object) -> str:
    return shown(value) if isinstance(value, str) else '"50M"'
