"""Images that Specs name, as roots: each is looked for once, and unpacked if need be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_isolate.plan.host import Host
from pytest_isolate.sandbox.builder import Builder
from pytest_isolate.spec.errors import ImageError, SetupError
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.plan.image_root import ImageRoot


class ImageRoots:
    """Those of one keeper."""

    def __init__(self, folder: str, places: tuple[str, ...]) -> None:
        """:param folder: that has the images. :param places: directories that tests will write to."""
        self.folder, self.places = folder, places
        self._found: dict[tuple[str, tuple[str, ...]], ImageRoot | SetupError] = {}

    def root(self, spec: Spec, builder: Builder, host: Host) -> ImageRoot | None:
        """The image of ``spec``; None if it has none, or there are no sandboxes here.

        :raises SetupError: if it can't be used.
        """
        if spec.image is None or not host.sandbox:
            return None
        key = spec.image, spec.writable
        if key not in self._found:
            self._found[key] = self._look(spec.image, spec.writable, builder, host)
        root = self._found[key]
        if isinstance(root, SetupError):
            raise root
        return root

    def forget(self) -> None:
        """Look at them anew, as the host has changed."""
        self._found.clear()

    def _look(self, image: str, writable: tuple[str, ...], builder: Builder, host: Host) -> ImageRoot | SetupError:
        from pytest_isolate.images import provide  # noqa: PLC0415 - only if a test has an image

        try:
            path = os.path.join(self.folder, image)
            return provide.root(path, builder, host, folders=self.places, writable=writable)
        except ImageError as error:
            text = str(error)
            return SetupError("use the image", "", 0, text[:1].upper() + text[1:])
