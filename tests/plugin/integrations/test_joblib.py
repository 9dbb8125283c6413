"""What others have made of multiprocessing: joblib's loky, and multiprocess."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "joblib", "multiprocess")
def test_what_others_have_made_of_multiprocessing_is_started_anew_as_well(neighbours: Neighbourhood) -> None:
    neighbours.project.write(
        test_it="""
        import joblib
        import multiprocess
        import pytest

        def run():
            assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in (-1, -2)) == [1, 2]
            with multiprocess.get_context("forkserver").Pool(1) as pool: assert pool.map(abs, [-1]) == [1]

        @pytest.fixture(scope="session", autouse=True)
        def shared():
            run()
            with multiprocess.Manager() as manager: yield manager

        def test_one(shared):
            run()
            assert shared.list([1])[0] == 1
        def test_two(): run()
        """
    )
    assert "2 passed" in neighbours.same()
