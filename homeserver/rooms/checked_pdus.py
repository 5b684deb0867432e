"""The checks on a PDU of another server that need nothing but the PDU: its format, signatures and hash.

# spec: server-server-api/#checks-performed-on-receipt-of-a-pdu 1-3
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.errors import InvalidEvent, InvalidSignature, Unavailable
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.hashing import check_content_hash
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import RoomVersion
from homeserver.remote import Remote

logger = logging.getLogger(__name__)

_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class CheckedPdu:
    """An event that is what its servers signed. If its hash was wrong, it is the redacted form of itself."""

    event: Event
    json: bytes

    @property
    def event_id(self) -> str:
        return self.event.event_id


def checked(event: Event) -> CheckedPdu:
    """An event that needs no check, because it was made or checked here."""
    return CheckedPdu(event, encode_canonical_json(event.json, strict=event.room_version.strict_canonical_json))


async def check_pdu(remote: Remote, pdu: object, version: RoomVersion, room_id: str | None = None) -> CheckedPdu:
    """Checks one PDU.

    :param room_id: the room it must be in, if that is known
    :raises InvalidEvent: if its format is wrong or it is of another room
    :raises InvalidSignature: if a signature that it needs is missing or wrong
    :raises Unavailable: if a key to check it with can't be had now
    """
    if not isinstance(pdu, dict):
        raise InvalidEvent("A PDU must be an object")
    event = parse_event(pdu, version)
    if room_id is not None and event.room_id != room_id:
        raise InvalidEvent(f"{event.event_id} is of another room")
    if "\0" in event.type or "\0" in (event.state_key or ""):
        raise InvalidEvent(f"{event.event_id} has a NUL character in its type or state_key")
    await remote.check_event(event)
    if not check_content_hash(event.json, version):
        # spec: server-server-api/#checks-performed-on-receipt-of-a-pdu 3
        event = Event(redact(event.json, version), version, event.event_id)
    return checked(event)


async def check_pdus(
    remote: Remote, pdus: Iterable[object], version: RoomVersion, room_id: str
) -> dict[str, CheckedPdu]:
    """Checks many PDUs, each on its own: those that fail are left out and logged. By event id."""
    waiting = list(pdus)
    passed: dict[str, CheckedPdu] = {}
    for start in range(0, len(waiting), _AT_ONCE):
        results = await asyncio.gather(
            *(check_pdu(remote, pdu, version, room_id) for pdu in waiting[start : start + _AT_ONCE]),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, CheckedPdu):
                passed[result.event_id] = result
            elif isinstance(result, (InvalidEvent, InvalidSignature, Unavailable)):
                logger.info("Dropped a PDU of %s: %s", room_id, result)
            else:
                raise result
    return passed


def by_dependency(pdus: dict[str, CheckedPdu], *, auth: bool) -> list[CheckedPdu]:
    """These events, each after those of them that it cites (as auth_events, or else as prev_events).

    Forged ones that cite each other in a circle are left out.
    """
    ordered: list[CheckedPdu] = []
    state: dict[str, bool] = {}  # False: begun, True: done
    for first in sorted(pdus, key=lambda event_id: (pdus[event_id].event.depth, event_id)):
        stack = [first]
        while stack:
            event_id = stack[-1]
            if event_id in state:
                stack.pop()
                if not state[event_id]:
                    state[event_id] = True
                    ordered.append(pdus[event_id])
                continue
            state[event_id] = False
            event = pdus[event_id].event
            cited = event.auth_events if auth else event.prev_events
            stack.extend(other for other in cited if other in pdus and other not in state)
    return ordered
