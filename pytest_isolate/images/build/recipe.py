"""Reads a recipe, ``image.toml``: what an image is made of, layer by layer. Pure, except that it reads files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_isolate.spec.errors import ImageError
from pytest_isolate.spec.messages import nearest, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib
FILE = "image.toml"
#: deb-control(5): names and versions; nothing that apt would take for an option.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[0-9A-Za-z][0-9A-Za-z.+~:-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An entry that a layer puts into the image."""

    path: str  #: absolute
    mode: int
    text: bytes | None = None  #: of a file
    target: str | None = None  #: of a symbolic link; with neither, it is a directory


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecipe:
    """How one layer is made: by exactly one of these."""

    files: tuple[File, ...] = ()
    tar: str | None = None  #: path of an archive
    sha256: str | None = None  #: of that archive
    packages: tuple[str, ...] = ()  #: Debian packages, ``name`` or ``name=version``, and all that they depend on
    run: tuple[str, ...] = ()  #: a command, run in the image so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole recipe."""

    base: str | None = None  #: the image under it, by name
    env: tuple[tuple[str, str], ...] = ()
    layers: tuple[LayerRecipe, ...] = field(default=())


def exists(folder: str) -> bool:
    """Whether ``folder`` holds a recipe."""
    return os.path.isfile(os.path.join(folder, FILE))


def read(folder: str) -> Recipe:
    """The recipe in ``folder``. :raises ImageError: with the place of the first thing that is wrong."""
    path = os.path.join(folder, FILE)
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise ImageError(path, f"cannot be read: {error}.") from error
    _keys(path, content, ("base", "env", "layer"))
    layers = content.get("layer")
    if not isinstance(layers, list) or not layers:
        raise ImageError(path, "has no layer; write [[layer]] and what is in it.")
    return Recipe(
        base=None if content.get("base") is None else _text(path, "base", content["base"]),
        env=tuple((name, _text(path, f"env.{name}", value)) for name, value in content.get("env", {}).items()),
        layers=tuple(_layer(f"{path}: layer {number}", folder, layer) for number, layer in enumerate(layers, 1)),
    )


def digest(folder: str) -> str:
    """The identity of what the recipe in ``folder`` makes: that of all that is written there, its base's included."""
    return _digest(folder, ())


def _digest(folder: str, seen: tuple[str, ...]) -> str:
    if folder in seen:
        raise ImageError(folder, "is its own base.")
    recipe = read(folder)
    base = None
    if recipe.base is not None:
        below = os.path.join(os.path.dirname(folder), recipe.base)
        base = _digest(below, (*seen, folder)) if exists(below) else recipe.base
    text = json.dumps([base, _identity(recipe)]).encode()
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _identity(recipe: Recipe) -> str:
    """All that the recipe says, in a form that must stay: with another, no store would know what is built already."""
    layers = [
        f"Step(files={each.files!r}, tar={each.tar!r}, sha256={each.sha256!r}, packages={each.packages!r}, "
        f"run={each.run!r})"
        for each in recipe.layers
    ]
    listed = f"{layers[0]}," if len(layers) == 1 else ", ".join(layers)
    return f"Recipe(base={recipe.base!r}, env={recipe.env!r}, steps=({listed}))"


def _layer(place: str, folder: str, layer: Any) -> LayerRecipe:
    if not isinstance(layer, dict):
        raise ImageError(place, "is no table; write [[layer]].")
    kinds = [kind for kind in _KINDS if kind in layer]
    own = {"files": {"directories", "links", "files"}, "tar": {"sha256"}}
    entries = {"files", "directories", "links"} & layer.keys()
    if len(kinds) + bool(entries) != 1:
        raise ImageError(place, f"must have one of {', '.join((*_KINDS, 'files, directories and links'))}.")
    kind = kinds[0] if kinds else "files"
    _keys(place, layer, (kind, *sorted(own.get(kind, ()))))
    return _KINDS[kind](place, folder, layer) if kinds else LayerRecipe(files=_files(place, folder, layer))


def _tar(place: str, folder: str, layer: Mapping[str, Any]) -> LayerRecipe:
    sha256 = _text(place, "sha256", layer.get("sha256"))
    if not re.fullmatch(r"[0-9a-f]{64}", sha256, re.ASCII):
        raise ImageError(place, f"sha256={shown(sha256)}: allowed are 64 hexadecimal digits, as sha256sum prints them.")
    return LayerRecipe(tar=os.path.join(folder, _text(place, "tar", layer["tar"])), sha256=sha256)


def _packages(place: str, _folder: str, layer: Mapping[str, Any]) -> LayerRecipe:
    packages = layer["packages"]
    if not isinstance(packages, list) or not packages:
        raise ImageError(place, f'packages={shown(packages)}: allowed is a list of names, such as ["dash=0.5.12-2"].')
    for each in packages:
        if not isinstance(each, str) or not _PACKAGE.fullmatch(each):
            raise ImageError(place, f"packages: {shown(each)}: allowed is the name of a package, or name=version.")
    return LayerRecipe(packages=tuple(packages))


def _run(place: str, _folder: str, layer: Mapping[str, Any]) -> LayerRecipe:
    command = layer["run"]
    if isinstance(command, str) and command.strip():
        return LayerRecipe(run=("/bin/sh", "-ec", command))
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        return LayerRecipe(run=tuple(command))
    raise ImageError(place, f"run={shown(command)}: allowed is a line for /bin/sh, or a list of words.")


_KINDS: Mapping[str, Callable[[str, str, Mapping[str, Any]], LayerRecipe]] = {
    "tar": _tar,
    "packages": _packages,
    "run": _run,
}


def _files(place: str, folder: str, layer: Mapping[str, Any]) -> tuple[File, ...]:
    found = []
    for path, mode in layer.get("directories", {}).items():
        found.append(File(path=_path(place, path), mode=_mode(place, mode)))
    for path, content in layer.get("files", {}).items():
        fields = {"text": content} if isinstance(content, str) else content
        if not isinstance(fields, dict) or len(fields.keys() & {"text", "from"}) != 1:
            raise ImageError(place, f'files."{path}": allowed is text, or a table with text or from, and mode.')
        _keys(place, fields, ("text", "from", "mode"))
        text = _text(place, "text", fields["text"]).encode() if "text" in fields else _content(place, folder, fields)
        found.append(File(path=_path(place, path), mode=_mode(place, fields.get("mode", "644")), text=text))
    for path, target in layer.get("links", {}).items():
        found.append(File(path=_path(place, path), mode=0o777, target=_text(place, "links", target)))
    return tuple(found)


def _content(place: str, folder: str, fields: Mapping[str, Any]) -> bytes:
    name = _text(place, "from", fields["from"])
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(place, f'from="{name}" cannot be read: {error.strerror}.') from error


def _path(place: str, path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise ImageError(place, f'"{path}": allowed is an absolute path.')
    return path


def _mode(place: str, mode: object) -> int:
    if isinstance(mode, str) and re.fullmatch(r"0*[0-7]{1,4}", mode, re.ASCII):
        return int(mode, 8)
    raise ImageError(place, f'mode={shown(mode)}: allowed are octal digits as text, such as "755".')


def _text(place: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ImageError(place, f"{key}={shown(value)}: allowed is text.")
    return value


def _keys(place: str, table: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in table:
        if key not in allowed:
            raise ImageError(
                place, f"there is no key {key!r}; allowed are {', '.join(allowed)}.{nearest(key, allowed)}"
            )
