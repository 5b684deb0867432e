"""OAuth 2.0 as a person sees it, in a real browser without JavaScript: consent, refusal, device codes."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, Route, expect

from homeserver.main import Server
from tests.support.api import PASSWORD, Api
from tests.support.oauth2 import OAuth2, answered, registered
from tests.web.pages import fetch, fill_sign_in, sign_in


@pytest.fixture
async def oauth2(server: Server, alice: Api) -> OAuth2:
    """A public client of `server`, where alice has an account."""
    return await registered(server, alice)


async def catch_callback(page: Page) -> list[str]:
    """Answers in the client's place; returns the addresses that the browser asks it for."""
    asked: list[str] = []

    async def answer(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(body="back in the app")

    await page.route("https://app.example/**", answer)
    return asked


async def open_request(page: Page, oauth2: OAuth2, **changes: str | None) -> None:
    """Opens the authorization endpoint as a client has the browser do."""
    await page.goto(f"{oauth2.server.url}/oauth2/authorize?{oauth2.query(**changes)}")


@pytest.mark.parametrize("mode", ["query", "fragment"])
async def test_a_client_is_signed_in(browser_page: Page, oauth2: OAuth2, mode: str) -> None:
    """Whoever signs in and allows it goes back with a code that the client turns into a session."""
    asked = await catch_callback(browser_page)
    await open_request(browser_page, oauth2, response_mode=mode)
    await fill_sign_in(browser_page)
    await expect(browser_page.get_by_role("heading", name="Sign in to App?")).to_be_visible()
    await expect(browser_page.get_by_text("app.example", exact=True)).to_be_visible()
    await browser_page.get_by_role("button", name="Allow").click()
    await expect(browser_page.get_by_text("back in the app")).to_be_visible()
    assert len(asked) == 1
    answer = answered(browser_page.url)
    assert (answer["state"], answer["iss"]) == ("a state", oauth2.issuer)
    tokens = await oauth2.exchange(answer["code"])
    who = (await oauth2.api.as_token(tokens.body["access_token"]).get("/account/whoami")).body
    assert (who["user_id"], who["device_id"]) == ("@alice:test.example", "PHONE12345")


async def test_a_refusal_is_told_to_the_client(browser_page: Page, oauth2: OAuth2) -> None:
    """Whoever refuses goes back too, and the client gets no code."""
    await catch_callback(browser_page)
    await sign_in(browser_page, oauth2.server.url)
    await open_request(browser_page, oauth2)
    await browser_page.get_by_role("button", name="Refuse").click()
    await expect(browser_page.get_by_text("back in the app")).to_be_visible()
    answer = answered(browser_page.url)
    assert answer["error"] == "access_denied"
    assert "code" not in answer


async def test_nothing_is_granted_without_a_question(browser_page: Page, oauth2: OAuth2) -> None:
    """Being signed in, and having allowed it before, is not enough: there is a question each time."""
    asked = await catch_callback(browser_page)
    await sign_in(browser_page, oauth2.server.url)
    for _ in range(2):
        await open_request(browser_page, oauth2)
        await expect(browser_page.get_by_role("button", name="Allow")).to_be_visible()
        assert asked == []
        await browser_page.get_by_role("button", name="Allow").click()
        await expect(browser_page.get_by_text("back in the app")).to_be_visible()
        asked.clear()


async def test_a_new_account_on_the_way(browser_page: Page, oauth2: OAuth2) -> None:
    """A client that wants its user to register gets them to the page for that, and back to the question."""
    await catch_callback(browser_page)
    await open_request(browser_page, oauth2, prompt="create")
    await browser_page.get_by_label("User name").fill("carol")
    await browser_page.get_by_label("Password", exact=True).fill(PASSWORD)
    await browser_page.get_by_label("Password again").fill(PASSWORD)
    await browser_page.get_by_role("button", name="Create the account").click()
    await expect(browser_page.get_by_text("with your account @carol:test.example")).to_be_visible()
    await browser_page.get_by_role("button", name="Allow").click()
    await expect(browser_page.get_by_text("back in the app")).to_be_visible()
    assert (await oauth2.exchange(answered(browser_page.url)["code"])).status == 200


async def test_the_pages_work_on_localhost(browser_page: Page, oauth2: OAuth2) -> None:
    """Without public_baseurl the pages are where the listener is, also under the name localhost."""
    await catch_callback(browser_page)
    address = oauth2.server.url.replace("127.0.0.1", "localhost")
    await browser_page.goto(f"{address}/oauth2/authorize?{oauth2.query()}")
    await fill_sign_in(browser_page)
    await browser_page.get_by_role("button", name="Allow").click()
    await expect(browser_page.get_by_text("back in the app")).to_be_visible()
    assert answered(browser_page.url)["iss"] == f"{address}/"


async def test_the_client_may_say_who_signs_in(browser_page: Page, oauth2: OAuth2) -> None:
    """A hint fills in the name, and nothing else."""
    await open_request(browser_page, oauth2, login_hint="mxid:@alice:test.example")
    await expect(browser_page.get_by_label("User name or e-mail address")).to_have_value("alice")


async def test_old_proofs_do_for_no_client_that_wants_a_new_one(browser_page: Page, oauth2: OAuth2) -> None:
    """With prompt=login whoever has signed in long ago gives the password once more."""
    await catch_callback(browser_page)
    await sign_in(browser_page, oauth2.server.url)
    async with oauth2.server.services.pool.acquire() as conn:
        await conn.execute("UPDATE web_sessions SET authenticated_ts = authenticated_ts - 3600000")
    await open_request(browser_page, oauth2, prompt="login")
    await expect(browser_page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    await browser_page.get_by_label("Password").fill(PASSWORD)
    await browser_page.get_by_role("button", name="Continue").click()
    await expect(browser_page.get_by_role("button", name="Allow")).to_be_visible()


async def test_nobody_is_sent_where_the_client_has_not_registered(oauth2: OAuth2) -> None:
    """An address or a client that is not known is told to the visitor, and nobody is redirected."""
    for changes in ({"redirect_uri": "https://evil.example/"}, {"client_id": "nobody"}):
        status, headers, text = await fetch(oauth2.server, f"/oauth2/authorize?{oauth2.query(**changes)}")
        assert (status, "The application that sent you here" in text) == (400, True)
        assert "Location" not in headers
        assert "evil.example" not in headers["Content-Security-Policy"]


async def test_other_mistakes_are_told_to_the_client(oauth2: OAuth2) -> None:
    """A client with a good address learns what is wrong with the rest."""
    path = f"/oauth2/authorize?{oauth2.query(code_challenge=None)}"
    status, headers, _ = await fetch(oauth2.server, path)
    assert status == 302
    assert answered(headers["Location"])["error"] == "invalid_request"
    assert headers["Location"].startswith("https://app.example/callback?")


async def test_a_device_is_signed_in_with_its_code(browser_page: Page, oauth2: OAuth2) -> None:
    """The code that a device shows is typed in; after the question the device has its session."""
    codes = (await oauth2.begin_device()).body
    await browser_page.goto(codes["verification_uri"])
    await fill_sign_in(browser_page)
    await browser_page.get_by_label("Code").fill(codes["user_code"].lower())
    await browser_page.get_by_role("button", name="Continue").click()
    await expect(browser_page.get_by_text("they want to get into your account")).to_be_visible()
    await browser_page.get_by_role("button", name="Allow").click()
    await expect(browser_page.get_by_role("heading", name="Your device is signed in")).to_be_visible()
    assert (await oauth2.poll(codes["device_code"])).status == 200


async def test_a_link_with_the_code_asks_too(browser_page: Page, oauth2: OAuth2) -> None:
    """The link of a QR code leads to the same question, and a refusal is told to the device."""
    codes = (await oauth2.begin_device()).body
    await browser_page.goto(codes["verification_uri_complete"])
    await fill_sign_in(browser_page)
    await browser_page.get_by_role("button", name="Refuse").click()
    await expect(browser_page.get_by_role("heading", name="The device was refused")).to_be_visible()
    assert (await oauth2.poll(codes["device_code"])).body["error"] == "access_denied"


async def test_a_code_that_is_not_known(browser_page: Page, oauth2: OAuth2) -> None:
    """A wrong code is said to be wrong, whether typed or in a link, and however long."""
    await sign_in(browser_page, oauth2.server.url)
    for code in ("BBBB-BBBB", "x" * 64, "<b>"):
        await browser_page.goto(f"{oauth2.server.url}/oauth2/device?{urlencode({'user_code': code})}")
        await expect(browser_page.get_by_role("alert")).to_contain_text("This code is not known")
        await expect(browser_page.get_by_label("Code")).to_have_value(code)


async def test_codes_can_not_be_tried_out(browser_page: Page, oauth2: OAuth2, server: Server) -> None:
    """Whoever tries many codes has to wait."""
    await sign_in(browser_page, oauth2.server.url)
    limits = server.config.rate_limits.model_copy(update={"enabled": True})
    assert limits.code is not None
    object.__setattr__(server.services.login_attempts, "_config", limits)
    for number in range(limits.code.burst + 1):
        await browser_page.goto(f"{oauth2.server.url}/oauth2/device?user_code=BBBB-BBB{'BCDFGHJKLMNPQRSTVWXZ'[number]}")
    await expect(browser_page.get_by_role("alert")).to_contain_text("That was too often")
