"""Signing of requests between servers: the X-Matrix Authorization header, built, parsed and checked. Pure functions.

What is signed is an object of method, target, both server names and the body; the header carries the signature and the
names. Headers come from anyone who can reach the port, so parsing is one linear pass over a bounded string.

# spec: server-server-api/#request-authentication
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from nacl.signing import VerifyKey

from homeserver.protocol.errors import InvalidSignature, Unauthorized
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_server_name
from homeserver.protocol.signing import SigningKey, check_signed_json, sign_json

_MAX_HEADER = 4096
_MAX_KEY_ID = 255
_MAX_SIGNATURE = 128
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")  # RFC 9110, 5.6.2
# Unquoted values may have colons (the specification asks recipients for it); base64 and IPv6 brackets come for free.
_BARE_VALUE = _TOKEN | frozenset(":/=[]")


@dataclass(frozen=True, slots=True)
class XMatrix:
    """The parameters of an X-Matrix header. `destination` is None when an older server left it out."""

    origin: str
    destination: str | None
    key_id: str
    signature: str


def sign_request(
    method: str, uri: str, origin: str, destination: str, key: SigningKey, content: JsonObject | None = None
) -> str:
    """The value of the Authorization header for a request of `origin` to `destination`.

    `uri` is the target as it goes over the wire, from `/_matrix/` on, query included; `content` the JSON body or None.
    """
    signed = sign_json(_signed_object(method, uri, origin, destination, content), origin, key)
    signature = signed["signatures"][origin][key.key_id]
    return f'X-Matrix origin="{origin}",destination="{destination}",key="{key.key_id}",sig="{signature}"'


def parse_authorization(header: str) -> XMatrix:
    """Reads the value of an Authorization header.

    :raises Unauthorized: (401 M_UNAUTHORIZED) when it is not a well-formed X-Matrix header
    """
    if len(header) > _MAX_HEADER:
        raise _refused("the header is too long")
    scheme, separator, rest = header.strip(" \t").partition(" ")
    if scheme.lower() != "x-matrix" or not separator:
        raise _refused("the scheme is not X-Matrix")
    parameters = _parameters(rest)
    # The prose of the specification says `signature`, its examples and every server say `sig`.
    signature = parameters.get("sig", parameters.get("signature"))
    origin, key_id = parameters.get("origin"), parameters.get("key")
    if origin is None or key_id is None or signature is None:
        raise _refused("origin, key and sig are needed")
    destination = parameters.get("destination")
    if not is_server_name(origin) or (destination is not None and not is_server_name(destination)):
        raise _refused("a server name is malformed")
    if not key_id.isascii() or not key_id.isprintable() or len(key_id) > _MAX_KEY_ID or ":" not in key_id:
        raise _refused("the key id is malformed")
    if len(signature) > _MAX_SIGNATURE:
        raise _refused("the signature is too long")
    return XMatrix(origin, destination, key_id, signature)


def check_request(
    method: str, uri: str, auth: XMatrix, destination: str, verify_key: VerifyKey, content: JsonObject | None = None
) -> None:
    """Checks that the request was signed by `auth.origin` for us, the server called `destination`.

    :raises Unauthorized: when it was meant for another server
    :raises InvalidSignature: when the signature isn't that key's over this request
    """
    if auth.destination is not None and auth.destination != destination:
        raise _refused("the request was signed for another server")
    signed = _signed_object(method, uri, auth.origin, destination, content)
    signed["signatures"] = {auth.origin: {auth.key_id: auth.signature}}
    try:
        check_signed_json(signed, auth.origin, auth.key_id, verify_key)
    except InvalidSignature as error:
        raise InvalidSignature(f"the request is not signed by {auth.origin} with {auth.key_id}") from error


def _signed_object(method: str, uri: str, origin: str, destination: str, content: JsonObject | None) -> JsonObject:
    request: JsonObject = {"method": method, "uri": uri, "origin": origin, "destination": destination}
    if content is not None:
        request["content"] = content
    return request


def _refused(why: str) -> Unauthorized:
    return Unauthorized(f"Bad X-Matrix authorization: {why}", errcode="M_UNAUTHORIZED")


def _parameters(text: str) -> dict[str, str]:
    """`name=value` pairs between commas, names in lower case. RFC 9110 11.4 allows empty elements in such lists."""
    found: dict[str, str] = {}
    position, end = _skip(text, 0, " \t,"), len(text)
    while position < end:
        start = position
        while position < end and text[position] in _TOKEN:
            position += 1
        name = text[start:position].lower()
        position = _skip(text, position, " \t")
        if not name or position == end or text[position] != "=":
            raise _refused("expected name=value")
        position = _skip(text, position + 1, " \t")
        value, position = _value(text, position)
        if name in found:
            raise _refused(f"{name} is given twice")
        found[name] = value
        position = _skip(text, position, " \t")
        if position < end and text[position] != ",":
            raise _refused("expected a comma")
        position = _skip(text, position, " \t,")
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        start = position
        while position < len(text) and text[position] in _BARE_VALUE:
            position += 1
        if position == start:
            raise _refused("a value is empty or has characters that need quotes")
        return text[start:position], position
    characters: list[str] = []
    position += 1
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        characters.append(text[position : position + 1])
        position += 1
    if position >= len(text):
        raise _refused("a quoted value does not end")
    return "".join(characters), position + 1


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position
