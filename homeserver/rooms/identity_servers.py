"""Identity servers, asked for our users: whose address that is, to keep an invitation, whether a key still counts, to
publish an address or to forget it.

Only servers that the operator trusts are asked about addresses. Whether a key of an invitation is still valid is asked
where the invitation itself says so, which may be anywhere: the guarded client alone protects that.

# spec: client-server-api/#third-party-invites
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from yarl import URL

from homeserver.outbound import OutboundClient, RequestFailed, Response
from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import BadRequest, InvalidParam, MatrixError, Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.protocol.hashing import encode_urlsafe_base64
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.signing import SigningKey, sign_json

_PREFIX = "/_matrix/identity/v2/"
_SECONDS = 10.0
_MAX_BYTES = 64 * 1024
_MOST_KEYS = 8
_TOKEN = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.=_-")
# What the user can do something about, and so is told as the identity server said it.
_FOR_THE_USER = ("M_TERMS_NOT_SIGNED", "M_UNRECOGNIZED", "M_INVALID_PARAM")


@dataclass(frozen=True, slots=True)
class Threepid:
    """Somebody's address: `medium` is email or msisdn."""

    medium: str
    address: str


@dataclass(frozen=True, slots=True)
class IdentityAccess:
    """The identity server that a client names, and the token that it has there for its user."""

    server: str
    token: str


@dataclass(frozen=True, slots=True)
class StoredInvite:
    """What an identity server gives for an invitation that it keeps: the state key and the content of the event."""

    token: str
    content: JsonObject


class AlreadyBound(Exception):
    """The identity server knows the user after all."""

    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id


