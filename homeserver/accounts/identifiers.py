"""Whom a login means.

# spec: client-server-api/#identifier-types
"""

from __future__ import annotations

from homeserver.protocol.errors import BadJson, Forbidden, InvalidParam, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import MAX_IDENTIFIER_BYTES, domain_of


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
    if kind in ("m.id.thirdparty", "m.id.phone") or (kind is None and "medium" in identifier):
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
