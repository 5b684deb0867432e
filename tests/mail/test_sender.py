"""Mail through a real SMTP server: once, in time, and as it was written."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeserver.config import Config
from homeserver.mail import Mail, MailSender, queue_mail
from homeserver.mail import sender as sender_module
from homeserver.outbound import OutboundClient
from homeserver.storage.outgoing_mail import claim_mails
from homeserver.storage.pool import create_pool
from homeserver.storage.stream import Pool
from tests.support.smtp import Mailbox, email_settings, link_of, smtp_server, text_of
from tests.support.tls import Authority

_VALUES = {"path": "/x?token=abc"}
_outbound: list[OutboundClient] = []
_LINK = "https://chat.test.example/x?token=abc"


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, 6)
    yield pool
    await pool.close()


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture(autouse=True)
async def outbound() -> AsyncIterator[OutboundClient]:
    outbound = OutboundClient(allow=["127.0.0.0/8"])
    _outbound.append(outbound)
    yield outbound
    _outbound.clear()
    await outbound.close()


def _sender(pool: Pool, mailbox: Mailbox, **settings: object) -> MailSender:
    return _sender_with(pool, email_settings(mailbox, **settings))


def _sender_with(pool: Pool, email: dict[str, object], **settings: object) -> MailSender:
    config = Config.model_validate(
        {"server_name": "test.example", "public_baseurl": "https://chat.test.example", "email": email, **settings}
    )
    return MailSender(pool, config, _outbound[0])


async def _queue(pool: Pool, to: str = "bob@example.org", **fields: object) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await queue_mail(conn, Mail(**{"to": to, "template": "confirm_address", "values": _VALUES, **fields}))  # type: ignore[arg-type]


async def _queued(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM outgoing_mail"))


async def _later(pool: Pool) -> None:
    """Makes everything due that waits."""
    await pool.execute("UPDATE outgoing_mail SET next_attempt_ts = 0")


async def test_a_mail_arrives_as_it_was_written(pool: Pool, mailbox: Mailbox) -> None:
    """Text, HTML, subject with its prefix, sender and link; afterwards nothing of it is left here."""
    await _queue(pool)
    sender = _sender(pool, mailbox, subject_prefix="[Test]")
    assert await sender.send_due() == 1
    message = await mailbox.mail()
    assert message["Subject"] == "[Test] Confirm your e-mail address"
    assert message["From"] == "Test Chat <noreply@test.example>"
    assert message["To"] == "bob@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@test.example>")
    assert link_of(message) == _LINK
    html = message.get_body(("html",))
    assert html is not None
    assert f'href="{_LINK}"' in html.get_content()
    assert await _queued(pool) == 0
    assert await sender.send_due() == 0


async def test_a_mail_is_in_the_language_of_its_reader(pool: Pool, mailbox: Mailbox) -> None:
    """The texts of a mail to a Ukrainian reader are Ukrainian, in subject and body."""
    await _queue(pool, language="uk")
    await _sender(pool, mailbox).send_due()
    message = await mailbox.mail()
    assert message["Subject"] == "Підтвердьте свою адресу електронної пошти"
    assert "test.example" in text_of(message)
    html = message.get_body(("html",))
    assert html is not None
    assert '<html lang="uk">' in html.get_content()


async def test_what_strangers_chose_is_text_and_no_markup(pool: Pool, mailbox: Mailbox) -> None:
    """Values are escaped in HTML, and line breaks in them make no headers."""
    device = "<script>alert(1)</script>\r\nBcc: eve@example.org"
    values = {
        "user_id": "@a:b\r\nBcc: x@y",
        "device": device,
        "time": "now",
        "address": "192.0.2.1",
        "path": "/x",
    }
    await _queue(pool, template="new_device", values=values)
    await _sender(pool, mailbox).send_due()
    message = await mailbox.mail()
    assert "Bcc" not in message
    html = message.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()


@pytest.mark.parametrize("to", ["a@b.example\r\nBcc: eve@example.org", "a@b.example, eve@example.org", "nobody", ""])
async def test_an_address_that_is_none_is_written_to_by_nobody(pool: Pool, mailbox: Mailbox, to: str) -> None:
    """Whatever is no single address goes out to no one, and does not hold up the others."""
    await _queue(pool, to)
    await _queue(pool)
    await _sender(pool, mailbox).send_due()
    assert [message["To"] for message in mailbox.messages] == ["bob@example.org"]
    assert await _queued(pool) == 0


async def test_nothing_is_sent_of_a_transaction_that_failed(pool: Pool, mailbox: Mailbox) -> None:
    """A mail is queued with its cause or not at all."""
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await queue_mail(conn, Mail("bob@example.org", "confirm_address", values=_VALUES))
        await transaction.rollback()
    assert await _sender(pool, mailbox).send_due() == 0


async def test_starttls_and_a_password(pool: Pool, tmp_path: Path) -> None:
    """The mail goes over TLS that is checked, after signing in."""
    authority = Authority(tmp_path)
    certificate = authority.issue(["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.private_key)
    async with smtp_server(tls=context, login=("talkpai", "secret word")) as mailbox:
        settings = {"security": "starttls", "user": "talkpai", "password": "secret word"}
        await _queue(pool)
        # Without the authority the certificate is a stranger's, and nothing is sent.
        await _sender(pool, mailbox, **settings).send_due()
        assert mailbox.messages == []
        assert mailbox.logins == []
        await _later(pool)
        await _sender(pool, mailbox, **settings, ca_file=str(authority.ca_file)).send_due()
        assert mailbox.encrypted == [True]
        assert mailbox.logins == [(b"talkpai", b"secret word")]


async def test_a_server_without_tls_gets_nothing_where_it_is_required(pool: Pool, mailbox: Mailbox) -> None:
    """Whoever strips STARTTLS from the connection does not get the mail in the clear."""
    await _queue(pool)
    await _sender(pool, mailbox, security="starttls").send_due()
    assert mailbox.messages == []
    assert await _queued(pool) == 1


async def test_a_wrong_password_loses_no_mail(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """What the operator has to repair is logged, and the mail is sent afterwards."""
    async with smtp_server(login=("talkpai", "right")) as mailbox:
        await _queue(pool)
        await _sender(pool, mailbox, user="talkpai", password="wrong").send_due()
        assert "SMTPAuthenticationError 535" in caplog.text
        await _later(pool)
        await _sender(pool, mailbox, user="talkpai", password="right").send_due()
        assert len(mailbox.messages) == 1


async def test_what_is_refused_for_good_is_dropped(
    pool: Pool, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A 5xx for the recipient ends the mail, and the log names the domain but not the address."""
    mailbox.refuse["private.name@example.org"] = "550 No such user private.name@example.org"
    await _queue(pool, "private.name@example.org")
    await _sender(pool, mailbox).send_due()
    assert await _queued(pool) == 0
    assert "example.org is dropped: its recipient was refused (550)" in caplog.text
    assert "private.name" not in caplog.text


