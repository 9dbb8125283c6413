"""``python -m pytest_isolate kept``: look at the writable layers that ``--isolate-keep`` has kept."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.openat import open_directory
from pytest_isolate.session.kept import show
from pytest_isolate.session.kept.store import Entry, KeptStore
from pytest_isolate.spec.errors import IsolateError

_WHICH = "its ID, or a part of its test's name that no other has"
_OLD = (
    "remove what the next session would: layers of more than 14 days, and the oldest beyond what the session allows "
    "that kept the last one (--isolate-keep-number, --isolate-keep-size)"
)


#: Exit statuses of ``run`` and ``enter``, as of docker and timeout: the program's own are below, or of what stopped it.
_NOT_ENTERED = 125
_FAILED: dict[type[Exception], int] = {PermissionError: 126, FileNotFoundError: 127}


class _CommandError(Exception):
    """What could not be done."""


def run(arguments: Sequence[str]) -> int:
    """Perform one command; its exit status."""
    # All behind the first "--" is the program's, whatever it looks like.
    own = arguments.index("--") if arguments[:1] == ["run"] and "--" in arguments else len(arguments)
    options = _parser().parse_args(arguments[:own])
    options.words = [*arguments[own + 1 :]]
    try:
        return int(options.perform(options, KeptStore()) or 0)
    except (_CommandError, IsolateError, OSError) as error:
        words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        sys.stderr.write(f"{words}\n")
        return _FAILED.get(type(error), _NOT_ENTERED) if options.visits else 1
    except KeyboardInterrupt:  # while the sandbox is made
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    kept = argparse.ArgumentParser(
        prog="python -m pytest_isolate kept",
        description="Writable layers of tests that pytest --isolate-keep=failed has kept, in your cache directory.",
    )
    commands = kept.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, perform: object, about: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        parser.set_defaults(perform=perform, visits=perform in (_enter, _run_program))
        return parser

    command("list", _list, "show what is kept, the oldest first")
    files = command("files", _files, "list what the test added (A), modified (M) or deleted (D)")
    diff = command("diff", _diff, "show what the test changed in files, against what is there now")
    copying = command("copy", _copy, "copy a file or folder out")
    for each in (files, diff, copying):
        each.add_argument("layer", metavar="LAYER", help=_WHICH)
    diff.add_argument("paths", metavar="PATH", nargs="*", help="of these files and folders only")
    copying.add_argument("path", metavar="PATH", help="as the test saw it; / for all")
    copying.add_argument("target", metavar="TARGET", help="where to; must not be there yet")
    entering = command("enter", _enter, "open a shell in a new sandbox like the test's, with the files that it wrote")
    running = command("run", _run_program, "run a program in such a sandbox; write it behind --")
    running.usage = "%(prog)s [-h] [--write] LAYER -- PROGRAM [ARGUMENT...]"
    for each in (entering, running):
        each.add_argument("layer", metavar="LAYER", help=_WHICH)
        each.add_argument(
            "--write", action="store_true", help="keep what it changes in the layer; else it is thrown away"
        )
    removing = command("remove", _remove, "remove layers")
    removing.add_argument("layers", metavar="LAYER", nargs="*", help=_WHICH)
    removing.add_argument("--all", action="store_true", help="remove all")
    removing.add_argument("--old", action="store_true", help=_OLD)
    return kept


def _say(line: str) -> None:
    sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")


def _find(store: KeptStore, word: str) -> Entry:
    entries = store.entries()
    found = [entry for entry in entries if entry.id == word] or [e for e in entries if word in e.layer.test]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} kept layers have it in their test's name" if found else "there is no such layer"
    raise _CommandError(f"{word}: {problem}; python -m pytest_isolate kept list shows all.")


def _list(_: argparse.Namespace, store: KeptStore) -> None:
    entries = store.entries()
    if not entries:
        _say("No layer is kept; pytest --isolate-keep=failed keeps those of tests that fail.")
        return
    for line in show.table(entries):
        _say(line)


def _files(options: argparse.Namespace, store: KeptStore) -> None:
    layer = _find(store, options.layer).layer
    for kind, path in layer.changes:
        _say(f"{kind} {show.escaped(path)}")
    for lost in layer.lost:
        _say(f"not kept: {show.escaped(lost)}")


def _diff(options: argparse.Namespace, store: KeptStore) -> None:
    for line in show.differences(_find(store, options.layer), tuple(options.paths)):
        _say(line)


def _copy(options: argparse.Namespace, store: KeptStore) -> None:
    files = _find(store, options.layer).path / "files"
    names = [name for name in options.path.split("/") if name]
    if os.path.lexists(options.target):
        raise _CommandError(f"{options.target}: is there already; give another name.")
    if ".." in names:
        raise _CommandError(f"{options.path}: write it without '..'.")
    top = calls.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        calls.close(open_directory(top, names[:-1]))  # no link on the way, which would lead to the host's files
    except OSError as error:
        raise _CommandError(f"{options.path}: is not kept: {error.strerror}.") from None
    finally:
        calls.close(top)
    source = files.joinpath(*names)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, options.target, symlinks=True)
    else:
        shutil.copy2(source, options.target, follow_symlinks=False)


def _enter(options: argparse.Namespace, store: KeptStore) -> int:
    return _visit(options, store, None)


def _run_program(options: argparse.Namespace, store: KeptStore) -> int:
    if not options.words:
        raise _CommandError(f"write the program behind --: kept run {options.layer} -- PROGRAM [ARGUMENT...]")
    return _visit(options, store, options.words)


def _visit(options: argparse.Namespace, store: KeptStore, words: Sequence[str] | None) -> int:
    from pytest_isolate.session.kept.visit import Visit  # noqa: PLC0415 - loads all that runs a test

    return Visit(entry=_find(store, options.layer), store=store, words=words, write=options.write).make()


def _remove(options: argparse.Namespace, store: KeptStore) -> None:
    if options.old:
        _say(f"removed {store.sweep(store.bounds())}")
        return
    if bool(options.layers) == options.all:
        raise _CommandError("name layers, or give --all or --old.")
    for entry in store.entries() if options.all else [_find(store, word) for word in options.layers]:
        store.remove(entry)
        _say(f"removed {entry.id}")
