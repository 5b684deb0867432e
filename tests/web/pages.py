"""What tests of several pages do: signing in, and what every page is held against."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import pyotp
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.async_api import Page, expect
from yarl import URL

from homeserver.main import Server
from tests.support.api import PASSWORD


async def fill_sign_in(page: Page, name: str = "alice", password: str = PASSWORD) -> None:
    """Fills the sign-in form in, in English, and sends it."""
    await page.get_by_label("User name or e-mail address").fill(name)
    await page.get_by_label("Password", exact=True).fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def sign_in(page: Page, url: str, name: str = "alice", password: str = PASSWORD) -> None:
    """Opens the account and signs in on the way."""
    await page.goto(f"{url}/account")
    await fill_sign_in(page, name, password)


NOW_MS = int(time.time() * 1000)
"""What the clock of second factors shows in these tests: codes of half a minute are no race with a slow browser."""


def code_of(secret: str, step: int = 0) -> str:
    """What the authenticator app shows now, or some steps of 30 seconds from now."""
    return pyotp.TOTP(secret).at(NOW_MS // 1000 + 30 * step)


async def set_up_second_factor(page: Page) -> tuple[str, list[str]]:
    """Sets the second factor up, on its page; returns the secret and the backup codes."""
    await page.get_by_role("button", name="Set up").click()
    await expect(page.get_by_role("img", name="QR code for the authenticator app")).to_be_visible()
    secret = (await page.locator(".secret").inner_text()).replace(" ", "").replace("\xa0", "")
    await page.get_by_label("Code that the app shows now").fill("000000")
    await page.get_by_role("button", name="Turn on").click()
    await expect(page.get_by_role("alert")).to_contain_text("This code is not right.")
    await page.get_by_label("Code that the app shows now").fill(code_of(secret, -1))
    await page.get_by_role("button", name="Turn on").click()
    await expect(page.get_by_role("heading", name="Backup codes")).to_be_visible()
    return secret, await page.locator("ol.codes li").all_inner_texts()


async def form_token(page: Page) -> str:
    """The token of the forms of this page."""
    return await page.locator("input[name=form_token]").first.get_attribute("value") or ""


async def barriers(page: Page) -> list[str]:
    """What axe finds on a page that keeps people out. In a tab with JavaScript."""
    await page.evaluate(AXE_SCRIPT)
    results: dict[str, Any] = await page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{one['id']}: {json.dumps([node['target'] for node in one['nodes']])} {one['help']}"
        for one in results["violations"]
    ]


async def fetch(server: Server, path: str, **options: Any) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and body of a page, fetched without a browser; redirects are not followed."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            options.pop("method", "GET"), URL(server.url + path, encoded=True), allow_redirects=False, **options
        ) as response,
    ):
        return response.status, response.headers, await response.text()
