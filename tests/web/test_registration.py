"""Making an account in a real browser without JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Api
from tests.support.servers import server_config
from tests.web.pages import fetch

_TERMS = [{"id": "terms", "version": "1", "texts": {"en": {"name": "House rules", "url": "https://example.org/rules"}}}]


async def fill(page: Page, name: str, password: str = PASSWORD, repeated: str | None = None) -> None:
    """Fills in what every registration asks for."""
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password", exact=True).fill(password)
    await page.get_by_label("Password again").fill(password if repeated is None else repeated)


async def test_registers_and_is_signed_in(browser_page: Page, server: Server, api: Api) -> None:
    """Who registers is signed in at the pages, and can log in with a client."""
    await browser_page.goto(f"{server.url}/account")
    await browser_page.get_by_role("link", name="Create one").click()
    await fill(browser_page, "Carol")
    await browser_page.get_by_role("button", name="Create the account").click()
    await expect(browser_page.get_by_text("@carol:test.example", exact=True)).to_be_visible()
    assert (await api.login("carol")).user_id == "@carol:test.example"


@pytest.mark.parametrize(
    ("name", "password", "repeated", "told"),
    [
        ("alice", PASSWORD, PASSWORD, "This user name is taken."),
        ("admin", PASSWORD, PASSWORD, "This user name is taken."),
        ("no spaces", PASSWORD, PASSWORD, "A user name has small letters"),
        ("carol", "short", "short", "This password is too easy"),
        ("carol", "password123", "password123", "This password is too easy"),
        ("carol", PASSWORD, PASSWORD + "!", "The two passwords are not the same."),
    ],
)
async def test_what_can_not_be_is_said(
    browser_page: Page, server: Server, alice: Api, name: str, password: str, repeated: str, told: str
) -> None:
    """What is wrong is said, the name stays in the form, and no account is made."""
    await browser_page.goto(f"{server.url}/account/register")
    await fill(browser_page, name, password, repeated)
    await browser_page.get_by_role("button", name="Create the account").click()
    await expect(browser_page.get_by_role("alert")).to_contain_text(told)
    await expect(browser_page.get_by_label("User name")).to_have_value(name)
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM accounts") == 1


async def test_token_and_terms(browser_page: Page, database: str, tmp_path: Path) -> None:
    """With a registration token and the terms accepted there is an account; with a wrong token there is none."""
    settings: dict[str, Any] = {"registration": {"mode": "token", "tokens": ["letmein"], "terms": _TERMS}}
    async with running_server(server_config(database, tmp_path, **settings)) as server:
        await browser_page.goto(f"{server.url}/account/register")
        link = browser_page.get_by_role("link", name="House rules")
        assert await link.get_attribute("href") == "https://example.org/rules"
        await fill(browser_page, "carol")
        await browser_page.get_by_label("Registration token").fill("wrong")
        await browser_page.get_by_label("I have read and accept").check()
        await browser_page.get_by_role("button", name="Create the account").click()
        await expect(browser_page.get_by_role("alert")).to_have_text("This registration token is not valid.")
        await fill(browser_page, "carol")
        await browser_page.get_by_label("Registration token").fill("letmein")
        await browser_page.get_by_label("I have read and accept").check()
        await browser_page.get_by_role("button", name="Create the account").click()
        await expect(browser_page.get_by_text("@carol:test.example", exact=True)).to_be_visible()
        async with server.services.pool.acquire() as conn:
            assert await conn.fetchval("SELECT count(*) FROM accepted_terms") == 1


async def test_where_registration_is_off(database: str, tmp_path: Path) -> None:
    """Nobody registers where nobody may."""
    async with running_server(server_config(database, tmp_path, registration={"mode": "off"})) as server:
        status, _, text = await fetch(server, "/account/register")
        assert (status, "Nobody can register here" in text) == (403, True)
        assert "/account/register" not in (await fetch(server, "/account/sign-in"))[2]
