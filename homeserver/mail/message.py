"""A letter as a MIME message.

Nothing that a stranger has chosen can add a header: the standard library's modern policy refuses line breaks in header
values, addresses are built from their two parts, and the subject is made one line before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from homeserver.mail.letters import write_letter

_MAX_SUBJECT = 200

_templates = Environment(
    loader=PackageLoader("homeserver.mail"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


def build_message(
    *,
    template: str,
    language: str,
    values: Mapping[str, str],
    recipient: str,
    from_address: str,
    subject_prefix: str,
    server_name: str,
    baseurl: str,
    message_id: str,
    created_ts: int,
) -> EmailMessage:
    """The message, with text and HTML.

    :param recipient: an address in canonical form, `local@domain`
    :param baseurl: what links begin with
    :param from_address: as configured, with or without a name
    :param message_id: the part before the @ of the Message-ID; the same for each attempt to send this mail
    :raises KeyError: if there is no such letter, or a value is missing
    :raises ValueError: if the recipient is no address, or a header would not be one line
    """
    if not all(recipient.partition("@")[::2]):
        raise ValueError("The recipient is no address")
    letter = write_letter(template, language, {**values, "server_name": server_name}, baseurl)
    name, address = parseaddr(from_address)
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(display_name=name, addr_spec=address)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = " ".join(f"{subject_prefix} {letter.subject}".split())[:_MAX_SUBJECT]
    message["Date"] = format_datetime(datetime.fromtimestamp(created_ts / 1000, UTC))
    message["Message-ID"] = f"<{message_id}@{address.rpartition('@')[2]}>"
    # Nobody's out-of-office note shall answer.
    message["Auto-Submitted"] = "auto-generated"
    context = {"letter": letter, "server_name": server_name}
    message.set_content(_templates.get_template("letter.txt").render(context))
    message.add_alternative(_templates.get_template("letter.html").render(context), subtype="html")
    return message
