"""Many tests in one session: what is held does not grow."""

from __future__ import annotations

import time
from pathlib import Path

from tests.endurance.machine import Machine, slabs
from tests.endurance.runs import EMPTY, Project, figures_in

_MEMORY = "memory of pytest, MB"
_BESIDE = ("tests", "seconds", _MEMORY)
#: What numbers may differ by: sandboxes are made ahead and taken down beside the tests, and memory is in pages.
_SLACK = {
    "memory of the builder, MB": 1.0,
    "sandboxes that stand": 8,
    "control groups": 40,
    "descriptors of the builder": 24,
}


def run(number: int, machine: Machine, folder: Path, *options: str) -> bool:
    """So many empty tests. Whether they all pass, and what is held at the end is no more than after the first ones."""
    project = Project(folder, EMPTY, machine)
    (folder / "figures").mkdir()
    before, started = slabs(), time.monotonic()
    status = project.start(number, *options, figures=str(folder / "figures")).wait()
    seconds = time.monotonic() - started
    print(f"\n{number} empty tests, {' '.join(options) or 'one at a time'}: {project.last_words()}")
    print(f"  {seconds:.0f} s, {seconds / number * 1000:.1f} ms each")
    figures = figures_in(folder / "figures")
    flat = [_show(pid, samples[0], samples[-1]) for pid, samples in figures.items() if len(samples) > 1]
    left = machine.left()
    if left:
        print(f"  LEFT: {left}")
    for name, count in slabs().items():
        print(f"  {name:32} {before.get(name, 0):>9} {count:>9}  (of the machine)")
    return status == 0 and bool(flat) and all(flat) and not left


def run_plain(number: int, machine: Machine, folder: Path) -> bool:
    """The same tests without us, for what pytest itself keeps of each."""
    return run(number, machine, folder, "--isolate-off")


def _show(pid: str, first: dict[str, float], last: dict[str, float]) -> bool:
    """Whether nothing has grown."""
    print(f"  process {pid}, after {first['tests']:g} tests and after {last['tests']:g}:")
    well = True
    for name, at_first in first.items():
        if name not in _BESIDE:
            grown = last[name] > at_first + _SLACK.get(name, 0)
            well &= not grown
            print(f"  {name:32} {at_first:>9g} {last[name]:>9g}  {'GREW' if grown else ''}".rstrip())
    each = (last[_MEMORY] - first[_MEMORY]) * 1e6 / max(1, last["tests"] - first["tests"])
    print(f"  {_MEMORY:32} {first[_MEMORY]:>9g} {last[_MEMORY]:>9g}  {each:.0f} bytes for each test: its reports")
    return well
