"""pytest within pytest's process, by pytester: the inner runs isolate, while the outer one may or may not."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

OUTER = """
    import gc, sys, types
    import pytest

    pytest_plugins = "pytester"

    def copies():
        for _ in range(3): gc.collect()  # what a finalizer has held is found by the next
        names = [module.__name__ for module in gc.get_objects() if isinstance(module, types.ModuleType)]
        return {name: names.count(name) for name in names if name.startswith("pytest_isolate")}

    @pytest.mark.isolate
    def test_isolates_first(): pass

    @pytest.mark.parametrize("turn", range(3))
    def test_inner_runs_isolate(pytester, turn):
        pytester.makeconftest('''
            import sys, types

            def pytest_sessionfinish():
                for name in [name for name in sys.modules if name.startswith("pytest_isolate")]:
                    for value in vars(sys.modules[name]).values():
                        if type(value) is types.ModuleType and value.__name__.startswith("pytest_isolate"):
                            assert sys.modules.get(value.__name__) is value, f"{name} has an old {value.__name__}"
        ''')
        pytester.makepyfile("def test_it(): pass")
        pytester.inline_run("--isolate-all").assertoutcome(passed=1)
        assert max(copies().values()) <= 2  # the latest run's may be there

    @pytest.mark.isolate
    def test_isolates_again(): pass
"""


@pytest.mark.parametrize(
    ("chosen", "passed"),
    [("test_", 5), ("not isolates_first", 4), ("inner_runs", 3)],
    ids=["the-outer-run-isolates-too", "the-outer-run-isolates-at-the-end", "the-outer-run-does-not"],
)
def test_inner_runs_in_the_same_process_get_in_nobodys_way(project: Project, chosen: str, passed: int) -> None:
    project.write(test_outer=OUTER)
    result = project.run("-p", "no:cacheprovider", "-k", chosen)
    result.assert_outcomes(passed=passed, deselected=5 - passed)
