"""Signing in with an account elsewhere, in a real browser, at a provider on loopback that checks what it must."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from oidc_provider_mock import run_server_in_thread
from playwright.async_api import BrowserContext, Page, expect

from homeserver.main import Server, running_server
from homeserver.storage.single_sign_on import external_ids_of
from tests.support.api import PASSWORD, open_api
from tests.support.oidc import CLIENT_ID, CLIENT_SECRET, OidcServer, running_oidc_server
from tests.support.servers import server_config
from tests.web.pages import barriers, code_of, fetch, set_up_second_factor, sign_in

OpenServer = Callable[..., Awaitable[Server]]
OpenBrowser = Callable[..., Awaitable[BrowserContext]]


@pytest.fixture
async def there() -> AsyncIterator[OidcServer]:
    async with running_oidc_server() as provider:
        provider.person = {"sub": "alice-there", "preferred_username": "alice", "name": "Alice A."}
        yield provider


@pytest.fixture
async def start_server(database: str, tmp_path: Path) -> AsyncIterator[OpenServer]:
    """A function that starts the server, with these settings."""
    async with AsyncExitStack() as stack:

        async def start(**values: Any) -> Server:
            return await stack.enter_async_context(running_server(server_config(database, tmp_path, **values)))

        yield start


@pytest.fixture
async def here(start_server: OpenServer, there: OidcServer) -> Server:
    """A server that trusts the provider."""
    return await start_server(**settings(there))


def settings(there: OidcServer, **provider: Any) -> dict[str, Any]:
    common = {
        "id": "there",
        "name": "Elsewhere",
        "issuer": there.issuer,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    return {
        "single_sign_on": {"providers": [{**common, **provider}]},
        "federation": {"allow_addresses": ["127.0.0.0/8", "::1"]},
    }


async def register(server: Server, name: str) -> str:
    """Makes an account with a password. Returns its user id."""
    async with open_api(server.url) as api:
        return (await api.register(name)).user_id


async def leave_for(page: Page, server: Server) -> None:
    """Opens the account and goes to the provider, which sends everybody back at once."""
    await page.goto(f"{server.url}/account")
    await page.get_by_role("link", name="Continue with Elsewhere").click()


async def linked(server: Server, user_id: str) -> list[str]:
    """The subjects there with whom one can sign in to an account."""
    async with server.services.pool.acquire() as conn:
        user_nid = await conn.fetchval("SELECT user_nid FROM users WHERE user_id = $1", user_id)
        return [one.subject for one in await external_ids_of(conn, user_nid)]


async def test_somebody_new_chooses_a_name_and_comes_back_to_the_account(
    browser_page: Page, here: Server, there: OidcServer
) -> None:
    """Who has no account gets one under a name of their choice, and is let into the same one ever after."""
    there.person |= {"email": "alice@example.org", "email_verified": True}
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_role("heading", name="Choose a user name")).to_be_visible()
    await expect(browser_page.get_by_label("User name")).to_have_value("alice")
    await browser_page.get_by_label("User name").fill("Alice.A")
    await browser_page.get_by_role("button", name="Create account").click()
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    await expect(browser_page.get_by_text("@alice.a:test.example", exact=True)).to_be_visible()
    await browser_page.get_by_role("button", name="Sign out here").click()
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_text("@alice.a:test.example", exact=True)).to_be_visible()
    assert await linked(here, "@alice.a:test.example") == ["alice-there"]


async def test_a_name_that_is_taken_is_no_way_in(browser_page: Page, here: Server, there: OidcServer) -> None:
    """An account that is called as somebody is called elsewhere is not theirs: they must choose another name."""
    alice = await register(here, "alice")
    await leave_for(browser_page, here)
    await browser_page.get_by_role("button", name="Create account").click()
    await expect(browser_page.get_by_role("alert")).to_contain_text("taken")
    assert await linked(here, alice) == []


async def test_an_address_opens_no_account_unless_both_sides_checked_it(
    browser_page: Page, start_server: OpenServer, there: OidcServer
) -> None:
    """With link_existing: email an account is opened by an address that both have checked, never by one that the
    provider has not, and never one of an administrator."""
    here = await start_server(**settings(there, link_existing="email"))
    alice = await register(here, "alice")
    await here.services.pool.execute(
        "INSERT INTO account_threepids (medium, address, user_nid, validated_ts, added_ts) "
        "SELECT 'email', 'alice@example.org', user_nid, 0, 0 FROM users WHERE user_id = $1",
        alice,
    )
    there.person |= {"email": "alice@example.org", "email_verified": False}
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_role("heading", name="Choose a user name")).to_be_visible()
    there.person["email_verified"] = True
    await here.services.pool.execute("UPDATE accounts SET admin = true")
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_role("heading", name="Choose a user name")).to_be_visible()
    await here.services.pool.execute("UPDATE accounts SET admin = false")
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_text(alice, exact=True)).to_be_visible()


async def test_an_account_can_be_linked_by_who_is_signed_in(
    browser_page: Page, here: Server, there: OidcServer
) -> None:
    """Who is signed in adds an account elsewhere, signs in with it, and takes it away again."""
    alice = await register(here, "alice")
    await sign_in(browser_page, here.url)
    await browser_page.goto(f"{here.url}/account/sign-in-services")
    await browser_page.get_by_role("link", name="Add Elsewhere").click()
    await expect(browser_page.get_by_role("button", name="Remove")).to_be_visible()
    assert await linked(here, alice) == ["alice-there"]
    await browser_page.goto(f"{here.url}/account")
    await browser_page.get_by_role("button", name="Sign out here").click()
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_text(alice, exact=True)).to_be_visible()
    await browser_page.goto(f"{here.url}/account/sign-in-services")
    await browser_page.get_by_role("button", name="Remove").click()
    await expect(browser_page.get_by_text("There are none yet.")).to_be_visible()
    assert await linked(here, alice) == []


async def test_whoever_finds_a_browser_signed_in_adds_no_way_in(
    browser_page: Page, here: Server, there: OidcServer
) -> None:
    """Somebody who has signed in long ago proves it once more before an account elsewhere opens theirs."""
    alice = await register(here, "alice")
    await sign_in(browser_page, here.url)
    await here.services.pool.execute("UPDATE web_sessions SET authenticated_ts = authenticated_ts - 3600000")
    await browser_page.goto(f"{here.url}/account/sign-in-services")
    await browser_page.get_by_role("link", name="Add Elsewhere").click()
    await expect(browser_page.get_by_role("button", name="Continue")).to_be_visible()
    assert await linked(here, alice) == []
    await browser_page.get_by_label("Password").fill(PASSWORD)
    await browser_page.get_by_role("button", name="Continue").click()
    await browser_page.get_by_role("link", name="Add Elsewhere").click()
    await expect(browser_page.get_by_role("button", name="Remove")).to_be_visible()


async def test_the_second_factor_is_asked_for(browser_page: Page, start_server: OpenServer, there: OidcServer) -> None:
    """Who has a second factor here proves it after signing in there, unless the operator leaves that to the provider;
    a log-out that the provider reports ends the session all the same."""
    there.person["sid"] = "s1"
    here = await start_server(**settings(there))
    await leave_for(browser_page, here)
    await browser_page.get_by_role("button", name="Create account").click()
    await browser_page.goto(f"{here.url}/account/two-factor")
    secret, _ = await set_up_second_factor(browser_page)
    await browser_page.goto(f"{here.url}/account")
    await browser_page.get_by_role("button", name="Sign out here").click()
    await leave_for(browser_page, here)
    await browser_page.get_by_label("Code", exact=True).fill(code_of(secret, 1))
    await browser_page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    assert await _report(here, there.logout_token(sid="s1")) == 200
    await browser_page.goto(f"{here.url}/account")
    await expect(browser_page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_the_second_factor_can_be_left_to_the_provider(
    browser_page: Page, start_server: OpenServer, there: OidcServer
) -> None:
    """Where the operator leaves it to the provider, nobody is asked for a second factor after coming from there."""
    here = await start_server(**settings(there, second_factor=False))
    await leave_for(browser_page, here)
    await browser_page.get_by_role("button", name="Create account").click()
    await browser_page.goto(f"{here.url}/account/two-factor")
    await set_up_second_factor(browser_page)
    await browser_page.goto(f"{here.url}/account")
    await browser_page.get_by_role("button", name="Sign out here").click()
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()


async def test_nobody_else_can_add_a_way_in(browser_page: Page, here: Server, there: OidcServer) -> None:
    """A link that another site plants does not begin to link an account, signed in or not."""
    alice = await register(here, "alice")
    await sign_in(browser_page, here.url)
    for token in ("x", "0" * 64):
        await browser_page.goto(f"{here.url}/account/sso/there?link={token}")
        await expect(browser_page.get_by_role("heading", name="That did not work")).to_be_visible()
    assert there.asked == []
    assert await linked(here, alice) == []


async def test_an_answer_planted_in_another_browser_is_worth_nothing(
    open_browser: OpenBrowser, here: Server, there: OidcServer
) -> None:
    """Somebody's own answer signs nobody else in as them (login CSRF), and is used up by nobody's trying."""
    mallory, victim = await (await open_browser()).new_page(), await (await open_browser()).new_page()
    there.asks = True
    await leave_for(mallory, here)
    answer = await mallory.get_by_role("link", name="Back").get_attribute("href")
    assert answer is not None
    await victim.goto(answer)
    await expect(victim.get_by_text("not begun in this browser")).to_be_visible()
    await victim.goto(f"{here.url}/account")
    await expect(victim.get_by_role("heading", name="Sign in")).to_be_visible()
    await mallory.goto(answer)
    await expect(mallory.get_by_role("heading", name="Choose a user name")).to_be_visible()
    await mallory.goto(answer)  # once more
    await expect(mallory.get_by_text("not begun in this browser")).to_be_visible()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_provider_that_others_wrote(browser_page: Page, start_server: OpenServer) -> None:
    """Somebody signs in at a provider of another making, whose page they see and fill in."""
    with run_server_in_thread(require_nonce=True) as provider:
        issuer = f"http://localhost:{provider.server_port}"
        here = await start_server(**settings(OidcServer(issuer=issuer)))
        for heading in ("Choose a user name", "Profile"):
            await leave_for(browser_page, here)
            await browser_page.get_by_placeholder("sub").fill("carol")
            await browser_page.get_by_role("button", name="Authorize").click()
            await expect(browser_page.get_by_role("heading", name=heading)).to_be_visible()
            if heading == "Choose a user name":
                await browser_page.get_by_label("User name").fill("carol")
                await browser_page.get_by_role("button", name="Create account").click()
                await browser_page.get_by_role("button", name="Sign out here").click()
    assert await linked(here, "@carol:test.example") == ["carol"]


async def test_who_declines_there_is_told_so(browser_page: Page, here: Server, there: OidcServer) -> None:
    """An error from the provider ends in a page that says what to do, and nothing of what the address says."""
    there.denies = True
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_text("You have not signed in there.")).to_be_visible()


async def test_no_account_without_registration(browser_page: Page, start_server: OpenServer, there: OidcServer) -> None:
    """Where the operator makes the accounts, somebody unknown gets none."""
    here = await start_server(**settings(there, registration=False))
    await leave_for(browser_page, here)
    await expect(browser_page.get_by_text("You have no account on this server.")).to_be_visible()


async def test_a_posted_answer_is_handed_on(here: Server, there: OidcServer) -> None:
    """What a provider posts from its own site goes into the address, where it counts no more than any other."""
    status, headers, _ = await fetch(
        here, "/account/sso/there/callback", method="POST", data={"state": "s", "code": "c", "user": "{}"}
    )
    assert (status, headers["Location"]) == (303, "/account/sso/there/callback?state=s&code=c")


async def _report(here: Server, token: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{here.url}/account/sso/there/logout", data={"logout_token": token}) as response,
    ):
        return response.status


async def test_signing_out_there_signs_out_here(browser_page: Page, here: Server, there: OidcServer) -> None:
    """When the provider reports that a session has ended, the browser and all devices are signed out; a report that is
    not properly signed does nothing."""
    there.person["sid"] = "s1"
    await leave_for(browser_page, here)
    await browser_page.get_by_role("button", name="Create account").click()
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    assert await _report(here, there.id_token("nonce")) == 400
    await browser_page.reload()
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    assert await _report(here, there.logout_token(sid="s1")) == 200
    await browser_page.goto(f"{here.url}/account")
    await expect(browser_page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("language", ["en-GB", "uk"])
async def test_everybody_can_use_the_pages(
    open_browser: OpenBrowser, here: Server, there: OidcServer, language: str
) -> None:
    """axe finds nothing that keeps people out, in both languages."""
    await register(here, "bob")
    page = await (await open_browser(java_script_enabled=True, locale=language, bypass_csp=True)).new_page()
    await page.goto(f"{here.url}/account/sso/there")
    assert page.url.endswith("/account/sso/new")
    assert await barriers(page) == []
    await page.locator("form button[type=submit]").first.click()
    await page.goto(f"{here.url}/account/sign-in-services")
    assert await barriers(page) == []
