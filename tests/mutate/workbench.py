"""A copy of the checkout in which mutations are tried, and the runs of its tests.

What a mutated sandbox does not hold back must not reach this machine for longer than its run. As root, each run has a
mount and a UTS namespace of its own. Every process that a run leaves behind comes to us, as we are its subreaper
(prctl(2)), and is ended.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.mutate.mutation import Mutation

REPOSITORY = Path(__file__).parent.parent.parent
_SET_CHILD_SUBREAPER = 36
_ISOLATION = ("unshare", "--mount", "--uts", "--propagation", "private")
#: For the tests of one mutation, which may well make one hang; and for all of them without any, and for what builds.
_SECONDS, LONG = 150.0, 1800.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of tests came to."""

    red: tuple[str, ...]  #: names of functions of tests that failed
    passed: int
    skipped: tuple[str, ...]  #: reasons
    trouble: str = ""  #: why there are no results
    output: str = ""

    @property
    def noticed(self) -> bool:
        """Whether anything was wrong: a test that fails, or a run that dies or never ends."""
        return bool(self.red or self.trouble)


class Workbench:
    """A copy of the checkout, with an environment of its own that has it installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._python = folder / ".venv-run" / "bin" / "python"
        self._built = folder / ".built"
        self._log = folder / ".output"
        self._results = folder / ".results.xml"
        ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def prepare(self) -> None:
        """Copy what git would, build it, and keep what was built. An environment that is there is used again."""
        names = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, text=True
        )
        for name in filter(None, names.split("\0")):
            if (REPOSITORY / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, self.folder / name)
        self._must(["sh", "tests/run", "--version"])
        self._must([str(self._python), "-m", "pip", "install", "-q", "setuptools>=77"])
        self._built.mkdir(exist_ok=True)
        for path in self._compiled():
            shutil.copy2(path, self._built / path.name)

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[str]:
        """With ``mutation`` in the copy, built; what was wrong with that, if anything."""
        files = {self.folder / edit.file for edit in mutation.edits}
        before = {path: path.read_text() for path in files}
        try:
            for edit in mutation.edits:
                path = self.folder / edit.file
                path.write_text(edit.apply(path.read_text()))
            yield self._build() if any(path.suffix in (".c", ".h") for path in files) else ""
        finally:
            for path, text in before.items():
                path.write_text(text)
            for path in self._built.iterdir():
                (self._native() / path.name).unlink(missing_ok=True)
                shutil.copy2(path, self._native() / path.name)

    def test(self, tests: Sequence[str], seconds: float = _SECONDS) -> Run:
        """Run ``tests`` in the copy."""
        self._results.unlink(missing_ok=True)
        command = [str(self._python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={self._results}"]
        status = self._run([*(_ISOLATION if os.geteuid() == 0 else ()), *command, *tests], seconds)
        output = self._log.read_text(errors="replace")
        if status in {None, 0, 1} and self._results.exists():  # a thread of a red test may keep pytest from ending
            return _read(self._results, output)
        if status is None:
            return Run((), 0, (), f"it hangs for {seconds:.0f} s", output)
        if status < 0:
            return Run((), 0, (), f"the run is killed by {signal.Signals(-status).name}", output)
        return Run((), 0, (), f"pytest ends with status {status}", output)

    def _native(self) -> Path:
        return self.folder / "pytest_isolate" / "linux" / "_native"

    def _compiled(self) -> list[Path]:
        return [*self._native().glob("*.so"), self._native() / "builder"]

    def _build(self) -> str:
        if self._run([str(self._python), "setup.py", "-q", "build_ext", "--inplace", "--force"]) == 0:
            return ""
        return f"it cannot be built:\n{self._log.read_text(errors='replace')[-2000:]}"

    def _must(self, command: list[str]) -> None:
        if self._run(command) != 0:
            sys.exit(f"{' '.join(command)} failed:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _run(self, command: list[str], seconds: float = LONG) -> int | None:
        """Its exit status, or the negative number of its signal; None if it does not end."""
        without = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")  # the latter may have another checkout
        environment = {key: value for key, value in os.environ.items() if key not in without}
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return _wait(process, seconds)
        finally:
            _end_all_children()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Reap orphans meanwhile, as an init process does: tests look for them."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode
        if pid == 0:
            time.sleep(0.02)
    return None


def _end_all_children() -> None:
    """Those of a child become ours once it has ended, until there are none."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _read(results: Path, output: str) -> Run:
    red, skipped, passed = [], [], 0
    for case in ET.parse(results).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            red.append((case.get("name") or "").partition("[")[0])
        elif (reason := case.find("skipped")) is not None:
            skipped.append(reason.get("message") or "")
        else:
            passed += 1
    return Run(tuple(dict.fromkeys(red)), passed, tuple(dict.fromkeys(skipped)), output=output)
