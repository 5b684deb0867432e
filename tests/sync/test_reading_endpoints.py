"""Reading rooms over HTTP: history, single events, state, members, and who may."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

import pytest

from tests.support.api import Answer, Api

PUBLIC = {"preset": "public_chat"}


@pytest.fixture
async def bob(api: Api) -> Api:
    return await api.register("bob")


async def create(user: Api, **fields: Any) -> str:
    answer = await user.post("/createRoom", {**PUBLIC, **fields})
    assert answer.status == 200, answer
    return "/rooms/" + quote(answer.body["room_id"])


async def say(user: Api, room: str, text: str) -> str:
    answer = await user.put(f"{room}/send/m.room.message/{text}", {"msgtype": "m.text", "body": text})
    assert answer.status == 200, answer
    return str(answer.body["event_id"])


async def set_state(user: Api, room: str, type: str, content: dict[str, Any]) -> str:
    answer = await user.put(f"{room}/state/{type}", content)
    assert answer.status == 200, answer
    return str(answer.body["event_id"])


def room_id(room: str) -> str:
    return unquote(room.removeprefix("/rooms/"))


def texts(events: list[Any]) -> list[str]:
    return [event["content"].get("body", event["type"]) for event in events]


def is_refused(answer: Answer, status: int, errcode: str) -> bool:
    return (answer.status, answer.errcode) == (status, errcode)


async def messages(user: Api, room: str, **query: Any) -> Any:
    answer = await user.get(f"{room}/messages", query={key: str(value) for key, value in query.items()})
    assert answer.status == 200, answer
    return answer.body


async def every_page(user: Api, room: str, **query: Any) -> list[str]:
    """What paging gives until there is no more."""
    found: list[str] = []
    for _ in range(100):
        page = await messages(user, room, **query)
        found += texts(page["chunk"])
        if "end" not in page:
            return found
        query["from"] = page["end"]
    raise AssertionError("paging never ends")


async def test_paging_gives_everything_once(alice: Api) -> None:
    """Pages of any size, in both directions, give every event once, and say when there is no more."""
    room = await create(alice)
    for number in range(12):
        await say(alice, room, str(number))
    forwards = await every_page(alice, room, dir="f", limit=100)
    assert forwards[0] == "m.room.create"
    assert forwards[-12:] == [str(number) for number in range(12)]
    for limit in (1, 4, 7):
        assert await every_page(alice, room, dir="f", limit=limit) == forwards
        assert await every_page(alice, room, dir="b", limit=limit) == forwards[::-1]


async def test_paging_goes_on_from_where_sync_began(alice: Api) -> None:
    """prev_batch leads to the event before the timeline, next_batch to the one after it."""
    room = await create(alice)
    for number in range(5):
        await say(alice, room, str(number))
    filter = '{"room": {"timeline": {"limit": 2}}}'
    sync = (await alice.get("/sync", query={"filter": filter})).body
    [section] = sync["rooms"]["join"].values()
    assert texts(section["timeline"]["events"]) == ["3", "4"]
    prev_batch, next_batch = section["timeline"]["prev_batch"], sync["next_batch"]
    await say(alice, room, "5")
    assert texts((await messages(alice, room, dir="b", limit=2, **{"from": prev_batch}))["chunk"]) == ["2", "1"]
    assert texts((await messages(alice, room, dir="b", limit=1, **{"from": next_batch}))["chunk"]) == ["4"]
    assert texts((await messages(alice, room, dir="f", **{"from": next_batch}))["chunk"]) == ["5"]
    page = await messages(alice, room, dir="b", to=prev_batch, **{"from": next_batch})
    assert texts(page["chunk"]) == ["4", "3"]
    assert "end" not in page


async def test_messages_filtered_and_lazy(alice: Api, bob: Api) -> None:
    """A filter chooses events, pages go on past those it leaves out, and lazy members are those of the senders."""
    room = await create(alice)
    await bob.post(f"{room}/join", {})
    for number in range(4):
        await say(alice, room, f"a{number}")
        await say(bob, room, f"b{number}")
    bobs = '{"senders": ["@bob:test.example"], "types": ["m.room.message"], "lazy_load_members": true}'
    page = await messages(alice, room, dir="b", limit=3, filter=bobs)
    assert texts(page["chunk"]) == ["b3", "b2", "b1"]
    assert [event["state_key"] for event in page["state"]] == ["@bob:test.example"]
    assert await every_page(alice, room, dir="b", limit=3, filter=bobs) == ["b3", "b2", "b1", "b0"]


@pytest.mark.parametrize(
    "query",
    [
        {"dir": "x"},
        {},
        {"dir": "b", "from": "nonsense"},
        {"dir": "b", "from": "t99999999999999999999"},
        {"dir": "b", "from": "t9999999999999999999"},
        {"dir": "b", "limit": "-1"},
        {"dir": "b", "limit": "x"},
        {"dir": "b", "filter": "{"},
        {"dir": "b", "filter": '{"limit": "x"}'},
    ],
)
async def test_malformed_page_requests(alice: Api, query: dict[str, str]) -> None:
    """What is no direction, token, number or filter is refused, and so is a room that does not exist."""
    room = await create(alice)
    assert (await alice.get(f"{room}/messages", query=query)).status == 400
    assert is_refused(await alice.get("/rooms/!x:test.example/messages", query={"dir": "b"}), 403, "M_FORBIDDEN")


async def test_extreme_tokens_and_limits(alice: Api) -> None:
    """Tokens at the ends of what a number holds, and limits beyond any page, are answered."""
    room = await create(alice)
    for token in (f"t{2**63 - 1}", f"t{1 - 2**63}", "s999999999999_1"):
        for direction in "bf":
            await messages(alice, room, dir=direction, limit=10**9, **{"from": token, "to": token})


async def test_strangers_read_only_what_is_world_readable(alice: Api, bob: Api) -> None:
    """Who was never in a room reads nothing of it, unless it is world_readable, and then from when it became so."""
    room = await create(alice)
    before = await say(alice, room, "before")
    paths = ("/messages?dir=b", "/state", "/state/m.room.create", "/members", f"/context/{quote(before)}")
    for path in paths:
        assert is_refused(await bob.get(room + path), 403, "M_FORBIDDEN"), path
    assert is_refused(await bob.get(f"{room}/event/{quote(before)}"), 404, "M_NOT_FOUND")
    assert is_refused(await bob.get(f"{room}/joined_members"), 403, "M_FORBIDDEN")
    await set_state(alice, room, "m.room.history_visibility", {"history_visibility": "world_readable"})
    after = await say(alice, room, "after")
    assert texts((await messages(bob, room, dir="b"))["chunk"]) == ["after", "m.room.history_visibility"]
    assert (await bob.get(f"{room}/event/{quote(after)}")).status == 200
    assert is_refused(await bob.get(f"{room}/event/{quote(before)}"), 404, "M_NOT_FOUND")
    assert (await bob.get(f"{room}/state")).status == 200
    assert (await bob.get(f"{room}/members")).status == 200
    assert is_refused(await bob.get(f"{room}/joined_members"), 403, "M_FORBIDDEN")


async def test_former_members_read_up_to_leaving(alice: Api, bob: Api) -> None:
    """Who left sees history and state as of then; once forgotten, the room is closed to them."""
    room = await create(alice)
    await bob.post(f"{room}/join", {})
    await set_state(alice, room, "m.room.topic", {"topic": "then"})
    await say(alice, room, "then")
    await bob.post(f"{room}/leave", {})
    await set_state(alice, room, "m.room.topic", {"topic": "now"})
    later = await say(alice, room, "now")
    assert texts((await messages(bob, room, dir="b", limit=2))["chunk"]) == ["m.room.member", "then"]
    assert (await bob.get(f"{room}/state/m.room.topic")).body == {"topic": "then"}
    topics = [event for event in (await bob.get(f"{room}/state")).body if event["type"] == "m.room.topic"]
    assert [event["content"] for event in topics] == [{"topic": "then"}]
    assert is_refused(await bob.get(f"{room}/event/{quote(later)}"), 404, "M_NOT_FOUND")
    await bob.post(f"{room}/forget", {})
    assert is_refused(await bob.get(f"{room}/messages?dir=b"), 403, "M_FORBIDDEN")
    assert is_refused(await bob.get(f"{room}/state"), 403, "M_FORBIDDEN")


async def test_events_are_found_in_their_own_room_only(alice: Api) -> None:
    """An event's id opens it only under the room that it is in."""
    room, other = await create(alice), await create(alice)
    event_id = quote(await say(alice, room, "here"))
    found = await alice.get(f"{room}/event/{event_id}")
    assert (found.body["content"]["body"], found.body["room_id"]) == ("here", room_id(room))
    assert is_refused(await alice.get(f"{other}/event/{event_id}"), 404, "M_NOT_FOUND")
    assert is_refused(await alice.get(f"{other}/context/{event_id}"), 404, "M_NOT_FOUND")
    assert is_refused(await alice.get(f"{room}/event/$unknown"), 404, "M_NOT_FOUND")


