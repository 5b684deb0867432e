"""What rooms, accounts and devices need of other servers, as a Protocol: they never import `federation`.

Everything that comes back was made by another server. Its outer shape was checked (the types that stand here), nothing
else: whoever takes an event from it parses, hashes, verifies and authorizes it like any other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from homeserver.protocol.errors import Unavailable
from homeserver.protocol.events import Event, JsonObject

# Told on to a client they would speak of the client's own session or rate limit, not of the other server's.
_ABOUT_THE_CALLER = frozenset(
    {
        "M_UNKNOWN_TOKEN",
        "M_MISSING_TOKEN",
        "M_UNAUTHORIZED",
        "M_USER_DEACTIVATED",
        "M_USER_LOCKED",
        "M_USER_SUSPENDED",
        "M_LIMIT_EXCEEDED",
        "M_UNRECOGNIZED",
        "M_CONSENT_NOT_GIVEN",
    }
)


class RemoteError(Unavailable):
    """Another server answered with an error.

    `peer_status` and `peer_errcode` (None when it gave none) are what it said, `peer_body` its whole answer. `status`
    and `errcode`, which a client is told if nobody catches this, are the same where a 4xx can be passed on (so for
    M_FORBIDDEN, M_NOT_FOUND, M_INCOMPATIBLE_ROOM_VERSION …), otherwise 502 M_UNKNOWN.
    """

    def __init__(
        self,
        destination: str,
        peer_status: int,
        peer_errcode: str | None = None,
        message: str = "",
        peer_body: Mapping[str, Any] | None = None,
    ) -> None:
        passes = (
            400 <= peer_status < 500
            and peer_status not in (401, 429)
            and peer_errcode is not None
            and len(peer_errcode) <= 100
            and peer_errcode not in _ABOUT_THE_CALLER
        )
        super().__init__(
            f"{destination} answered {peer_status}" + (f": {message[:500]}" if message else ""),
            errcode=peer_errcode if passes else None,
            status=peer_status if passes else None,
        )
        room_version = (peer_body or {}).get("room_version")
        if peer_errcode == "M_INCOMPATIBLE_ROOM_VERSION" and isinstance(room_version, str):
            self.extra["room_version"] = room_version
        self.destination = destination
        self.peer_status = peer_status
        self.peer_errcode = peer_errcode
        self.peer_body = dict(peer_body or {})

    @property
    def unsupported(self) -> bool:
        """Whether the other server doesn't know the endpoint.  # spec: server-server-api/#unsupported-endpoints"""
        return self.peer_status in (400, 404, 405) and self.peer_errcode in (None, "M_UNRECOGNIZED")


@dataclass(frozen=True, slots=True)
class Template:
    """An event to be completed and signed here; `room_version` is None where an old server left it out."""

    room_version: str | None
    event: JsonObject


@dataclass(frozen=True, slots=True)
class SendJoin:
    """The answer to send_join: the state before the join and its auth chain as PDUs."""

    state: list[JsonObject]
    auth_chain: list[JsonObject]
    event: JsonObject | None = None
    members_omitted: bool = False
    servers_in_room: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RemoteState:
    """The state before an event, with its auth chain, as PDUs."""

    pdus: list[JsonObject]
    auth_chain: list[JsonObject]


@dataclass(frozen=True, slots=True)
class RemoteStateIds:
    """The state before an event, with its auth chain, as event ids."""

    pdu_ids: list[str]
    auth_chain_ids: list[str]


