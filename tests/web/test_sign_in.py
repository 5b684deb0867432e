"""Signing in and out in a real browser without JavaScript."""

from __future__ import annotations

from playwright.async_api import Page, expect

from homeserver.main import Server
from tests.support.api import PASSWORD, Api


async def sign_in(page: Page, url: str, name: str = "alice", password: str = PASSWORD) -> None:
    """Fills the form in and sends it."""
    await page.goto(f"{url}/account")
    await page.get_by_label("User name or e-mail address").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def test_signs_in_and_out(browser_page: Page, server: Server, alice: Api) -> None:
    """Whoever has the password gets to the account, and no longer after signing out."""
    await sign_in(browser_page, server.url)
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    assert browser_page.url == f"{server.url}/account"
    await browser_page.get_by_role("button", name="Sign out here").click()
    await expect(browser_page.get_by_role("heading", name="Sign in")).to_be_visible()
    await browser_page.goto(f"{server.url}/account")
    assert "/account/sign-in" in browser_page.url
