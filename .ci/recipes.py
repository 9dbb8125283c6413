"""Runs the commands of docs/ci.md in containers by runc. Called by .ci/recipes.

usage: recipes.py ROOT [NAME...]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parents[1]
PAGE = (HERE / "docs/ci.md").read_text()
Config = dict[str, Any]

#: Docker's defaults.
DOCKER_CAPABILITIES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID"
    " SYS_CHROOT"
)
#: By their numbers.
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN"
    " SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE"
    " MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
#: What sandboxes need of what Docker's seccomp profile refuses without CAP_SYS_ADMIN.
REFUSED = "unshare mount umount2 setns pivot_root mount_setattr open_tree move_mount fsopen"
EPERM, ENOSYS = 1, 38
NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
PROJECT = {
    "pyproject.toml": """
[project]
name = "project"
version = "1"
optional-dependencies = {test = ["pytest-isolate-ns"]}
[tool.setuptools]
py-modules = ["project"]
""",
    "project.py": "",
    "test_project.py": """
import os, socket

def test_removes_etc():
    assert socket.if_nameindex() == [(1, "lo")]
    os.remove("/etc/passwd")

def test_etc_is_there():
    assert os.path.exists("/etc/passwd")
""",
}


def docker_default(config: Config) -> None:
    """Docker without options: fewer capabilities, seccomp, /proc masked. runc's own example has the last of them."""
    give(config, DOCKER_CAPABILITIES)
    refused: list[Config] = [
        {"names": REFUSED.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
    ]
    refused += [
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": EPERM,
            "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for flag in NAMESPACE_FLAGS
    ]
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refused}


def unconfined(config: Config) -> None:
    """``--security-opt seccomp=unconfined --security-opt systempaths=unconfined``: capabilities are still few."""
    docker_default(config)
    del config["linux"]["seccomp"]
    config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}


def own_users(config: Config) -> None:
    """``hostUsers: false``, ``procMount: Unmasked`` and no seccomp."""
    unconfined(config)
    mapping = [{"containerID": 0, "hostID": 0, "size": 65536}]
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    # Its own network, too: else the kernel does not let it mount sysfs. The image has all that it needs.
    config["linux"]["namespaces"] += [{"type": "user"}, {"type": "network"}]


def privileged(config: Config) -> None:
    """``--privileged``."""
    give(config, CAPABILITIES)
    config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
    config["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    config["linux"]["namespaces"].append({"type": "cgroup"})
    for mount in config["mounts"]:
        if mount["destination"] in ("/sys", "/sys/fs/cgroup"):
            mount["options"] = [option for option in mount["options"] if option != "ro"]


def give(config: Config, names: str) -> None:
    """Capabilities in all sets but the inheritable and ambient ones, as far as this machine's root has them."""
    (bounding,) = re.findall(r"^CapBnd:\t(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    mine = {name for number, name in enumerate(CAPABILITIES.split()) if int(bounding, 16) >> number & 1}
    capabilities = [f"CAP_{name}" for name in names.split() if name in mine]
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)


def blocks(title: str, language: str) -> Iterator[str]:
    """The examples of a section of the page."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    yield from re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def recipes() -> Iterator[tuple[str, Callable[[Config], None], str]]:
    """Name, container and commands of each."""
    (gitlab,) = map(yaml.safe_load, blocks("GitLab", "yaml"))
    yield "gitlab", privileged, "\n".join(gitlab["test"]["script"])
    (jenkins,) = blocks("Jenkins", "groovy")
    yield "jenkins", privileged, "\n".join(re.findall(r"sh '(.*)'", jenkins))
    github = yaml.safe_load([*blocks("GitHub Actions", "yaml")][1])
    steps = [step["run"] for step in github["jobs"]["test"]["steps"] if "run" in step]
    yield "github-container", privileged, "\n".join(step for step in steps if not step.startswith("sudo"))
    job, pod = map(yaml.safe_load, blocks("Kubernetes", "yaml"))
    yield "kubernetes", privileged, job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    yield "kubernetes-users", own_users, pod["spec"]["containers"][0]["args"][0]
    (docker,) = blocks("Docker", "sh")
    (words,) = re.findall(r"sh -ec '(.*)'", docker)
    yield "docker", unconfined, words
    (compose,) = map(yaml.safe_load, blocks("Docker", "yaml"))
    (words,) = re.findall(r"sh -ec '(.*)'", compose["services"]["tests"]["command"])
    yield "compose", privileged, words


def run(root: Path, source: Path, change: Callable[[Config], None], commands: str) -> subprocess.CompletedProcess[str]:
    """One container, which ends with the commands."""
    with tempfile.TemporaryDirectory() as bundle:
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        file = Path(bundle, "config.json")
        config: Config = json.loads(file.read_text())
        config["root"] = {"path": str(root), "readonly": False}
        config["process"] |= {
            "terminal": False,
            "cwd": "/src",
            "args": ["sh", "-ec", commands],
        }
        config["process"]["noNewPrivileges"] = False
        config["process"]["env"] = [
            "HOME=/root",
            "PATH=/venv/bin:/usr/bin:/bin",
            "PIP_ROOT_USER_ACTION=ignore",
            "PIP_FIND_LINKS=/src/wheels /opt/wheels",
        ]
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
        config["mounts"] += [
            {"destination": "/src", "source": str(source), "options": ["rbind"]},
            {"destination": "/tmp", "source": "tmpfs", "type": "tmpfs"},
            *binds(),
        ]
        change(config)
        file.write_text(json.dumps(config))
        name = f"recipe-{os.getpid()}"
        return subprocess.run(
            ["runc", "run", "--bundle", bundle, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def binds() -> Iterator[Config]:
    """What pip needs to find packages as it does here."""
    paths = [
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/ssl/certs",
        "/etc/pip.conf",
        str(Path("~/.config/pip").expanduser()),
    ]
    for path in [*paths, *os.environ.get("FORKY_BIND", "").split()]:
        if os.path.exists(path):
            yield {"destination": path, "source": os.path.realpath(path), "options": ["rbind", "ro"]}


def main(root: Path, chosen: list[str]) -> int:
    """Run them all. :return: exit status."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for name, text in PROJECT.items():
            (source / name).write_text(text)
        source.chmod(0o777)  # another user's, for the one with users of its own
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(source / "wheels"), str(HERE)]
        subprocess.run(build, check=True)
        made = run(root, source, privileged, 'python3 -m venv --clear /venv; python -m pip install ".[test]"')
        assert made.returncode == 0, made.stdout
        for name, change, commands in recipes():
            if chosen and name not in chosen:
                continue
            done = run(root, source, change, commands)
            print(
                f"\n===== {name} ({change.__name__}): status {done.returncode}\n{commands}\n-----\n{done.stdout}",
                flush=True,
            )
            if done.returncode or "2 passed" not in done.stdout:
                failed.append(name)
        if not chosen or "refused" in chosen:
            done = run(root, source, docker_default, "python -m pytest_isolate doctor --strict sandbox")
            print(f"\n===== refused (docker_default): status {done.returncode}\n{done.stdout}")
            if done.returncode != 1 or "seccomp=unconfined" not in done.stdout:
                failed.append("refused")
    print("failed:", *failed or ["none"])
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
