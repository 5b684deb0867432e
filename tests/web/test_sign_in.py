"""Signing in and out in a real browser without JavaScript."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import Page, expect

from homeserver.accounts.password import hash_new_password, set_password
from homeserver.main import Server
from tests.support.api import PASSWORD, Api
from tests.support.client import eventually
from tests.web.pages import fetch, fill_sign_in, sign_in


async def test_signs_in_and_out(browser_page: Page, server: Server, alice: Api) -> None:
    """Whoever has the password gets to the account, and no longer after signing out."""
    await sign_in(browser_page, server.url)
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    assert browser_page.url == f"{server.url}/account"
    await browser_page.get_by_role("button", name="Sign out here").click()
    await expect(browser_page.get_by_role("heading", name="Sign in")).to_be_visible()
    await browser_page.goto(f"{server.url}/account")
    assert "/account/sign-in" in browser_page.url


async def test_a_wrong_password_is_refused(browser_page: Page, server: Server, alice: Api) -> None:
    """A wrong password and an unknown user are told in the same words, and the name stays in the form."""
    await sign_in(browser_page, server.url, password="something else")
    alert = browser_page.get_by_role("alert")
    await expect(alert).to_have_text("That is not the right user name or password.")
    await expect(browser_page.get_by_label("User name or e-mail address")).to_have_value("alice")
    await fill_sign_in(browser_page, "nobody-of-that-name")
    await expect(alert).to_have_text("That is not the right user name or password.")


async def test_a_name_may_be_written_in_any_way(browser_page: Page, server: Server, alice: Api) -> None:
    """The name alone, with capitals, and the whole user id with or without @ mean the same account."""
    for name in ("Alice", " @alice:test.example ", "alice:test.example"):
        await sign_in(browser_page, server.url, name)
        await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
        await browser_page.get_by_role("button", name="Sign out here").click()


async def test_the_browser_keeps_what_it_was_told_to_keep(browser_page: Page, server: Server, alice: Api) -> None:
    """Only with the box ticked does the cookie outlive the browser, and proving it once more changes nothing there."""
    for keep in (False, True):
        await browser_page.context.clear_cookies()
        await browser_page.goto(f"{server.url}/account")
        await browser_page.get_by_label("Stay signed in in this browser").set_checked(keep)
        await fill_sign_in(browser_page)
        await browser_page.goto(f"{server.url}/account/confirm")
        for _ in range(2):
            cookies = {one["name"]: one for one in await browser_page.context.cookies()}
            assert (cookies["talkpai_session"]["expires"] > 0) == keep
            await browser_page.goto(f"{server.url}/account/confirm")
            await browser_page.get_by_label("Password").fill(PASSWORD)
            await browser_page.get_by_role("button", name="Continue").click()
            await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()


async def test_the_language_can_be_switched(browser_page: Page, server: Server) -> None:
    """The page comes in the browser's language until another one is chosen, which is remembered."""
    await browser_page.goto(f"{server.url}/account/sign-in?continue=/account/security")
    await expect(browser_page.get_by_role("heading")).to_have_text("Sign in")
    await browser_page.get_by_role("link", name="Українська").click()
    await expect(browser_page.get_by_role("heading")).to_have_text("Увійти")
    assert "continue=%2Faccount%2Fsecurity" in browser_page.url
    await browser_page.goto(f"{server.url}/account/sign-in")
    await expect(browser_page.get_by_role("heading")).to_have_text("Увійти")


async def test_a_locked_account_is_signed_out(browser_page: Page, server: Server, alice: Api) -> None:
    """A session at the pages ends when an administrator locks the account, and none can be begun."""
    await sign_in(browser_page, server.url)
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE accounts SET locked = true")
    await browser_page.goto(f"{server.url}/account")
    assert "/account/sign-in" in browser_page.url
    await fill_sign_in(browser_page, "alice", PASSWORD)
    await expect(browser_page.get_by_role("alert")).to_contain_text("This account is locked")


async def test_a_sign_in_does_not_outlive_the_password_that_it_was_made_with(server: Server, alice: Api) -> None:
    """Who is signing in with the old password while another one is set is refused, and no session is left behind."""
    pool = server.services.pool
    _, headers, text = await fetch(server, "/account/sign-in")
    form = {
        "form_token": re.findall(r'name="form_token" value="(\w+)"', text)[0],
        "username": "alice",
        "password": PASSWORD,
    }
    cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
    new_hash = await hash_new_password("battery staple correct horse", server.config.passwords)

    async def waits_or_is_through() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        return signing_in.done() or await pool.fetchval(waiting) > 0

    async with server.services.stream.write() as write:
        await set_password(write.conn, user_id=alice.user_id, password_hash=new_hash)
        signing_in = asyncio.create_task(fetch(server, "/account/sign-in", method="POST", data=form, headers=cookie))
        await eventually(waits_or_is_through, "the sign-in has come to the session")
    assert (await signing_in)[0] == 403
    assert await pool.fetchval("SELECT count(*) FROM web_sessions") == 0
