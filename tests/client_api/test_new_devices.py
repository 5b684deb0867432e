"""The mail about a new device: how somebody learns that it was not they who signed in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.main import Server, running_server
from homeserver.storage.accounts import find_account
from homeserver.storage.threepids import insert_threepid
from tests.support.api import PASSWORD, Api
from tests.support.oauth2 import registered
from tests.support.servers import server_config
from tests.support.smtp import Mailbox, email_settings, smtp_server, text_of


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    """What the server sends."""
    async with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
async def server(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Server]:
    """A server that sends mail."""
    config = server_config(
        database, tmp_path, public_baseurl="https://chat.test.example", email=email_settings(mailbox)
    )
    async with running_server(config) as server:
        yield server


@pytest.fixture
async def alice(server: Server, api: Api) -> Api:
    """Somebody with a confirmed address."""
    alice = await api.register("alice")
    async with server.services.pool.acquire() as conn:
        account = await find_account(conn, alice.user_id)
        assert account is not None
        now_ms = int(time.time() * 1000)
        await insert_threepid(
            conn,
            account.user_nid,
            medium="email",
            address="alice@example.org",
            validated_ts=now_ms,
            added_ts=now_ms,
        )
    return alice


async def _queued(database: str) -> int:
    conn = await asyncpg.connect(database)
    count: int = await conn.fetchval("SELECT count(*) FROM outgoing_mail")
    await conn.close()
    return count


async def test_a_login_on_a_new_device_is_told(alice: Api, mailbox: Mailbox, database: str) -> None:
    """With the name of the device and where it was; a login on a device that is known is not told."""
    phone = await alice.as_token(None).login("alice", initial_device_display_name="Phone\r\nBcc: evil@example.org")
    mail = await mailbox.mail()
    assert mail["To"] == "alice@example.org"
    assert "Bcc" not in mail
    text = text_of(mail)
    assert "Phone Bcc: evil@example.org" in text
    assert "127.0.0.1" in text
    assert "https://chat.test.example/account/sessions" in text
    await alice.as_token(None).login("alice", device_id=phone.device_id)
    assert await _queued(database) == 0
    assert len(mailbox.messages) == 1


async def test_a_sign_in_by_oauth_is_told(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """The mail names the application."""
    client = await registered(server, alice)
    await client.sign_in(alice.user_id)
    assert "App" in text_of(await mailbox.mail())


async def test_setting_an_account_up_is_no_news(alice: Api, mailbox: Mailbox, database: str) -> None:
    """The first device of a new account is told to nobody; that of an old one is."""
    assert (await alice.post("/logout/all")).status == 200
    first = await alice.as_token(None).login("alice")
    assert await _queued(database) == 0
    assert (await first.post("/logout/all")).status == 200
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET created_ts = created_ts - 3700000")
    await conn.close()
    await alice.as_token(None).login("alice")
    assert "new" in text_of(await mailbox.mail()).lower()


async def test_a_login_that_fails_is_not_told(alice: Api, mailbox: Mailbox, database: str) -> None:
    """Nobody can have mails sent without the password."""
    body = {"type": "m.login.password", "user": "alice", "password": f"{PASSWORD}x"}
    assert (await alice.as_token(None).post("/login", body)).status == 403
    assert await _queued(database) == 0
    assert mailbox.messages == []
