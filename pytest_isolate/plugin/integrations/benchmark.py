"""pytest-benchmark: figures that were measured inside join its table outside. Seen with 5.3."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate.plugin import messages, serialize
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.plugin.messages import Send

_IDENTITY = ("name", "fullname", "group", "param", "params", "extra_info")


class Benchmark(Integration):
    """Its session has a list of all benchmarks, for the table and the file."""

    kinds = (messages.BENCHMARK,)

    def stands_alone(self, item: pytest.Item) -> bool:
        """What is measured must have the machine to itself."""
        return "benchmark" in getattr(item, "fixturenames", ())

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Send what the test measures."""
        if not hasattr(self.config, "_benchmarksession"):
            return None
        return functools.partial(_send_benchmarks, self.config._benchmarksession.benchmarks)

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Give pytest-benchmark's session what was measured: identity, iterations, seconds of each round."""
        about, iterations, rounds = data
        fixture = SimpleNamespace(**{**dict.fromkeys(_IDENTITY), "has_error": False, **about}, cprofile_stats=None)
        bench = sys.modules["pytest_benchmark.stats"].Metadata(
            fixture, iterations=int(iterations), options=dict(about["options"])
        )
        for seconds in rounds:
            bench.stats.update(float(seconds))
        self.config._benchmarksession.benchmarks.append(bench)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _send_benchmarks(benchmarks: list[Any], send: Send) -> Iterator[None]:
    before = len(benchmarks)
    try:
        yield
    finally:
        for bench in benchmarks[before:]:
            options = {key: getattr(value, "__name__", value) for key, value in bench.options.items()}
            about = {name: getattr(bench, name) for name in _IDENTITY}
            about |= {"has_error": bool(bench.has_error), "options": options}
            figures = [serialize.plain(about), bench.iterations, list(map(float, bench.stats.data))]
            send((messages.BENCHMARK, figures))
