"""What a Spec needs of the host, and which of it the host lacks."""

from __future__ import annotations

from pytest_isolate.linux.mountinfo import below
from pytest_isolate.plan.host import Feature, Host, Lack
from pytest_isolate.spec.spec import Spec

_ON_DISK = (
    "The layers lie in a folder, which has no size of its own. They are on a tmpfs that the sandbox makes for itself, "
    "and that has one, with Linux 6.6 or newer, or as root; see `python -m pytest_isolate docs hosts`."
)


def unsupported(spec: Spec, host: Host) -> list[tuple[str, Lack]]:
    """What of ``spec`` can't be in force on ``host``: keys of the contract, ``isolate`` for the sandbox as such."""
    if not host.sandbox:
        found = [lack for lack in host.lacks if lack.what in _FOUNDATION]
        return [(key, lack) for key in ("isolate", "image") if key == "isolate" or spec.image for lack in found]
    lacks = [(key, lack) for key, feature in _KEYS if (lack := host.lack(feature))]
    if spec.network == "host":
        lacks = [pair for pair in lacks if pair[0] != "network"]
    trees = [lack for lack in host.lacks if lack.what == "tree" and _matters(lack.target, spec, host)]
    lacks += [("isolate", lack) for lack in trees]
    if host.scratch and "disk" in spec.asked:
        lacks.append(("disk", Lack(what="tmpfs", step="limit the layer", target=host.scratch, remedy=_ON_DISK)))
    return lacks


#: Keys of the contract, and the feature that each rests on.
_KEYS: tuple[tuple[str, Feature], ...] = (
    ("isolate", "fresh_proc"),
    ("isolate", "ipcns"),
    ("network", "netns"),
    ("hostname", "utsns"),
)
_FOUNDATION: tuple[Feature, ...] = ("userns", "pidns", "mountns", "mounts", "overlay")


def _matters(tree: str, spec: Spec, host: Host) -> bool:
    """Whether tests will write in ``tree``, which is shown read-only, elsewhere than in what is bound through."""
    paths = [path for path in host.tree.important if path == tree or below(path, tree)]
    return any(not any(path == through or below(path, through) for through in spec.writable) for path in paths)
