"""What a client may ask for: the whole client-server API, as one device.

# spec: client-server-api/#scope
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_SCOPE = 4096
_MAX_DEVICE_ID = 255
_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)
# spec: msc/2967#scopes
API = ("urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*")
_DEVICE = ("urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is granted: `text` has the tokens that mean something here, `device_id` the device that they name."""

    text: str
    device_id: str


def parse_scope(text: str) -> Scope:
    """What of a requested scope can be granted. Tokens that mean nothing here are left out.

    :raises ValueError: with what is wrong, if it is not the whole API as exactly one device
    """
    if len(text) > _MAX_SCOPE:
        raise ValueError("the scope is too long")
    tokens = list(dict.fromkeys(text.split(" "))) if text else []
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError("the scope must be tokens with single spaces between them")
    known = [token for token in tokens if token in API or token.startswith(_DEVICE)]
    device_ids = {token.removeprefix(prefix) for token in known for prefix in _DEVICE if token.startswith(prefix)}
    # spec: client-server-api/#device-id-allocation
    if len(device_ids) != 1:
        raise ValueError("the scope must name exactly one device, as urn:matrix:client:device:ID")
    device_id = device_ids.pop()
    if not 0 < len(device_id) <= _MAX_DEVICE_ID:
        raise ValueError(f"the device id must have from 1 to {_MAX_DEVICE_ID} characters")
    if not any(token in API for token in known):
        raise ValueError("the scope must have urn:matrix:client:api:*")
    return Scope(" ".join(known), device_id)
