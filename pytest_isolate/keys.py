"""The table of the contract's keys: what each is called, on the command line too, and what it means.

Text only, as it is loaded at every start of pytest, for the command line and the ini file. How a value is read stands
in :mod:`pytest_isolate.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping


class Key:
    """A key of the contract. No NamedTuple, here and in what else each start loads: to make one takes 0.4 ms."""

    def __init__(self, name: str, metavar: str | None, meaning: str, *, repeated: bool = False) -> None:
        self.name = name
        self.metavar = metavar  #: what stands for its value on the command line; None: the marker only, it is a mapping
        self.meaning = meaning
        self.repeated = repeated  #: on the command line, and one per line in the ini file


KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key("memory", "SIZE", 'cap on the memory of all its processes: "50M", "1.5G", bytes'),
        Key("swap", "SIZE", "swap on top of memory; 0"),
        Key("cpus", "N", "CPU quota in cores: 0.5"),
        Key("cpuset", "CORES", 'cores it may run on: "0-1"'),
        Key("pids", "N", "most processes and threads at a time"),
        Key("io", None, 'bytes per second on the block devices under the file system: {"read": "20M", "write": "10M"}'),
        Key("disk", "SIZE", "most bytes in the writable layer; 1G"),
        Key("timeout", "SECONDS", "wall seconds for setup, call and teardown"),
        Key(
            "network",
            "KIND",
            '"none", a network of its own with loopback only (default); "bridge" or "bridge:NAME", joined with all '
            'sandboxes of that name; "nat", with a way to the outside; or "host"',
        ),
        Key(
            "host_ports",
            "PORT",
            "TCP ports of the host's loopback to reach, beside the session's own; or session (default), or none",
            repeated=True,
        ),
        Key("image", "NAME", "root file system to run on, a folder's name in fixtures_images"),
        Key("hostname", "NAME", "host name inside; isolated"),
        Key("user", "WHO", '"same" uid and gid as outside (default), or "root" inside only'),
        Key("writable", "PATH", "paths where what the test writes stays", repeated=True),
        Key("env", None, "variables to set, None removes one"),
    )
}

#: Keys that can be written on the command line and in the ini file.
DEFAULT_KEYS = tuple(key.name for key in KEYS.values() if key.metavar is not None)

#: Where the images are, from pytest's root directory, unless the ini value ``isolate_images_path`` says otherwise.
IMAGES = "fixtures_images"


def flag(key: str) -> str:
    """The command line's spelling of a key: ``--isolate-memory``."""
    return "--isolate-host-port" if key == "host_ports" else f"--isolate-{key}"
