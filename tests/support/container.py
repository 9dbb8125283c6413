"""Containers as engines make them, by runc, with this machine's files: an overlay of its root.

Root only. Nothing of them stays.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.refusing_seccomp import DOCKER, NEW_NAMESPACES

#: Those that Docker gives by default.
_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
        *("NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
]
_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What an engine is told."""

    rootless: bool = False  #: as Podman's: with a user namespace, and ids from a range
    seccomp: bool = True  #: False: ``--security-opt seccomp=unconfined``
    masked: bool = True  #: False: ``--security-opt systempaths=unconfined``

    def run(
        self, command: Sequence[str], files: Mapping[str, str], seconds: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in a container, in a folder that has ``files``."""
        name = f"isolate-runc-{os.getpid()}"
        bundle = Path("/run", name)
        (bundle / "project").mkdir(mode=0o755, parents=True)
        try:
            for file, text in files.items():
                (bundle / "project" / file).write_text(text)
            (bundle / "project").chmod(0o1777)
            (bundle / "config.json").write_text(json.dumps(self._configuration(list(command), name)))
            above = [str(folder) for folder in Path(os.path.realpath(command[0])).parents]
            return subprocess.run(
                ["unshare", "--mount", "sh", "-ec", _SCRIPT, "sh", str(bundle), name, *above],
                capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True)
            shutil.rmtree(bundle)

    def _configuration(self, command: list[str], name: str) -> dict[str, Any]:
        """As the runtime specification of OCI has it."""
        ids = [{"containerID": 0, "hostID": 200_000, "size": 65_536}]
        kinds = ["pid", "mount", "ipc", "uts", "network", *(["user"] if self.rootless else [])]
        linux: dict[str, Any] = {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": f"/{name}",
            "maskedPaths": _MASKED if self.masked else [],
            "readonlyPaths": _READ_ONLY if self.masked else [],
        }
        if self.rootless:
            linux |= {"uidMappings": ids, "gidMappings": ids}
        if self.seccomp:
            linux["seccomp"] = {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [rule for each in DOCKER for rule in _rules(each)],
            }
        granted = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
        environment = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "PYTHON", "LANG"))}
        return {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "hostname": "container",
            "process": {
                "args": command, "cwd": "/project", "user": {"uid": 0, "gid": 0}, "capabilities": granted,
                "env": [f"{key}={value}" for key, value in (environment | {"HOME": "/tmp"}).items()],
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "mode=1777"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
                {"destination": "/project", "type": "bind", "source": "project", "options": ["rbind"]},
            ],
            "linux": linux,
        }  # fmt: skip


#: In a mount namespace of its own.
_SCRIPT = """
cd "$1"
mkdir -p rootfs layers
mount -t tmpfs -o mode=755 layers layers
mkdir -m 755 layers/upper layers/work
mount -t overlay -o lowerdir=/,upperdir=layers/upper,workdir=layers/work root rootfs
mkdir rootfs/project
name=$2
shift 2
for folder; do chmod a+rx "rootfs$folder"; done  # to the command, for ids from a range
exec runc run "$name"
"""


def _rules(refused: str) -> list[dict[str, Any]]:
    name, _, answer = refused.partition("=")
    rule: dict[str, Any] = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 if answer == "ENOSYS" else 1}
    if name != "clone":
        return [rule]
    kinds = [1 << bit for bit in range(32) if NEW_NAMESPACES >> bit & 1]
    return [
        {**rule, "args": [{"index": 0, "value": kind, "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ"}]} for kind in kinds
    ]