async def test_context(alice: Api) -> None:
    """Around an event come as many before and after as fit, tokens that lead on, and the state at the end."""
    room = await create(alice)
    for number in range(4):
        await say(alice, room, str(number))
    middle = await say(alice, room, "middle")
    for number in range(4, 8):
        await say(alice, room, str(number))
    await set_state(alice, room, "m.room.topic", {"topic": "later"})
    found = (await alice.get(f"{room}/context/{quote(middle)}", query={"limit": "5"})).body
    assert found["event"]["event_id"] == middle
    assert texts(found["events_before"]) == ["3", "2"]
    assert texts(found["events_after"]) == ["4", "5", "6"]
    assert "m.room.topic" not in {event["type"] for event in found["state"]}
    assert texts((await messages(alice, room, dir="b", limit=1, **{"from": found["start"]}))["chunk"]) == ["1"]
    assert texts((await messages(alice, room, dir="f", limit=1, **{"from": found["end"]}))["chunk"]) == ["7"]
    alone = (await alice.get(f"{room}/context/{quote(middle)}", query={"limit": "0"})).body
    assert alone["events_before"] == alone["events_after"] == []
    lazy = {"limit": "1", "filter": '{"lazy_load_members": true, "types": ["m.room.member"]}'}
    found = (await alice.get(f"{room}/context/{quote(middle)}", query=lazy)).body
    assert [event["state_key"] for event in found["state"]] == ["@alice:test.example"]


