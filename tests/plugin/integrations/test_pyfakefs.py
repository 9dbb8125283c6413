"""pyfakefs: the file system that it fakes is the test's alone."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

pytestmark = pytest.mark.needs("sandbox", "pyfakefs")


@pytest.fixture(autouse=True)
def _fakes(neighbours: Neighbourhood) -> None:
    neighbours.load("pyfakefs.pytest_plugin")
    neighbours.project.patience = 60


def test_a_fake_file_system_is_seen_by_the_test_alone(neighbours: Neighbourhood) -> None:
    neighbours.project.write(
        test_it="""
        import os, pathlib, shutil, warnings

        def test_fake(fs, record_property):
            fs.create_file("/a/b", contents="x")
            record_property("name", pathlib.Path("/a/b").name)
            warnings.warn("one")
            print(open("/a/b").read())
            assert pathlib.Path("/a/b").read_text() == "x"
            assert not os.path.exists("/etc/passwd")

        def test_fails(fs):
            fs.create_file("/a/b", contents="x")
            assert open("/a/b").read() == "y"

        def test_removes_all(fs):
            shutil.rmtree("/a", ignore_errors=True)

        def test_knows_its_sandbox(fs, isolated):
            assert not isolated or isolated.usage().wall_seconds > 0

        def test_after(): assert os.path.exists("/etc/passwd")
        """
    )
    assert "1 failed, 4 passed" in neighbours.same("-rA")


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_fake_file_system_of_higher_scope_is_shared(neighbours: Neighbourhood, scope: str) -> None:
    neighbours.project.write(
        test_it=f"""
        import os
        import pytest

        @pytest.fixture(scope="{scope}")
        def filled(fs_{scope}):
            fs_{scope}.create_file("/a/b", contents="x")
            return fs_{scope}

        class TestIt:
            def test_one(self, filled):
                assert open("/a/b").read() == "x"
                filled.create_file("/a/c")

            def test_two(self, filled): assert "b" in os.listdir("/a")
            def test_three(self, filled): assert not os.path.exists("/etc/passwd")
            def test_four(self, filled): assert 0
        """
    )
    assert "1 failed, 3 passed" in neighbours.same("-rA")


def test_its_test_cases_for_unittest_work_alike(neighbours: Neighbourhood) -> None:
    neighbours.project.write(
        test_it="""
        import os
        from pyfakefs.fake_filesystem_unittest import TestCase

        class TestIt(TestCase):
            @classmethod
            def setUpClass(cls): cls.setUpClassPyfakefs()
            def test_one(self):
                self.fake_fs().create_file("/a/b", contents="x")
                assert open("/a/b").read() == "x"
            def test_fails(self): assert os.path.exists("/etc/passwd")

        class TestEach(TestCase):
            def setUp(self): self.setUpPyfakefs()
            def test_one(self): assert not os.path.exists("/etc/passwd")
        """
    )
    assert "1 failed, 2 passed" in neighbours.same("-rA")


@pytest.mark.parametrize(
    "test",
    [
        "def test_it(known, fs): pass",
        """
        @pytest.mark.usefixtures("known")
        class TestIt(TestCase):
            def setUp(self): self.setUpPyfakefs()
            def test_it(self): pass
        """,
    ],
)
def test_it_does_not_look_through_all_modules_in_each_sandbox(neighbours: Neighbourhood, test: str) -> None:
    neighbours.project.write(
        test_it=f"""
        import os
        import pytest
        from pyfakefs.fake_filesystem_unittest import Patcher, TestCase

        @pytest.fixture
        def known():
            assert Patcher.PATCHER is None
            assert len(Patcher.CACHED_MODULES) > 100

        {test}

        def test_after(): assert os.path.exists("/etc/passwd")
        """
    )
    assert any("2 passed" in line for line in neighbours.isolated())
