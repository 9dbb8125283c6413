"""Makes layers and images at run time, so that none has to be in the repository."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

_OCI = "application/vnd.oci.image"


def entry(name: str, content: str | bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """An entry: a file if there is ``content``, else a directory, or what ``type`` says."""
    info = tarfile.TarInfo(name)
    data = content.encode() if isinstance(content, str) else content or b""
    info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    info.mode = 0o755 if content is None else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    info.size = len(data)
    return info, data


def link(name: str, target: str, *, hard: bool = False) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, "", type=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target)


def programs(*names: str) -> dict[str, bytes]:
    """Programs of this machine in /bin, and the shared objects that they need in their places."""
    files = {}
    for name in names:
        program = os.path.realpath(which(name) or "")
        needed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
        for path in (program, *re.findall(r"(/\S+) \(0x", needed)):
            files[f"/bin/{name}" if path == program else path] = Path(path).read_bytes()
    return files


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layout(
    folder: Path,
    *layers: bytes,
    packed: Mapping[int, tuple[str, bytes]] | None = None,
    env: Sequence[str] = (),
    **configuration: Any,
) -> Path:
    """An OCI image layout of these tars. ``packed``: by number of the layer, end of its media type and blob."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def stored(data: bytes, kind: str) -> dict[str, Any]:
        (blobs / digest(data).removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": f"{_OCI}.{kind}", "digest": digest(data), "size": len(data)}

    described = {
        "os": "linux",
        "config": {"Env": list(env)},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        **configuration,
    }
    listed = []
    for number, layer in enumerate(layers):
        kind, data = (packed or {}).get(number, (".tar+gzip", gzip.compress(layer, 1)))
        listed.append(stored(data, f"layer.v1{kind}"))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": stored(json.dumps(described).encode(), "config.v1+json"),
        "layers": listed,
    }
    index = {"schemaVersion": 2, "manifests": [stored(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def docker_save(file: Path, *layers: bytes) -> Path:
    """An archive as ``docker save`` wrote it before version 25."""
    described = json.dumps(
        {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}}
    ).encode()
    named = [(f"{number}/layer.tar", layer) for number, layer in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": ["a:latest"], "Layers": [name for name, _ in named]}]
    content = [("config.json", described), *named, ("manifest.json", json.dumps(manifest).encode())]
    file.write_bytes(tar(*(entry(name, data) for name, data in content)))
    return file
