"""A real browser at the server's pages: Chromium, with JavaScript switched off unless a test asks for it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from homeserver.accounts import two_factor
from tests.web.pages import NOW_MS

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _program() -> str:
    """Where the browser is installed."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    return next(path for path in found if path is not None)


@pytest.fixture(scope="session")
def chromium_address() -> Iterator[str]:
    """Where a browser without windows takes orders. One for all tests: each has profiles of its own in it."""
    with tempfile.TemporaryDirectory(prefix="tp-chromium-") as directory:
        place = f"--user-data-dir={directory}"
        process = subprocess.Popen(
            [_program(), "--headless", "--remote-debugging-port=0", place, *_FLAGS],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            yield next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on "))
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(autouse=True)
def _steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_factor, "_now_ms", lambda: NOW_MS)


@pytest.fixture
async def chromium(chromium_address: str) -> AsyncIterator[Browser]:
    """That browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium_address)
        yield browser
        await browser.close()


@pytest.fixture
async def open_browser(chromium: Browser) -> AsyncIterator[Callable[..., Awaitable[BrowserContext]]]:
    """A function that gives a browser profile of its own: no JavaScript, no cookies, English."""
    contexts: list[BrowserContext] = []

    async def make(**options: Any) -> BrowserContext:
        context = await chromium.new_context(**{"java_script_enabled": False, "locale": "en-GB", **options})
        context.set_default_timeout(15_000)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        await context.close()


@pytest.fixture
async def browser_page(open_browser: Callable[..., Awaitable[BrowserContext]]) -> Page:
    """A tab in such a profile."""
    return await (await open_browser()).new_page()
