"""Runs the demo suite, and looks at the machine before and after it. Exit status 0 if all is as it should be."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

HERE = Path(__file__).parent
DAEMON = ["sleep", "86399"]

#: What the report of each test that must fail names.
MUST_NAME = {
    "test_eats_memory": "exceeded memory=50M",
    "test_fork_bomb": "Resource temporarily unavailable",
    "test_never_ends": "exceeded timeout=2 s",
    "test_crashes": "killed by SIGABRT",
}


def look(victim: subprocess.Popen[bytes]) -> dict[str, object]:
    """Facts about the machine that the demo suite goes for."""
    etc = hashlib.sha256()
    files = sorted(path for path in Path("/etc").rglob("*") if os.access(path, os.R_OK) and path.is_file())
    for path in files:
        etc.update(bytes(path) + path.read_bytes())
    return {
        f"the {len(files)} readable files of /etc": etc.hexdigest()[:16],
        "names in the home folder": len(list(Path.home().iterdir())),
        "mounts": Path("/proc/self/mountinfo").read_text().count("\n"),
        "servers on port 80": servers(80),
        "rubbish in /tmp": len(list(Path("/tmp").glob("isolate-demo-rubbish"))),
        "a process of ours, sleeping": "alive" if victim.poll() is None else "dead",
        "daemons left behind": daemons(),
    }


def servers(port: int) -> int:
    """TCP servers on a port of this machine."""
    lines = [line.split() for name in ("tcp", "tcp6") if (file := Path("/proc/net", name)).exists()
             for line in file.read_text().splitlines()[1:]]  # fmt: skip
    return sum(local.endswith(f":{port:04X}") and state == "0A" for _, local, _, state, *_ in lines)


def daemons() -> int:
    """Processes with the command line of the demo's daemon."""
    count = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += file.read_bytes().split(b"\0")[:2] == [word.encode() for word in DAEMON]
        except OSError:  # it has just ended
            continue
    return count


def run(arguments: list[str]) -> dict[str, tuple[str, str]]:
    """Run the suite; outcome and text of each test, by name."""
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--isolate-unsupported=skip"]
        subprocess.run([*command, "-rs", f"--junitxml={junit}", *arguments, str(HERE)], check=False, cwd=HERE)
        if not junit.exists():
            return {}
        seen = {}
        for case in ET.parse(junit).iter("testcase"):
            ends = [child for child in case if child.tag in {"failure", "error", "skipped"}]
            text = "\n".join(f"{child.get('message')}\n{child.text}" for child in ends)
            seen[str(case.get("name"))] = (ends[0].tag if ends else "passed", text)
        return seen


def judge(seen: dict[str, tuple[str, str]]) -> list[str]:
    """What did not end as it should."""
    wrong = [] if seen else ["no test was run"]
    for name, (outcome, text) in seen.items():
        sentence = MUST_NAME.get(name)
        if outcome == "skipped":
            continue
        if sentence is None and outcome != "passed":
            wrong.append(f"{name} should have passed")
        elif sentence is not None and not (outcome == "failure" and sentence in text):
            wrong.append(f"{name} should have failed with {sentence!r}")
    if seen and all(outcome == "skipped" for outcome, _ in seen.values()):
        wrong.append("this machine allows no sandbox; the reasons above say what to do about it")
    return wrong


def main(arguments: list[str]) -> int:
    """Run the demo. :return: exit status."""
    with subprocess.Popen(["sleep", "3600"]) as victim:
        before = look(victim)
        seen = run(arguments)
        after = look(victim)
        victim.kill()
    wrong = judge(seen)
    failed = [name for name, (outcome, _) in seen.items() if outcome == "failure" and name in MUST_NAME]
    skipped = [name for name, (outcome, _) in seen.items() if outcome == "skipped"]
    print(f"\nOf {len(seen)} tests {len(failed)} failed, as they should: {', '.join(failed) or 'none'}.")
    if skipped:
        print(f"Skipped, as this machine lacks what they need (see above): {', '.join(skipped)}.")
    print("\nThis machine, before and after:")
    for what, value in before.items():
        same = after.get(what) == value
        print(f"  {what:32} {value!s:18} {after.get(what, 'differ')!s:18} {'as before' if same else 'CHANGED'}")
        wrong += [] if same else [f"{what}: changed"]
    print("\nNOT as it should be:\n  " + "\n  ".join(wrong) if wrong else "\nAll is as it should be.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
