"""Tries a parser with one input after another: ``python -m tests.fuzz.engine PARSER SECONDS FOLDER``.

By atheris, which is guided by the code that an input reaches; where it is not installed, by mutations of the seeds and
of what was tried before. The input at work is always in FOLDER/PARSER.input, whatever ends the process.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.parser import Parser  # else later, so that atheris can see it loaded

_MOST = 1 << 17
_SECONDS_FOR_ONE = 60


class Current:
    """Keeps the input at work, in a file that outlives this process and any change of its root."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_MOST + 8))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def keep(self, data: bytes) -> None:
        data = data[:_MOST]
        self._map[: len(data) + 8] = len(data).to_bytes(8, "little") + data


def kept(path: Path) -> bytes:
    """The input that was at work."""
    content = path.read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """One of the seeds, changed in some places."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at, size = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 16))
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = chance.randbytes(size)
            case 3:
                other = chance.choice(seeds)
                start = chance.randrange(len(other) + 1)
                data[at : at + size] = other[start : start + size * 4]
            case 4:
                data[at : at + size] = bytes([chance.choice((0, 255, 32, 47, 10, 92))]) * size
            case _:
                data[at:at] = data[at : at + size] * chance.choice((1, 2, 50))
    return bytes(data[:_MOST])


def _by_mutations(try_one: Callable[[bytes], None], seeds: list[bytes], seconds: float) -> int:
    chance, runs, until = random.Random(), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try_one(mutated(seeds, chance))
        runs += 1
    return runs


def check(parser: Parser, tries: int) -> None:
    """Seeds, no more than ``tries``, and as many mutations of them, the same ones each time."""
    with parser.enter():
        seeds, chance = [*parser.seeds()], random.Random(1)
        for data in (*seeds[:: len(seeds) // tries + 1], *(mutated(seeds, chance) for _ in range(tries))):
            try:
                parser.try_one(data)
            except BaseException as error:
                raise AssertionError(f"{parser.name}: {error!r} of {data!r}") from error


def _by_atheris(
    atheris: Any, try_one: Callable[[bytes], None], seeds: list[bytes], seconds: float, folder: Path
) -> None:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={seconds:.0f}",
        f"-max_len={_MOST}",
        f"-timeout={_SECONDS_FOR_ONE}",
        "-rss_limit_mb=4096",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", "-print_final_stats=1", str(corpus)], try_one)
    atheris.Fuzz()


def main(name: str, seconds: float, folder: Path) -> None:
    """Until the time is up, or something is found: then the exit status is not 0."""
    atheris: Any = None
    if find_spec("atheris"):
        atheris = import_module("atheris")  # not a package that tests need

    with atheris.instrument_imports(include=["pytest_isolate", "tarfile"]) if atheris else nullcontext():
        from tests.fuzz.parsers import PARSERS  # noqa: PLC0415 - the code under test must be loaded here

    parser, current = PARSERS[name], Current(folder / f"{name}.input")
    seeds = [*parser.seeds()]

    def try_one(data: bytes) -> None:
        current.keep(data)
        parser.try_one(data)

    work = folder / name
    work.mkdir()
    with parser.enter():
        for seed in seeds:
            try_one(seed)
        if atheris:
            _by_atheris(atheris, try_one, seeds, seconds, work)
        else:
            print(f"Done {_by_mutations(try_one, seeds, seconds)} runs")


if __name__ == "__main__":
    os.environ["PYTHONHASHSEED"] = "0"
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
