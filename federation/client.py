"""Every request to another server that a room, an account or a device can need, as `homeserver.remote.Remote` says.

Each method signs, sends, and checks the outer shape of the answer, no more: what is inside stays another server's word.
There is no back-off here; whoever sends in the background keeps that (the outbox), and whoever waits wants to know.

# spec: server-server-api/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import quote, urlencode

from federation.key_ring import KeyRing
from federation.signed_requests import sign_request
from federation.transport import DEFAULT_MAX_BYTES, Transport
from homeserver.protocol.errors import Unavailable
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.signing import SigningKey
from homeserver.remote import Remote, RemoteBody, RemoteError, RemoteState, RemoteStateIds, SendJoin, Template

_V1 = "/_matrix/federation/v1"
_V2 = "/_matrix/federation/v2"
_EVENTS_BYTES = 32 * 1024 * 1024
_STATE_BYTES = 256 * 1024 * 1024  # a room of 50,000 members has some 50 MB of state
_STATE_SECONDS = 300.0
_POLICY_SECONDS = 10.0  # whoever sends a message waits for it

Query = Sequence[tuple[str, str]]


class FederationClient:
    """Implements `Remote`. `origin` is this server's name and `signing_key` what it signs its requests with."""

    def __init__(self, transport: Transport, key_ring: KeyRing, *, origin: str, signing_key: SigningKey) -> None:
        self._transport = transport
        self.key_ring = key_ring
        self._origin = origin
        self._signing_key = signing_key

    # Requests in general. `path` is from /_matrix/ on, quoted; `timeout` in seconds (None: as configured). They raise
    # RemoteError, Unavailable and Forbidden as `Remote` says and return what the answer's JSON stands for.

    async def get_json(
        self,
        destination: str,
        path: str,
        query: Query = (),
        *,
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> Any:
        """A signed GET."""
        return await self._request(destination, "GET", path, query, None, timeout, max_bytes)

    async def put_json(
        self,
        destination: str,
        path: str,
        query: Query = (),
        content: JsonObject | None = None,
        *,
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> Any:
        """A signed PUT of `content`."""
        return await self._request(destination, "PUT", path, query, content or {}, timeout, max_bytes)

    async def post_json(
        self,
        destination: str,
        path: str,
        query: Query = (),
        content: JsonObject | None = None,
        *,
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        repeatable: bool = True,
    ) -> Any:
        """A signed POST of `content`; not `repeatable` ones aren't retried when their connection dies."""
        return await self._request(destination, "POST", path, query, content or {}, timeout, max_bytes, repeatable)

    async def _request(
        self,
        destination: str,
        method: str,
        path: str,
        query: Query,
        content: JsonObject | None,
        timeout: float | None,
        max_bytes: int,
        repeatable: bool = True,
    ) -> Any:
        uri = _uri(path, query)
        return await self._transport.request_json(
            destination,
            method,
            uri,
            content=content,
            headers={"Authorization": self._authorization(method, uri, destination, content)},
            timeout=timeout,
            max_bytes=max_bytes,
            repeatable=repeatable,
        )

    def _authorization(self, method: str, uri: str, destination: str, content: JsonObject | None = None) -> str:
        return sign_request(method, uri, self._origin, destination, self._signing_key, content)

    def recently_failed(self, destination: str) -> bool:
        """Whether that server could not be reached within the last minute: a hint to ask others first."""
        return self._transport.recently_failed(destination)

    async def check_event(self, event: Event) -> None:
        """See `KeyRing.check_event`."""
        await self.key_ring.check_event(event)

    async def check_json(self, obj: JsonObject, server_name: str, valid_at_ms: int) -> None:
        """See `KeyRing.check_json`."""
        await self.key_ring.check_json(obj, server_name, valid_at_ms)

    async def send_transaction(
        self, destination: str, txn_id: str, transaction: JsonObject, *, timeout: float | None = None
    ) -> JsonObject:
        """The answer, in whose `pdus` each event id has `{}` or `{"error": …}`.

        # spec: server-server-api/#put_matrixfederationv1sendtxnid
        """
        path = _path(_V1, "send", txn_id)
        return _object(destination, await self.put_json(destination, path, content=transaction, timeout=timeout))

    async def get_server_version(self, destination: str) -> JsonObject:
        """Not signed.  # spec: server-server-api/#get_matrixfederationv1version"""
        return _object(destination, await self._transport.request_json(destination, "GET", f"{_V1}/version"))

    async def make_join(self, destination: str, room_id: str, user_id: str, room_versions: Sequence[str]) -> Template:
        """# spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid"""
        return await self._make(destination, "make_join", room_id, user_id, room_versions)

    async def make_knock(self, destination: str, room_id: str, user_id: str, room_versions: Sequence[str]) -> Template:
        """# spec: server-server-api/#get_matrixfederationv1make_knockroomiduserid"""
        return await self._make(destination, "make_knock", room_id, user_id, room_versions)

    async def make_leave(self, destination: str, room_id: str, user_id: str) -> Template:
        """# spec: server-server-api/#get_matrixfederationv1make_leaveroomiduserid"""
        return await self._make(destination, "make_leave", room_id, user_id, ())

    async def _make(
        self, destination: str, action: str, room_id: str, user_id: str, room_versions: Sequence[str]
    ) -> Template:
        path = _path(_V1, action, room_id, user_id)
        answer = _object(destination, await self.get_json(destination, path, [("ver", ver) for ver in room_versions]))
        room_version = answer.get("room_version")
        if room_version is not None and not isinstance(room_version, str):
            raise _malformed(destination)
        return Template(room_version, _object(destination, answer.get("event")))

    async def send_join(
        self, destination: str, room_id: str, event_id: str, pdu: JsonObject, *, omit_members: bool = False
    ) -> SendJoin:
        """# spec: server-server-api/#put_matrixfederationv2send_joinroomideventid"""
        query = [("omit_members", "true")] if omit_members else []
        answer = await self._put_membership(
            destination, "send_join", room_id, event_id, pdu, query, timeout=_STATE_SECONDS, max_bytes=_STATE_BYTES
        )
        event = answer.get("event")
        members_omitted = answer.get("members_omitted", False)
        if not isinstance(members_omitted, bool):
            raise _malformed(destination)
        return SendJoin(
            state=_objects(destination, answer.get("state")),
            auth_chain=_objects(destination, answer.get("auth_chain")),
            event=None if event is None else _object(destination, event),
            members_omitted=members_omitted,
            servers_in_room=_strings(destination, answer.get("servers_in_room", [])),
        )

    async def send_leave(self, destination: str, room_id: str, event_id: str, pdu: JsonObject) -> None:
        """# spec: server-server-api/#put_matrixfederationv2send_leaveroomideventid"""
        await self._put_membership(destination, "send_leave", room_id, event_id, pdu)

    async def send_knock(self, destination: str, room_id: str, event_id: str, pdu: JsonObject) -> list[JsonObject]:
        """The room's state as told to who knocks.

        # spec: server-server-api/#put_matrixfederationv1send_knockroomideventid
        """
        answer = await self.put_json(destination, _path(_V1, "send_knock", room_id, event_id), content=pdu)
        return _objects(destination, _object(destination, answer).get("knock_room_state"))

    async def _put_membership(
        self,
        destination: str,
        action: str,
        room_id: str,
        event_id: str,
        pdu: JsonObject,
        query: Query = (),
        *,
        timeout: float | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> JsonObject:
        """By version 2, or version 1 of the endpoint, which old servers have and which answers `[200, answer]`."""
        try:
            answer = await self.put_json(
                destination,
                _path(_V2, action, room_id, event_id),
                query,
                pdu,
                timeout=timeout,
                max_bytes=max_bytes,
            )
        except RemoteError as error:
            if not error.unsupported:
                raise
            path = _path(_V1, action, room_id, event_id)
            answer = _second(
                destination,
                await self.put_json(destination, path, (), pdu, timeout=timeout, max_bytes=max_bytes),
            )
        return _object(destination, answer)

    async def invite(
        self,
        destination: str,
        room_id: str,
        event_id: str,
        room_version: str,
        pdu: JsonObject,
        invite_room_state: Sequence[JsonObject],
    ) -> JsonObject:
        """The PDU with the invited server's signature added.

        # spec: server-server-api/#put_matrixfederationv2inviteroomideventid
        """
        content = {"room_version": room_version, "event": pdu, "invite_room_state": list(invite_room_state)}
        try:
            answer = await self.put_json(destination, _path(_V2, "invite", room_id, event_id), content=content)
        except RemoteError as error:
            # Version 1 can't tell the room version, and so is for rooms of versions 1 and 2 alone.
            if not error.unsupported or room_version not in ("1", "2"):
                raise
            old = {**pdu, "unsigned": {**pdu.get("unsigned", {}), "invite_room_state": list(invite_room_state)}}
            path = _path(_V1, "invite", room_id, event_id)
            answer = _second(destination, await self.put_json(destination, path, content=old))
        return _object(destination, _object(destination, answer).get("event"))

    async def exchange_third_party_invite(self, destination: str, room_id: str, event: JsonObject) -> None:
        """# spec: server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid"""
        await self.put_json(destination, _path(_V1, "exchange_third_party_invite", room_id), content=event)

    async def get_event(self, destination: str, event_id: str) -> JsonObject:
        """One PDU.  # spec: server-server-api/#get_matrixfederationv1eventeventid"""
        pdus = _pdus(destination, await self.get_json(destination, _path(_V1, "event", event_id)))
        if len(pdus) != 1:
            raise _malformed(destination)
        return pdus[0]

    async def get_state(self, destination: str, room_id: str, event_id: str) -> RemoteState:
        """# spec: server-server-api/#get_matrixfederationv1stateroomid"""
        path = _path(_V1, "state", room_id)
        answer = await self.get_json(
            destination, path, [("event_id", event_id)], timeout=_STATE_SECONDS, max_bytes=_STATE_BYTES
        )
        return RemoteState(
            _pdus(destination, answer), _objects(destination, _object(destination, answer).get("auth_chain"))
        )

    async def get_state_ids(self, destination: str, room_id: str, event_id: str) -> RemoteStateIds:
        """# spec: server-server-api/#get_matrixfederationv1state_idsroomid"""
        path = _path(_V1, "state_ids", room_id)
        answer = _object(
            destination,
            await self.get_json(
                destination, path, [("event_id", event_id)], timeout=_STATE_SECONDS, max_bytes=_EVENTS_BYTES
            ),
        )
        return RemoteStateIds(
            _strings(destination, answer.get("pdu_ids")), _strings(destination, answer.get("auth_chain_ids"))
        )

    async def get_event_auth(self, destination: str, room_id: str, event_id: str) -> list[JsonObject]:
        """# spec: server-server-api/#get_matrixfederationv1event_authroomideventid"""
        answer = await self.get_json(destination, _path(_V1, "event_auth", room_id, event_id), max_bytes=_EVENTS_BYTES)
        return _objects(destination, _object(destination, answer).get("auth_chain"))

    async def backfill(self, destination: str, room_id: str, event_ids: Sequence[str], limit: int) -> list[JsonObject]:
        """# spec: server-server-api/#get_matrixfederationv1backfillroomid"""
        query = [*(("v", event_id) for event_id in event_ids), ("limit", str(limit))]
        answer = await self.get_json(destination, _path(_V1, "backfill", room_id), query, max_bytes=_EVENTS_BYTES)
        return _pdus(destination, answer)[:limit]

    async def get_missing_events(
        self,
        destination: str,
        room_id: str,
        *,
        earliest_events: Sequence[str],
        latest_events: Sequence[str],
        limit: int,
        min_depth: int,
    ) -> list[JsonObject]:
        """# spec: server-server-api/#post_matrixfederationv1get_missing_eventsroomid"""
        content = {
            "earliest_events": list(earliest_events),
            "latest_events": list(latest_events),
            "limit": limit,
            "min_depth": min_depth,
        }
        path = _path(_V1, "get_missing_events", room_id)
        answer = await self.post_json(destination, path, content=content, max_bytes=_EVENTS_BYTES)
        return _objects(destination, _object(destination, answer).get("events", []))[:limit]

    async def ask_policy_server(self, destination: str, pdu: JsonObject) -> JsonObject:
        """# spec: server-server-api/#post_matrixpolicyv1sign"""
        return _object(
            destination,
            await self.post_json(destination, "/_matrix/policy/v1/sign", content=pdu, timeout=_POLICY_SECONDS),
        )

    async def timestamp_to_event(
        self, destination: str, room_id: str, timestamp_ms: int, direction: str
    ) -> tuple[str, int]:
        """# spec: server-server-api/#get_matrixfederationv1timestamp_to_eventroomid"""
        query = [("ts", str(timestamp_ms)), ("dir", direction)]
        path = _path(_V1, "timestamp_to_event", room_id)
        answer = _object(destination, await self.get_json(destination, path, query))
        event_id, origin_server_ts = answer.get("event_id"), answer.get("origin_server_ts")
        if not isinstance(event_id, str) or type(origin_server_ts) is not int:
            raise _malformed(destination)
        return event_id, origin_server_ts

    async def hierarchy(self, destination: str, room_id: str, *, suggested_only: bool = False) -> JsonObject:
        """# spec: server-server-api/#get_matrixfederationv1hierarchyroomid"""
        query = [("suggested_only", "true" if suggested_only else "false")]
        return _object(destination, await self.get_json(destination, _path(_V1, "hierarchy", room_id), query))

    async def public_rooms(self, destination: str, search: JsonObject) -> JsonObject:
        """# spec: server-server-api/#post_matrixfederationv1publicrooms"""
        answer = _object(destination, await self.post_json(destination, f"{_V1}/publicRooms", content=search))
        _objects(destination, answer.get("chunk"))
        return answer

    async def query_profile(self, destination: str, user_id: str, field: str | None = None) -> JsonObject:
        """# spec: server-server-api/#get_matrixfederationv1queryprofile"""
        query = [("user_id", user_id), *([("field", field)] if field is not None else [])]
        return _object(destination, await self.get_json(destination, f"{_V1}/query/profile", query))

    async def query_directory(self, destination: str, room_alias: str) -> tuple[str, list[str]]:
        """# spec: server-server-api/#get_matrixfederationv1querydirectory"""
        query = [("room_alias", room_alias)]
        answer = _object(destination, await self.get_json(destination, f"{_V1}/query/directory", query))
        room_id = answer.get("room_id")
        if not isinstance(room_id, str):
            raise _malformed(destination)
        return room_id, _strings(destination, answer.get("servers"))

    async def query_user_devices(self, destination: str, user_id: str) -> JsonObject:
        """# spec: server-server-api/#get_matrixfederationv1userdevicesuserid"""
        answer = _object(destination, await self.get_json(destination, _path(_V1, "user", "devices", user_id)))
        _objects(destination, answer.get("devices"))
        return answer

    async def query_keys(self, destination: str, device_keys: Mapping[str, Sequence[str]]) -> JsonObject:
        """# spec: server-server-api/#post_matrixfederationv1userkeysquery"""
        content = {"device_keys": {user_id: list(devices) for user_id, devices in device_keys.items()}}
        answer = await self.post_json(destination, f"{_V1}/user/keys/query", content=content, max_bytes=_EVENTS_BYTES)
        return _object(destination, answer)

    async def claim_keys(self, destination: str, one_time_keys: Mapping[str, Mapping[str, str]]) -> JsonObject:
        """# spec: server-server-api/#post_matrixfederationv1userkeysclaim"""
        content = {"one_time_keys": {user_id: dict(devices) for user_id, devices in one_time_keys.items()}}
        # Every claim uses up keys, so it isn't sent twice.
        answer = await self.post_json(destination, f"{_V1}/user/keys/claim", content=content, repeatable=False)
        return _object(destination, answer)

    @asynccontextmanager
    async def download_media(
        self, destination: str, media_id: str, *, max_bytes: int, timeout_ms: int = 20_000
    ) -> AsyncIterator[RemoteBody]:
        """The multipart/mixed answer, its body still to be read; reading raises what `outbound.Stream.chunks` does.

        # spec: server-server-api/#get_matrixfederationv1mediadownloadmediaid
        """
        uri = _uri(_path(_V1, "media", "download", media_id), [("timeout_ms", str(timeout_ms))])
        headers = {"Authorization": self._authorization("GET", uri, destination)}
        # The other server may use all of `timeout_ms` before it begins to answer.
        timeout = timeout_ms / 1000 + 120
        async with self._transport.stream(
            destination, uri, headers=headers, timeout=timeout, max_bytes=max_bytes
        ) as stream:
            yield stream

    @asynccontextmanager
    async def download_media_unauthenticated(
        self, destination: str, media_id: str, *, max_bytes: int, timeout_ms: int = 20_000
    ) -> AsyncIterator[RemoteBody]:
        """The file itself, as servers gave it before they asked who asks. Not signed.

        # spec: client-server-api/#get_matrixmediav3downloadservernamemediaid
        """
        path = _path("/_matrix/media/v3/download", destination, media_id)
        # spec: server-server-api/#content-repository: so that two servers don't ask one another for ever
        uri = _uri(path, [("allow_remote", "false"), ("timeout_ms", str(timeout_ms))])
        async with self._transport.stream(
            destination, uri, timeout=timeout_ms / 1000 + 120, max_bytes=max_bytes
        ) as stream:
            yield stream


if TYPE_CHECKING:

    def _is_remote(client: FederationClient) -> Remote:
        return client


def _path(prefix: str, *segments: str) -> str:
    """The path of those segments, each quoted whole: one with a slash or a dot stays one segment."""
    quoted = (quote(segment, safe="") for segment in segments)
    # "." and ".." need no quoting but would be resolved away by anything on the path that normalises.
    return "/".join([prefix, *(part if part.strip(".") else part.replace(".", "%2E") for part in quoted)])


def _uri(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query, quote_via=quote, safe='')}" if query else path


def _malformed(destination: str) -> Unavailable:
    return Unavailable(f"{destination} gave a malformed answer")


def _object(destination: str, value: Any) -> JsonObject:
    if not isinstance(value, dict):
        raise _malformed(destination)
    return value


def _objects(destination: str, value: Any) -> list[JsonObject]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _malformed(destination)
    return value


def _is_strings(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _strings(destination: str, value: Any) -> list[str]:
    if not _is_strings(value):
        raise _malformed(destination)
    return value


def _pdus(destination: str, transaction: Any) -> list[JsonObject]:
    return _objects(destination, _object(destination, transaction).get("pdus"))


def _second(destination: str, value: Any) -> Any:
    if not isinstance(value, list) or len(value) != 2:
        raise _malformed(destination)
    return value[1]
