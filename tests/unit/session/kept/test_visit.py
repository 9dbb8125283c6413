"""What keeps a visit from being made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.session.kept import visit
from pytest_isolate.session.kept.store import Entry, KeptLayer, KeptStore
from pytest_isolate.session.kept.surroundings import Surroundings
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from typing_extensions import Self


class KeeperWithoutViews:
    """On a host where tests are run without a sandbox (``--isolate-unsupported=degrade``)."""

    def __init__(self, **_: object) -> None:
        held = SimpleNamespace(sandbox=SimpleNamespace(scratch=None))
        self.released: list[object] = []
        self.sandboxes = SimpleNamespace(hold=lambda _: held, release=self.released.append)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert len(self.released) == 1

    def check(self, spec: Spec) -> None:
        assert spec.limits.timeout is None

    def run_in(self, *_: Any) -> None:
        pytest.fail("the layer was put into the host's own files")


def test_a_layer_is_never_put_into_the_host_s_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "Keeper", KeeperWithoutViews)
    monkeypatch.chdir(tmp_path)
    around = Surroundings(
        spec=Spec.of(timeout=1), cwd=str(tmp_path), places=(), images="", cgroup=None, degrade=True, env=()
    )
    layer = KeptLayer(
        test="a", result="failed", image=None, size=1, changes=(("A", "/a"),), lost=(), layers=(), surroundings=around
    )
    wanted = visit.Visit(
        entry=Entry(tmp_path, 0, layer), store=KeptStore(tmp_path / "kept"), words=["true"], write=False
    )

    with pytest.raises(SetupError, match="cannot make a file system of its own"):
        wanted.make()
