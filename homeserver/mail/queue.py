"""Queueing a mail in the transaction of whatever it tells of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from homeserver.mail.letters import LETTERS
from homeserver.storage.outgoing_mail import insert_mail
from homeserver.storage.stream import Connection

_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. `values` fills the placeholders of the letter `template`; `language` is one of `translations`."""

    to: str
    template: str
    language: str = "en"
    values: Mapping[str, str] = field(default_factory=dict)
    lifetime_ms: int = _DAY_MS  # later it is not sent any more


async def queue_mail(conn: Connection, mail: Mail, *, pretend: bool = False) -> None:
    """Writes the mail down to be sent once the transaction of `conn` has committed. It goes out within seconds, sooner
    if `MailSender.wake` is called after the commit.

    :param pretend: does the same work, and no mail is sent: for requests whose answer must not tell, not even by the
        time that it takes, whether there was anyone to write to
    """
    assert mail.template in LETTERS, mail.template
    now_ms = int(time.time() * 1000)
    await insert_mail(
        conn,
        recipient=mail.to,
        template=mail.template,
        language=mail.language,
        fields=mail.values,
        created_ts=now_ms,
        expires_ts=0 if pretend else now_ms + mail.lifetime_ms,
    )
