"""Sends the mails that are queued.

Each attempt takes a few mails out of the queue for longer than the attempt can last, and sends them over one
connection. What the SMTP server refuses for good (5xx for the recipient or the content) is dropped; whatever else goes
wrong, a wrong password included, is tried again, later each time, until the mail has no purpose any more. A process
that dies between the server's "250" and our note of it sends that mail twice, with the same Message-ID.

Text messages are queued in the same way, for a number instead of an address, and go to the configured gateway.

No log line has more of an address than its domain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time

import aiosmtplib
import asyncpg

from homeserver.config import Config, EmailConfig
from homeserver.mail.letters import write_letter
from homeserver.mail.message import build_message
from homeserver.outbound import OutboundClient, RequestFailed
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.threepids import EMAIL, MSISDN
from homeserver.storage import outgoing_mail
from homeserver.storage.outgoing_mail import QueuedMail
from homeserver.storage.stream import Pool

log = logging.getLogger(__name__)

_BATCH = 5
_MAIL_SECONDS = 90.0  # for one mail, whatever the SMTP server does
_LEASE_MS = 10 * 60 * 1000  # more than a batch can take
_FIRST_RETRY_MS = 30 * 1000
_LONGEST_RETRY_MS = 3600 * 1000
_MAX_ATTEMPTS = 12
_LOOK_EVERY = 3.0  # seconds
_LOOK_SELDOM = 3600.0  # where nothing is sent, so that what waits from before is gone once it has expired

_DATABASE_GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class _Refused(Exception):
    """The SMTP server will never take this mail. The text names the code of its answer."""


class MailSender:
    """The queue's other end. Without an SMTP server configured it sends no mail, and `check_configured` says so."""

    def __init__(self, pool: Pool, config: Config, outbound: OutboundClient) -> None:
        """:raises OSError: (ssl.SSLError) for an `email.ca_file` that can't be used"""
        self._pool = pool
        self._config = config.email
        self._phone = config.phone
        self._server_name = config.server_name
        self._baseurl = config.public_baseurl or ""
        self._outbound = outbound
        self._woken = asyncio.Event()
        self._tls = _tls_context(self._config)

    @property
    def configured(self) -> bool:
        """Whether this server can send mail."""
        return self._config.host is not None

    @property
    def _sends(self) -> bool:
        return self.configured or self._phone.gateway_url is not None

    def check_configured(self, medium: str = EMAIL) -> None:
        """:raises BadRequest: M_THREEPID_MEDIUM_NOT_SUPPORTED if this server can't send mail (or text messages)"""
        missing = None
        if medium == EMAIL and not self.configured:
            missing = "This server sends no e-mail: its operator has to set email.host"
        elif medium == MSISDN and self._phone.gateway_url is None:
            missing = "This server sends no text messages: its operator has to set phone.gateway_url"
        if missing is not None:
            raise BadRequest(missing, errcode="M_THREEPID_MEDIUM_NOT_SUPPORTED")

    def wake(self) -> None:
        """Says that a mail has been queued and committed."""
        self._woken.set()

    async def run(self) -> None:
        """Sends what is due, until cancelled."""
        while True:
            self._woken.clear()
            try:
                while await self.send_due():
                    _check_cancelled()
            except _DATABASE_GONE as error:
                log.warning("The queue of mails could not be read or written: %s", error)
            _check_cancelled()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY if self._sends else _LOOK_SELDOM):
                    await self._woken.wait()

    async def send_due(self) -> int:
        """Tries a few of the mails that are due.

        :returns: how many; 0 if there was nothing to do
        """
        now_ms = _now_ms()
        async with self._pool.acquire() as conn:
            mails = await outgoing_mail.claim_mails(conn, now_ms=now_ms, until_ms=now_ms + _LEASE_MS, limit=_BATCH)
        alive = []
        for mail in mails:
            if mail.expires_ts <= now_ms:
                await self._drop(mail, "it has expired" if mail.expires_ts else None)
            else:
                alive.append(mail)
        if alive:
            await self._send_all(alive)
        return len(mails)

    async def _send_all(self, mails: list[QueuedMail]) -> None:
        client = _client(self._config, self._tls)
        try:
            for mail in mails:
                try:
                    async with asyncio.timeout(_MAIL_SECONDS):
                        await (self._send_text(mail) if _is_text(mail) else self._send(client, mail))
                except _Refused as error:
                    await self._drop(mail, str(error))
                except (aiosmtplib.SMTPException, RequestFailed, OSError, TimeoutError) as error:
                    client.close()
                    await self._postpone(mail, error)
                except (KeyError, ValueError) as error:
                    await self._drop(mail, f"it can't be written ({type(error).__name__})")
                else:
                    async with self._pool.acquire() as conn:
                        await outgoing_mail.delete_mail(conn, mail.mail_id)
        finally:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                if client.is_connected:
                    async with asyncio.timeout(5):
                        await client.quit()
            client.close()

    async def _send(self, client: aiosmtplib.SMTP, mail: QueuedMail) -> None:
        if self._config.host is None or self._config.from_address is None:
            raise aiosmtplib.SMTPNotSupported("email.host is not set any more")
        message = build_message(
            template=mail.template,
            language=mail.language,
            values=mail.fields,
            recipient=mail.recipient,
            from_address=self._config.from_address,
            subject_prefix=self._config.subject_prefix,
            server_name=self._server_name,
            baseurl=self._baseurl,
            message_id=f"{mail.created_ts}.{mail.mail_id}.talkpai",
            created_ts=mail.created_ts,
        )
        if not client.is_connected:
            await client.connect()
        try:
            await client.send_message(message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            code = max(one.code for one in error.recipients)
            if 500 <= code < 600:
                raise _Refused(f"its recipient was refused ({code})") from None
            raise
        except aiosmtplib.SMTPDataError as error:
            if 500 <= error.code < 600:
                raise _Refused(f"it was refused ({error.code})") from None
            raise

    async def _send_text(self, mail: QueuedMail) -> None:
        if self._phone.gateway_url is None:
            raise RequestFailed("phone.gateway_url is not set any more")
        values = {**mail.fields, "server_name": self._server_name}
        text = write_letter(mail.template, mail.language, values, self._baseurl).paragraphs[0]
        headers = {"Content-Type": "application/json"}
        if self._phone.gateway_token is not None:
            headers["Authorization"] = f"Bearer {self._phone.gateway_token.get_secret_value()}"
        response = await self._outbound.request(
            "POST",
            self._phone.gateway_url,
            headers=headers,
            body=encode_json({"to": mail.recipient, "text": text}),
            timeout=self._config.timeout_seconds,
        )
        if 400 <= response.status < 500 and response.status not in (401, 403, 408, 425, 429):
            raise _Refused(f"the gateway refused it ({response.status})")
        if not 200 <= response.status < 300:
            raise RequestFailed(f"the gateway answered {response.status}")

    async def _postpone(self, mail: QueuedMail, error: Exception) -> None:
        wait_ms = min(_FIRST_RETRY_MS * 2 ** (mail.attempts - 1), _LONGEST_RETRY_MS)
        if mail.attempts >= _MAX_ATTEMPTS:
            await self._drop(mail, f"it was tried {mail.attempts} times")
            return
        log.warning(
            "Mail %d to %s could not be sent and is tried again in %d s: %s",
            mail.mail_id,
            _domain(mail),
            wait_ms // 1000,
            _reason(error),
        )
        async with self._pool.acquire() as conn:
            await outgoing_mail.postpone_mail(conn, mail.mail_id, _now_ms() + wait_ms)

    async def _drop(self, mail: QueuedMail, why: str | None) -> None:
        """:param why: to be logged; None for a mail that was never meant to go out"""
        if why is not None:
            log.warning("Mail %d to %s is dropped: %s", mail.mail_id, _domain(mail), why)
        async with self._pool.acquire() as conn:
            await outgoing_mail.delete_mail(conn, mail.mail_id)


async def try_smtp(config: EmailConfig) -> None:
    """Connects to the SMTP server and signs in, as for a mail, and sends none.

    :raises OSError, aiosmtplib.SMTPException: if a mail could not be sent now
    """
    client = _client(config, _tls_context(config))
    try:
        async with asyncio.timeout(_MAIL_SECONDS):
            await client.connect()
            await client.quit()
    finally:
        client.close()


def _client(config: EmailConfig, tls: ssl.SSLContext) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=config.host,
        port=config.effective_port,
        timeout=config.timeout_seconds,
        use_tls=config.security == "tls",
        start_tls=config.security == "starttls",
        tls_context=tls if config.security != "none" else None,
        username=config.user,
        password=config.password.get_secret_value() if config.password is not None else None,
    )


def _tls_context(config: EmailConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if config.ca_file is not None:
        context.load_verify_locations(config.ca_file)
    return context


def _check_cancelled() -> None:
    """Ends this task if it was cancelled while the SMTP client waited for an answer that came at that moment.

    `asyncio.wait_for`, which the client uses, loses the cancellation then (Python before 3.12).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _is_text(mail: QueuedMail) -> bool:
    return mail.recipient.startswith("+")


def _domain(mail: QueuedMail) -> str:
    return "a telephone" if _is_text(mail) else mail.recipient.rpartition("@")[2]


def _reason(error: Exception) -> str:
    """What went wrong, without the text of the SMTP server's answer, which may repeat the address."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{type(error).__name__} {error.code}"
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return f"the recipient was refused ({max(one.code for one in error.recipients)})"
    if isinstance(error, aiosmtplib.SMTPConnectError | RequestFailed | OSError):
        return str(error) or type(error).__name__
    return type(error).__name__


def _now_ms() -> int:
    return int(time.time() * 1000)
