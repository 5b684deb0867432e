"""What other sites, planted cookies, crafted links and hostile names try on the pages, and that it comes to nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from playwright.async_api import BrowserContext, Dialog, Page, expect

from homeserver.main import Server, running_server
from homeserver.web.routes import WEB_ROUTES
from tests.support.api import PASSWORD, Api, open_api
from tests.support.oauth2 import registered
from tests.support.servers import server_config
from tests.web.pages import fetch, form_token, sign_in

_COOKIE = "talkpai_session"
_POSTS = sorted({route.path for route in WEB_ROUTES if route.method == "POST" and route.error_page is not None})
_GETS = sorted({route.path for route in WEB_ROUTES if route.method == "GET" and route.error_page is not None})
_XSS = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>{{7*7}}"


async def cookie_of(page: Page) -> str:
    """What the browser's cookie holds."""
    return next(str(one["value"]) for one in await page.context.cookies() if one["name"] == _COOKIE)


def filled(path: str) -> str:
    """A path with something in place of its parameters."""
    return re.sub(r"\{\w+\}", "x", path)


@pytest.fixture
async def signed_in(browser_page: Page, server: Server, alice: Api) -> tuple[str, str]:
    """The cookie of somebody who is signed in, and the token of their forms."""
    await sign_in(browser_page, server.url)
    return await cookie_of(browser_page), await form_token(browser_page)


async def post(server: Server, path: str, cookie: str, form: dict[str, str], **headers: str) -> int:
    """The status that a posted form gets."""
    sent = {"Cookie": f"{_COOKIE}={cookie}", "Content-Type": "application/x-www-form-urlencoded", **headers}
    return (await fetch(server, path, method="POST", data=urlencode(form), headers=sent))[0]


async def test_no_form_counts_without_its_token(server: Server, signed_in: tuple[str, str]) -> None:
    """Whatever can be posted is refused without the token, and with one of another browser."""
    cookie, _ = signed_in
    _, _, text = await fetch(server, "/account/sign-in")
    other = re.findall(r'name="form_token" value="(\w+)"', text)[0]
    for path in _POSTS:
        if path.startswith("/account/sso/"):
            continue  # what a provider posts; test_single_sign_on.py
        for form in (
            {},
            {"form_token": ""},
            {"form_token": other},
            {"form_token": "\udcff".encode("utf-8", "replace").decode()},
        ):
            assert await post(server, filled(path), cookie, form) == 403, path


async def test_forms_that_other_sites_send(server: Server, signed_in: tuple[str, str], alice: Api) -> None:
    """Even with the right token a form from another site is refused, by what browsers say of it."""
    cookie, token = signed_in
    form = {"form_token": token, "displayname": "Mallory"}
    own = {"Origin": server.url}
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", **own},
    ):
        assert await post(server, "/account", cookie, form, **headers) == 403, headers
    assert "displayname" not in (await alice.get(f"/profile/{alice.user_id}")).body
    for headers in ({"Sec-Fetch-Site": "same-origin"}, own, {}):
        assert await post(server, "/account", cookie, form, **headers) == 303, headers


