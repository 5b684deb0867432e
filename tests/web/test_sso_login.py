"""Clients that sign people in through the browser, with our own page as the place to do it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.async_api import Page, Request, Route, expect

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.servers import server_config
from tests.web.pages import fetch, fill_sign_in, sign_in

_REDIRECT = "/_matrix/client/v3/login/sso/redirect"


@pytest.fixture
async def trusting_server(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A server that trusts one client."""
    config = server_config(database, tmp_path, web={"trusted_clients": ["https://chat.example.org/app"]})
    async with running_server(config) as server:
        yield server


async def catch(page: Page, pattern: str) -> list[str]:
    """Answers in the place of another site; returns the addresses that the browser asks it for."""
    asked: list[str] = []

    async def answer(route: Route, request: Request) -> None:
        asked.append(request.url)
        await route.fulfill(body="the client")

    await page.route(pattern, answer)
    return asked


async def test_a_client_gets_a_token_that_logs_in_once(
    browser_page: Page, server: Server, api: Api, alice: Api
) -> None:
    """Whoever signs in and agrees goes back to the client with a token; the client logs in with it, once."""
    asked = await catch(browser_page, "https://client.example/**")
    target = "https://client.example/cb?session=7&loginToken=old#end"
    await browser_page.goto(f"{server.url}{_REDIRECT}?redirectUrl={quote(target, safe='')}")
    await fill_sign_in(browser_page)
    await expect(browser_page.get_by_text("https://client.example", exact=True)).to_be_visible()
    await browser_page.get_by_role("button", name="Continue").click()
    await expect(browser_page.get_by_text("the client")).to_be_visible()
    query = parse_qs(urlsplit(asked[0]).query)
    assert query["session"] == ["7"]
    assert len(query["loginToken"]) == 1
    body = {"type": "m.login.token", "token": query["loginToken"][0]}
    answer = await api.post("/login", body)
    assert (answer.status, answer.body["user_id"]) == (200, "@alice:test.example")
    assert (await api.post("/login", body)).status == 403


async def test_a_trusted_client_is_not_asked_about(browser_page: Page, trusting_server: Server) -> None:
    """The operator's own client gets its token right after the sign-in."""
    async with open_api(trusting_server.url) as api:
        await api.register("alice")
    asked = await catch(browser_page, "https://chat.example.org/**")
    await browser_page.goto(f"{trusting_server.url}{_REDIRECT}?redirectUrl=https://chat.example.org/app/")
    await fill_sign_in(browser_page)
    await expect(browser_page.get_by_text("the client")).to_be_visible()
    assert "loginToken" in asked[0]


@pytest.mark.parametrize(
    "address",
    [
        "https://chat.example.org/other",
        "https://chat.example.org/app/../other",
        "https://chat.example.org/application",
        "https://chat.example.org:8443/app",
        "http://chat.example.org/app",
        "https://chat.example.org.evil.example/app",
        "https://evil.example/?https://chat.example.org/app",
        "app.element:/callback",
    ],
)
async def test_what_only_looks_trusted_is_asked_about(
    browser_page: Page, trusting_server: Server, address: str
) -> None:
    """An address that is not exactly the trusted one or below it gets no token without a question."""
    async with open_api(trusting_server.url) as api:
        await api.register("alice")
    await sign_in(browser_page, trusting_server.url)
    await browser_page.goto(f"{trusting_server.url}{_REDIRECT}?redirectUrl={quote(address, safe='')}")
    await expect(browser_page.get_by_role("button", name="Continue")).to_be_visible()


async def test_an_application_of_the_device_gets_its_token(browser_page: Page, server: Server, alice: Api) -> None:
    """Addresses with a scheme of an application's own are as good as those of web sites."""
    told: list[str] = []
    browser_page.on("console", lambda message: told.append(message.text))
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}{_REDIRECT}?redirectUrl=io.element.app:/cb?x%3D1")
    await expect(browser_page.get_by_text("An app on this device")).to_be_visible()
    async with browser_page.expect_response("**/redirect?**") as waiting:
        await browser_page.get_by_role("button", name="Continue").click()
    response = await waiting.value
    assert response.status == 303
    assert (await response.all_headers())["location"].startswith("io.element.app:/cb?x=1&loginToken=")
    assert not [text for text in told if "Content Security Policy" in text]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript://x/%0aalert(1)",
        "data:text/html,hello",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://client.example/1",
        "intent://x#Intent;end",
        "//evil.example",
        "/account",
        "https:evil.example",
        "https://user@evil.example/",
        "https://evil.example\\@client.example",
        "https://evil.example/\r\nSet-Cookie: a=b",
        "https://[::1/",
        "",
        "x" * 10_000,
    ],
)
async def test_what_is_no_place_for_a_token_is_refused(server: Server, address: str) -> None:
    """Nobody is sent to an address that a browser would run, or that is not what it looks like."""
    status, headers, _ = await fetch(server, f"{_REDIRECT}?redirectUrl={quote(address, safe='')}")
    assert status == 400
    assert "Location" not in headers


async def test_a_missing_address_and_an_unknown_provider(server: Server) -> None:
    """Without an address nothing can be done, and providers are only those that were announced."""
    assert (await fetch(server, _REDIRECT))[0] == 400
    assert (await fetch(server, f"{_REDIRECT}/nobody?redirectUrl=https://client.example"))[0] == 404


async def test_is_announced_beside_the_password(api: Api, server: Server) -> None:
    """Clients find the way through the browser, with its providers, and the password as ever."""
    flows = {flow["type"]: flow for flow in (await api.get("/login")).body["flows"]}
    assert "m.login.password" in flows
    providers = flows["m.login.sso"]["identity_providers"]
    assert "oauth_aware_preferred" not in flows["m.login.sso"]
    status, headers, _ = await fetch(server, f"{_REDIRECT}/{providers[0]['id']}?redirectUrl=https://client.example/")
    assert status == 302
    assert headers["Location"].startswith("/account/sign-in?continue=")


async def test_clients_that_know_more_can_be_told_to_prefer_it(database: str, tmp_path: Path) -> None:
    """The operator may have clients offer only the sign-in page."""
    async with (
        running_server(server_config(database, tmp_path, web={"prefer_sign_in_page": True})) as server,
        open_api(server.url) as api,
    ):
        flows = {flow["type"]: flow for flow in (await api.get("/login")).body["flows"]}
    assert flows["m.login.sso"]["oauth_aware_preferred"] is True


async def test_another_account_can_be_taken(browser_page: Page, server: Server, api: Api, alice: Api) -> None:
    """Whoever is signed in as somebody else signs out on the way and comes back to where they were."""
    await api.register("bob")
    await sign_in(browser_page, server.url)
    await browser_page.goto(f"{server.url}{_REDIRECT}?redirectUrl=https://client.example/")
    await browser_page.get_by_role("button", name="Sign in with another account").click()
    await fill_sign_in(browser_page, "bob")
    await expect(browser_page.get_by_text("your account @bob:test.example")).to_be_visible()
