"""Second factors in a real browser without JavaScript: set up, asked for, turned off, required."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.async_api import BrowserContext, Page, expect

from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Api, open_api
from tests.support.oauth2 import registered
from tests.support.servers import server_config
from tests.web.pages import code_of, fill_sign_in, set_up_second_factor, sign_in


async def test_set_up_asked_for_and_turned_off(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """With a second factor the password alone leads nowhere; a code of the app, or a backup code once, signs in."""
    here, elsewhere = [await (await open_browser()).new_page() for _ in range(2)]
    await sign_in(here, server.url)
    await here.goto(f"{server.url}/account/two-factor")
    secret, codes = await set_up_second_factor(here)
    assert len(codes) == 10
    await sign_in(elsewhere, server.url)
    await expect(elsewhere.get_by_role("heading", name="Second step")).to_be_visible()
    await elsewhere.goto(f"{server.url}/account")
    assert "/account/sign-in" in elsewhere.url
    await fill_sign_in(elsewhere)
    for code in ("000000", code_of(secret, -1), code_of(secret)):
        await elsewhere.get_by_label("Code").fill(code)
        await elsewhere.get_by_role("button", name="Sign in").click()
    await expect(elsewhere.get_by_role("heading", name="Profile")).to_be_visible()
    await elsewhere.get_by_role("button", name="Sign out here").click()
    await fill_sign_in(elsewhere)
    await elsewhere.get_by_label("Code").fill(codes[0])
    await elsewhere.get_by_role("button", name="Sign in").click()
    await elsewhere.goto(f"{server.url}/account/two-factor")
    await expect(elsewhere.get_by_text("9 are left")).to_be_visible()
    await elsewhere.get_by_role("button", name="Turn off").click()
    await expect(elsewhere.get_by_role("status")).to_have_text("The second factor is turned off.")
    await elsewhere.context.clear_cookies()
    await sign_in(elsewhere, server.url)
    await expect(elsewhere.get_by_role("heading", name="Profile")).to_be_visible()


async def test_half_way_is_nowhere(browser_page: Page, server: Server, alice: Api) -> None:
    """Who has given only the password can neither authorize a client nor get a token, and not for long go on."""
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}/account/two-factor")
    secret, _ = await set_up_second_factor(browser_page)
    await browser_page.context.clear_cookies()
    await sign_in(browser_page, server.url)
    oauth2 = await registered(server, alice)
    for path in (
        f"/oauth2/authorize?{oauth2.query()}",
        "/oauth2/device?user_code=BBBB-BBBB",
        "/_matrix/client/v3/login/sso/redirect?redirectUrl=https://client.example/",
        "/_matrix/static/client/login/",
        "/account/security",
    ):
        await browser_page.goto(server.url + path)
        assert "/account/sign-in" in browser_page.url
    await sign_in(browser_page, server.url)
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE web_sessions SET created_ts = created_ts - 700000")
    await browser_page.get_by_label("Code").fill(code_of(secret))
    await browser_page.get_by_role("button", name="Sign in").click()
    assert "/account/sign-in" in browser_page.url


async def test_something_grave_takes_a_code_too(browser_page: Page, server: Server, alice: Api) -> None:
    """A proof that is renewed is renewed with both factors."""
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}/account/two-factor")
    secret, _ = await set_up_second_factor(browser_page)
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE web_sessions SET authenticated_ts = authenticated_ts - 3600000")
    await browser_page.goto(f"{server.url}/account/deactivate")
    for code, heading in (("000000", "Confirm that it is you"), (code_of(secret), "Deactivate the account")):
        await browser_page.get_by_label("Password").fill(PASSWORD)
        await browser_page.get_by_label("Code of your authenticator app").fill(code)
        await browser_page.get_by_role("button", name="Continue").click()
        await expect(browser_page.get_by_role("heading", name=heading)).to_be_visible()


async def test_who_must_have_one_sets_it_up_first(browser_page: Page, database: str, tmp_path: Path) -> None:
    """Where second factors are required, nothing else can be done before, and it can't be turned off."""
    config = server_config(database, tmp_path, two_factor={"required": "all"})
    async with running_server(config) as server, open_api(server.url) as api:
        await api.post("/register", {"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}})
        target = "/_matrix/client/v3/login/sso/redirect?redirectUrl=https://client.example/"
        await browser_page.goto(server.url + target)
        await fill_sign_in(browser_page)
        await expect(browser_page.get_by_text("The administrator of this server wants you to")).to_be_visible()
        await browser_page.goto(f"{server.url}/account/security")
        await expect(browser_page.get_by_text("The administrator of this server wants you to")).to_be_visible()
        await browser_page.goto(server.url + target)
        await set_up_second_factor(browser_page)
        await browser_page.get_by_role("link", name="I have kept them safe").click()
        await expect(browser_page.get_by_text("https://client.example", exact=True)).to_be_visible()
        await browser_page.goto(f"{server.url}/account/two-factor")
        await expect(browser_page.get_by_role("button", name="Turn off")).to_have_count(0)
