"""Sliding sync as clients call it: what Element X asks at its start, bad requests, who may ask."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.main import Server
from tests.support.api import Answer, Api, Json

_PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
_STABLE = "/_matrix/client/v4/sync"

# What Element X wants of every room in its list, and of a room that is open.
_LIST_STATE = [
    *(["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]),
    *(["m.room.topic", ""], ["m.room.avatar", ""], ["m.room.canonical_alias", ""], ["m.room.power_levels", ""]),
    *(["org.matrix.msc3401.call.member", "*"], ["m.room.join_rules", ""], ["m.room.tombstone", ""]),
    *(["m.room.create", ""], ["m.room.history_visibility", ""], ["io.element.functional_members", ""]),
    *(["m.space.parent", "*"], ["m.space.child", "*"], ["org.matrix.msc3672.beacon_info", "*"]),
]
_OPEN_STATE = [*_LIST_STATE, ["m.room.pinned_events", ""]]
_FILTERS = {"not_room_types": ["m.space"]}


def room_list(last: int, **more: Any) -> Json:
    return {
        "conn_id": "room-list",
        "lists": {
            "all_rooms": {
                "ranges": [[0, last]],
                "timeline_limit": 1,
                "required_state": _LIST_STATE,
                "filters": _FILTERS,
            }
        },
        "extensions": {
            "account_data": {"enabled": True},
            "receipts": {"enabled": True, "rooms": ["*"]},
            "typing": {"enabled": True},
        },
        **more,
    }


def encryption(since: str | None = None) -> Json:
    to_device: Json = {"enabled": True, "limit": 100}
    if since is not None:
        to_device["since"] = since
    return {"conn_id": "encryption", "extensions": {"e2ee": {"enabled": True}, "to_device": to_device}}


async def ask(api: Api, body: Json, pos: str | None = None, timeout: int = 0) -> Json:
    query = {"timeout": str(timeout)} | ({"pos": pos} if pos is not None else {})
    answer = await api.post(_PATH, body, query=query)
    assert answer.status == 200, answer
    return dict(answer.body)


async def make_room(api: Api, **settings: Any) -> str:
    return str((await api.post("/createRoom", settings)).body["room_id"])


async def say(api: Api, room_id: str, text: str, **content: Any) -> str:
    body = {"msgtype": "m.text", "body": text, **content}
    return str((await api.put(f"/rooms/{room_id}/send/m.room.message/{text}", body)).body["event_id"])


async def test_what_element_x_does_at_its_start(api: Api, alice: Api) -> None:
    """The feature flag, two connections, a list that grows, an open room, a room that falls behind, starting anew."""
    features = (await api.get("/_matrix/client/versions")).body["unstable_features"]
    assert features["org.matrix.simplified_msc3575"] is True
    rooms = [await make_room(alice, name=f"Room {number}", preset="public_chat") for number in range(30)]
    await make_room(alice, creation_content={"type": "m.space"})
    bob = await api.register("bob")
    for room_id in (rooms[0], rooms[29]):
        await bob.post(f"/join/{room_id}", {})
        for number in range(25):
            await say(bob, room_id, str(number))

    first = await ask(alice, room_list(19))
    assert first["lists"]["all_rooms"] == {"count": 30}
    assert first["rooms"].keys() == {*rooms[11:], rooms[0]}
    state = {(event["type"], event["state_key"]) for event in first["rooms"][rooms[29]]["required_state"]}
    assert state == {
        ("m.room.create", ""),
        ("m.room.name", ""),
        ("m.room.power_levels", ""),
        ("m.room.join_rules", ""),
        ("m.room.history_visibility", ""),
        ("m.room.member", alice.user_id),
        ("m.room.member", bob.user_id),
    }
    assert {event["type"] for event in first["extensions"]["account_data"]["global"]} >= {"m.push_rules"}
    crypto = await ask(alice, encryption())
    assert crypto["extensions"]["to_device"]["next_batch"]
    assert "device_one_time_keys_count" in crypto["extensions"]["e2ee"]

    second = await ask(alice, room_list(99), first["pos"])
    assert second["rooms"].keys() == set(rooms[1:11])
    await say(bob, rooms[0], "new")
    opened = {rooms[0]: {"timeline_limit": 20, "required_state": _OPEN_STATE}}
    third = await ask(alice, room_list(99, room_subscriptions=opened), second["pos"], 30_000)
    told = third["rooms"][rooms[0]]
    assert len(told["timeline"]) == 20
    assert told["num_live"] == 1
    assert told["expanded_timeline"] is True
    assert told["timeline"][-1]["content"]["body"] == "new"
    assert told["notification_count"] == 26
    receipt = f"/rooms/{rooms[0]}/receipt/m.read.private/{told['timeline'][-1]['event_id']}"
    assert (await alice.post(receipt, {})).status == 200
    fourth = await ask(alice, room_list(99, room_subscriptions=opened), third["pos"], 30_000)
    assert fourth["rooms"][rooms[0]]["notification_count"] == 0
    assert alice.user_id in str(fourth["extensions"]["receipts"]["rooms"][rooms[0]])
    crypto = await ask(alice, encryption(crypto["extensions"]["to_device"]["next_batch"]), crypto["pos"])
    assert crypto["extensions"]["to_device"]["events"] == []

    history = await alice.get(f"/rooms/{rooms[0]}/messages", query={"dir": "b", "from": told["prev_batch"]})
    assert history.body["chunk"][0]["content"]["body"] == "5"
    unknown = await alice.post(_PATH, room_list(99), query={"pos": first["pos"]})
    assert (unknown.status, unknown.errcode) == (400, "M_UNKNOWN_POS")
    again = await ask(alice, room_list(19))
    assert all(room["initial"] for room in again["rooms"].values())


async def test_the_proposals_own_dialect(alice: Api) -> None:
    """Everything in the body, under the path that the proposal names."""
    room_id = await make_room(alice, name="Garden")
    required = {"include": [{"type": "m.room.create", "state_key": ""}], "lazy_members": True}
    body = {
        "lists": {"all": {"range": [0, 9], "timeline_limit": 5, "required_state": required}},
        "set_presence": "offline",
    }
    first = (await alice.post(_STABLE, body)).body
    assert first["rooms"][room_id]["name"] == "Garden"
    second = await alice.post(_STABLE, {**body, "pos": first["pos"], "timeout": 10})
    assert second.body["rooms"] == {}


async def test_who_may_ask(api: Api, alice: Api) -> None:
    """Whoever is logged in, guests too; what one device was given is nothing to another."""
    assert (await api.post(_PATH, {})).errcode == "M_MISSING_TOKEN"
    guest = (await api.post("/register", {}, query={"kind": "guest"})).body
    if "access_token" in guest:
        assert (await api.as_token(guest["access_token"]).post(_PATH, {})).status == 200
    pos = (await ask(alice, {}))["pos"]
    second_device = await api.login("alice")
    assert (await second_device.post(_PATH, {}, query={"pos": pos})).errcode == "M_UNKNOWN_POS"


async def test_logging_out_forgets_the_connections(server: Server, alice: Api) -> None:
    """What was kept for a device goes with it."""
    await ask(alice, room_list(9))
    await alice.post("/logout", {})
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM sliding_connections") == 0


_LIST = {"timeline_limit": 1, "required_state": []}
_BAD: list[tuple[Json, str]] = [
    ({"lists": []}, "M_BAD_JSON"),
    ({"lists": {"a": 1}}, "M_BAD_JSON"),
    ({"lists": {"a b": _LIST}}, "M_INVALID_PARAM"),
    ({"lists": {"": _LIST}}, "M_INVALID_PARAM"),
    ({"lists": {str(number): _LIST for number in range(101)}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {"required_state": []}}}, "M_MISSING_PARAM"),
    ({"lists": {"a": {**_LIST, "timeline_limit": -1}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "timeline_limit": 1.5}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "ranges": [0, 1]}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "ranges": [[1, 0]]}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "ranges": [[-1, 0]]}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "ranges": [[0, 1]] * 21}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "range": [0, True]}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "range": [0, 2**60]}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "filters": 1}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "filters": {"is_dm": "yes"}}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "filters": {"room_types": "m.space"}}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "filters": {"room_types": [1]}}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "filters": {"tags": [None]}}}}, "M_BAD_JSON"),
    ({"lists": {"a": {**_LIST, "filters": {"spaces": ["\0"]}}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "required_state": [["a", str(number)] for number in range(501)]}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "required_state": [[str(number), "*"] for number in range(201)]}}}, "M_INVALID_PARAM"),
    ({"lists": {"a": {**_LIST, "required_state": [["*", str(number)] for number in range(51)]}}}, "M_INVALID_PARAM"),
    (
        {
            "lists": {
                name: {**_LIST, "required_state": [[name, str(number)] for number in range(401)]} for name in "abcde"
            }
        },
        "M_INVALID_PARAM",
    ),
    ({"room_subscriptions": {"!a:b": None}}, "M_BAD_JSON"),
    ({"room_subscriptions": {"!\0:b": _LIST}}, "M_INVALID_PARAM"),
    ({"room_subscriptions": {f"!{number}:b": _LIST for number in range(101)}}, "M_INVALID_PARAM"),
    ({"extensions": []}, "M_BAD_JSON"),
    ({"extensions": {"typing": True}}, "M_BAD_JSON"),
    ({"extensions": {"typing": {"enabled": 1}}}, "M_BAD_JSON"),
    ({"extensions": {"typing": {"enabled": True, "rooms": "x"}}}, "M_BAD_JSON"),
    ({"extensions": {"to_device": {"enabled": True, "limit": 0}}}, "M_INVALID_PARAM"),
    ({"extensions": {"to_device": {"enabled": True, "since": "x"}}}, "M_INVALID_PARAM"),
    ({"conn_id": 1}, "M_BAD_JSON"),
    ({"conn_id": "\0"}, "M_INVALID_PARAM"),
    ({"conn_id": "x" * 256}, "M_INVALID_PARAM"),
    ({"pos": 1}, "M_BAD_JSON"),
    ({"pos": "x"}, "M_UNKNOWN_POS"),
    ({"pos": "p99999999999999999999_1_1"}, "M_UNKNOWN_POS"),
    ({"timeout": -1}, "M_INVALID_PARAM"),
    ({"timeout": "1"}, "M_BAD_JSON"),
    ({"set_presence": "busy"}, "M_INVALID_PARAM"),
]


async def test_bad_requests_are_refused_and_change_nothing(server: Server, alice: Api) -> None:
    """Every field of a wrong type, size or value has its error; no connection comes of it."""
    answers: list[tuple[Json, Answer, str]] = [(body, await alice.post(_PATH, body), code) for body, code in _BAD]
    for body, answer, code in answers:
        assert (answer.status, answer.errcode) == (400, code), body
    for raw in (b"[]", b"{", b"\xff", b'{"lists": {"a": {"timeline_limit": 1, "filters": {"is_dm": nul}}}}'):
        assert (await alice.post(_PATH, body=raw)).status == 400
    for query in ({"timeout": "x"}, {"pos": "x"}, {"set_presence": "busy"}):
        assert (await alice.post(_PATH, {}, query=query)).status == 400
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM sliding_connections") == 0
        before = await conn.fetchval("SELECT count(*) FROM state_keys")
    await alice.post(_PATH, {"lists": {"a": {**_LIST, "required_state": [["invented", "key"], ["invented", "*"]]}}})
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM state_keys") == before


@pytest.mark.parametrize("path", [_PATH, _STABLE])
async def test_an_empty_request_is_answered(alice: Api, path: str) -> None:
    """Nothing asked for, nothing told, but a position."""
    answer = await alice.post(path, {})
    assert answer.status == 200
    assert answer.body["pos"]
    assert (answer.body["lists"], answer.body["rooms"], answer.body["extensions"]) == ({}, {}, {})
