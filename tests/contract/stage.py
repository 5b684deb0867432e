"""What is on stage when a generated request comes: users, rooms, events, and the names that requests know them by."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.contract.requests import Known
from tests.support.api import PASSWORD, Answer, Api
from tests.support.media import small_picture

_BACKUP = "m.megolm_backup.v1.curve25519-aes-sha2"


@dataclass(frozen=True, slots=True)
class Stage:
    """Alice with all that she has; `known` holds, by the name of a field, what can stand there, `hints` what else can
    in requests of one endpoint."""

    alice: Api
    bob: Api
    room: str
    event: str
    known: Known
    hints: Mapping[str, Known]  # by the endpoint's name
    _known_by: dict[str, Known] = field(default_factory=dict)

    def known_by(self, name: str) -> Known:
        """What can stand in requests of that endpoint."""
        if name not in self._known_by:
            self._known_by[name] = {**self.known, **self.hints.get(name, {})}
        return self._known_by[name]

    async def is_whole(self, number: int) -> bool:
        """Whether Alice still has what later requests need. `number` has not been given before."""
        room = quote(self.room)
        sent = await self.alice.put(
            f"/rooms/{room}/send/m.room.message/probe{number}", {"msgtype": "m.text", "body": "still here"}
        )
        event = await self.alice.get(f"/rooms/{room}/event/{quote(self.event)}")
        bob = await self.bob.get(f"/rooms/{room}/joined_members")
        levels = await self.alice.get(f"/rooms/{room}/state/m.room.power_levels/")
        intact = event.status == 200 and event.body["content"].get("body") == "hello"
        return sent.status == bob.status == 200 and intact and levels.body["users"].get(self.alice.user_id) == 100


def proof(user: Api) -> dict[str, Any]:
    """What proves to user-interactive authentication that it is that user."""
    return {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user.user_id},
        "password": PASSWORD,
    }


class _Things(NamedTuple):
    """What has been made."""

    alice: Api
    bob: Api
    number: int
    room: str
    rooms: list[str]
    bobs: str
    knocked: str
    alias: str
    banned: str
    message: str
    reply: str
    filter_id: str
    page_end: str
    next_batch: str
    versions: list[str]  # of key backups, the older one first
    refresh_token: str
    media: str  # the id of a file
    awaited: list[str]  # ids of files that have yet to be uploaded


async def _ok(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.body


async def set_stage(api: Api, number: int) -> Stage:
    """Makes users, rooms and all that, none of which an earlier call has made. `number` has not been given before."""
    alice, bob = await api.register(f"alice{number}"), await api.register(f"bob{number}")
    await api.register(f"carol{number}")
    numbers = itertools.count()
    alias = f"#hall{number}:test.example"

    async def made(who: Api, **settings: Any) -> str:
        room_id: str = (await _ok(await who.post("/createRoom", {"room_version": "11", **settings})))["room_id"]
        return room_id

    async def sent(content: dict[str, Any], type: str = "m.room.message") -> str:
        path = f"/rooms/{quote(room)}/send/{type}/{next(numbers)}"
        event_id: str = (await _ok(await alice.put(path, content)))["event_id"]
        return event_id

    levels = {"users": {alice.user_id: 100}}
    room = await made(
        alice, preset="public_chat", room_alias_name=f"hall{number}", topic="All", power_level_content_override=levels
    )
    space = await made(alice, preset="public_chat", creation_content={"type": "m.space"})
    left, bobs = await made(alice), await made(bob, preset="public_chat")
    invited = await made(bob, invite=[alice.user_id])
    knocked = await made(bob, initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}])
    await _ok(await alice.put(f"/rooms/{quote(space)}/state/m.space.child/{quote(room)}", {"via": ["test.example"]}))
    await _ok(await bob.post(f"/join/{quote(room)}"))
    banned = f"@banned{number}:test.example"
    await _ok(await alice.post(f"/rooms/{quote(room)}/ban", {"user_id": banned}))
    message = await sent({"msgtype": "m.text", "body": "hello"})
    thread = {"rel_type": "m.thread", "event_id": message}
    reply = await sent({"msgtype": "m.text", "body": "a reply", "m.relates_to": thread})
    annotation = {"rel_type": "m.annotation", "event_id": message, "key": "👍"}
    await sent({"m.relates_to": annotation}, "m.reaction")
    await _ok(await alice.post(f"/rooms/{quote(left)}/leave"))
    user = quote(alice.user_id)
    filter_id = (await _ok(await alice.post(f"/user/{user}/filter", {"room": {"timeline": {"limit": 5}}})))["filter_id"]
    await _ok(await alice.put(f"/user/{user}/account_data/m.custom", {"a": 1}))
    await _ok(await alice.put(f"/user/{user}/rooms/{quote(room)}/account_data/m.custom", {"a": 1}))
    await _ok(await alice.put(f"/user/{user}/rooms/{quote(room)}/tags/u.work", {"order": 0.5}))
    await _ok(await alice.put("/pushrules/global/content/cake", {"pattern": "cake", "actions": ["notify"]}))
    await _ok(await alice.put(f"/profile/{user}/m.tz", {"m.tz": "Europe/Rome"}))
    backup = {"algorithm": _BACKUP, "auth_data": {"public_key": "abc", "signatures": {}}}
    versions = [(await _ok(await alice.post("/room_keys/version", backup)))["version"] for _ in range(2)]
    session = {"first_message_index": 1, "forwarded_count": 0, "is_verified": False, "session_data": {"a": "b"}}
    backed_up = f"/room_keys/keys/{quote(room)}/s1?version={versions[1]}"
    await _ok(await alice.put(backed_up, session))
    login = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD, "refresh_token": True}
    refreshable = await _ok(await api.post("/login", login))
    next_batch = (await _ok(await alice.get("/sync")))["next_batch"]
    png = {"Content-Type": "image/png"}
    media = await _ok(await alice.post("/_matrix/media/v3/upload", body=small_picture(), headers=png))
    awaited = [await _ok(await alice.post("/_matrix/media/v1/create")) for _ in range(5)]
    page = await _ok(await alice.get(f"/rooms/{quote(room)}/messages", query={"dir": "b", "limit": "2"}))
    things = _Things(
        alice=alice,
        bob=bob,
        number=number,
        room=room,
        rooms=[room, room, room, room, room, space, left, bobs, invited],
        bobs=bobs,
        knocked=knocked,
        alias=alias,
        banned=banned,
        message=message,
        reply=reply,
        filter_id=filter_id,
        page_end=page["end"],
        next_batch=next_batch,
        versions=versions,
        refresh_token=refreshable["refresh_token"],
        media=_media_id(media),
        awaited=[_media_id(one) for one in awaited],
    )
    return Stage(alice, bob, room, message, _known(things), _hints(things))


def _media_id(answer: dict[str, Any]) -> str:
    return str(answer["content_uri"]).rpartition("/")[2]


def _known(made: _Things) -> Known:
    return {
        "roomid": [*made.rooms, "!nowhere:test.example"],
        "roomidoralias": [made.room, made.alias, made.bobs],
        "roomalias": [made.alias, made.alias, f"#new{made.number}:test.example"],
        "userid": [
            made.alice.user_id,
            made.alice.user_id,
            made.bob.user_id,
            "@nobody:test.example",
            "@far:away.example",
        ],
        "eventid": [made.message, made.message, made.reply, "$" + "a" * 43],
        "redacts": [made.message],
        "eventtype": ["m.room.topic", "m.custom", "m.room.message"],
        "statekey": ["", "x"],
        "txnid": [f"t{n}" for n in range(50)],
        "deviceid": [made.alice.device_id],
        "filterid": [made.filter_id],
        "filter": [made.filter_id, '{"room":{"timeline":{"limit":3}}}'],
        "from": [made.page_end],
        "since": [made.next_batch],
        "servername": ["test.example", "away.example"],
        "via": ["test.example"],
        "timeout": [0, 1],
        "keyname": ["displayname", "avatar_url", "m.tz", "org.example.colour"],
        "receipttype": ["m.read", "m.read.private", "m.fully_read"],
        "reltype": ["m.thread", "m.annotation"],
        "roomversion": ["11", "12"],
        "newversion": ["11", "12"],
        "avatarurl": ["mxc://test.example/abc"],
        "auth": [proof(made.alice)],
        "user": [made.alice.user_id],
        "password": [PASSWORD],
        "newpassword": [PASSWORD],
        "tag": ["u.work", "m.favourite"],
    }


def _hints(made: _Things) -> Mapping[str, Known]:
    hints: dict[str, Known] = {
        "getAccountData": {"userid": [made.alice.user_id], "type": ["m.custom"]},
        "getAccountDataPerRoom": {"userid": [made.alice.user_id], "type": ["m.custom"], "roomid": [made.room]},
        "getProfileField": {"userid": [made.alice.user_id], "keyname": ["m.tz"]},
        "setProfileField": {"userid": [made.alice.user_id]},
        "knockRoom": {"roomidoralias": [made.knocked]},
        "login": {"type": ["m.login.password"], "identifier": [proof(made.alice)["identifier"]]},
        "register": {
            "auth": [{"type": "m.login.dummy"}],
            "username": [f"fresh{made.number}x{n}" for n in range(99)],
        },
        # Good as often as one likes, as long as nothing that it gives is used.
        "refresh": {"refreshtoken": [made.refresh_token]},
        "unban": {"roomid": [made.room], "userid": [made.banned]},
        # A room whose invitation fails stays, as it may have reached others.
        "createRoom": {"invite": [[made.bob.user_id], []], "invite3pid": [[]]},
        "inviteUser": {"roomid": [made.room], "userid": [f"@carol{made.number}:test.example"]},
    }
    for name in ("getPushRule", "isPushRuleEnabled", "getPushRuleActions", "setPushRuleEnabled", "setPushRuleActions"):
        hints[name] = {"kind": ["override"], "ruleid": [".m.rule.master"], "actions": [["notify"]]}
    hints["deletePushRule"] = {"kind": ["content"], "ruleid": ["cake"]}
    hints["getKeysChanges"] = {"from": [made.next_batch], "to": [made.next_batch]}
    current = {"version": made.versions[1:], "roomid": [made.room], "sessionid": ["s1"], "algorithm": [_BACKUP]}
    for verb in ("get", "put", "delete"):
        for what in ("RoomKeyBySessionId", "RoomKeysByRoomId", "RoomKeys", "RoomKeysVersion"):
            hints[verb + what] = current
    here = {"servername": ["test.example"], "mediaid": [made.media]}
    for name in ("getContent", "getContentOverrideName", "getContentThumbnail"):
        for suffix in ("", "Authed"):
            hints[name + suffix] = {**here, "width": [32, 96], "height": [32, 96]}
    hints["uploadContentToMXC"] = {"servername": ["test.example"], "mediaid": made.awaited}
    hints["deleteRoomKeysVersion"] = {"version": made.versions[:1]}
    hints["setPushRule"] = {"ruleid": ["cake", "icing"], "actions": [["notify"], []]}
    return hints