class RemoteBody(Protocol):
    """A body on its way; `headers` are case-insensitive."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]: ...


class Remote(Protocol):
    """Other servers. Every request raises:

    - RemoteError (an Unavailable) when the server answers with an error,
    - Unavailable when it can't be reached or its answer hasn't the promised shape,
    - Forbidden when the operator doesn't let this server talk with that one.
    """

    def recently_failed(self, destination: str) -> bool:
        """Whether that server could not be reached within the last minute: a hint to ask others first."""

    async def make_join(self, destination: str, room_id: str, user_id: str, room_versions: Sequence[str]) -> Template:
        """# spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid"""

    async def send_join(
        self, destination: str, room_id: str, event_id: str, pdu: JsonObject, *, omit_members: bool = False
    ) -> SendJoin:
        """# spec: server-server-api/#put_matrixfederationv2send_joinroomideventid"""

    async def make_knock(self, destination: str, room_id: str, user_id: str, room_versions: Sequence[str]) -> Template:
        """# spec: server-server-api/#get_matrixfederationv1make_knockroomiduserid"""

    async def send_knock(self, destination: str, room_id: str, event_id: str, pdu: JsonObject) -> list[JsonObject]:
        """The stripped state (or PDUs) of the room.

        # spec: server-server-api/#put_matrixfederationv1send_knockroomideventid
        """

    async def make_leave(self, destination: str, room_id: str, user_id: str) -> Template:
        """# spec: server-server-api/#get_matrixfederationv1make_leaveroomiduserid"""

    async def send_leave(self, destination: str, room_id: str, event_id: str, pdu: JsonObject) -> None:
        """# spec: server-server-api/#put_matrixfederationv2send_leaveroomideventid"""

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

    async def exchange_third_party_invite(self, destination: str, room_id: str, event: JsonObject) -> None:
        """# spec: server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid"""

    async def get_event(self, destination: str, event_id: str) -> JsonObject:
        """One PDU.  # spec: server-server-api/#get_matrixfederationv1eventeventid"""

    async def get_state(self, destination: str, room_id: str, event_id: str) -> RemoteState:
        """# spec: server-server-api/#get_matrixfederationv1stateroomid"""

    async def get_state_ids(self, destination: str, room_id: str, event_id: str) -> RemoteStateIds:
        """# spec: server-server-api/#get_matrixfederationv1state_idsroomid"""

    async def get_event_auth(self, destination: str, room_id: str, event_id: str) -> list[JsonObject]:
        """The auth chain as PDUs.  # spec: server-server-api/#get_matrixfederationv1event_authroomideventid"""

    async def backfill(self, destination: str, room_id: str, event_ids: Sequence[str], limit: int) -> list[JsonObject]:
        """PDUs before and including those events, not more than `limit`.

        # spec: server-server-api/#get_matrixfederationv1backfillroomid
        """

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
        """PDUs, not more than `limit`.  # spec: server-server-api/#post_matrixfederationv1get_missing_eventsroomid"""

    async def ask_policy_server(self, destination: str, pdu: JsonObject) -> JsonObject:
        """Signatures by server and key id.  # spec: server-server-api/#post_matrixpolicyv1sign"""

    async def timestamp_to_event(
        self, destination: str, room_id: str, timestamp_ms: int, direction: str
    ) -> tuple[str, int]:
        """Event id and origin_server_ts.

        # spec: server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
        """

    async def hierarchy(self, destination: str, room_id: str, *, suggested_only: bool = False) -> JsonObject:
        """# spec: server-server-api/#get_matrixfederationv1hierarchyroomid"""

    async def public_rooms(self, destination: str, search: JsonObject) -> JsonObject:
        """`search` is the body: filter, limit, since, ….

        # spec: server-server-api/#post_matrixfederationv1publicrooms
        """

    async def query_profile(self, destination: str, user_id: str, field: str | None = None) -> JsonObject:
        """# spec: server-server-api/#get_matrixfederationv1queryprofile"""

    async def query_directory(self, destination: str, room_alias: str) -> tuple[str, list[str]]:
        """Room id, and servers that are likely in it.

        # spec: server-server-api/#get_matrixfederationv1querydirectory
        """

    async def query_user_devices(self, destination: str, user_id: str) -> JsonObject:
        """# spec: server-server-api/#get_matrixfederationv1userdevicesuserid"""

    async def query_keys(self, destination: str, device_keys: Mapping[str, Sequence[str]]) -> JsonObject:
        """# spec: server-server-api/#post_matrixfederationv1userkeysquery"""

    async def claim_keys(self, destination: str, one_time_keys: Mapping[str, Mapping[str, str]]) -> JsonObject:
        """# spec: server-server-api/#post_matrixfederationv1userkeysclaim"""

    def download_media(
        self, destination: str, media_id: str, *, max_bytes: int, timeout_ms: int = 20_000
    ) -> AbstractAsyncContextManager[RemoteBody]:
        """The multipart/mixed answer, its body still to be read.

        # spec: server-server-api/#get_matrixfederationv1mediadownloadmediaid
        """

    def download_media_unauthenticated(
        self, destination: str, media_id: str, *, max_bytes: int, timeout_ms: int = 20_000
    ) -> AbstractAsyncContextManager[RemoteBody]:
        """The file itself, from a server that does not know the endpoint above.

        # spec: client-server-api/#get_matrixmediav3downloadservernamemediaid
        """

    async def check_event(self, event: Event) -> None:
        """Checks that every server that must have signed the event did, with a key that was valid then.

        :raises InvalidSignature: when one did not
        :raises Unavailable: when a key can't be had at present
        # spec: server-server-api/#validating-hashes-and-signatures-on-received-events
        """

    async def check_json(self, obj: JsonObject, server_name: str, valid_at_ms: int) -> None:
        """Checks that the object bears a signature of that server by a key that was valid at that time.

        :raises InvalidSignature, Unavailable: as `check_event`
        # spec: appendices/#checking-for-a-signature
        """
