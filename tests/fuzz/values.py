"""Fuzzes what users write: values of keys, recipes of images, files of baselines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_isolate.images.build import recipe
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.plugin.report.baseline import stored
from pytest_isolate.spec import sizes, values
from pytest_isolate.spec.errors import ImageError, IsolateError, SpecError
from pytest_isolate.spec.keys import KEYS
from pytest_isolate.spec.spec import Spec
from tests.fuzz.parser import Parser, Taker
from tests.support.hosts import HOST, ROOT

_LONGEST = 5000
_NAMES = tuple(KEYS)
_SAMPLES = (
    "50M", "1.5g", "512KiB", "none", "0.5", "0-3,5", "10", "session", "5432,6379", "bridge:db", "host", "nat", "root",
    "web-1.local", "fail", "process:redis*", "/var/lib/x", "~/x", "/dev/kvm:/dev/kvm:rwm", "debian-slim", "100 ms",
)  # fmt: skip


def _try_size(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        count = sizes.size(text)
    except ValueError as error:
        str(error).encode("utf-8", "surrogatepass")
    else:
        assert sizes.size(sizes.size_text(count)) == count
    for read in (sizes.memory_size, values.cores, values.seconds, values.foreign_seconds, values.jobs, values.pids):
        try:
            read(text)
        except ValueError as error:
            str(error).encode("utf-8", "surrogatepass")


def _try_key(data: bytes) -> None:
    taker = Taker(data)
    key, kind = _NAMES[taker.below(len(_NAMES))], taker.below(2)
    value = taker.value() if kind else taker.rest().decode("utf-8", "surrogateescape")
    try:
        spec = Spec.of("/base", **{key: value})
    except SpecError as error:
        if len(str(error)) > _LONGEST:
            raise AssertionError("the message is too long to be read") from error
        return
    for text in _texts({**asdict(spec), "leaks_allowed": ()}):  # patterns of names: no system call takes them
        assert "\0" not in text, "no system call takes it"
        os.fsencode(text)
    for host in (HOST, ROOT):
        try:
            plan_for(spec, host).encode()
        except IsolateError as error:
            str(error)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value.items()])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _texts(each)


def _key_seeds() -> Iterator[bytes]:
    for number in range(len(_NAMES)):
        yield from (bytes([number, 0]) + sample.encode() for sample in _SAMPLES)
        yield from (bytes([number, 1, kind, 3, 5, 7, 2, 9, 1, 4, 8]) for kind in range(11))


def _try_recipe(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, recipe.FILE).write_bytes(data)
        try:
            found = recipe.read(folder)
            recipe.digest(folder)
        except ImageError as error:
            str(error)
            return
        for layer in found.layers:
            for file in layer.files:
                assert file.path.startswith("/")
                os.fsencode(file.path)
                os.fsencode(file.target or "")
                assert 0 <= file.mode <= 0o7777, file.mode
            for text in _texts([layer.run, layer.packages, layer.tar]):
                assert "\0" not in text
        for text in _texts(found.env):
            assert "\0" not in text


def _recipe_seeds() -> Iterator[bytes]:
    yield b'base = "debian"\n[env]\nA = "b"\n[[layer]]\npackages = ["dash=0.5.12-2"]\n[[layer]]\nrun = "true"\n'
    yield b'[[layer]]\nrun = ["a", "b"]\n[[layer]]\ntar = "a.tar"\nsha256 = "' + b"a" * 64 + b'"\n'
    yield b'[[layer]]\n[layer.directories]\n"/a" = "755"\n[layer.links]\n"/l" = "a"\n[layer.files]\n"/f" = "text"\n'
    yield b'[[layer]]\nfiles = {"/f" = {text = "x", mode = "4755"}, "/g" = {from = "image.toml"}}\n'


def _try_baseline(data: bytes) -> None:
    try:
        found = stored.parse(data.decode("utf-8", "replace"))
    except ValueError:
        return
    text = stored.render(found)
    assert stored.render(stored.parse(text)) == text


def _baseline_seeds() -> Iterator[bytes]:
    yield b"# comment\ntest_a.py::test_a[x y]\truns=3 wall=0.100..0.200 cpu=0.1..0.3 memory=10K..20K\n"
    yield stored.render({"a": stored.Measured(2, {})}).encode()


VALUES = (
    Parser(name="sizes", try_one=_try_size, seeds=lambda: (sample.encode() for sample in _SAMPLES)),
    Parser(name="keys", try_one=_try_key, seeds=_key_seeds),
    Parser(name="recipes", try_one=_try_recipe, seeds=_recipe_seeds),
    Parser(name="baselines", try_one=_try_baseline, seeds=_baseline_seeds),
)
