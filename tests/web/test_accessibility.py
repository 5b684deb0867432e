"""Every page is held against axe, in each language, in light and in dark, on a wide screen and on a telephone."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyotp
import pytest
from playwright.async_api import BrowserContext, Page

from homeserver.main import Server, running_server
from homeserver.translations import LANGUAGES
from tests.support.api import PASSWORD, Api, open_api
from tests.support.oauth2 import registered
from tests.support.servers import server_config
from tests.web.pages import barriers

_TERMS = [{"id": "terms", "version": "1", "texts": {"en": {"name": "House rules", "url": "https://example.org/rules"}}}]
# Mails are queued and go nowhere.
_EMAIL = {"host": "127.0.0.1", "port": 9, "security": "none", "from_address": "Test <noreply@test.example>"}
_PHONE = {"width": 360, "height": 740}
_DESKTOP = {"width": 1280, "height": 900}


class Visitor:
    """Goes from page to page and notes what axe finds on each, and which pages are wider than the screen."""

    def __init__(self, page: Page, url: str, language: str) -> None:
        self.page = page
        self.url = url
        self.language = language
        self.found: list[str] = []

    async def look(self, what: str) -> None:
        """Holds the page as it is now against axe, in both schemes and sizes."""
        assert await self.page.locator("html").get_attribute("lang") == self.language, what
        for scheme, size in (("light", _DESKTOP), ("dark", _PHONE)):
            await self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await self.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            self.found += [f"{what} ({self.language}, {scheme}): {one}" for one in await barriers(self.page)]
            width = await self.page.evaluate("document.documentElement.scrollWidth")
            if width > size["width"]:
                self.found.append(f"{what} ({self.language}): is {width} wide on a screen of {size['width']}")

    async def open(self, path: str) -> None:
        """Opens a page and looks at it."""
        await self.page.goto(self.url + path)
        await self.look(path)

    async def send(self, what: str, button: str = "main button[type=submit]", **fields: str) -> None:
        """Fills fields in by their names, sends the form, and looks at what comes."""
        for name, value in fields.items():
            await self.page.locator(f"main [name={name}]").first.fill(value)
        await self.page.locator(button).first.click()
        await self.look(what)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_nothing_keeps_anybody_out(
    open_browser: Callable[..., Awaitable[BrowserContext]], database: str, tmp_path: Path, language: str
) -> None:
    """Axe finds nothing on any page, and no page is wider than a telephone."""
    settings: dict[str, Any] = {
        "registration": {"mode": "open", "terms": _TERMS},
        "email": _EMAIL,
        "public_baseurl": "http://test.example",
    }
    config = server_config(database, tmp_path, **settings)
    async with running_server(config) as server, open_api(server.url) as api:
        page = await (await open_browser(java_script_enabled=True, locale=language, reduced_motion="reduce")).new_page()
        visitor = Visitor(page, server.url, language)
        alice = await _make_alice(api)
        await _signed_out(visitor, alice)
        await _signed_in(visitor, server, alice)
    assert not visitor.found, "\n".join(visitor.found)


async def _make_alice(api: Api) -> Api:
    first = {"username": "alice", "password": PASSWORD}
    session = (await api.post("/register", first)).body["session"]
    body = {**first, "auth": {"type": "m.login.terms", "session": session}, "device_id": "PHONE"}
    answer = (await api.post("/register", {**body, "initial_device_display_name": "A phone"})).body
    return Api(api.session, api.url, answer["access_token"], answer["user_id"], answer["device_id"])


async def _signed_out(visitor: Visitor, alice: Api) -> None:
    uia = (await alice.as_token(None).post("/register", {"username": "carol", "password": PASSWORD})).body["session"]
    owner = (await alice.delete("/devices/PHONE", {})).body["session"]
    fallback = "/_matrix/client/v3/auth/{}/fallback/web?session={}"
    for path in (
        "/account/register",
        "/account/recovery",
        "/account/recovery/new-password?token=wrong",
        "/account/confirm-address?sid=x&token=y",
        "/oauth2/authorize?client_id=nobody",
        "/_matrix/client/v3/login/sso/redirect?redirectUrl=javascript:x",
        fallback.format("m.login.terms", uia),
        fallback.format("m.login.password", owner),
        fallback.format("m.login.password", "wrong"),
    ):
        await visitor.open(path)
    await visitor.open("/account/recovery")
    await visitor.send("recovery, sent", email="nobody@example.org")
    await visitor.open("/account/sign-in")
    await visitor.send("sign-in, refused", username="alice", password="wrong")


async def _signed_in(visitor: Visitor, server: Server, alice: Api) -> None:
    page = visitor.page
    await visitor.open("/account/sign-in")
    await visitor.send("profile", username="alice", password=PASSWORD)
    oauth2 = await registered(server, alice, client_name="A client with a rather long name")
    codes = (await oauth2.begin_device()).body
    for path in (
        "/account/sessions",
        "/account/session?device_id=PHONE",
        "/account/session/end?device_id=PHONE",
        "/account/sessions/end",
        "/account/session?device_id=none",
        "/account/security",
        "/account/password",
        "/account/confirm",
        "/account/emails",
        "/account/reset-keys",
        "/account/deactivate",
        "/account/two-factor",
        "/account/sign-in-services",
        f"/oauth2/authorize?{oauth2.query()}",
        "/oauth2/device",
        f"/oauth2/device?user_code={codes['user_code']}",
        "/_matrix/client/v3/login/sso/redirect?redirectUrl=https://client.example/",
        "/_matrix/static/client/login/?initial_device_display_name=Tablet",
    ):
        await visitor.open(path)
    await visitor.open("/account/emails")
    await visitor.send("mail, sent", button="button[value=send]", email="alice@example.org")
    await visitor.open("/oauth2/device")
    await visitor.send("device code, wrong", user_code="BBBB-BBBB")
    await visitor.open("/account/two-factor")
    await visitor.send("second factor, begun", button="button[value=begin]")
    secret = re.sub(r"\s", "", await page.locator(".secret").inner_text())
    await visitor.send("second factor, refused", button="button[value=confirm]", code="000000")
    await visitor.send("backup codes", button="button[value=confirm]", code=pyotp.TOTP(secret).now())
    await visitor.open("/account/two-factor")
    await page.context.clear_cookies()
    await visitor.open("/account/sign-in")
    await visitor.send("second step", username="alice", password=PASSWORD)
