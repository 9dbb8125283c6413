"""What a probe found on made-up machines."""

from __future__ import annotations

from pytest_isolate.plan.host import ESSENTIAL, OPTIONAL, USUAL, Host
from pytest_isolate.plan.host_tree import Entry, HostTree

HOST = Host(
    uid=1000,
    gid=1000,
    real_root=False,
    namespaces=ESSENTIAL | USUAL | OPTIONAL,
    uid_map="0 0 4294967295\n",
    gid_map="0 0 4294967295\n",
    tree=HostTree(
        mounts=(), points={}, skeleton=(Entry(path="/", kind="directory"), Entry(path="/usr", kind="directory"))
    ),
)
ROOT = HOST._replace(uid=0, gid=0, real_root=True)
