"""What a failed test misses that an earlier one has set in memory: found in the code of that test, after the failure.

So passing tests pay nothing. Only what the test's own function stores is seen, not what it calls.
"""

from __future__ import annotations

import dis
import errno
import importlib.machinery
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType

from pytest_isolate.linux.calls import calls

#: Names of tests, the latest first, and the code of each.
Codes = Iterable[tuple[str, CodeType]]
_ATTRIBUTE = re.compile(r"AttributeError: .*has no attribute '(\w+)'")
_GLOBAL = re.compile(r"NameError: name '(\w+)' is not defined")
_KEY = re.compile(r"KeyError: '([^'\n]+)'")
_SUBMODULE = re.compile(r"AttributeError: module '([\w.]+)' has no attribute '(\w+)'")
_PORT = re.compile(r"(?<![\w.])([1-9][0-9]{1,4})(?![\w.])")
_REFUSED = calls.strerror(errno.ECONNREFUSED)
#: What tests call to serve.
_SERVES = {"bind", "listen", "create_server", "start_server", "serve_forever", "Popen"}
_SERVES |= {"HTTPServer", "ThreadingHTTPServer", "TCPServer", "ThreadingTCPServer", "make_server"}
#: Where what is stored outlives the function that stores it.
_FROM_OUTSIDE = ("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_DEREF", "LOAD_NAME")
_MOST = 10  # names
_ENDS = "Let a higher-scoped fixture do that, or make the two one test."


def hints(text: str, codes: Callable[[], Codes]) -> list[str]:
    """Sentences on what ``text``, a traceback and output, says is not there. :param codes: of tests before."""
    wanted = itertools.islice(dict.fromkeys(_wanted(text)), _MOST)
    found = [_find(name, stores, codes) for name, stores in wanted]
    if _REFUSED in text:
        found.append(_find_server(text, codes))
    found += [_submodule(*match.groups()) for match in _SUBMODULE.finditer(text)]
    return [*dict.fromkeys(hint for hint in found if hint is not None)]


def _wanted(text: str) -> Iterator[tuple[str, Callable[[CodeType, str], bool]]]:
    yield from ((match[1], _stores_attribute) for match in _ATTRIBUTE.finditer(text))
    yield from ((match[1], _stores_global) for match in _GLOBAL.finditer(text))
    yield from ((match[1], _stores_key) for match in _KEY.finditer(text))


def _find(name: str, stores: Callable[[CodeType, str], bool], codes: Callable[[], Codes]) -> str | None:
    for test, whole in codes():
        if any(stores(code, name) for code in _with_inner(whole)):
            return (
                f"{name!r} is set by {test}, in its own sandbox only: it has copies of objects and os.environ. {_ENDS}"
            )
    return None


def _find_server(text: str, codes: Callable[[], Codes]) -> str | None:
    ports = {int(number) for number in _PORT.findall(text)}
    for test, whole in codes():
        inner = [*_with_inner(whole)]
        used = ports & {const for code in inner for const in _numbers(code.co_consts)}
        if used and any(_SERVES & {*code.co_names} for code in inner):
            return (
                f"Port {min(used)} seems to be served by {test}, whose sandbox is gone, and the server with it. {_ENDS}"
            )
    return None


def _submodule(package: str, name: str) -> str | None:
    """On a module that exists and that nobody has imported here."""
    path = getattr(sys.modules.get(package), "__path__", None)
    if path is None or importlib.machinery.PathFinder.find_spec(f"{package}.{name}", path) is None:
        return None
    return (
        f"{package}.{name} is a module that has not been imported in this sandbox. An earlier test may have done so in "
        f'its own: write "import {package}.{name}" where it is used.'
    )


def _stores_attribute(code: CodeType, name: str) -> bool:
    return _stores(code, "STORE_ATTR", name)


def _stores_global(code: CodeType, name: str) -> bool:
    return _stores(code, "STORE_GLOBAL", name)


def _stores(code: CodeType, step: str, name: str) -> bool:
    if name not in code.co_names:
        return False
    return any(each.opname == step and each.argval == name for each in dis.get_instructions(code))


def _stores_key(code: CodeType, name: str) -> bool:
    """In what was there before the function: ``CACHE["name"] = ...``, ``os.environ["NAME"] = ...``."""
    if name not in code.co_consts:
        return False
    steps = [each for each in dis.get_instructions(code) if each.opname not in ("CACHE", "NOP")]
    return any(
        store.opname == "STORE_SUBSCR" and key.argval == name and of.opname in _FROM_OUTSIDE
        for of, key, store in zip(steps, steps[1:], steps[2:], strict=False)
    )


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """It, and functions within."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _with_inner(const)


def _numbers(constants: Sequence[object]) -> Iterator[int]:
    for const in constants:
        if isinstance(const, tuple):
            yield from _numbers(const)
        elif isinstance(const, int):
            yield const
