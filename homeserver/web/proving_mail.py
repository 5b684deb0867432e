"""The mail that proves an address, and what a page must carry along until its link has been followed.

Nothing is kept here in between: the form that waits for the mail has all in hidden fields.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from homeserver.accounts.email_validation import EMAIL_STAGE, Purpose, TokenRequest, request_token
from homeserver.protocol.events import JsonObject
from homeserver.protocol.threepids import EMAIL, canonical_email
from homeserver.rate_limits import address_key
from homeserver.web.visits import Visit

_MAX_TEXT = 255


@dataclass(frozen=True, slots=True)
class SentMail:
    """A mail that is on its way to `email`. `sid` and `secret` are what proves later whose it was."""

    email: str
    sid: str
    secret: str

    def auth(self) -> JsonObject:
        """What a client would send for the stage."""
        return {"type": EMAIL_STAGE, "threepid_creds": {"sid": self.sid, "client_secret": self.secret}}


async def send_mail(visit: Visit, purpose: Purpose) -> SentMail:
    """Sends a mail to the address in the form's field `email`.

    :raises InvalidParam: if that is none
    :raises MatrixError: if this server sends no mails; LimitExceeded
    """
    services = visit.services
    services.mail.check_configured(EMAIL)
    email = canonical_email(visit.text("email", _MAX_TEXT).strip())
    # Each could be used to fill somebody's mailbox.
    await services.login_attempts.use("recovery", address_key(visit.request.client_address))
    await services.login_attempts.use("recovery", email)
    secret = secrets.token_urlsafe(24)
    async with services.pool.acquire() as conn, conn.transaction():
        sid = await request_token(conn, TokenRequest(purpose, EMAIL, email, secret, 1, language=visit.language))
    services.mail.wake()
    return SentMail(email, sid, secret)


def sent_mail(visit: Visit) -> SentMail | None:
    """The mail that this form has waited for; None if it is for none."""
    if "sid" not in visit.form:
        return None
    return SentMail(visit.text("email", _MAX_TEXT), visit.text("sid", _MAX_TEXT), visit.text("secret", _MAX_TEXT))