async def test_what_is_refused_for_now_is_tried_again_later(
    pool: Pool, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A 4xx postpones the mail, each time for longer, and does not hold up the others."""
    mailbox.refuse["private.name@example.org"] = "451 Later, private.name@example.org"
    sender = _sender(pool, mailbox)
    await _queue(pool, "private.name@example.org")
    await _queue(pool)
    await sender.send_due()
    assert [message["To"] for message in mailbox.messages] == ["bob@example.org"]
    waits = []
    for _ in range(3):
        waits.append(await pool.fetchval("SELECT next_attempt_ts - created_ts FROM outgoing_mail"))
        assert await sender.send_due() == 0
        await pool.execute("UPDATE outgoing_mail SET created_ts = $1, next_attempt_ts = 0", sender_module._now_ms())
        await sender.send_due()
    assert waits[0] >= 30_000
    assert waits[1] >= waits[0] + 20_000
    assert waits[2] >= waits[1] + 40_000
    assert "private.name" not in caplog.text
    mailbox.refuse.clear()
    await _later(pool)
    await sender.send_due()
    assert mailbox.messages[-1]["To"] == "private.name@example.org"


async def test_tries_are_bounded(pool: Pool, mailbox: Mailbox) -> None:
    """After a dozen tries a mail is given up, and after its lifetime it is not sent at all."""
    mailbox.refuse["bob@example.org"] = "451 Later"
    await _queue(pool)
    await pool.execute("UPDATE outgoing_mail SET attempts = 11")
    sender = _sender(pool, mailbox)
    await sender.send_due()
    assert await _queued(pool) == 0
    mailbox.refuse.clear()
    await _queue(pool)
    await pool.execute("UPDATE outgoing_mail SET expires_ts = created_ts - 1")
    await sender.send_due()
    assert await _queued(pool) == 0
    assert mailbox.messages == []


async def test_a_pretended_mail_goes_to_nobody(pool: Pool, mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    """What was queued only for the look of it is neither sent nor logged."""
    async with pool.acquire() as conn:
        await queue_mail(conn, Mail("bob@example.org", "confirm_address", values=_VALUES), pretend=True)
    await _sender(pool, mailbox).send_due()
    assert (mailbox.messages, await _queued(pool)) == ([], 0)
    assert "example.org" not in caplog.text


async def test_two_processes_send_each_mail_once(pool: Pool, mailbox: Mailbox) -> None:
    """Senders that look at the same time take different mails."""
    for number in range(20):
        await _queue(pool, f"user{number}@example.org")
    senders = [_sender(pool, mailbox) for _ in range(3)]

    async def drain(sender: MailSender) -> None:
        while await sender.send_due():
            pass

    await asyncio.gather(*(drain(sender) for sender in senders))
    assert sorted(message["To"] for message in mailbox.messages) == sorted(f"user{n}@example.org" for n in range(20))


async def test_what_a_process_died_with_is_sent_by_another(pool: Pool, mailbox: Mailbox) -> None:
    """A mail that was taken and never finished is due again when the time for it has run out."""
    await _queue(pool)
    now = sender_module._now_ms()
    async with pool.acquire() as conn:
        claimed = await claim_mails(conn, now_ms=now, until_ms=now + 60_000, limit=5)
    assert len(claimed) == 1
    sender = _sender(pool, mailbox)
    assert await sender.send_due() == 0
    await _later(pool)
    assert await sender.send_due() == 1
    assert len(mailbox.messages) == 1


async def test_a_woken_sender_sends_at_once(pool: Pool, mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    """The loop sends what is queued while it waits, and survives an SMTP server that is not there."""
    caplog.set_level(logging.WARNING)
    sender = _sender(pool, mailbox)
    task = asyncio.create_task(sender.run())
    try:
        await _queue(pool)
        sender.wake()
        await mailbox.mail()
    finally:
        task.cancel()
        await asyncio.wait({task})
    nowhere = {"host": "127.0.0.1", "port": 1, "security": "none", "from_address": "a@test.example"}
    dead = _sender_with(pool, nowhere)
    await _queue(pool)
    await dead.send_due()
    assert "could not be sent and is tried again" in caplog.text
    assert await _queued(pool) == 1


async def test_where_no_mail_is_sent_any_more_it_waits_and_expires(pool: Pool, mailbox: Mailbox) -> None:
    """What was queued before the setting went away is kept for when it is back, and deleted once it has expired."""
    await _queue(pool)
    await _queue(pool, "eve@example.org")
    await pool.execute("UPDATE outgoing_mail SET expires_ts = created_ts - 1 WHERE recipient = 'eve@example.org'")
    await _sender_with(pool, {}).send_due()
    assert [row["recipient"] for row in await pool.fetch("SELECT recipient FROM outgoing_mail")] == ["bob@example.org"]
    await _later(pool)
    await _sender(pool, mailbox).send_due()
    assert len(mailbox.messages) == 1
