"""A small world for generated requests of another server: one of ours, and a peer that signs whatever is asked of it.

The peer is a whole server with users of its own in shared rooms, so that events and keys which the requests make
interesting can be fetched from it. Events in bodies are hashed and signed anew after they have been tampered with:
otherwise nothing behind the check of signatures would ever be reached.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from functools import reduce
from operator import getitem
from typing import Any
from urllib.parse import quote

from federation.signed_requests import sign_request
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.event_builder import complete_template
from homeserver.protocol.events import JsonObject
from homeserver.protocol.hashing import content_hash, event_id_of
from homeserver.protocol.room_versions import RoomVersion, room_version
from homeserver.protocol.signing import sign_event
from tests.contract.requests import WHOLE, Call, Known
from tests.contract.world import Watched
from tests.support.api import Answer, Api
from tests.support.client import Client
from tests.support.federating import Network, Node
from tests.support.hostile import forge
from tests.support.media import small_picture, upload

_numbers = itertools.count()
_VERSION = "11"
# Where events stand in a body, by the endpoint's name; the path names the event except in transactions.
_EVENTS_AT: dict[str, tuple[str | int, ...]] = {
    "sendTransaction": ("pdus", 0),
    "sendJoinV2": (),
    "sendLeaveV2": (),
    "sendKnock": (),
    "sendInviteV1": (),
    "sendInviteV2": ("event",),
}


class FederationWorld:
    """The server that is asked, `victim`, and its `peer`."""

    def __init__(self, victim: Node, peer: Node, api: Api) -> None:
        self._victim, self._peer, self._api = victim, peer, api
        self._watched = Watched(victim.services.pool)
        self._version = room_version(_VERSION)
        self._known: dict[str, Known] = {}
        self._everywhere: Known = {}
        self._door: str  # a room that takes knocks
        self._alice: Client
        self._mallory: Client

    @classmethod
    async def made(cls, network: Network, api: Api) -> FederationWorld:
        """A victim with Alice, a peer with Mallory, and the rooms that they share or don't."""
        world = cls(await network.server(), await network.server(), api)
        victim, peer = world._victim, world._peer
        api.url = victim.url
        world._alice, world._mallory = await victim.user("alice"), await peer.user("mallory")
        alice, mallory = world._alice, world._mallory
        hall = await alice.create_room(
            preset="public_chat", room_version=_VERSION, room_alias_name="hall", visibility="public"
        )
        space = await alice.create_room(
            preset="public_chat", room_version=_VERSION, creation_content={"type": "m.space"}
        )
        await alice.set_state(space, "m.space.child", {"via": [victim.name]}, hall)
        rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
        world._door = await alice.create_room(room_version=_VERSION, initial_state=[rules])
        private = await alice.create_room(room_version=_VERSION)
        await mallory.join(hall, via=victim.name)
        events = [await alice.send(hall, f"message {number}") for number in range(5)]
        await mallory.sees_event(hall, events[-1])
        world._everywhere = {
            "roomid": [hall, hall, hall, space, private, "!nowhere:test.example"],
            "userid": [alice.user_id, mallory.user_id, f"@nobody:{victim.name}"],
            "eventid": [*events, "$" + "a" * 43],
            "roomalias": [f"#hall:{victim.name}", f"#none:{victim.name}"],
            "servername": [victim.name, peer.name],
            "v": [events[-1:], events[-2:]],
            "ver": [["11", "12"], ["1", "11"]],
            "earliestevents": [events[:1]],
            "latestevents": [events[-1:], events],
            "limit": [1, 3, 100],
            "field": ["displayname", "avatar_url", "m.tz"],
            "txnid": [f"t{number}" for number in range(100)],
            "mindepth": [0, 1],
            "mediaid": [await _uploaded(api.as_token(alice.access_token))],
        }
        return world

    async def known(self, name: str) -> Known:
        """What can stand in requests of that endpoint."""
        if self._watched.begins(name) or name not in self._known:
            self._known[name] = {**self._everywhere, **await self._hints(name)}
        return self._known[name]

    async def call(self, call: Call, *, watch: bool = False) -> Answer:
        """Sends it in the peer's name, with whatever events are in it signed."""
        call = self._sealed(call)
        headers = {"Authorization": self._authorization(call)}

        async def send() -> Answer:
            return await self._api.request(call.operation.method, call.target, body=call.bytes, headers=headers)

        # Of a transaction, each event is granted or refused; the answer is 200 in any case.
        return await self._watched.call(send, call, watch=watch and call.operation.name != "sendTransaction")

    def _authorization(self, call: Call) -> str:
        key, names = self._peer.services.signing_key, (self._peer.name, self._victim.name)
        try:
            content = json.loads(call.bytes) if call.bytes else None
            return sign_request(call.operation.method, call.target, *names, key, content)
        except (ValueError, RecursionError, AttributeError, TypeError):  # what has no canonical form can't be signed
            return sign_request(call.operation.method, call.target, *names, key)

    def _sealed(self, call: Call) -> Call:
        """The call with its event hashed and signed, and named in the path, as far as that can be done."""
        place = _EVENTS_AT.get(call.operation.name)
        if place is None or call.raw is not None or re.search("hashes|signatures", call.wrong or ""):
            return call
        body: Any = json.loads(json.dumps(call.body))
        try:
            event = reduce(getitem, place, body)
            event_id = _seal(event, self._version, self._peer)
        except (InvalidEvent, TypeError, AttributeError, LookupError, ValueError, RecursionError):
            return call  # there is no event, or none that can be signed
        template = call.operation.path.split("/")
        path = [
            quote(event_id, safe="") if wanted == "{eventId}" and call.wrong != wanted else given
            for wanted, given in zip(template, call.path.split("/"), strict=True)
        ]
        return replace(call, body=body, path="/".join(path))

    async def _hints(self, name: str) -> Known:
        """What only this endpoint takes: bodies with events that are right."""
        hall = self._everywhere["roomid"][0]
        match name:
            case "sendTransaction":
                pdu = (await forge(self._peer, hall, sender=self._mallory.user_id)).json
                typing = {"room_id": hall, "user_id": self._mallory.user_id, "typing": True}
                edu = {"edu_type": "m.typing", "content": typing}
                parts = {"origin": self._peer.name, "origin_server_ts": 1}
                numbers = [f"t{next(_numbers)}" for _ in range(50)]
                return {WHOLE: [{**parts, "pdus": [pdu]}, {**parts, "pdus": [pdu], "edus": [edu]}], "txnid": numbers}
            case "sendJoinV2" | "sendLeaveV2" | "sendKnock":
                room_id = self._door if name == "sendKnock" else hall
                return {WHOLE: [await self._template(name, room_id)], "roomid": [room_id]}
            case "makeKnock":
                return {"roomid": [self._door], "userid": [f"@knocker:{self._peer.name}"]}
            case "makeLeave":
                return {"userid": [self._mallory.user_id]}
            case "makeJoin":
                return {"userid": [f"@newcomer:{self._peer.name}"]}
            case "sendInviteV1" | "sendInviteV2":
                return await self._invitation(name)
            case "getContentThumbnail":
                return {"width": [32, 96], "height": [32, 96]}
            case _:
                return {}

    async def _template(self, name: str, room_id: str) -> JsonObject:
        """A complete event of a new user of the peer's."""
        remote, victim = self._peer.remote, self._victim.name
        user_id = f"@user{next(_numbers)}:{self._peer.name}"
        if name == "sendKnock":
            return self._completed((await remote.make_knock(victim, room_id, user_id, [_VERSION])).event)
        join = self._completed((await remote.make_join(victim, room_id, user_id, [_VERSION])).event)
        if name == "sendJoinV2":
            return join
        await remote.send_join(victim, room_id, event_id_of(join, self._version), join)
        return self._completed((await remote.make_leave(victim, room_id, user_id)).event)

    def _completed(self, template: JsonObject) -> JsonObject:
        return complete_template(template, self._version, self._peer.name, self._peer.services.signing_key).json

    async def _invitation(self, name: str) -> Known:
        room_id = await self._mallory.create_room(preset="private_chat", room_version=_VERSION)
        event = await forge(
            self._peer,
            room_id,
            sender=self._mallory.user_id,
            type="m.room.member",
            state_key=self._alice.user_id,
            content={"membership": "invite"},
        )
        state = [
            {"type": "m.room.create", "state_key": "", "sender": self._mallory.user_id, "content": {}},
            {"type": "m.room.name", "state_key": "", "sender": self._mallory.user_id, "content": {"name": "A"}},
        ]
        body: JsonObject = {"room_version": _VERSION, "event": event.json, "invite_room_state": state}
        if name == "sendInviteV1":
            body = {**event.json, "unsigned": {"invite_room_state": state}}
        return {WHOLE: [body], "roomid": [room_id]}


async def _uploaded(user: Api) -> str:
    """The id of a picture."""
    return (await upload(user, small_picture(), "image/png")).rpartition("/")[2]


def _seal(event: JsonObject, version: RoomVersion, peer: Node) -> str:
    """Hashes and signs an event in place; its id."""
    event.pop("signatures", None)
    event["hashes"] = {"sha256": content_hash(event, version)}
    event.update(sign_event(event, version, peer.name, peer.services.signing_key))
    return event_id_of(event, version)