async def test_another_site_posts_in_a_real_browser(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """A page elsewhere that sends our sign-out form by itself signs nobody out."""
    page = await (await open_browser(java_script_enabled=True)).new_page()
    await sign_in(page, server.url)
    form = f'<form method="post" action="{server.url}/account/sign-out"><button>go</button></form>'
    await page.route("https://evil.example/", lambda route: route.fulfill(body=form, content_type="text/html"))
    await page.goto("https://evil.example/")
    await page.get_by_role("button").click()
    await expect(page.get_by_role("heading", name="That did not work")).to_be_visible()
    await page.goto(f"{server.url}/account")
    await expect(page.get_by_role("heading", name="Profile")).to_be_visible()


async def test_a_planted_cookie_is_worth_nothing(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """Whoever signs in gets a new token, so that who knew the one before does not get in with it."""
    attacker = await (await open_browser()).new_page()
    await attacker.goto(f"{server.url}/account/sign-in")
    planted = await cookie_of(attacker)
    victim = await open_browser()
    await victim.add_cookies([{"name": _COOKIE, "value": planted, "url": server.url}])
    page = await victim.new_page()
    await sign_in(page, server.url)
    signed_in = await cookie_of(page)
    assert signed_in != planted
    await attacker.goto(f"{server.url}/account")
    assert "/account/sign-in" in attacker.url
    # Proving it once more gives a new token too, and ends the old one.
    await page.goto(f"{server.url}/account/confirm")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Continue").click()
    assert await cookie_of(page) != signed_in
    assert (await fetch(server, "/account", headers={"Cookie": f"{_COOKIE}={signed_in}"}))[0] == 302
    await page.get_by_role("button", name="Sign out here").click()


async def test_tokens_are_stored_as_hashes(server: Server, signed_in: tuple[str, str]) -> None:
    """Who reads the database finds nothing that a browser could send."""
    cookie, _ = signed_in
    async with server.services.pool.acquire() as conn:
        rows = await conn.fetch("SELECT * FROM web_sessions")
    assert len(rows) == 1
    assert cookie not in str(dict(rows[0]))
    assert cookie.encode() not in rows[0]["token_hash"]


@pytest.mark.parametrize(
    ("column", "days"), [("last_seen_ts", 8), ("created_ts", 31)], ids=["idle for long", "begun long ago"]
)
async def test_sessions_end_by_themselves(server: Server, signed_in: tuple[str, str], column: str, days: int) -> None:
    """A session ends when nobody comes, and however often somebody comes."""
    cookie, _ = signed_in
    headers = {"Cookie": f"{_COOKIE}={cookie}"}
    assert (await fetch(server, "/account", headers=headers))[0] == 200
    async with server.services.pool.acquire() as conn:
        await conn.execute(f"UPDATE web_sessions SET {column} = {column} - $1::bigint", days * 86_400_000)
    assert (await fetch(server, "/account", headers=headers))[0] == 302


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/account/../../evil",
        "/account//evil.example",
        "/account@evil.example",
        "/account\r\nLocation: https://evil.example",
        "/account\t/evil",
        "javascript:alert(1)",
        "/_matrix/client/v3/login/sso/redirect\\@evil",
        "/oauth2/authorize.evil.example",
        "/account?x=\x00",
        "/account?" + "x" * 20_000,
        "",
    ],
)
async def test_nobody_is_led_away_after_signing_in(server: Server, signed_in: tuple[str, str], address: str) -> None:
    """Whatever a link says, one ends up at a page of ours."""
    cookie, token = signed_in
    headers = {"Cookie": f"{_COOKIE}={cookie}"}
    status, answer, _ = await fetch(server, f"/account/sign-in?continue={quote(address, safe='')}", headers=headers)
    assert (status, answer.get("Location", "/account")) in ((302, "/account"), (400, "/account"))
    form = {"username": "alice", "password": PASSWORD, "form_token": token, "continue": address}
    sent = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    status, answer, _ = await fetch(server, "/account/sign-in", method="POST", data=urlencode(form), headers=sent)
    assert (status, answer.get("Location", "/account")) in ((303, "/account"), (400, "/account"))


async def test_every_page_is_locked_down(server: Server, signed_in: tuple[str, str]) -> None:
    """No page can be framed, cached, read by other sites or made to run or load anything from elsewhere."""
    cookie, _ = signed_in
    for path in _GETS:
        for headers in ({}, {"Cookie": f"{_COOKIE}={cookie}"}):
            status, answer, text = await fetch(server, filled(path), headers=headers)
            assert status < 500, path
            assert answer["X-Frame-Options"] == "DENY", path
            assert answer["Cache-Control"] == "no-store", path
            assert answer["Referrer-Policy"] == "same-origin", path
            assert answer["X-Content-Type-Options"] == "nosniff", path
            assert "Access-Control-Allow-Origin" not in answer, path
            if text:
                policy = answer["Content-Security-Policy"]
                for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
                    assert part in policy, path
                assert "unsafe" not in policy, path
                assert "script-src" not in policy, path
                assert "<script" not in text, path
                assert " style=" not in text, path


async def test_a_frame_shows_nothing(
    open_browser: Callable[..., Awaitable[BrowserContext]], server: Server, alice: Api
) -> None:
    """A site that frames the question of consent shows its visitor an empty frame."""
    oauth2 = await registered(server, alice)
    page = await (await open_browser()).new_page()
    await sign_in(page, server.url)
    frame = f'<iframe src="{server.url}/oauth2/authorize?{oauth2.query()}"></iframe>'
    await page.route("https://evil.example/", lambda route: route.fulfill(body=frame, content_type="text/html"))
    await page.goto("https://evil.example/")
    assert await page.frame_locator("iframe").get_by_role("button", name="Allow").count() == 0


