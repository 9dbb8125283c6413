"""Makes functions, classes and constants immortal, where enough forks are to come: docs/decisions/immortal-heap.md.

Whoever counts a reference writes to the object, so a child copies each page of functions and constants that it uses.
Since Python 3.12 an object can be immortal: it is not counted (PEP 683). What is found from the modules on becomes so,
if all that it holds is of kinds that do no harm by living until the end.
"""

from __future__ import annotations

import collections
import functools
import itertools
import re
import sys
import types
from collections.abc import Callable

from pytest_isolate.linux import native
from pytest_isolate.linux.native import Kind
from pytest_isolate.session import interpreter_end

#: What the count of an immortal object is, by version: of Include/refcount.h, where no increment changes it.
_COUNTS = {(3, 12): 0xFFFFFFFF, (3, 13): 0xFFFFFFFF, (3, 14): 0xC0000000, (3, 15): 0xC0000000}
_FEWEST = 50  # runs to come: below, the search costs as much as could be saved
_RHYTHM = 20  # runs from one look for new modules to the next
_GROWTH = 20  # modules that are worth another search

_MADE = (str, int, float, complex, bytes, bool, range)
_MADE_IF_WHAT_THEY_HOLD = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.CellType,  # a function never changes its own
    types.GenericAlias,
    types.MappingProxyType,
    types.MethodType,
    types.UnionType,
    functools.cached_property,
    property,
    staticmethod,
    classmethod,
    tuple,
    frozenset,
)
#: May be given anything later, and dropped then, so they stay as they are.
_SPARED = (list, dict, set, collections.OrderedDict, itertools.count)
#: Instances of these modules' classes are values, which never change.
_MODULES_OF_VALUES = (
    "collections.abc",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "pathlib",
    "pathlib._local",
    "typing",
)


class ImmortalHeap:
    """The functions, classes and constants of this process."""

    def __init__(
        self,
        *,
        wanted: bool = True,
        lasting: Callable[[], list[object]] = list,
        count: Callable[[], int | None] | None = None,
        search: Callable[[list[object], int], int] | None = None,
    ) -> None:
        """Find out whether this Python has immortal objects.

        :param lasting: instances that last as long as this process, whatever they hold.
        :param wanted: whether the user wants it; it is left alone where this Python has no immortal objects, too.
        """
        self._count = (count or _count)() if wanted else None
        self._search = search or _search
        self._lasting = lasting
        self._modules = 0  # that there were at the last search

    def settle(self, runs: int) -> None:
        """Make what is there immortal, if that pays for ``runs`` forks to come. Takes some hundredths of a second."""
        if self._count is None or runs < _FEWEST or (self._modules and runs % _RHYTHM):
            return
        if len(sys.modules) < self._modules + _GROWTH:
            return
        self._modules = len(sys.modules)
        self._search(self._lasting(), self._count)


def _count() -> int | None:
    """What an immortal object's count is here; None if there are none, or not as we know them."""
    if sys.implementation.name != "cpython" or sys.maxsize < 1 << 32 or sys.abiflags:  # t: free-threaded; d: debugging
        return None
    count = _COUNTS.get(sys.version_info[:2])
    return count if count is not None and native.keeps_count(count) else None


def _search(lasting: list[object], count: int) -> int:
    modules = [module for module in [*sys.modules.values()] if type(module) is types.ModuleType]
    made = native.make_immortal(modules, _kinds(), lasting, count)
    interpreter_end.install()
    return made


def _kinds() -> dict[type, Kind]:
    """What instances of a class are to the search. Exactly of that class: users' classes may hold anything."""
    held = Kind.HARMLESS | Kind.HOLDS
    kinds = dict.fromkeys(_values(), held | Kind.MADE)
    kinds |= dict.fromkeys(_SPARED, held)
    kinds |= dict.fromkeys(_MADE, Kind.HARMLESS | Kind.MADE)
    kinds |= dict.fromkeys((*_MADE_IF_WHAT_THEY_HOLD, *types.BuiltinFunctionType.__subclasses__()), held | Kind.MADE)
    kinds |= dict.fromkeys(_inert(), Kind.HARMLESS)
    kinds[re.Pattern] = Kind.HARMLESS | Kind.MADE
    kinds[types.CodeType] = held | Kind.MADE | Kind.CODE
    if (enum := sys.modules.get("enum")) is not None:
        kinds |= {enum.property: held | Kind.MADE, enum.EnumMeta: Kind.HARMLESS | Kind.INSTANCES}
    return kinds


def _values() -> list[type]:
    found = [vars(module) for name in _MODULES_OF_VALUES if (module := sys.modules.get(name)) is not None]
    return [
        one
        for names in found
        for one in names.values()
        if isinstance(one, type) and one.__module__ in _MODULES_OF_VALUES and not hasattr(one, "__del__")
        if _compares_by_identity(one)
    ]


def _compares_by_identity(one: type) -> bool:
    """Whether to have it as a key runs no code of its own: to compare ``typing._UnionGenericAlias`` is deprecated."""
    return type(one).__eq__ is type.__eq__ and type(one).__hash__ is type.__hash__


def _inert() -> list[type]:
    """What holds nothing, or only weakly."""
    import _thread  # noqa: PLC0415
    import abc  # noqa: PLC0415
    import weakref  # noqa: PLC0415

    examples = (abc.ABC.__dict__["_abc_impl"], _thread.allocate_lock(), _thread.RLock())
    field = vars(collections)["_tuplegetter"]  # of a named tuple; in C
    return [object, weakref.ReferenceType, field, *map(type, examples)]
