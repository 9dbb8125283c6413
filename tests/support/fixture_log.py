"""Fixtures that note when they come and go."""

from __future__ import annotations

from tests.support.project import Project

#: Fixtures note what they do, and whether in pytest's process, in a file that is bound through.
LOG = """
import os, pytest
FILE = os.path.join(os.path.dirname(__file__), "log.txt")
MAIN = os.getpid()

def log(what):
    with open(FILE, "a") as file:
        file.write(f"{what}\\n")

def where():
    return "outside" if os.getpid() == MAIN else "inside"

def noted(name, scope="function", **more):
    @pytest.fixture(scope=scope, name=name, **more)
    def fixture(request):
        log(f"{name} up {where()}")
        yield getattr(request, "param", None)
        log(f"{name} down {where()}")
    return fixture
"""


def logged(project: Project, *arguments: str) -> list[str]:
    file = project.path / "log.txt"
    file.write_text("")
    project.run(f"--isolate-writable={project.path}", *arguments)
    return file.read_text().splitlines()
