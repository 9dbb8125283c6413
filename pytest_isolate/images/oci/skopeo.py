"""Fetching an image from a registry, which is skopeo's work: never at test time, and only by digest."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from pytest_isolate.spec.errors import ImageError

_PINNED = re.compile(r"(?:docker://)?(?P<repository>[^@\s]+)@(?P<digest>sha256:[0-9a-f]{64})")
_TAG = re.compile(r":[\w.-]+$")  # after the last slash, so that it is no port


@dataclass(frozen=True, slots=True)
class Reference:
    """An image of a registry, as ``docker pull`` takes it, and pinned."""

    repository: str  #: ``alpine``, ``localhost:5000/team/alpine``
    digest: str  #: ``sha256:...``, of the manifest, or of the index of those for several architectures

    @classmethod
    def read(cls, text: str) -> Reference:
        """``[HOST/]NAME[:TAG]@sha256:DIGEST``; the tag is only for the reader, as the digest says more.

        :raises ImageError: if it is anything else.
        """
        if match := _PINNED.fullmatch(text):
            return cls(_without_tag(match["repository"]), match["digest"])
        repository = _without_tag(text.removeprefix("docker://").partition("@")[0])
        raise ImageError(
            text,
            f"is not pinned by a digest, so that tomorrow it could be another; write {repository}@sha256:..., which "
            f"skopeo inspect --format '{{{{.Digest}}}}' docker://{text.removeprefix('docker://')} tells.",
        )

    @property
    def name(self) -> str:
        """The last word of the repository."""
        return self.repository.rpartition("/")[2]


def copy(reference: Reference, folder: str) -> None:
    """Have skopeo make an OCI image layout in ``folder``, for this machine's architecture; it shows its own progress.

    :raises ImageError: without skopeo, or if it fails: its own words stand before on stderr.
    """
    pinned = f"{reference.repository}@{reference.digest}"
    program = shutil.which("skopeo")
    if program is None:
        raise ImageError(pinned, "cannot be fetched: skopeo is not installed; install the package skopeo.")
    command = [program, "copy", f"docker://{pinned}", f"oci:{folder}"]
    done = subprocess.run(command, check=False)  # noqa: S603 - what the user asked for, as arguments
    if done.returncode:
        raise ImageError(pinned, f"was not fetched: skopeo copy ended with status {done.returncode}.")


def _without_tag(repository: str) -> str:
    head, slash, last = repository.rpartition("/")
    return head + slash + _TAG.sub("", last)
