"""pytest-order: its order holds."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-order")
def test_pytest_order_orders(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_order.plugin")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.order(2)
        def test_second(): pass
        @pytest.mark.order(1)
        def test_first(): pass
        """
    )
    shown = neighbours.same("-v")
    assert shown.index("test_first") < shown.index("test_second")
