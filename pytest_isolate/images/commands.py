"""``python -m pytest_isolate images``: what is there, bring it in, see that it is whole, throw it away."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_isolate.images.build.build import bring_in, identity
from pytest_isolate.images.oci import skopeo
from pytest_isolate.images.oci.layout_reader import open_image
from pytest_isolate.images.root.merged_tree import Merged, differences
from pytest_isolate.images.store.store import Stack, Store
from pytest_isolate.images.store.unpack import Most, verify
from pytest_isolate.sandbox.jail import own_jail
from pytest_isolate.spec import image_names
from pytest_isolate.spec.errors import ImageError, IsolateError
from pytest_isolate.spec.keys import IMAGES
from pytest_isolate.spec.sizes import size, size_text
from pytest_isolate.spec.values import count


def run(arguments: Sequence[str]) -> int:
    """Perform one command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.perform(options, Store()) or 0)
    except IsolateError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    images = argparse.ArgumentParser(
        prog="python -m pytest_isolate images",
        description="Root file systems that tests run on: @pytest.mark.isolate(image=NAME). They are folders of "
        f"{IMAGES}/; their layers are unpacked once, into a store in your cache directory (XDG_CACHE_HOME).",
    )
    images.add_argument(
        "--folder",
        metavar="DIR",
        help=f"where the images are; {IMAGES} of this directory, or of the closest one above that has it",
    )
    _add_commands(images.add_subparsers(required=True, metavar="COMMAND"))
    return images