async def test_single_state_events(alice: Api) -> None:
    """One state event by type and key: its content, or with format=event all of it; the empty key needs no slash."""
    room = await create(alice)
    event_id = await set_state(alice, room, "m.room.topic", {"topic": "Tea"})
    for path in ("/state/m.room.topic", "/state/m.room.topic/"):
        assert (await alice.get(room + path)).body == {"topic": "Tea"}
    whole = (await alice.get(f"{room}/state/m.room.topic", query={"format": "event"})).body
    assert (whole["event_id"], whole["state_key"], whole["content"]) == (event_id, "", {"topic": "Tea"})
    own = (await alice.get(f"{room}/state/m.room.member/{quote('@alice:test.example')}")).body
    assert own["membership"] == "join"
    for path in ("/state/m.room.name", "/state/m.room.topic/else", "/state/org.example.never"):
        assert is_refused(await alice.get(room + path), 404, "M_NOT_FOUND")
    assert is_refused(await alice.get(f"{room}/state/m.room.topic", query={"format": "x"}), 400, "M_INVALID_PARAM")


async def test_members(alice: Api, bob: Api) -> None:
    """Members can be asked for by membership and as of a token."""
    room = await create(alice)
    token = (await alice.get("/sync")).body["next_batch"]
    await bob.post(f"{room}/join", {})
    await alice.put(f"/profile/{quote(alice.user_id)}/displayname", {"displayname": "Alice"})

    async def members(**query: str) -> set[str]:
        return {event["state_key"] for event in (await alice.get(f"{room}/members", query=query)).body["chunk"]}

    assert await members() == {"@alice:test.example", "@bob:test.example"}
    assert await members(at=token) == {"@alice:test.example"}
    await bob.post(f"{room}/leave", {})
    assert await members(membership="join") == {"@alice:test.example"}
    assert "@bob:test.example" in await members(membership="leave")
    assert "@bob:test.example" not in await members(not_membership="leave")
    assert is_refused(await alice.get(f"{room}/members", query={"membership": "x"}), 400, "M_INVALID_PARAM")
    assert is_refused(await alice.get(f"{room}/members", query={"at": "x"}), 400, "M_INVALID_PARAM")
    joined = (await alice.get(f"{room}/joined_members")).body["joined"]
    assert joined == {"@alice:test.example": {"display_name": "Alice"}}


async def test_joined_rooms(alice: Api, bob: Api) -> None:
    """The rooms that one is in now: not those one was in or is invited to."""
    room = await create(alice, invite=["@bob:test.example"])
    assert (await alice.get("/joined_rooms")).body == {"joined_rooms": [room_id(room)]}
    assert (await bob.get("/joined_rooms")).body == {"joined_rooms": []}
    await bob.post(f"{room}/join", {})
    await bob.post(f"{room}/leave", {})
    assert (await bob.get("/joined_rooms")).body == {"joined_rooms": []}