@pytest.fixture
async def alert_page(
    open_browser: Callable[..., Awaitable[BrowserContext]],
) -> AsyncIterator[Page]:
    """A tab with JavaScript. It fails the test if anything makes it run some, and if a template has been read twice."""
    page = await (await open_browser(java_script_enabled=True)).new_page()
    alerts: list[str] = []

    async def note(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", note)
    yield page
    assert alerts == []


async def test_names_are_shown_and_not_run(alert_page: Page, server: Server, api: Api) -> None:
    """Names of users, devices and clients are text, whatever stands in them."""
    alice = await api.register("alice", device_id="D", initial_device_display_name=_XSS)
    await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": _XSS})
    oauth2 = await registered(server, alice, client_name=_XSS)
    await sign_in(alert_page, server.url)
    for path in (
        "/account",
        "/account/sessions",
        "/account/session?device_id=D",
        f"/oauth2/authorize?{oauth2.query()}",
    ):
        await alert_page.goto(server.url + path)
        await expect(alert_page.get_by_text("alert(1)").first).to_be_visible()
        assert "{{7*7}}" in await alert_page.locator("main").inner_text()


async def test_what_comes_in_the_address_is_shown_and_not_run(alert_page: Page, server: Server, alice: Api) -> None:
    """Whatever of a link a page shows is text."""
    value = quote(_XSS, safe="")
    await alert_page.goto(f"{server.url}/account/sign-in?username={value}&continue={value}&lang={value}&done={value}")
    assert await alert_page.locator("#username").input_value() == _XSS
    await sign_in(alert_page, server.url)
    for path in (
        f"/_matrix/client/v3/login/sso/redirect?redirectUrl=app:{value}",
        f"/_matrix/client/v3/login/sso/redirect?redirectUrl=https://{value}/",
        f"/_matrix/static/client/login/?initial_device_display_name={value}",
        f"/oauth2/device?user_code={value[:60]}",
        f"/oauth2/authorize?client_id={value}&redirect_uri={value}",
        f"/account/session?device_id={value}",
        f"/_matrix/client/v3/auth/{value}/fallback/web?session={value}",
        f"/account/recovery/new-password?token={value}",
        f"/account?{value}={value}",
    ):
        await alert_page.goto(server.url + path)
        await expect(alert_page.get_by_role("heading").first).to_be_visible()


async def test_cookies_are_for_this_server_alone(database: str, tmp_path: Path) -> None:
    """No script reads a cookie, none goes along with other sites' forms, and over HTTPS no other host can set it."""
    for settings, expected in (
        ({}, [_COOKIE, "HttpOnly", "Path=/", "SameSite=Lax"]),
        (
            {"public_baseurl": "https://chat.test.example"},
            ["__Host-talkpai_session", "HttpOnly", "Path=/", "SameSite=Lax", "Secure"],
        ),
    ):
        async with running_server(server_config(database, tmp_path, **settings)) as server:
            _, headers, _ = await fetch(server, "/account/sign-in")
        name, *rest = [
            part.partition("=")[0] if not index else part
            for index, part in enumerate(headers["Set-Cookie"].split("; "))
        ]
        assert [name, *sorted(rest)] == expected


async def test_what_is_no_form_is_refused(server: Server, signed_in: tuple[str, str]) -> None:
    """Bodies of another type, that are too large, or that are no encoding of anything change nothing."""
    cookie, token = signed_in
    headers = {"Cookie": f"{_COOKIE}={cookie}", "Content-Type": "application/x-www-form-urlencoded"}
    good = f"form_token={token}"
    for data, more, status in (
        (b'{"form_token": "x"}', {"Content-Type": "application/json"}, 400),
        (good.encode(), {"Content-Type": "text/plain"}, 400),
        (good.encode() + b"&displayname=%FF", {}, 400),
        (good.encode() + b"&displayname=%00", {}, 400),
        (b"\xff" * 10, {}, 400),
        (b"&".join(b"a=b" for _ in range(1000)), {}, 400),
        (b"x=" + b"x" * 70_000, {}, 413),
    ):
        sent = {**headers, **more}
        assert (await fetch(server, "/account", method="POST", data=data, headers=sent))[0] == status, data[:40]


@pytest.mark.parametrize("path", ["/account/sign-in", "/account/nothing", "/account", "/oauth2/authorize"])
@pytest.mark.parametrize(
    "query", [b"?x=\xff\xfe", b"?continue=/\xd0\xb9&lang=uk", b"?%ff", b"?x=%00", b"?lang=\xed\xa0\x80"]
)
async def test_bytes_that_are_no_text(server: Server, path: str, query: bytes) -> None:
    """Whatever bytes stand in an address, nothing breaks by them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(b"GET " + path.encode() + query + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.split(b" ", 2)[1] in (b"200", b"302", b"400", b"404"), answer[:200]


async def test_errors_are_pages(database: str, tmp_path: Path) -> None:
    """Whoever tries passwords too often is told when to go on, in their language and on a page."""
    limits = {"enabled": True, "login": {"per_second": 0.01, "burst": 2}}
    async with running_server(server_config(database, tmp_path, rate_limits=limits)) as server, open_api(server.url):
        _, headers, text = await fetch(server, "/account/sign-in")
        cookie = headers["Set-Cookie"].partition(";")[0]
        token = re.findall(r'name="form_token" value="(\w+)"', text)[0]
        form = urlencode({"form_token": token, "username": "nobody", "password": "wrong"})
        sent = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded", "Accept-Language": "uk"}
        answers = [await fetch(server, "/account/sign-in", method="POST", data=form, headers=sent) for _ in range(4)]
    assert [status for status, _, _ in answers] == [403, 403, 429, 429]
    assert "Забагато спроб" in answers[-1][2]
