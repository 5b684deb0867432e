"""Identity servers: who knows which user an e-mail address belongs to, and keeps invitations of those who are none yet.

# spec: client-server-api/#third-party-invites
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from homeserver.config.base import Section

_NAME = re.compile(r"[0-9A-Za-z.-]{1,230}(?::[0-9]{1,5})?", re.ASCII)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be a host name, optionally with a port, such as identity.example.org")
    return value.lower()


class IdentityServersConfig(Section):
    trusted: tuple[Annotated[str, AfterValidator(_name)], ...] = Field(
        (),
        description="The identity servers over which users may invite others by e-mail address. Such a server learns "
        "the address and the room. Without any, invitations by e-mail are refused.",
        examples=[["vector.im"]],
    )
