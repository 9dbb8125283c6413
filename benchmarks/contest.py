"""Who is measured with what, and the measuring: each row, way and user in turn, round by round."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.environments import Environments, first_that_works, versions
from benchmarks.measure import Agent, Figures, Order, Row
from benchmarks.report import START, Found
from benchmarks.ways import WAYS, Way

_TRIAL = Row(parent=0, workers=1, tests=3, seconds=0.0)
_ONCE = 5000  #: tests take so long that one round has to do


@dataclass(slots=True)
class Contest:
    """The ways that work here, and why others do not."""

    environments: Environments
    ours: Path
    programs: dict[str, Path] = field(default_factory=dict)  #: pytest, by way
    labels: dict[str, str] = field(default_factory=dict)
    entered: list[tuple[Agent, Way]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)

    def enter(self, way: Way, agents: list[Agent]) -> None:
        """Find what runs it, and try that once as each user."""
        program = self._program(way, agents[0])
        if isinstance(program, str):
            self.not_measured.append(f"{way.peer or way.name}: {program}")
            return
        self.programs[way.name] = program
        self.labels[way.name] = label = self._label(way, program.parents[1])
        if "(pytest" in label:
            self.caveats.append(f"{label}: the newest pytest that it works with; the bare fork has the newest of all")
        if way.caveat:
            self.caveats.append(f"{label}: {way.caveat}")
        for agent in agents if way.rootless else agents[:1]:
            answer = agent.measure(Order(_TRIAL, str(program), way.options))
            if isinstance(answer, str):
                self.not_measured.append(f"{label}, {agent.user}: {answer}")
            else:
                self.entered.append((agent, way))

    def _program(self, way: Way, agent: Agent) -> Path | str:
        """The pytest that works with it, or why there is none."""
        if way.peer is None:
            return self.ours / "bin/pytest"
        if way.name == "bwrap" and shutil.which("bwrap") is None:
            return "bwrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)"
        if way.name == "bwrap" and not Path(self.environments.python).resolve().is_relative_to("/usr"):
            return f"its sandboxes see nothing but /usr, and {self.environments.python} is elsewhere"

        def complaint(folder: Path) -> str | None:
            answer = agent.measure(Order(_TRIAL, str(folder / "bin/pytest"), way.options))
            return answer if isinstance(answer, str) else None

        folder = first_that_works(self.environments.of_peer(way.peer), complaint)
        return folder if isinstance(folder, str) else folder / "bin/pytest"

    def _label(self, way: Way, folder: Path) -> str:
        own, has = versions(self.ours), versions(folder)
        if way.peer is None:
            names = {"plain": "plain pytest", "fork": "bare fork", "xdist": f"pytest-xdist {own['pytest-xdist']}"}
            return names.get(way.name, way.name.replace("isolate", "pytest-isolate-ns"))
        origin = " of PyPI" if way.peer == "pytest-isolate" else ""
        other = "" if has["pytest"] == own["pytest"] else f" (pytest {has['pytest']})"
        return f"{way.peer} {has[way.peer]}{origin}{other}"

    def measure(self, rows: list[Row], rounds: int) -> Found:
        """The figures of each round. Ctrl-C ends it, and leaves what there is."""
        agents = {agent.user: agent for agent, _ in self.entered}
        found: Found = {}
        for row in rows:
            for user in agents:
                mine = [way for agent, way in self.entered if agent.user == user and row.workers in way.workers]
                found |= {(row, user, name): [] for name in (START, *(way.name for way in mine))}
        failed = set()
        try:
            for number in range(rounds):
                for row in rows:
                    if number and row.tests >= _ONCE:
                        continue
                    print(f"round {number + 1} of {rounds}: {row}", file=sys.stderr, flush=True)
                    for key in [key for key in found if key[0] == row and key not in failed]:
                        answer = agents[key[1]].measure(self._order(row, key[2]))
                        if isinstance(answer, Figures):
                            found[key].append(answer)
                            continue
                        failed.add(key)
                        what = f"{self.labels.get(key[2], key[2])}, {key[1]}, {row}, round {number + 1}"
                        self.not_measured.append(f"{what}: {answer}")
        except KeyboardInterrupt:
            self.not_measured.append("what is missing above: interrupted")
        return found

    def _order(self, row: Row, way: str) -> Order:
        if way == START:
            return Order(row, str(self.ours / "bin/pytest"), ("test_it.py::test_nothing[0]",))
        return Order(capped(row, way), str(self.programs[way]), WAYS[way].options)


def capped(row: Row, way: str) -> Row:
    """The row with no more tests than are run in that way."""
    return replace(row, tests=min(row.tests, WAYS[way].most_tests))
