"""Reads an image as a tool wrote it: an OCI image layout, as a directory or in a tar archive, or ``docker save``'s.

Only what says which layers there are is read here; they are streamed by :mod:`~pytest_isolate.images.oci.layer_stream`.
Sources: the OCI image specification (image-layout.md, image-index.md, manifest.md, config.md) and, for archives of
``docker save``, the Docker image specification v1.2.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from pytest_isolate.spec.errors import ImageError
from pytest_isolate.spec.lists import is_passable

#: Most bytes of an index, manifest or configuration: registries take no more than 4 MiB of one.
_DOCUMENT_MOST = 4 << 20
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})", re.ASCII)
#: Names of machines: uname(2)'s to those of images (GOARCH).
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
#: How a layer's blob is packed, by the end of its media type.
_LAYER = re.compile(r".*\.tar(?:[.+](?P<packing>gzip|zstd))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """One layer as the source holds it."""

    name: str  #: where: path within the source
    digest: str | None  #: of the blob; None in an archive that names none
    size: int | None  #: bytes of the blob
    packing: str | None  #: plain, gzip or zstd; None: to be seen from its first bytes
    diff_id: str  #: digest of the tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a source holds."""

    digest: str  #: of the manifest, or of the configuration where there is no manifest: the image's identity
    layers: tuple[LayerBlob, ...]  #: the lowest first
    env: tuple[tuple[str, str], ...] = ()  #: variables that the image sets


class Source:
    """Blobs by name, in a directory or an archive.

    :raises ImageError: if there is nothing that could be an image.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._archive: tarfile.TarFile | None = None
        self._members: Mapping[str, tarfile.TarInfo] = {}
        if not os.path.isdir(path):
            try:
                self._archive = tarfile.open(path, mode="r:")  # noqa: SIM115 - closed by close()
                self._members = {os.path.normpath(member.name): member for member in self._archive}
            except (tarfile.TarError, OSError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
                self.close()
                raise ImageError(
                    path, f"is no tar archive ({error}); one that is compressed must be decompressed first."
                ) from error

    def close(self) -> None:
        """Close the archive."""
        if self._archive is not None:
            self._archive.close()

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self._members if self._archive else os.path.isfile(os.path.join(self.path, name))

    def open(self, name: str) -> IO[bytes]:
        """The content of a file, to be closed by the caller. :raises ImageError: if it is missing."""
        if self._archive is None:
            try:
                return open(os.path.join(self.path, name), "rb")
            except OSError as error:
                raise ImageError(self.path, f"cannot read {name}: {error.strerror}.") from error
        member, steps = self._members.get(name), 0
        while member is not None and member.issym() and steps < len(self._members):  # old versions of docker save
            target = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
            member, steps = self._members.get(target), steps + 1
        file = self._archive.extractfile(member) if member is not None and member.isfile() else None
        if file is None:
            raise ImageError(self.path, f"has no file {name}.")
        return file

    def document(self, name: str, digest: str | None = None) -> Any:
        """A JSON document; its digest is checked if there is one."""
        with self.open(name) as file:
            text = file.read(_DOCUMENT_MOST + 1)
        if len(text) > _DOCUMENT_MOST:
            raise ImageError(self.path, f"{name} has more than {_DOCUMENT_MOST} bytes, which no index or manifest has.")
        if digest is not None and digest_of(text, digest) != digest:
            raise ImageError(self.path, f"{name} is damaged: its digest is {digest_of(text, digest)}, not {digest}.")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ImageError(self.path, f"{name} is no JSON: {error}.") from error


def digest_of(text: bytes, like: str = "sha256:") -> str:
    """The digest of ``text``, by the algorithm that ``like`` names."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, text).hexdigest()}"


@contextmanager
def open_image(path: str) -> Iterator[tuple[Source, Image]]:
    """The image in ``path``: a directory that is an OCI layout or holds one archive, or an archive.

    :raises ImageError: if it is none, or more than one.
    """
    source = Source(_find_layout(path))
    try:
        yield source, _read_image(source)
    finally:
        source.close()


def _find_layout(path: str) -> str:
    """The layout or archive that ``path`` means."""
    if not os.path.isdir(path) or os.path.isfile(os.path.join(path, "index.json")):
        return path
    archives = [name for name in sorted(os.listdir(path)) if name.endswith((".tar", ".oci"))]
    if len(archives) == 1:
        return os.path.join(path, archives[0])
    if archives:
        raise ImageError(path, f"holds {len(archives)} archives ({', '.join(archives)}); leave one.")
    raise ImageError(
        path,
        "holds no image: neither an OCI image layout (index.json), nor an archive of one or of docker save (*.tar), "
        "nor a recipe (image.toml).",
    )


