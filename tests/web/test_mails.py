"""What takes a mail: getting back in without the password, and adding an address. An SMTP server takes the mails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.processes import free_port
from tests.support.servers import server_config
from tests.support.smtp import Mailbox, email_settings, smtp_server
from tests.web.pages import fill_sign_in, sign_in

NEW_PASSWORD = "another correct horse battery"


@dataclass
class Mailing:
    """A server, its client API, and the mailbox of everybody."""

    server: Server
    api: Api
    mailbox: Mailbox


@pytest.fixture
async def mailing(database: str, tmp_path: Path) -> AsyncIterator[Mailing]:
    """A server that sends mails, where alice has an account."""
    port = free_port()
    async with smtp_server() as mailbox:
        config = server_config(
            database,
            tmp_path,
            listeners=[{"port": port}],
            public_baseurl=f"http://127.0.0.1:{port}",
            email=email_settings(mailbox),
        )
        async with running_server(config) as server, open_api(server.url) as api:
            await api.register("alice")
            yield Mailing(server, api, mailbox)


async def add_address(page: Page, mailing: Mailing, number: int = 1) -> None:
    """Adds alice@example.org to the account that is signed in."""
    await page.goto(f"{mailing.server.url}/account/emails")
    await page.get_by_label("E-mail address").fill("Alice@example.org")
    await page.get_by_role("button", name="Send the mail").click()
    await expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    finish = page.get_by_role("button", name="I have confirmed it")
    await finish.click()
    await expect(page.get_by_role("alert")).to_contain_text("not confirmed yet")
    tab = await page.context.new_page()
    await tab.goto(await mailing.mailbox.link(number))
    await tab.get_by_role("button").first.click()
    await tab.close()
    await page.bring_to_front()
    await finish.click()
    await expect(page.get_by_role("status")).to_have_text("The e-mail address has been added.")


async def test_an_address_is_added_used_and_removed(browser_page: Page, mailing: Mailing) -> None:
    """An address whose mail was answered belongs to the account, signs in, and can be taken away again."""
    await sign_in(browser_page, mailing.server.url)
    await add_address(browser_page, mailing)
    await expect(browser_page.get_by_role("strong").get_by_text("alice@example.org")).to_be_visible()
    await browser_page.goto(f"{mailing.server.url}/account")
    await browser_page.get_by_role("button", name="Sign out here").click()
    await fill_sign_in(browser_page, "alice@example.org")
    await browser_page.goto(f"{mailing.server.url}/account/emails")
    await browser_page.get_by_role("button", name="Remove alice@example.org").click()
    await expect(browser_page.get_by_role("status")).to_have_text("The e-mail address was removed.")
    await expect(browser_page.get_by_text("There are no addresses yet.")).to_be_visible()


async def test_gets_back_in_by_mail(browser_page: Page, mailing: Mailing) -> None:
    """The link of a mail sets another password, once; all else is signed out."""
    await sign_in(browser_page, mailing.server.url)
    await add_address(browser_page, mailing)
    received = len(mailing.mailbox.messages)
    await browser_page.context.clear_cookies()
    await browser_page.goto(f"{mailing.server.url}/account/sign-in")
    await browser_page.get_by_role("link", name="Forgot your password?").click()
    await browser_page.get_by_label("E-mail address").fill("alice@example.org")
    await browser_page.get_by_role("button", name="Send the link").click()
    told = await browser_page.locator("main").inner_text()
    link = await mailing.mailbox.link(received + 1)
    await browser_page.goto(link)
    await expect(browser_page.get_by_text("for your account @alice:test.example")).to_be_visible()
    await browser_page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    await browser_page.get_by_label("New password again").fill(NEW_PASSWORD)
    await browser_page.get_by_role("button", name="Change password").click()
    await expect(browser_page.get_by_role("status")).to_contain_text("Your password has been changed.")
    await fill_sign_in(browser_page, "alice", NEW_PASSWORD)
    await expect(browser_page.get_by_role("heading", name="Profile")).to_be_visible()
    await browser_page.goto(link)
    await expect(browser_page.get_by_text("This link is wrong, has been used, or is too old.")).to_be_visible()
    # For an address that nobody has, the page says the same.
    await browser_page.goto(f"{mailing.server.url}/account/recovery")
    await browser_page.get_by_label("E-mail address").fill("nobody@example.org")
    await browser_page.get_by_role("button", name="Send the link").click()
    assert await browser_page.locator("main").inner_text() == told


async def test_the_language_of_the_mail(browser_page: Page, mailing: Mailing) -> None:
    """Whoever reads the pages in Ukrainian gets mails in Ukrainian."""
    await sign_in(browser_page, mailing.server.url)
    await browser_page.goto(f"{mailing.server.url}/account/emails?lang=uk")
    await browser_page.get_by_label("Адреса електронної пошти").fill("alice@example.org")
    await browser_page.get_by_role("button", name="Надіслати листа").click()
    mail = await mailing.mailbox.mail()
    assert mail["Content-Language"] == "uk" or any(ord(letter) > 0x400 for letter in str(mail["Subject"]))
    assert urlsplit(await mailing.mailbox.link()).netloc == urlsplit(mailing.server.url).netloc


async def test_an_account_that_needs_an_address(browser_page: Page, database: str, tmp_path: Path) -> None:
    """Where an e-mail address is required it is proved first, and belongs to the account afterwards."""
    port = free_port()
    async with smtp_server() as mailbox:
        config = server_config(
            database,
            tmp_path,
            listeners=[{"port": port}],
            public_baseurl=f"http://127.0.0.1:{port}",
            email=email_settings(mailbox),
            registration={"mode": "open", "email": "required"},
        )
        async with running_server(config) as server:
            await browser_page.goto(f"{server.url}/account/register")
            await browser_page.get_by_label("E-mail address").fill("carol@example.org")
            await browser_page.get_by_role("button", name="Send the mail").click()
            create = browser_page.get_by_role("button", name="Create the account")
            for confirmed in (False, True):
                if confirmed:
                    await expect(browser_page.get_by_role("alert")).to_contain_text("not confirmed yet")
                    tab = await browser_page.context.new_page()
                    await tab.goto(await mailbox.link())
                    await tab.get_by_role("button").first.click()
                await browser_page.get_by_label("User name").fill("carol")
                await browser_page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
                await browser_page.get_by_label("Password again").fill(NEW_PASSWORD)
                await create.click()
            await expect(browser_page.get_by_text("@carol:test.example", exact=True)).to_be_visible()
            await browser_page.goto(f"{server.url}/account/emails")
            await expect(browser_page.get_by_role("strong").get_by_text("carol@example.org")).to_be_visible()


async def test_an_address_is_proved_for_a_client(browser_page: Page, database: str, tmp_path: Path) -> None:
    """A client that knows no mail stage registers with an address that was proved on the page for it."""
    port = free_port()
    async with smtp_server() as mailbox:
        config = server_config(
            database,
            tmp_path,
            listeners=[{"port": port}],
            public_baseurl=f"http://127.0.0.1:{port}",
            email=email_settings(mailbox),
            registration={"mode": "open", "email": "required"},
        )
        async with running_server(config) as server, open_api(server.url) as api:
            body = {"username": "carol", "password": NEW_PASSWORD}
            session = (await api.post("/register", body)).body["session"]
            path = f"/_matrix/client/v3/auth/m.login.email.identity/fallback/web?session={session}"
            await browser_page.goto(server.url + path)
            await browser_page.get_by_label("E-mail address").fill("no address")
            await browser_page.get_by_label("E-mail address").evaluate("field => { field.type = 'text' }")
            await browser_page.get_by_role("button", name="Send the mail").click()
            await expect(browser_page.get_by_role("alert")).to_have_text("This is not an e-mail address.")
            await browser_page.get_by_label("E-mail address").fill("carol@example.org")
            await browser_page.get_by_role("button", name="Send the mail").click()
            await browser_page.get_by_role("button", name="I have confirmed it").click()
            await expect(browser_page.get_by_role("alert")).to_contain_text("not confirmed yet")
            tab = await browser_page.context.new_page()
            await tab.goto(await mailbox.link())
            await tab.get_by_role("button").first.click()
            await browser_page.get_by_role("button", name="I have confirmed it").click()
            await expect(browser_page.get_by_role("heading", name="Thank you")).to_be_visible()
            answer = await api.post("/register", {**body, "auth": {"session": session}})
            assert (answer.status, answer.body["user_id"]) == (200, "@carol:test.example")
            mine = Api(api.session, api.url, answer.body["access_token"])
            assert (await mine.get("/account/3pid")).body["threepids"][0]["address"] == "carol@example.org"
