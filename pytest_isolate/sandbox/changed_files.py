"""What a run changed: the upper layers of its overlays, listed in one call of the C core."""

from __future__ import annotations

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd, ffi, lib
from pytest_isolate.sandbox.outcome import Change


def changes(scratch: Fd, layers: bytes) -> list[Change]:
    """What writable layers hold, against the host's tree at the same paths; as far as they can be read.

    :param scratch: the sandbox's scratch directory, which the layers are in. Whiteouts and opaque directories are
        those of overlayfs.rst.
    :param layers: see :attr:`Plan.host_layers`.
    """
    size = ffi.new("long *")
    records = lib.isolate_changes(scratch, layers, size)
    try:
        if size[0] < 0:
            raise MemoryError
        text = bytes(ffi.buffer(records, size[0])) if size[0] else b""
    finally:
        lib.isolate_free(records)
    found = []
    for record in text.split(b"\0")[:-1]:
        kind = record[:1].decode()
        assert kind in ("A", "M", "D")
        found.append(Change(kind, calls.fsdecode(record[1:])))  # type: ignore[arg-type]
    return found
