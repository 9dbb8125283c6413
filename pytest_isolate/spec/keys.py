"""The table of the contract's keys: what each is called, on the command line too, and what it means.

Text only, as it is loaded at every start of pytest, for the command line and the ini file. How a value is read stands
in :mod:`pytest_isolate.spec.key_values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

#: When a key is in force: a cap once it is set; what belongs to the sandbox wherever there is one, as its namespaces
#: enforce it; what is set in the test's process always.
Kind = Literal["cap", "sandbox", "process"]


class Key:
    """A key of the contract. No NamedTuple, here and in what else each start loads: to make one takes 0.4 ms."""

    def __init__(
        self,
        name: str,
        metavar: str | None,
        meaning: str,
        *,
        kind: Kind = "sandbox",
        controller: str | None = None,
        behind: str | None = None,
        fields: tuple[str, ...] = (),
        repeated: bool = False,
    ) -> None:
        self.name = name
        self.metavar = metavar  #: what stands for its value on the command line; None: the marker only
        self.meaning = meaning
        self.kind = kind
        self.controller = controller  #: the cgroup controller that a cap needs, by our name
        self.behind = behind  #: the key without which it means nothing, as its value comes on top
        self.fields = fields or (name,)  #: those of ``Limits`` or ``Spec`` that it sets
        self.repeated = repeated  #: on the command line, and one per line in the ini file


KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key(
            "memory", "SIZE", 'cap on the memory of all its processes, such as "50M", "1.5G", or bytes',
            kind="cap", controller="memory",
        ),
        Key("swap", "SIZE", "swap on top of memory (default: 0)", kind="cap", controller="swap", behind="memory"),
        Key("cpus", "N", "CPU quota in cores, such as 0.5", kind="cap", controller="cpu"),
        Key("cpuset", "CORES", 'cores it may run on, such as "0-1"', kind="cap", controller="cpuset"),
        Key("pids", "N", "most processes and threads at a time", kind="cap", controller="pids"),
        Key(
            "io", None, 'bytes per second on the block devices under the file system: {"read": "20M", "write": "10M"}',
            kind="cap", controller="io", fields=("io_read", "io_write"),
        ),
        Key("disk", "SIZE", "most bytes in the writable layer (default: 1G)"),
        Key("timeout", "SECONDS", "wall seconds for setup, call and teardown", kind="cap"),
        Key(
            "network", "KIND",
            '"none", a network of its own with loopback only (default); "bridge" or "bridge:NAME", joined with all '
            'sandboxes of that name; "nat", with a way to the outside; or "host"',
        ),
        Key(
            "host_ports", "PORT",
            "TCP ports of the host's loopback to reach, beside the session's own; or session (default), or none",
            repeated=True,
        ),
        Key("image", "NAME", "root file system to run on, a folder's name in fixtures_images"),
        Key("hostname", "NAME", "host name inside (default: isolated)"),
        Key("user", "WHO", '"same" uid and gid as outside (default), or "root" inside only'),
        Key("writable", "PATH", "paths where what the test writes stays", repeated=True),
        Key("devices", "PATH", 'devices of the host to let in, as docker --device, such as "/dev/fuse"', repeated=True),
        Key(
            "nested", "BOOL",
            "whether it may mount, and have sandboxes of its own as root, such as a plugin's suite: true, or false",
        ),
        Key(
            "leaks", "WHAT",
            "what happens to a test that leaves processes, ports, threads, IPC or files behind, or tries to reach the "
            'network: off (default), report, or fail; and what may: "process:redis*", "network:*.example.com"',
            fields=("leaks", "leaks_allowed"), repeated=True,
        ),
        Key("env", None, "variables to set, None removes one", kind="process"),
        Key(
            "exclusive", None,
            "whether it runs beside no other test (--isolate-jobs): True, False; those that reach out of their sandbox",
            kind="process",
        ),
    )
}  # fmt: skip
#: Keys that can be written on the command line and in the ini file.
DEFAULT_KEYS = tuple(key.name for key in KEYS.values() if key.metavar is not None)
#: What may be repeated is written one by one.
_FLAGS = {"host_ports": "host-port", "devices": "device"}
#: In the environment of all that runs in a session sandbox; its value is the path of pytest's terminal, or empty.
IN_SESSION = "PYTEST_ISOLATE_IN_SESSION"
#: Where the images are, from pytest's root directory, unless the ini value ``isolate_images_path`` says otherwise.
IMAGES = "fixtures_images"
#: Of writable layers that are kept (``--isolate-keep``): how many, and how many bytes.
KEEP_NUMBER, KEEP_SIZE = 20, 1 << 30


def flag(key: str) -> str:
    """The command line's spelling of a key: ``--isolate-memory``."""
    return f"--isolate-{_FLAGS.get(key, key)}"


def is_cap_set(key: Key, limits: object) -> bool:
    """Whether ``limits``, a :class:`~pytest_isolate.spec.spec.Limits`, has what a key of the kind ``cap`` caps."""
    fields = KEYS[key.behind or key.name].fields
    return any(getattr(limits, name) is not None for name in fields)
