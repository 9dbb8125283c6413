"""What a test costs: plain, in a bare fork, with other plugins, and isolated, in one run whose rounds are interleaved.

    python -m benchmarks                  parents of 60 and 200 MB, 200 empty tests: some minutes
    python -m benchmarks --full --json results.json --plot
                                          all that docs/decisions/cost-of-a-test.md tells of: hours
    python -m benchmarks --from results.json --plot

Started by root it measures root and an unprivileged user; else the user, whose control groups ISOLATE_CGROUP can name.
The environments to measure in go when it ends; --cache names a folder that keeps them for the next time. How to read
what it prints is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks import report
from benchmarks.contest import Contest, capped
from benchmarks.environments import CannotInstallError, Environments, versions
from benchmarks.measure import CHECKOUT, Agent, Row
from benchmarks.ways import WAYS

#: Where there is room for environments, and programs can be run from.
_LARGE = "/var/tmp"
#: Each question against the smallest row, not all with all.
_FULL = [
    *(Row(parent, 1, 200, 0.0) for parent in (60, 200, 1000)),
    Row(60, 2, 200, 0.0),
    *(Row(60, 1, 200, seconds) for seconds in (0.001, 0.01)),
    *(Row(60, 1, tests, 0.0) for tests in (100, 1000, 10_000)),
]


def run(asked: argparse.Namespace, several: list[Environments]) -> report.Results:
    """Measure with each Python in turn."""
    results = [_run(asked, environments) for environments in several]
    first = results[0]
    first.about["python"] = ", ".join(one.about["python"] for one in results)
    for other in results[1:]:
        first.records.extend(other.records)
        first.not_measured.extend(f"Python {other.about['python']}: {one}" for one in other.not_measured)
        first.caveats.extend(one for one in other.caveats if one not in first.caveats)
    return first


def _run(asked: argparse.Namespace, environments: Environments) -> report.Results:
    """Set up, measure, and gather."""
    rows = [
        Row(parent, workers, tests, seconds)
        for parent in asked.parents
        for workers in asked.workers
        for tests in asked.tests
        for seconds in asked.seconds
    ]
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    ours = environments.ours()
    own = versions(ours)
    users = ["root", "rootless"] if os.getuid() == 0 else ["rootless"]
    with ExitStack() as stack:
        agents = [
            stack.enter_context(closing(Agent(user, ours / "bin/python"))) for user in users if user in asked.users
        ]
        contest = Contest(environments, ours)
        for name in asked.ways:
            contest.enter(WAYS[name], agents)
        found = contest.measure(_FULL if asked.full else rows, asked.rounds)
    about = {
        "started": started,
        "rounds": str(asked.rounds),
        "python": environments.version(),
        "pytest": own["pytest"],
        "kernel": platform.release(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[2]:.1f}",
    }
    records = report.records(found, contest.labels, capped, environments.version())
    return report.Results(about, records, contest.not_measured, contest.caveats)


def draw(results: report.Results, path: Path, environments: Environments) -> None:
    """In an environment that has matplotlib."""
    python = environments.make("plot", "matplotlib") / "bin/python"
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "results.json"
        results.save(saved)
        command = [str(python), "-m", "benchmarks.plot", str(saved), str(path.absolute())]
        if subprocess.run(command, cwd=CHECKOUT, check=False).returncode:
            sys.exit(f"{path} could not be drawn, see above")


def _pythons() -> list[str]:
    """The system's, and a newer one that has immortal objects, where there is one."""
    newer = shutil.which("python3.13")  # of pyenv it may be a shim that runs none
    works = newer is not None and subprocess.run([newer, "-V"], capture_output=True, check=False).returncode == 0
    return ["/usr/bin/python3", *([newer] if newer and works else [])]


def main() -> None:
    """Print tables and, if asked, write the records and a picture."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tests", type=int, nargs="+", default=[200])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parents", type=int, nargs="+", default=[60, 200], metavar="MB")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0], help="that each test takes by itself; 0")
    parser.add_argument("--full", action="store_true", help="the rows of the documentation instead of those four")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--users", nargs="+", choices=["root", "rootless"], default=["root", "rootless"])
    parser.add_argument(
        "--python", nargs="+", default=_pythons(), help="that every user can run, one or more; %(default)s"
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keeps the environments; else they go at the end")
    parser.add_argument("--json", type=Path, help="file to write the records to")
    parser.add_argument(
        "--plot",
        type=Path,
        nargs="?",
        const=CHECKOUT / "docs/cost-of-a-test.svg",
        help="picture to draw; docs/cost-of-a-test.svg if no name is given",
    )
    parser.add_argument("--from", dest="saved", type=Path, help="records of an earlier run, instead of measuring")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was measured until then is still printed
    if os.getuid() and "rootless" not in asked.users:
        parser.error("only root can measure as root")
    with ExitStack() as stack:
        folder = asked.cache or stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-", dir=_LARGE))
        show(asked, Path(folder).absolute())


def show(asked: argparse.Namespace, folder: Path) -> None:
    """Measure, or take what was measured, in environments that are made in ``folder``, and print it."""
    several = [Environments(folder, python) for python in asked.python]
    environments = several[0]
    try:
        if asked.plot:
            environments.make("plot", "matplotlib")  # what is missing is said before hours of measuring
        results = report.Results.load(asked.saved) if asked.saved else run(asked, several)
    except CannotInstallError as error:
        sys.exit(f"an environment could not be made in {environments.cache}: {error}")
    print(report.text(results))
    if asked.json:
        results.save(asked.json)
    if asked.plot:
        draw(results, asked.plot, environments)


if __name__ == "__main__":
    main()
