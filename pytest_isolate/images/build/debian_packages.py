"""Debian packages as a layer: resolved and fetched by the host's apt, laid out as ``dpkg --unpack`` would.

No script of a package is run, so that it works without root; dpkg's database says that they are installed, so that
dpkg inside goes on from there. apt checks what it fetches against the signatures of the archive.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from shutil import which
from typing import IO

from pytest_isolate.spec.errors import ImageError, UnsupportedError

_INFO = "var/lib/dpkg/info"
#: Folders that Debian has as links to those of /usr. From Debian 13 on packages have their files in /usr only, and
#: base-files the links.
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def as_tar(packages: Sequence[str], folder: str, out: IO[bytes], *, lowest: bool) -> list[str]:
    """Write a layer of ``packages`` and all that they depend on.

    :param folder: an empty one, to fetch them to. :param lowest: there is no layer below.
    :returns: the packages, ``name=version``.
    :raises ImageError: a package cannot be had. :raises UnsupportedError: this is no Debian, nor alike.
    """
    for program in ("apt-get", "dpkg-deb"):
        if which(program) is None:
            remedy = "Build the image on Debian or Ubuntu, or write the recipe with a tar instead."
            raise UnsupportedError("image", f"packages are fetched by {program}, which is not here", remedy)
    chosen = _resolve(packages, folder)
    _output(["apt-get", "download", "-qq", *chosen], folder, "fetch the packages")
    files = sorted(name for name in os.listdir(folder) if name.endswith(".deb"))
    status = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as layer:
        paths = [path for name in files for path in _add_package(layer, os.path.join(folder, name), status)]
        for link in missing_links(paths) if lowest else ():
            info = tarfile.TarInfo(link)
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, f"usr/{link}", 0o777
            layer.addfile(info)
        _add(layer, "var/lib/dpkg/status", status.getvalue())
        _add(layer, "var/lib/dpkg/available", b"")
    return chosen


def _resolve(packages: Sequence[str], folder: str) -> list[str]:
    """``packages`` and what they depend on, as if nothing were installed here."""
    empty = os.path.join(folder, "status")
    with open(empty, "wb"):
        pass
    command = ["apt-get", "install", "-s", "-qq", "--no-install-recommends", "-o", f"Dir::State::status={empty}"]
    text = _output([*command, "-o", "Debug::NoLocking=1", *packages], folder, "resolve the packages")
    os.unlink(empty)
    found = re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", text, re.MULTILINE)
    return [f"{name.partition(':')[0]}={version}" for name, version, _ in found]


def missing_links(paths: Iterable[str]) -> list[str]:
    """Find the links to /usr that packages with these absolute paths expect and do not have."""
    tops = {tuple(path.split("/")[1:3]) for path in paths}
    names = {top[0] for top in tops}
    return [name for name in _MERGED if ("usr", name) in tops and name not in names]


def _add_package(layer: tarfile.TarFile, package: str, status: IO[bytes]) -> list[str]:
    """Add one; the paths of its files."""
    paths = []
    with tarfile.open(fileobj=io.BytesIO(_bytes("--fsys-tarfile", package))) as content:
        for member in content:
            path = os.path.normpath(member.name)
            paths.append("/." if path == "." else f"/{path}")
            layer.addfile(member, content.extractfile(member) if member.isreg() else None)
    with tarfile.open(fileobj=io.BytesIO(_bytes("--ctrl-tarfile", package))) as control:
        scripts = {
            os.path.normpath(member.name): file.read() for member in control if (file := control.extractfile(member))
        }
    described = scripts.pop("control").decode("utf-8").strip()
    fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", described, re.MULTILINE))
    name = fields["Package"] + (f":{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else "")
    stanza = described.replace("\n", "\nStatus: install ok installed\n", 1)
    status.write(f"{stanza}\n\n".encode())
    _add(layer, f"{_INFO}/{name}.list", "".join(f"{path}\n" for path in paths).encode())
    for script, text in sorted(scripts.items()):
        executable = script in ("preinst", "postinst", "prerm", "postrm", "config")
        _add(layer, f"{_INFO}/{name}.{script}", text, 0o755 if executable else 0o644)
    return paths


def _add(layer: tarfile.TarFile, path: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), mode
    layer.addfile(info, io.BytesIO(content))


def _bytes(what: str, package: str) -> bytes:
    return subprocess.run(["dpkg-deb", what, package], check=True, stdout=subprocess.PIPE).stdout  # noqa: S603, S607 - fetched by apt


def _output(command: Sequence[str], folder: str, doing: str) -> str:
    done = subprocess.run(  # noqa: S603 - words of the recipe, behind apt's own
        command, cwd=folder, check=False, capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        errors = [line for line in lines if line.startswith("E:")] or lines
        more = f" (and {len(errors) - 1} more like it)" if len(errors) > 1 else ""  # one for each package
        raise ImageError("recipe", f"cannot {doing}: {errors[0]}{more}")
    return done.stdout
