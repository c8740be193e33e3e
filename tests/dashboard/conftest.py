"""Both databases, one after the other; a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from dashboard.store import Store
from dashboard.tables import METADATA
from tests.conftest import missing
from tests.dashboard.pages import BROWSER
from tests.databases import find_postgres, postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running PostgreSQL."""
    programs = find_postgres()
    if programs is None:
        missing("PostgreSQL", "install it, for example: apt install postgresql")
    else:
        with postgres(programs) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    if request.param == "sqlite":
        made = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    else:
        made = Store(str(request.getfixturevalue("postgres_url")))
        with made.engine.begin() as connection:
            for table in METADATA.tables:
                connection.exec_driver_sql(f"TRUNCATE {table}")
    yield made
    made.close()


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Headless Chromium; for one test, for its event loop would stand in the way of others."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("chromium", "install it, for example: apt install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=[*BROWSER])
        yield started
        started.close()


class Opener:
    """Opens pages in contexts of their own, and keeps what went wrong in any of them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.errors: list[str] = []
        self.asked: set[str] = set()

    def __call__(self, address: str, *, phone: bool = False, language: str = "en", **options: Any) -> Page:  # noqa: ANN401 - Playwright's
        size: ViewportSize = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 800}
        context = self._browser.new_context(viewport=size, locale=language, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.add(urlsplit(request.url).netloc))
        page.goto(address)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Open pages; an error on a console (a broken policy is one) fails the test that does not expect it."""
    opener = Opener(browser)
    yield opener
    opener.close()
    assert opener.errors == []
    assert len(opener.asked) <= 1, "only the own origin is asked"
