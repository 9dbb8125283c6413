"""``python -m pytest_isolate``: the command line beside pytest's: look at this machine, care for images, show pages."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import metadata
from pathlib import Path

#: Pages of the documentation.
_PAGES = {
    "tutorial": "ten minutes, from the installation to limits for a whole project",
    "howto": "short answers: network, files, limits for a folder, debugging, CI, coming from other tools",
    "options": "what a test asks of its sandbox, where it can be written, and which place wins",
    "ci": "jobs for GitHub, GitLab, Jenkins, Kubernetes and Docker",
    "hosts": "what a machine must allow, what is lacking where, and what to do about it",
    "networks": "sandboxes that talk to each other, and the way to the outside",
    "images": "root file systems that tests run on",
    "neighbours": "other plugins beside this one",
    "report": "the report of a whole run, as a page and as data",
    "kept": "look into what a failed test wrote",
    "security": "what a sandbox keeps a test from, what not, and which test shows it",
    "matrix": "what sandboxes are known to get wrong, case by case, on each kind of host",
    "policy": "what stays from one release to the next, and how something goes",
    "parity": "what is as in a plain run, what is not, and the way out",
}
#: In the package where it is installed, beside it in the repository.
_FOLDERS = (Path(__file__).parent / "docs", Path(__file__).parents[1] / "docs")


def main(arguments: list[str]) -> int:
    """Exit status of the command: 0 done, 1 it could not be done or something is damaged, 2 wrong usage."""
    if arguments[:1] in (["images"], ["doctor"], ["kept"]) and (problem := _missing_core()):
        sys.stderr.write(f"{problem}\n")
        return 1
    if arguments[:1] == ["images"]:
        from pytest_isolate.images.commands import run  # noqa: PLC0415 - loads the C core

        return run(arguments[1:])
    if arguments[:1] == ["doctor"]:
        from pytest_isolate.session.doctor.command import run as run_doctor  # noqa: PLC0415 - the same

        return run_doctor(arguments[1:], _version())
    if arguments[:1] == ["kept"]:
        from pytest_isolate.session.kept.command import run as run_kept  # noqa: PLC0415 - the same

        return run_kept(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.page is None:
        sys.stdout.write("".join(f"{page}: {about}\n" for page, about in _PAGES.items()))
    else:
        sys.stdout.write(_read(options.page))
    return 0


def _missing_core() -> str | None:
    """Why a command that takes the C core cannot run, and what to do about it."""
    from pytest_isolate.linux import native  # noqa: PLC0415 - loads it

    reason = native.available()
    return reason and f"cannot run this: {reason}. {native.remedy()}"


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m pytest_isolate", description="Commands of pytest-isolate-ns.")
    top.add_argument("--version", action="version", version=f"pytest-isolate-ns {_version()}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("doctor", help="what this machine can do, and what mends what it cannot", add_help=False)
    commands.add_parser("images", help="root file systems for tests", add_help=False)
    commands.add_parser("kept", help="what tests wrote whose layers --isolate-keep has kept", add_help=False)
    docs = commands.add_parser("docs", help="show a page of the documentation, or which there are")
    docs.add_argument("page", metavar="PAGE", nargs="?", choices=_PAGES, help=", ".join(_PAGES))
    return top


def _version() -> str:
    try:
        return metadata.version("pytest-isolate-ns")
    except metadata.PackageNotFoundError:  # run from the repository
        return "(not installed)"


def _read(page: str) -> str:
    folder = next(folder for folder in _FOLDERS if (folder / f"{page}.md").is_file())
    return (folder / f"{page}.md").read_text("utf-8")


if __name__ == "__main__":
    # Where it is ignored, the kernel drops how a program ended that a command waits for (wait(2)): all seem well.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