def _read_image(source: Source) -> Image:
    try:
        if source.has("index.json"):
            return _from_layout(source)
        if source.has("manifest.json"):
            return _from_docker(source)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ImageError(source.path, f"its description lacks or mistakes a field: {error!r}.") from error
    raise ImageError(source.path, "has neither index.json (OCI image layout) nor manifest.json (docker save).")


def _from_layout(source: Source) -> Image:
    descriptor = _choose(source, source.document("index.json")["manifests"])
    while descriptor.get("mediaType") in _INDEXES:
        descriptor = _choose(source, source.document(_blob(source, descriptor), descriptor["digest"])["manifests"])
    manifest = source.document(_blob(source, descriptor), descriptor["digest"])
    kind = manifest.get("mediaType") or descriptor.get("mediaType")
    if kind not in _MANIFESTS:
        raise ImageError(source.path, f"its manifest is of the unknown media type {kind!r}.")
    configuration = source.document(_blob(source, manifest["config"]), manifest["config"]["digest"])
    layers = [(_blob(source, layer), layer["digest"], layer.get("size"), _packing(source, layer)) for layer in
              manifest["layers"]]  # fmt: skip
    return _describe(source, descriptor["digest"], configuration, layers)


def _from_docker(source: Source) -> Image:
    images = source.document("manifest.json")
    if len(images) != 1:
        raise ImageError(source.path, f"holds {len(images)} images; save one: docker save NAME:TAG.")
    with source.open(str(images[0]["Config"])) as file:
        digest = digest_of(file.read(_DOCUMENT_MOST))
    layers = [(os.path.normpath(str(name)), None, None, None) for name in images[0]["Layers"]]
    return _describe(source, digest, source.document(str(images[0]["Config"])), layers)


def _describe(
    source: Source,
    digest: str,
    configuration: Any,
    layers: Sequence[tuple[str, str | None, int | None, str | None]],
) -> Image:
    if configuration.get("os", "linux") != "linux" or not _runs_here(configuration):
        kind = f"{configuration.get('os')}/{configuration.get('architecture')}"
        raise ImageError(source.path, f"is made for {kind}, which this machine ({platform.machine()}) cannot run.")
    if not layers:
        raise ImageError(source.path, "has no layers, and so no files: it is still empty.")
    diff_ids = [_check_digest(source, diff_id) for diff_id in configuration["rootfs"]["diff_ids"]]
    if len(diff_ids) != len(layers):
        raise ImageError(source.path, f"names {len(layers)} layers and {len(diff_ids)} digests of them.")
    env = [str(each).partition("=")[::2] for each in (configuration.get("config") or {}).get("Env") or ()]
    for name, value in env:
        if not is_passable(name + value):
            raise ImageError(source.path, f"sets the variable {name!r} to {value!r}, which no variable can hold.")
    return Image(
        digest=digest,
        layers=tuple(
            LayerBlob(name=name, digest=blob, size=size, packing=packing, diff_id=diff_id)
            for (name, blob, size, packing), diff_id in zip(layers, diff_ids, strict=True)
        ),
        env=tuple((name, value) for name, value in env if name),
    )


def _runs_here(described: Mapping[str, Any]) -> bool:
    wanted = described.get("architecture")
    return wanted in (None, "", platform.machine(), _ARCHITECTURES.get(platform.machine()))


def _choose(source: Source, descriptors: list[Any]) -> Any:
    """The descriptor that an index means for this machine."""
    fitting = [
        each
        for each in descriptors
        if each.get("mediaType") in (*_INDEXES, *_MANIFESTS, None)
        and (not each.get("platform") or _runs_here(each["platform"]))
    ]
    if len({each["digest"] for each in fitting}) == 1:
        return fitting[0]
    names = [str((each.get("annotations") or {}).get("org.opencontainers.image.ref.name", each["digest"]))
             for each in fitting]  # fmt: skip
    if not fitting:
        raise ImageError(source.path, f"has no image for this machine ({platform.machine()}).")
    raise ImageError(source.path, f"holds {len(fitting)} images ({', '.join(names)}); copy one into a folder alone.")


def _check_digest(source: Source, digest: object) -> str:
    if isinstance(digest, str) and _DIGEST.fullmatch(digest):
        return digest
    raise ImageError(source.path, f"{digest!r} is no digest; allowed are sha256 and sha512.")


def _blob(source: Source, descriptor: Any) -> str:
    algorithm, _, value = _check_digest(source, descriptor["digest"]).partition(":")
    return f"blobs/{algorithm}/{value}"


def _packing(source: Source, layer: Any) -> str:
    kind = str(layer["mediaType"])
    if (match := _LAYER.fullmatch(kind)) is None or "foreign" in kind:
        raise ImageError(source.path, f"a layer is of the media type {kind!r}; known are tar, gzip and zstd.")
    return match["packing"] or "plain"