class IdentityServers:
    """The identity servers that this server asks."""

    def __init__(self, outbound: OutboundClient, trusted: Collection[str]) -> None:
        self._outbound = outbound
        self._trusted = frozenset(trusted)

    def check_trusted(self, server: str) -> None:
        """:raises BadRequest: M_SERVER_NOT_TRUSTED unless the operator trusts it

        # spec: client-server-api/#standard-error-response
        """
        if server.lower() not in self._trusted:
            raise BadRequest(
                f"This server does not trust the identity server {server[:255]!r}"
                if self._trusted
                else "This server trusts no identity server",
                errcode="M_SERVER_NOT_TRUSTED",
            )

    async def look_up(self, access: IdentityAccess, threepid: Threepid) -> str | None:
        """The user whose address that is; None: nobody's, as far as the identity server tells.

        :raises MatrixError: as `store_invite`
        """
        # A pepper may change between the two requests; once is enough to see that it was not that.
        for again in (True, False):
            details = await self._ask(access, "GET", "hash_details")
            pepper, algorithms = details.get("lookup_pepper"), details.get("algorithms")
            if not isinstance(pepper, str) or not isinstance(algorithms, list) or "sha256" not in algorithms:
                raise Unavailable(f"{access.server} does not say how addresses are to be looked up")
            text = f"{threepid.address} {threepid.medium} {pepper}"
            key = encode_urlsafe_base64(hashlib.sha256(text.encode()).digest())
            wanted = {"addresses": [key], "algorithm": "sha256", "pepper": pepper}
            try:
                found = await self._ask(access, "POST", "lookup", wanted)
            except MatrixError as error:
                if again and error.errcode == "M_INVALID_PEPPER":
                    continue
                raise
            mappings = found.get("mappings")
            user_id = mappings.get(key) if isinstance(mappings, dict) else None
            return user_id if isinstance(user_id, str) and is_user_id(user_id) else None
        raise AssertionError("the second round returns or raises")

    async def store_invite(
        self, access: IdentityAccess, threepid: Threepid, details: Mapping[str, str]
    ) -> StoredInvite:
        """Has an invitation kept and mailed.

        :param details: the room, the sender and what the mail may say of both, by the names of the API
        :raises AlreadyBound: if the address has become somebody's
        :raises Unavailable: if the server does not answer, or not as it should
        :raises MatrixError: what else it refuses with
        """
        body = {"medium": threepid.medium, "address": threepid.address, **details}
        try:
            answer = await self._ask(access, "POST", "store-invite", body)
        except MatrixError as error:
            user_id = error.extra.get("mxid")
            if error.errcode == "M_THREEPID_IN_USE" and isinstance(user_id, str) and is_user_id(user_id):
                raise AlreadyBound(user_id) from None
            raise
        token, name, keys = answer.get("token"), answer.get("display_name"), _keys(answer.get("public_keys"))
        if not isinstance(token, str) or not 0 < len(token) <= 255 or not _TOKEN.issuperset(token):
            raise Unavailable(f"{access.server} gave no usable token")
        if not isinstance(name, str) or not keys:
            raise Unavailable(f"{access.server} gave no name or no keys")
        first = {"public_key": keys[0]["public_key"], "key_validity_url": keys[0].get("key_validity_url", "")}
        return StoredInvite(token, {"display_name": name[:255], **first, "public_keys": keys})

    async def is_valid(self, key_validity_url: str, public_key: str) -> bool:
        """Whether a key still counts, as the server says that vouches for it.

        :raises Unavailable: if it does not answer
        """
        try:
            url = URL(key_validity_url).update_query({"public_key": public_key})
            if url.scheme != "https":
                return False
            response = await self._outbound.request("GET", url, timeout=_SECONDS, max_bytes=_MAX_BYTES)
        except (RequestFailed, ValueError) as error:
            raise Unavailable(f"Whether the key of the invitation is valid can't be asked: {error}") from None
        return response.status == 200 and _object(response).get("valid") is True

    async def bind(self, access: IdentityAccess, sid: str, client_secret: str, user_id: str) -> Threepid:
        """Publishes there that an address, which the user has proved there, is theirs.

        # spec: client-server-api/#post_matrixclientv3account3pidbind

        :raises MatrixError: as `store_invite`
        """
        body = {"sid": sid, "client_secret": client_secret, "mxid": user_id}
        answer = await self._ask(access, "POST", "3pid/bind", body)
        medium, address = answer.get("medium"), answer.get("address")
        if medium not in ("email", "msisdn") or not isinstance(address, str) or not 0 < len(address) <= 255:
            raise Unavailable(f"{access.server} does not say what it has bound")
        return Threepid(medium, address)

    async def unbind(
        self, server: str, threepid: Threepid, user_id: str, *, server_name: str, signing_key: SigningKey
    ) -> None:
        """Has the address forgotten there. This server vouches with its signature that the user wants it.

        # spec: client-server-api/#post_matrixclientv3account3pidunbind

        :raises MatrixError: as `store_invite`
        """
        body = {"mxid": user_id, "threepid": {"medium": threepid.medium, "address": threepid.address}}
        path = "3pid/unbind"
        request = {"method": "POST", "uri": f"{_PREFIX}{path}", "origin": server_name, "destination": server}
        signed = sign_json({**request, "content": body}, server_name, signing_key)
        signature = signed["signatures"][server_name][signing_key.key_id]
        # spec: server-server-api/#request-authentication
        authorization = (
            f'X-Matrix origin="{server_name}",destination="{server}",key="{signing_key.key_id}",sig="{signature}"'
        )
        await self._ask(IdentityAccess(server, ""), "POST", path, body, authorization)

    async def _ask(
        self,
        access: IdentityAccess,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        authorization: str | None = None,
    ) -> JsonObject:
        self.check_trusted(access.server)
        headers = {"Authorization": authorization or f"Bearer {access.token}", "Content-Type": "application/json"}
        try:
            response = await self._outbound.request(
                method,
                f"https://{access.server}{_PREFIX}{path}",
                headers=headers,
                body=None if body is None else encode_json(dict(body)),
                timeout=_SECONDS,
                max_bytes=_MAX_BYTES,
            )
        except (RequestFailed, ValueError) as error:
            raise Unavailable(f"The identity server {access.server} can't be asked: {error}") from None
        answer = _object(response)
        if 200 <= response.status < 300:
            return answer
        raise _refusal(access.server, response.status, answer)


def _refusal(server: str, status: int, answer: JsonObject) -> MatrixError:
    errcode, message = answer.get("errcode"), answer.get("error")
    said = message[:500] if isinstance(message, str) else f"status {status}"
    text = f"The identity server {server} refuses: {said}"
    if errcode in ("M_INVALID_PEPPER", "M_THREEPID_IN_USE"):
        return MatrixError(text, errcode=errcode, mxid=answer.get("mxid"))
    if errcode in _FOR_THE_USER:
        return MatrixError(text, errcode=errcode, status=403 if errcode == "M_TERMS_NOT_SIGNED" else 400)
    if status in (401, 403):
        # Not 401: the client would take its access token to this server for void.
        return InvalidParam(f"id_access_token is not accepted. {text}")
    return Unavailable(text)


def _object(response: Response) -> JsonObject:
    try:
        value = decode_json(response.body)
    except MatrixError:
        return {}
    return value if isinstance(value, dict) else {}


def _keys(value: object) -> list[dict[str, str]]:
    """The well-formed ones among the keys of an answer."""
    keys: list[dict[str, str]] = []
    for entry in value if isinstance(value, list) else ():
        public_key = entry.get("public_key") if isinstance(entry, dict) else None
        if not isinstance(public_key, str) or len(public_key) > 100:
            continue
        url = entry.get("key_validity_url")
        keys.append({"public_key": public_key} | ({"key_validity_url": url} if isinstance(url, str) else {}))
    return keys[:_MOST_KEYS]
