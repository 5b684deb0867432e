"""A real SMTP server that keeps what it is given, and what tests want to know of it."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

_LINK = re.compile(r"https?://\S+")


@dataclass
class Mailbox:
    """Everything that has arrived, the oldest first. `refuse` answers for recipients: address -> SMTP answer."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.messages.append(message_from_bytes(cast(bytes, envelope.content), policy=default))
        self.encrypted.append(session.ssl is not None)
        self._arrived.set()
        return "250 Kept"

    async def mail(self, number: int = 1, seconds: float = 20.0) -> EmailMessage:
        """The newest mail, once there are `number` of them. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while len(self.messages) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.messages[number - 1]

    async def link(self, number: int = 1) -> str:
        """The link in that mail."""
        return link_of(await self.mail(number))


def text_of(message: EmailMessage) -> str:
    """The plain text of a mail."""
    part = message.get_body(("plain",))
    assert part is not None, "each mail of ours has a text"
    return str(part.get_content())


def link_of(message: EmailMessage) -> str:
    """The only link in a mail's text."""
    found = _LINK.findall(text_of(message))
    assert len(found) == 1, found
    return str(found[0])


@asynccontextmanager
async def smtp_server(
    *, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> AsyncIterator[Mailbox]:
    """Serves on a free port of loopback meanwhile.

    :param tls: makes STARTTLS a must
    :param login: makes signing in with this name and password a must
    """
    mailbox = Mailbox()

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        given = cast(LoginPassword, data)
        mailbox.logins.append((given.login, given.password))
        right = login is not None and (given.login.decode(), given.password.decode()) == login
        return AuthResult(success=right, handled=right)

    def make() -> SMTP:
        return SMTP(
            mailbox,
            hostname="smtp.test",
            tls_context=tls,
            require_starttls=tls is not None,
            authenticator=authenticate,
            auth_required=login is not None,
            auth_require_tls=tls is not None,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


def email_settings(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    """The section `email` of a server that sends there."""
    place = {"host": "127.0.0.1", "port": mailbox.port, "security": "none"}
    return {**place, "from_address": "Test Chat <noreply@test.example>", **more}
