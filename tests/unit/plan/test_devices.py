"""What is planned for devices."""

from __future__ import annotations

import os

from pytest_isolate.linux import device_nodes
from pytest_isolate.linux.device_nodes import DeviceNode
from pytest_isolate.plan import devices
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.operations import Step


def test_folders_are_made_once_and_what_links_lead_to_is_bound() -> None:
    nodes = [
        DeviceNode("/dev/dri/card0", "/dev/dri/card0", "c 226:0"),
        DeviceNode("/dev/dri/by-path/x", "/dev/dri/card0", "c 226:0"),
        DeviceNode("/dev/fuse", "/dev/fuse", "c 10:229"),
    ]
    ops = devices.let_in(nodes)
    assert [op.target for op in ops if op.step is Step.MKDIR] == ["/new/dev/dri", "/new/dev/dri/by-path"]
    assert ops[-1] == do.device("/old/dev/fuse", "/new/dev/fuse", own=False)
    assert do.device("/old/dev/dri/card0", "/new/dev/dri/by-path/x", own=False) in ops
    assert devices.rules(nodes) == ("c 226:0 rw", "c 10:229 rw")


def test_nodes_are_found_by_name_by_link_and_by_folder() -> None:
    assert device_nodes.find("/dev/null") == (DeviceNode("/dev/null", "/dev/null", "c 1:3"),)
    assert device_nodes.find("/etc/passwd") == device_nodes.find("/dev/no-such-device") == ()
    terminal, other = os.openpty()
    assert os.ttyname(other) in [node.path for node in device_nodes.find("/dev/pts")]
    os.close(terminal)
    os.close(other)
