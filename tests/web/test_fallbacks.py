"""Pages for clients that have no form of their own: stages of user-interactive authentication, and a whole login."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Page, expect

from homeserver.accounts.web_sessions import start_session
from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Api, open_api
from tests.support.servers import server_config
from tests.web.pages import code_of, fetch, fill_sign_in, sign_in

_TERMS = [{"id": "terms", "version": "1", "texts": {"en": {"name": "House rules", "url": "https://example.org/rules"}}}]
_LOGIN = "/_matrix/static/client/login/"


def fallback(server: Server, stage: str, session: str, version: str = "v3") -> str:
    return f"{server.url}/_matrix/client/{version}/auth/{stage}/fallback/web?session={session}"


async def test_registers_with_stages_done_in_the_browser(browser_page: Page, database: str, tmp_path: Path) -> None:
    """A client that knows no stage at all registers with what was proved on the pages, in any order."""
    settings: dict[str, Any] = {"registration": {"mode": "token", "tokens": ["letmein"], "terms": _TERMS}}
    async with running_server(server_config(database, tmp_path, **settings)) as server, open_api(server.url) as api:
        body = {"username": "carol", "password": PASSWORD}
        session = (await api.post("/register", body)).body["session"]
        await browser_page.goto(fallback(server, "m.login.terms", session, "r0"))
        await expect(browser_page.get_by_text("Your app wants to create an account.")).to_be_visible()
        await browser_page.get_by_label("I have read and accept").check()
        await browser_page.get_by_role("button", name="Continue").click()
        await expect(browser_page.get_by_role("heading", name="Thank you")).to_be_visible()
        page = fallback(server, "m.login.registration_token", session)
        await browser_page.goto(page)
        await browser_page.get_by_label("Registration token").fill("wrong")
        await browser_page.get_by_role("button", name="Continue").click()
        await expect(browser_page.get_by_role("alert")).to_have_text("This registration token is not valid.")
        await browser_page.get_by_label("Registration token").fill("letmein")
        await browser_page.get_by_role("button", name="Continue").click()
        await expect(browser_page.get_by_role("heading", name="Thank you")).to_be_visible()
        await browser_page.goto(page)
        await expect(browser_page.get_by_role("heading", name="Thank you")).to_be_visible()
        answer = await api.post("/register", {**body, "auth": {"session": session}})
        assert (answer.status, answer.body["user_id"]) == (200, "@carol:test.example")


async def test_the_password_proves_only_what_it_was_asked_for(browser_page: Page, server: Server, alice: Api) -> None:
    """A session proved with the password deletes the device that it was begun for, and nothing else."""
    await alice.login("alice", device_id="OLD")
    await alice.login("alice", device_id="OTHER")
    session = (await alice.delete("/devices/OLD", {})).body["session"]
    await browser_page.goto(fallback(server, "m.login.password", session))
    await expect(browser_page.get_by_text("Your app wants to sign out sessions of yours.")).to_be_visible()
    await expect(browser_page.get_by_text("@alice:test.example")).to_be_visible()
    for password in ("wrong", PASSWORD):
        assert (await alice.delete("/devices/OLD", {"auth": {"session": session}})).status == 401
        await browser_page.get_by_label("Password").fill(password)
        await browser_page.get_by_role("button", name="Confirm").click()
    await expect(browser_page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert (await alice.delete("/devices/OTHER", {"auth": {"session": session}})).status == 401
    assert (await alice.delete("/devices/OLD", {"auth": {"session": session}})).status == 200


async def test_who_has_no_password_signs_in_once_more(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, api: Api, alice: Api
) -> None:
    """m.login.sso is proved by whoever is signed in at the pages as that user, and by nobody else."""
    await api.register("bob")
    await alice.login("alice", device_id="OLD")
    async with server.services.pool.acquire() as conn:
        alice_nid = await conn.fetchval("SELECT user_nid FROM users WHERE user_id = '@alice:test.example'")
        await conn.execute("UPDATE accounts SET password_hash = NULL WHERE user_nid = $1", alice_nid)
        token = await start_session(conn, alice_nid)
    answer = await alice.delete("/devices/OLD", {})
    assert answer.body["flows"] == [{"stages": ["m.login.sso"]}]
    address = fallback(server, "m.login.sso", answer.body["session"])
    theirs = await (await open_browser()).new_page()
    await theirs.goto(address)
    await fill_sign_in(theirs, "bob")
    await expect(theirs.get_by_role("alert")).to_have_text("You are signed in here as somebody else.")
    await theirs.get_by_role("button", name="Confirm").click()
    await expect(theirs.get_by_role("alert")).to_be_visible()
    again = {"auth": {"session": answer.body["session"]}}
    assert (await alice.delete("/devices/OLD", again)).status == 401
    hers = await open_browser()
    await hers.add_cookies([{"name": "talkpai_session", "value": token, "url": server.url}])
    page = await hers.new_page()
    await page.goto(address)
    await page.get_by_role("button", name="Confirm").click()
    await expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert (await alice.delete("/devices/OLD", again)).status == 200


async def test_the_client_is_told_when_a_stage_is_done(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """The page tells the window that opened it, or the application around it, by the script of the specification."""
    session = (await alice.delete("/devices/OLD", {})).body["session"]
    context = await open_browser(java_script_enabled=True)
    opener = await context.new_page()
    await opener.evaluate("addEventListener('message', event => { window.told = [event.data, event.origin] })")
    async with context.expect_page() as opened:
        await opener.evaluate("address => { window.open(address) }", fallback(server, "m.login.password", session))
    popup = await opened.value
    await popup.get_by_label("Password").fill(PASSWORD)
    await popup.get_by_role("button", name="Confirm").click()
    await opener.wait_for_function("window.told")
    assert await opener.evaluate("window.told") == ["authDone", server.url]
    view = await context.new_page()
    await view.add_init_script("window.onAuthDone = () => { window.done = true }")
    await view.goto(fallback(server, "m.login.password", session))
    await view.wait_for_function("window.done")


async def test_sessions_and_stages_that_are_not_there(server: Server, alice: Api) -> None:
    """Without a session there is no page, and neither is there one for a stage that the session has not."""
    session = (await alice.delete("/devices/OLD", {})).body["session"]
    for path, status in (
        ("m.login.password/fallback/web", 404),
        ("m.login.password/fallback/web?session=nothing", 404),
        (f"m.login.terms/fallback/web?session={session}", 403),
        (f"%3Cscript%3E/fallback/web?session={session}", 403),
        (f"m.login.password/fallback/web?session={session}", 200),
        (f"m.oauth/fallback/web?session={session}", 302),
    ):
        assert (await fetch(server, f"/_matrix/client/v3/auth/{path}"))[0] == status, path


async def test_a_login_for_an_application_around_the_page(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """The application is handed what /login answers, for the device that it asked for."""
    page = await (await open_browser(java_script_enabled=True)).new_page()
    await page.add_init_script("window.matrixLogin = {onLogin: answer => { window.answer = answer }}")
    await page.goto(f"{server.url}{_LOGIN}?device_id=TABLET&initial_device_display_name=</script><b>Tablet")
    await fill_sign_in(page)
    await page.get_by_role("button", name="Continue").click()
    await page.wait_for_function("window.answer")
    answer = await page.evaluate("window.answer")
    assert (answer["user_id"], answer["device_id"]) == ("@alice:test.example", "TABLET")
    device = await alice.as_token(answer["access_token"]).get("/devices/TABLET")
    assert device.body["display_name"] == "</script><b>Tablet"


async def test_nobody_is_logged_in_by_opening_the_page(browser_page: Page, server: Server, alice: Api) -> None:
    """The page asks first."""
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}{_LOGIN}?device_id=TABLET")
    assert (await alice.get("/devices/TABLET")).status == 404


async def test_both_factors_are_proved_on_pages(browser_page: Page, server: Server, alice: Api) -> None:
    """Whoever has a second factor proves the password on one page and the code on another."""
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}/account/two-factor")
    await browser_page.get_by_role("button", name="Set up").click()
    secret = (await browser_page.locator(".secret").inner_text()).replace(" ", "").replace("\xa0", "")
    await browser_page.get_by_label("Code that the app shows now").fill(code_of(secret, -1))
    await browser_page.get_by_role("button", name="Turn on").click()
    answer = await alice.delete("/devices/OLD", {})
    assert answer.body["flows"] == [{"stages": ["m.login.password", "org.talkpai.totp"]}]
    session = answer.body["session"]
    for stage, label, proof in (
        ("m.login.password", "Password", PASSWORD),
        ("org.talkpai.totp", "Code of your authenticator app", code_of(secret)),
    ):
        assert (await alice.delete("/devices/OLD", {"auth": {"session": session}})).status == 401
        await browser_page.goto(fallback(server, stage, session))
        await browser_page.get_by_label(label).fill(proof)
        await browser_page.get_by_role("button", name="Confirm").click()
        await expect(browser_page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert (await alice.delete("/devices/OLD", {"auth": {"session": session}})).status == 200
