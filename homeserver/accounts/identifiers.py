"""Whom a login means.

# spec: client-server-api/#identifier-types
"""

from __future__ import annotations

from homeserver.protocol.errors import BadJson, Forbidden, InvalidParam, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import MAX_IDENTIFIER_BYTES, domain_of
from homeserver.protocol.threepids import EMAIL, MSISDN, canonical_email, canonical_msisdn, number_as_dialled
from homeserver.storage.stream import Connection
from homeserver.storage.threepids import find_user_nid
from homeserver.storage.users import find_user_id

_THIRDPARTY = "m.id.thirdparty"
_PHONE = "m.id.phone"


async def named_user(conn: Connection, body: JsonObject, server_name: str) -> str:
    """The user that `identifier`, or what old clients send instead, names, also by an address of the account.

    An address that is nobody's gives a text that is nobody's user id, so that whoever goes on with it takes as long as
    with a user, counts the attempt, and ends at "wrong user name or password".

    :raises MissingParam, BadJson, InvalidParam, Forbidden: as `user_id_of`
    """
    threepid = _threepid_of(body)
    if threepid is None:
        return user_id_of(body, server_name)
    medium, address = threepid
    user_nid = await find_user_nid(conn, medium, address)
    return await find_user_id(conn, user_nid if user_nid is not None else 0) or f"{medium} {address}"


def _threepid_of(body: JsonObject) -> tuple[str, str] | None:
    """The address that somebody is named by, in its canonical form; None if it is by something else."""
    identifier = body.get("identifier")
    if identifier is None and "address" in body and "user" not in body:
        identifier = {**body, "type": _THIRDPARTY}
    if not isinstance(identifier, dict):
        return None
    kind = identifier.get("type")
    try:
        if kind == _PHONE:
            country, number = identifier.get("country"), identifier.get("phone", identifier.get("number"))
            return MSISDN, number_as_dialled(_text(country), _text(number))
        if kind == _THIRDPARTY:
            medium, address = identifier.get("medium"), _text(identifier.get("address"))
            if medium == EMAIL:
                return EMAIL, canonical_email(address)
            if medium == MSISDN:
                return MSISDN, canonical_msisdn(address)
            raise InvalidParam("medium must be email or msisdn")
    except InvalidParam:
        return "none", ""  # what is no address is nobody's
    return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadJson("The address or number that identifies the user must be a string")
    return value


def user_id_of(body: JsonObject, server_name: str) -> str:
    """The user that `identifier`, or the `user` of old clients, names: a user id of this server.

    The user need not exist, and the id need not be one that could.

    :raises MissingParam, BadJson, InvalidParam: if it names nobody
    :raises Forbidden: if it names somebody by what this server knows nobody by: an e-mail address, a telephone number,
        the name of another server
    """
    identifier = body.get("identifier")
    if identifier is None:
        if "medium" in body or "address" in body:
            raise Forbidden("Nobody is known here by that address")
        return _local(body.get("user"), server_name)
    if not isinstance(identifier, dict):
        raise BadJson("identifier must be an object")
    kind = identifier.get("type")
    if kind in (_THIRDPARTY, _PHONE) or (kind is None and "medium" in identifier):
        # spec: client-server-api/#post_matrixclientv3login
        raise Forbidden("Nobody is known here by that address")
    if kind != "m.id.user":
        raise InvalidParam("identifier has no type that is known here")
    return _local(identifier.get("user"), server_name)


def _local(user: object, server_name: str) -> str:
    if user is None:
        raise MissingParam("user is missing")
    if not isinstance(user, str):
        raise BadJson("user must be a string")
    if not user or "\0" in user or len(user) > MAX_IDENTIFIER_BYTES:
        raise InvalidParam("user must be a user id or its localpart")
    # All names here are lower case, and telephones like to begin with a capital.
    user = user.lower()
    if not user.startswith("@"):
        return f"@{user}:{server_name}"
    if domain_of(user) != server_name:
        raise Forbidden("That user lives on another server")
    return user