def _add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    def command(name: str, perform: object, about: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        parser.set_defaults(perform=perform)
        return parser

    command("list", _list, "show the images and what the store has of them")
    adding = command("import", _import, "keep and unpack an OCI image layout, or an archive of one or of docker save")
    adding.add_argument("path", metavar="PATH", help="a directory or a .tar file")
    adding.add_argument("name", metavar="NAME", nargs="?", help="its name from now on; that of PATH")
    pull = command("pull", _pull, "fetch an image from a registry, by skopeo, keep and unpack it")
    pull.add_argument("reference", metavar="REFERENCE", help="pinned by its digest: alpine@sha256:...")
    pull.add_argument("name", metavar="NAME", nargs="?", help="its name from now on; the last word of REFERENCE")
    build = command("build", _build, "build or unpack images that are not in the store yet")
    build.add_argument("name", metavar="NAME", nargs="*", help="which; all")
    for each in (adding, pull, build):
        each.add_argument("--max-size", metavar="SIZE", type=size, default=Most().size, help="of a layer's files; 20G")
        each.add_argument("--max-entries", metavar="N", type=count, default=Most().entries, help="of a layer; 1000000")
    check = command("verify", _verify, "compare every unpacked file with what was unpacked")
    check.add_argument("name", metavar="NAME", nargs="*", help="which images; all layers of the store")
    removing = command("remove", _remove, "remove images from the store; their folders stay")
    removing.add_argument("name", metavar="NAME", nargs="+")
    command("gc", _gc, "remove from the store what no image needs, of images whose folders have gone or changed")
    compare = command("diff", _diff, "list what is added (A), modified (M) or deleted (D) from one image to another")
    compare.add_argument("old", metavar="OLD")
    compare.add_argument("new", metavar="NEW")


def _say(line: str = "") -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _folder(options: argparse.Namespace) -> str:
    if options.folder:
        return os.path.abspath(str(options.folder))
    here = Path.cwd()
    found = next((folder for folder in (here, *here.parents) if (folder / IMAGES).is_dir()), here)
    return str(found / IMAGES)


def _path(options: argparse.Namespace, name: str) -> str:
    """The folder of the image ``name``."""
    folder = _folder(options)
    if name not in image_names.in_folder(folder):
        raise ImageError(name, image_names.unknown(name, folder))
    return os.path.join(folder, name)


def _find(store: Store, path: str) -> Stack | None:
    """What the store has of the image that the folder ``path`` holds now."""
    return store.image(identity(path))


def _require(store: Store, path: str) -> Stack:
    if (stack := _find(store, path)) is None:
        name = os.path.basename(path)
        raise ImageError(name, f"is not in the store; python -m pytest_isolate images build {name}")
    return stack


def _list(options: argparse.Namespace, store: Store) -> None:
    folder = _folder(options)
    found = image_names.in_folder(folder)
    if not found:
        _say(image_names.unknown("", folder))
    for name in found:
        try:
            stack = _find(store, os.path.join(folder, name))
        except ImageError as error:
            _say(f"{name}: {error.problem}")
            continue
        if stack is None:
            _say(f"{name}: not unpacked yet")
        else:
            layers = [layer for each in stack.layers if (layer := store.layer(each))]
            total = size_text(sum(layer.size for layer in layers), 1)
            _say(f"{name}: {_layers(len(layers))}, {total}, {stack.digest}")
    _say(f"The store is {store.path}: {len(store.images())} images, {_layers(len(store.layers()))}.")


def _import(options: argparse.Namespace, store: Store) -> None:
    path = os.path.abspath(options.path)
    name = options.name or os.path.basename(path).removesuffix(".tar")
    with open_image(path) as (source, _):
        path = source.path
    with _add(options, store, name) as target:
        if os.path.isdir(path):
            shutil.copytree(path, target)
        else:
            target.mkdir()
            shutil.copy(path, target)


def _pull(options: argparse.Namespace, store: Store) -> None:
    given = skopeo.Reference.read(options.reference)
    with _add(options, store, options.name or given.name) as target:
        skopeo.copy(given, str(target))


@contextmanager
def _add(options: argparse.Namespace, store: Store, name: str) -> Iterator[Path]:
    """A new folder of images, to be filled within the block; unpacked then, and gone if anything fails."""
    target = Path(_folder(options), name)
    if os.path.lexists(target):
        raise ImageError(name, f"{target} is there already; remove it first, or give another name.")
    target.parent.mkdir(exist_ok=True)
    try:
        yield target
        _install(options, store, str(target))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _build(options: argparse.Namespace, store: Store) -> None:
    for name in options.name or image_names.in_folder(_folder(options)):
        _install(options, store, _path(options, name))


def _install(options: argparse.Namespace, store: Store, path: str) -> None:
    name = os.path.basename(path)
    known = _find(store, path)
    stack = bring_in(
        path,
        store,
        most=Most(size=options.max_size, entries=options.max_entries),
        tell=lambda text: _say(f"{name}: {text}"),
    )
    if known is not None:
        _say(f"{name}: is in the store already, nothing to do.")
        return
    layers = [layer for each in stack.layers if (layer := store.layer(each))]
    for layer in layers:
        for what, number in layer.left_out:
            _say(f"{name}: layer {layer.diff_id[7:19]}: left out {number} {what}")
    _say(f"{name}: {_layers(len(layers))}, {size_text(sum(layer.size for layer in layers), 1)}, {stack.digest}")


def _verify(options: argparse.Namespace, store: Store) -> int:
    if options.name:
        stacks = [_require(store, _path(options, name)) for name in options.name]
        chain = list(dict.fromkeys(each for stack in stacks for each in stack.layers))
    else:
        chain = store.layers()
    bad = 0
    with own_jail() as jail:
        for each in chain:
            good = verify(jail, store, each)
            bad += not good
            _say(f"layer {each[:12]}: {'as it was unpacked' if good else 'CHANGED or damaged'}")
    if bad:
        _say(f"{bad} of {len(chain)} layers are not as they were unpacked: images remove, then images build.")
    return int(bad > 0)


def _remove(options: argparse.Namespace, store: Store) -> None:
    stacks = {name: _require(store, _path(options, name)) for name in options.name}
    with store.lock_alone():
        for name, stack in stacks.items():
            store.remove_image(stack.digest)
            _say(f"{name}: removed from the store; its folder stays.")
        _say(_sweep(store))


def _gc(_: argparse.Namespace, store: Store) -> None:
    with store.lock_alone():
        for stack in store.images():
            if not any(_is_there(stack, path) for path in stack.sources):
                store.remove_image(stack.digest)
                _say(f"removed {stack.digest}, which was in {', '.join(stack.sources)}")
        _say(_sweep(store))


def _is_there(stack: Stack, path: str) -> bool:
    try:
        return identity(path) == stack.digest
    except (ImageError, OSError):
        return False


def _sweep(store: Store) -> str:
    gone = store.sweep()
    return f"removed {_layers(gone)} that no image needs, {len(store.layers())} remain."


def _layers(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"


def _diff(options: argparse.Namespace, store: Store) -> None:
    old, new = (
        Merged([store.tree(each) for each in reversed(_require(store, _path(options, name)).layers)])
        for name in (options.old, options.new)
    )
    for kind, path in differences(old, new):
        _say(f"{kind} {path}")
