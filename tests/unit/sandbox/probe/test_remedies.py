"""Each thing that a host lacks with what to do about it."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import get_args

import pytest

from pytest_isolate.plan.host import Feature
from pytest_isolate.sandbox.probe.remedies import remedy


@pytest.mark.parametrize(
    ("settings", "code", "expected"),
    [
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            errno.EACCES,
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({"kernel/unprivileged_userns_clone": "0"}, errno.EPERM, "unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, errno.ENOSPC, "user.max_user_namespaces="),
        ({}, errno.EPERM, "--security-opt seccomp=unconfined"),
    ],
)
def test_a_refused_user_namespace_has_the_remedy_of_the_setting_that_refuses_it(
    tmp_path: Path, settings: dict[str, str], code: int, expected: str
) -> None:
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    assert expected in remedy("userns", code, tmp_path)


@pytest.mark.parametrize("what", get_args(Feature))
def test_short_memory_is_named_whatever_was_tried(what: Feature) -> None:
    text = remedy(what, errno.ENOMEM)
    assert "Memory is short" in text
    assert "Overlay" not in text
    assert "Docker" not in text


@pytest.mark.parametrize(
    ("what", "expected"),
    [("pidns", "max_pid_namespaces"), ("mountns", "max_mnt_namespaces"), ("netns", "max_net_namespaces"),
     ("mounts", "fs.mount-max"), ("overlay", "is full")],
)  # fmt: skip
def test_a_number_that_is_reached_has_the_remedy_of_its_own_limit(what: Feature, expected: str) -> None:
    assert expected in remedy(what, errno.ENOSPC)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns=1", errno.EACCES),
        ("kernel/unprivileged_userns_clone=0", errno.EPERM),
        ("user/max_user_namespaces=0", errno.ENOSPC),
    ],
)
def test_the_page_on_hosts_has_the_command_of_the_message(tmp_path: Path, settings: str, code: int) -> None:
    path, _, value = settings.partition("=")
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(value)
    page = (Path(__file__).parents[4] / "docs" / "hosts.md").read_text()
    command = re.search(r"sysctl -w (\S+=\d+)", remedy("userns", code, tmp_path))
    assert command is not None
    assert f"sudo sysctl {command[1]}`" in page
