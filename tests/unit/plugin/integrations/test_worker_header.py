"""Lines for the header on their way from a worker to its controller."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate.plugin.integrations import worker_header


def make_node(config: Any, *, popen: bool = True) -> Any:
    spec = SimpleNamespace(popen=popen)
    return SimpleNamespace(config=config, workerinput={}, gateway=SimpleNamespace(spec=spec))


@pytest.fixture
def controller() -> Any:
    return SimpleNamespace(stash=pytest.Stash())


def test_the_first_worker_tells(controller: Any) -> None:
    first, second = make_node(controller), make_node(controller)
    for node in (first, second):
        worker_header.ask(node)
    workers: list[Any] = [SimpleNamespace(workerinput=node.workerinput) for node in (first, second)]
    assert [worker_header.is_asked(worker) for worker in workers] == [True, False]

    worker_header.tell(workers[0], ["one", "two – é"])

    assert worker_header.take(second) == []
    assert worker_header.take(first) == ["one", "two – é"]


def test_a_worker_on_another_machine_is_not_asked(controller: Any) -> None:
    node = make_node(controller, popen=False)
    worker_header.ask(node)
    assert node.workerinput == {}


def test_no_other_file_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("as it was")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link", "missing"):
        worker: Any = SimpleNamespace(workerinput={"isolate_header": str(tmp_path / name)})
        worker_header.tell(worker, ["line"])
    assert (tmp_path / "file").read_text() == "as it was"