async def test_typing(alice: Api, bob: Api) -> None:
    """Only one's own typing can be set, and only in a room that one is in."""
    room = await create(alice)
    own, other = quote("@alice:test.example"), quote("@bob:test.example")
    assert is_refused(await alice.put(f"{room}/typing/{other}", {"typing": True}), 403, "M_FORBIDDEN")
    assert is_refused(await bob.put(f"{room}/typing/{other}", {"typing": True}), 403, "M_FORBIDDEN")
    for body in ({}, {"typing": 1}, {"typing": True, "timeout": "x"}, {"typing": True, "timeout": -1}):
        assert (await alice.put(f"{room}/typing/{own}", body)).status == 400
    assert (await alice.put(f"{room}/typing/{own}", {"typing": True, "timeout": 10**12})).status == 200
    [section] = (await alice.get("/sync")).body["rooms"]["join"].values()
    assert section["ephemeral"]["events"] == [{"type": "m.typing", "content": {"user_ids": ["@alice:test.example"]}}]


async def test_receipts_over_http(alice: Api, bob: Api) -> None:
    """Receipts and markers are set by members, at events of the room, with a thread only where there can be one."""
    room = await create(alice)
    event_id = await say(alice, room, "hello")
    path = f"{room}/receipt/m.read/{quote(event_id)}"
    assert is_refused(await bob.post(path, {}), 403, "M_FORBIDDEN")
    for body in ({"thread_id": ""}, {"thread_id": 1}, {"thread_id": None}, {"thread_id": "$other"}):
        assert is_refused(await alice.post(path, body), 400, "M_INVALID_PARAM")
    fully_read = f"{room}/receipt/m.fully_read/{quote(event_id)}"
    assert is_refused(await alice.post(fully_read, {"thread_id": "main"}), 400, "M_INVALID_PARAM")
    assert is_refused(await alice.post(f"{room}/receipt/m.write/{quote(event_id)}", {}), 400, "M_INVALID_PARAM")
    assert is_refused(await alice.post(f"{room}/receipt/m.read/$unknown", {}), 404, "M_NOT_FOUND")
    assert (await alice.post(path)).status == 200
    markers = {"m.fully_read": event_id, "m.read.private": event_id}
    assert (await alice.post(f"{room}/read_markers", markers)).status == 200
    assert (await alice.post(f"{room}/read_markers", {"m.read": 1})).status == 400
    [section] = (await alice.get("/sync")).body["rooms"]["join"].values()
    [receipts] = section["ephemeral"]["events"]
    assert receipts["content"][event_id].keys() == {"m.read", "m.read.private"}
    assert section["account_data"]["events"] == [{"type": "m.fully_read", "content": {"event_id": event_id}}]


@pytest.mark.parametrize(
    "query",
    [
        {"since": "x"},
        {"since": "s1"},
        {"since": "s1_2_3_4"},
        {"since": "s-1_2"},
        {"timeout": "-1"},
        {"timeout": "x"},
        {"filter": "7"},
        {"filter": "x"},
        {"filter": '{"room": 1}'},
        {"full_state": "yes"},
        {"set_presence": "asleep"},
    ],
)
async def test_malformed_syncs(alice: Api, query: dict[str, str]) -> None:
    """A token, filter or parameter that is none is refused."""
    assert (await alice.get("/sync", query=query)).status == 400


async def test_sync_over_http(alice: Api) -> None:
    """A stored filter is found by its id, and the state after is told under the key that was asked for."""
    room = await create(alice)
    filter_id = (await alice.post(f"/user/{quote(alice.user_id)}/filter", {"room": {"rooms": []}})).body["filter_id"]
    assert (await alice.get("/sync", query={"filter": filter_id})).body["rooms"]["join"] == {}
    for parameter, key in (
        ("use_state_after", "state_after"),
        ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after"),
    ):
        [section] = (await alice.get("/sync", query={parameter: "true"})).body["rooms"]["join"].values()
        assert key in section
        assert "state" not in section
    assert is_refused(await alice.as_token(None).get("/sync"), 401, "M_MISSING_TOKEN")
    assert (await alice.get(f"{room}/state")).status == 200
