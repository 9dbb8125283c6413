"""Where a test died or broke a limit: the line that was reached is named, and tracebacks of each style lead to it."""

from __future__ import annotations

import pytest

from tests.support.project import Project

PLACES = {
    "a function that the test calls": ("def f():\n    os.abort()\ndef test_it(): f()", 3),
    "a fixture": ("@pytest.fixture\ndef fixture():\n    os.abort()\ndef test_it(fixture): pass", 4),
    "a thread": (
        """import threading
def test_it():
    t = threading.Thread(target=os.abort)
    t.run = lambda: os.abort()
    t.start()
    t.join()""",
        5,
    ),
    "a method of unittest": (
        "import unittest\nclass TestIt(unittest.TestCase):\n    def test_it(self):\n        os.abort()",
        5,
    ),
    "an example of a doctest": ('def f():\n    """\n    >>> import os\n    >>> os.abort()\n    """', 5),
    "an unknown line of a test": ("@pytest.mark.skipif(False, reason='')\ndef test_it():\n    os._exit(1)", 3),
    "an unknown line, after a child died": (
        "def test_it():\n    if os.fork() == 0: os.abort()\n    os.wait()\n    os._exit(1)",
        2,
    ),
}


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("place", PLACES)
def test_the_end_of_a_death_names_the_line_that_was_reached(project: Project, place: str) -> None:
    source, line = PLACES[place]
    project.write(test_it=f"import os, pytest\n{source}")
    result = project.isolated("--doctest-modules")
    shown = result.stdout.str().partition("- Stacks")[0].splitlines()
    (end,) = [each for each in shown if each.endswith(": Failed")]
    assert end == f"test_it.py:{line}: Failed"
    marked = [each[1:].strip() for each in shown if each.startswith(">")]
    assert marked[-1] == (project.path / "test_it.py").read_text().splitlines()[line - 1].strip()


@pytest.mark.needs("sandbox")
def test_a_traceback_of_each_style_leads_to_that_line(project: Project) -> None:
    project.write(test_it="import os\ndef f():\n    os.abort()\ndef test_it():\n    f()")
    expected = {
        "short": [
            "test_it.py:5: in test_it",
            "    f()",
            "test_it.py:3: in f",
            "    os.abort()",
            "E   Failed: killed by*",
        ],
        "native": [
            '*test_it.py", line 5, in test_it',
            "    f()",
            '*test_it.py", line 3, in f',
            "    os.abort()",
            "Fail*",
        ],
        "line": ["*test_it.py:3: Failed: killed by SIGABRT (in the call)"],
        "no": ["FAILED test_it.py::test_it - Failed: killed by SIGABRT (in the call)"],
    }
    for style, lines in expected.items():
        project.isolated(f"--tb={style}").stdout.fnmatch_lines(lines, consecutive=True)


def test_of_a_limit_that_a_child_broke_the_place_is_that_of_the_tests_own_failure(project: Project) -> None:
    project.fake_keeper(oom_kills="1", usage="Usage(wall_seconds=1, memory_peak_bytes=50 << 20)")
    project.write(
        test_it="import subprocess\ndef test_it():\n    x = 1\n    subprocess.run(['false'], check=True)",
    )
    result = project.isolated("--isolate-memory=50M")
    result.stdout.fnmatch_lines(
        [
            ">*subprocess.run(?'false'?, check=True)",
            "E*Failed: exceeded memory=50M *",
            "test_it.py:4: Failed",
            "*The test itself*",
            "E*CalledProcessError*",
        ]
    )
