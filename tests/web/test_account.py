"""The account in a real browser without JavaScript: profile, sessions, password, keys, the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import BrowserContext, Page, expect

from homeserver.main import Server
from tests.support.api import PASSWORD, Api
from tests.support.oauth2 import registered
from tests.web.pages import fill_sign_in, sign_in

NEW_PASSWORD = "another correct horse battery"


async def make_stale(server: Server) -> None:
    """All proofs have been given long ago."""
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE web_sessions SET authenticated_ts = authenticated_ts - 3600000")


async def confirm(page: Page) -> None:
    """Gives the password once more."""
    await expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Continue").click()


async def test_the_name_is_changed_everywhere(browser_page: Page, server: Server, alice: Api) -> None:
    """A new name is in the profile and in the rooms."""
    room_id = (await alice.post("/createRoom", {})).body["room_id"]
    await sign_in(browser_page, server.url)
    await browser_page.get_by_label("Name").fill("Alice <b>& Co</b>")
    await browser_page.get_by_role("button", name="Save").click()
    await expect(browser_page.get_by_role("status")).to_have_text("Your name has been changed.")
    await expect(browser_page.get_by_text("Alice <b>& Co</b>", exact=True)).to_be_visible()
    member = await alice.get(f"/rooms/{room_id}/state/m.room.member/{alice.user_id}")
    assert member.body["displayname"] == "Alice <b>& Co</b>"


async def test_a_session_is_signed_out(browser_page: Page, server: Server, alice: Api) -> None:
    """A session is shown and ended, after a proof that is not old; the others go on."""
    phone = await alice.login("alice", device_id="PHONE", initial_device_display_name="My phone")
    await sign_in(browser_page, server.url)
    await make_stale(server)
    await browser_page.get_by_role("link", name="Sessions").click()
    await browser_page.get_by_role("link", name="Details My phone").click()
    await expect(browser_page.get_by_role("heading", name="My phone")).to_be_visible()
    await browser_page.get_by_role("button", name="Sign out this session").click()
    await confirm(browser_page)
    await expect(browser_page.get_by_role("heading", name="Sign out this session?")).to_be_visible()
    assert (await phone.get("/account/whoami")).status == 200
    await browser_page.get_by_role("button", name="Sign out this session").click()
    await expect(browser_page.get_by_role("status")).to_have_text("The session has been signed out.")
    assert (await phone.get("/account/whoami")).status == 401
    assert (await alice.get("/account/whoami")).status == 200


@pytest.mark.parametrize(
    ("action", "heading"),
    [
        ("org.matrix.profile", "Profile"),
        ("org.matrix.devices_list", "Sessions"),
        ("org.matrix.device_view", "My phone"),
        ("org.matrix.device_delete", "Sign out this session?"),
        ("org.matrix.account_deactivate", "Deactivate the account @alice:test.example?"),
        ("org.matrix.cross_signing_reset", "Reset encryption keys?"),
        ("org.matrix.sessions_list", "Sessions"),
        ("session_end", "Sign out this session?"),
        ("something.else", "Profile"),
    ],
)
async def test_links_of_clients(browser_page: Page, server: Server, alice: Api, action: str, heading: str) -> None:
    """What a client links to is what the visitor sees, after signing in; nothing is done by the link alone."""
    phone = await alice.login("alice", device_id="PH/ONE&x=1", initial_device_display_name="My phone")
    await browser_page.goto(f"{server.url}/account?action={action}&device_id=PH%2FONE%26x%3D1")
    await fill_sign_in(browser_page)
    await expect(browser_page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    assert (await phone.get("/account/whoami")).status == 200


async def test_only_ones_own_sessions(browser_page: Page, server: Server, api: Api, alice: Api) -> None:
    """The device of somebody else is as unknown as one that is not there."""
    bob = await api.register("bob", device_id="BOBS")
    await sign_in(browser_page, server.url)
    for path in ("session", "session/end"):
        response = await browser_page.goto(f"{server.url}/account/{path}?device_id=BOBS")
        assert response is not None
        assert response.status == 404
    assert (await bob.get("/account/whoami")).status == 200


async def test_signs_out_everywhere(browser_page: Page, server: Server, alice: Api) -> None:
    """All apps and browsers are signed out, this one too."""
    await sign_in(browser_page, server.url)
    await browser_page.get_by_role("link", name="Sessions").click()
    await browser_page.get_by_role("link", name="Sign out everywhere").click()
    await browser_page.get_by_role("button", name="Sign out everywhere").click()
    await expect(browser_page.get_by_role("status")).to_have_text("You are signed out everywhere.")
    assert (await alice.get("/account/whoami")).status == 401
    await browser_page.goto(f"{server.url}/account")
    assert "/account/sign-in" in browser_page.url


async def test_an_app_signs_out_everywhere(browser_page: Page, server: Server, alice: Api) -> None:
    """When an app signs out everywhere, the sessions of browsers end too."""
    await sign_in(browser_page, server.url)
    await alice.post("/logout/all", {})
    await browser_page.goto(f"{server.url}/account")
    assert "/account/sign-in" in browser_page.url


async def test_signs_out_everywhere_else(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """All apps and other browsers are signed out, and this browser goes on."""
    here, elsewhere = [await (await open_browser()).new_page() for _ in range(2)]
    for page in (here, elsewhere):
        await sign_in(page, server.url)
    await here.goto(f"{server.url}/account/sessions/end")
    await here.get_by_label("Stay signed in in this browser").check()
    await here.get_by_role("button", name="Sign out everywhere").click()
    await expect(here.get_by_role("status")).to_have_text("All other sessions have been signed out.")
    assert (await alice.get("/account/whoami")).status == 401
    await elsewhere.goto(f"{server.url}/account")
    assert "/account/sign-in" in elsewhere.url


async def change_password(page: Page, url: str, old: str = PASSWORD, new: str = NEW_PASSWORD) -> None:
    """Fills the form in and sends it."""
    await page.goto(f"{url}/account/password")
    await page.get_by_label("Password until now").fill(old)
    await page.get_by_label("New password", exact=True).fill(new)
    await page.get_by_label("New password again").fill(new)
    await page.get_by_role("button", name="Change password").click()


async def test_the_password_is_changed(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, api: Api, alice: Api
) -> None:
    """With another password other browsers and the apps are signed out; this browser goes on."""
    here, elsewhere = [await (await open_browser()).new_page() for _ in range(2)]
    for page in (here, elsewhere):
        await sign_in(page, server.url)
    await change_password(here, server.url)
    await expect(here.get_by_role("status")).to_have_text("Your password has been changed.")
    await here.goto(f"{server.url}/account")
    await expect(here.get_by_role("heading", name="Profile")).to_be_visible()
    await elsewhere.goto(f"{server.url}/account")
    assert "/account/sign-in" in elsewhere.url
    assert (await alice.get("/account/whoami")).status == 401
    assert (await api.login("alice", NEW_PASSWORD)).user_id == "@alice:test.example"


async def test_the_password_stays_what_it_was(browser_page: Page, server: Server, api: Api, alice: Api) -> None:
    """A wrong old password, or a new one that is none, changes nothing."""
    await sign_in(browser_page, server.url)
    await change_password(browser_page, server.url, old="wrong")
    await expect(browser_page.get_by_role("alert")).to_have_text("That is not your password until now.")
    await change_password(browser_page, server.url, new="short")
    await expect(browser_page.get_by_role("alert")).to_contain_text("too easy to guess")
    await api.login("alice")


async def test_keys_may_be_replaced_once_after_the_page(browser_page: Page, server: Server, alice: Api) -> None:
    """A session of OAuth 2.0 replaces its keys only after its user has agreed at the page."""
    oauth2 = await registered(server, alice)
    tokens = await oauth2.sign_in("@alice:test.example")
    client = alice.as_token(tokens["access_token"])
    async with server.services.pool.acquire() as conn:
        user_nid = await conn.fetchval("SELECT user_nid FROM accounts")
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}/account?action=org.matrix.cross_signing_reset")
    await browser_page.get_by_label("I understand and want new keys").check()
    await browser_page.get_by_role("button", name="Reset keys").click()
    await expect(browser_page.get_by_role("heading", name="Go back to your app")).to_be_visible()
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM cross_signing_resets WHERE user_nid = $1", user_nid) == 1
    assert (await client.get("/account/whoami")).status == 200


async def test_the_account_ends(browser_page: Page, server: Server, api: Api, alice: Api) -> None:
    """Whoever ticks the box and has given the password lately ends the account, and is signed out."""
    await sign_in(browser_page, server.url)
    await make_stale(server)
    await browser_page.goto(f"{server.url}/account/deactivate")
    await confirm(browser_page)
    await browser_page.get_by_label("I understand that this can't be undone").check()
    await browser_page.get_by_role("button", name="Deactivate for good").click()
    await expect(browser_page.get_by_role("status")).to_have_text("Your account has been deactivated.")
    assert (await alice.get("/account/whoami")).status == 401
    await browser_page.goto(f"{server.url}/account")
    assert "/account/sign-in" in browser_page.url
    await fill_sign_in(browser_page)
    await expect(browser_page.get_by_role("alert")).to_be_visible()
