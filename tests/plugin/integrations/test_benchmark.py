"""pytest-benchmark: its figures come out."""

from __future__ import annotations

import json

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-benchmark")
def test_figures_of_pytest_benchmark_come_out(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_benchmark.plugin")
    neighbours.project.write(
        test_it="""
        import time
        import pytest

        @pytest.mark.benchmark(group="sleeps")
        @pytest.mark.parametrize("count", [3, 4])
        def test_sleep(benchmark, count):
            benchmark.extra_info["why"] = "to see"
            benchmark.pedantic(time.sleep, args=(0.001,), rounds=count, iterations=2)
        def test_none(): pass
        """
    )
    plain, isolated = (json.loads(text) for text in neighbours.files("b.json", "--benchmark-json=b.json"))
    for bench in (*plain["benchmarks"], *isolated["benchmarks"]):
        stats = bench.pop("stats")
        assert 0.001 < stats["min"] <= stats["mean"] <= stats["max"]
        bench["rounds"] = stats["rounds"], stats["iterations"], len(stats["data"])
    assert isolated["benchmarks"] == plain["benchmarks"]
    assert sorted(bench["rounds"] for bench in isolated["benchmarks"]) == [(3, 2, 3), (4, 2, 4)]
