"""pytest-django: one database, and each test's changes rolled back."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "TEST": {"NAME": "TEST_NAME"},
}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
ROOT_URLCONF = "site_urls"
STATIC_URL = "static/"
MEDIA_URL = "media/"
"""
URLS = """
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

def users(request):
    from django.contrib.auth.models import User
    return HttpResponse(" ".join(user.username for user in User.objects.all()))

urlpatterns = [
    path("", lambda request: HttpResponse("hello")),
    path("users", users),
    path("key", lambda request: HttpResponse(settings.SECRET_KEY)),
]
"""


@pytest.fixture
def django(neighbours: Neighbourhood, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    neighbours.load("pytest_django.plugin")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site_settings")
    return neighbours


@pytest.mark.needs("sandbox", "pytest-django")
def test_pytest_django_has_one_database_and_rolls_back(django: Neighbourhood) -> None:
    django.project.write(
        site_settings=SETTINGS.replace("TEST_NAME", "test_db.sqlite3"),
        site_urls=URLS,
        test_it="""
        import pytest
        from django.contrib.auth.models import User

        @pytest.mark.django_db
        def test_makes_a_user():
            User.objects.create(username="a")
            assert User.objects.count() == 1
        @pytest.mark.django_db(transaction=True)
        def test_makes_one_for_good():
            assert User.objects.count() == 0
            User.objects.create(username="a")
        @pytest.mark.django_db
        def test_sees_neither(): assert User.objects.count() == 0
        def test_page(client): assert client.get("/").content == b"hello"
        def test_no_database(): User.objects.count()
        """,
    )
    assert "1 failed, 4 passed" in django.same()
    assert not (django.path / "test_db.sqlite3").exists()


@pytest.mark.needs("sandbox", "pytest-django")
@pytest.mark.parametrize("database", ["test_db.sqlite3", "file:memorydb?mode=memory&cache=shared"])
def test_the_live_server_of_pytest_django_serves_what_the_test_has_made(django: Neighbourhood, database: str) -> None:
    django.project.write(
        site_settings=SETTINGS.replace("TEST_NAME", database),
        site_urls=URLS,
        test_it="""
        import pytest
        from urllib.request import urlopen
        from django.contrib.auth.models import User

        def ask(live_server, path): return urlopen(live_server.url + path).read().decode()

        @pytest.mark.parametrize("name", ["one", "two"])
        def test_user(live_server, name):
            User.objects.create(username=name)
            assert ask(live_server, "/users") == name
        def test_setting(live_server, settings):
            settings.SECRET_KEY = "y"
            assert ask(live_server, "/key") == "y"
        def test_nothing(live_server): assert ask(live_server, "/users") == ""
        """,
    )
    assert "4 passed" in django.same()


@pytest.mark.needs("sandbox", "pytest-django", "selenium", "chromium", "chromedriver")
@pytest.mark.timeout(200)
def test_a_selenium_driver_of_the_session_sees_the_live_server(django: Neighbourhood) -> None:
    django.project.write(
        site_settings=SETTINGS.replace("TEST_NAME", "test_db.sqlite3"),
        site_urls=URLS,
        test_it="""
        import shutil
        import pytest
        from django.contrib.auth.models import User
        from selenium import webdriver

        @pytest.fixture(scope="session")
        def driver():
            options = webdriver.ChromeOptions()
            options.binary_location = shutil.which("chromium")
            for option in ("--headless=new", "--no-sandbox"): options.add_argument(option)
            service = webdriver.ChromeService(shutil.which("chromedriver"))
            with webdriver.Chrome(options=options, service=service) as driver: yield driver

        @pytest.mark.parametrize("name", ["one", "two"])
        def test_page(driver, live_server, name):
            User.objects.create(username=name)
            driver.get(live_server.url + "/users")
            assert name in driver.page_source
        """,
    )
    assert "2 passed" in django.same()
