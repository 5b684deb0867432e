"""Relations, threads and aggregations over HTTP."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.api import Answer, Api

_V1 = "/_matrix/client/v1"
_txn = itertools.count()


async def _room(user: Api, **fields: Any) -> str:
    answer = await user.post("/createRoom", {"preset": "public_chat", **fields})
    assert answer.status == 200, answer
    return str(answer.body["room_id"])


async def _send(user: Api, room: str, content: dict[str, Any], type: str = "m.room.message") -> str:
    answer = await _put(user, room, content, type)
    assert answer.status == 200, answer
    return str(answer.body["event_id"])


async def _put(user: Api, room: str, content: dict[str, Any], type: str = "m.room.message", txn: str = "") -> Answer:
    return await user.put(f"/rooms/{quote(room)}/send/{type}/{txn or f't{next(_txn)}'}", content)


async def _say(user: Api, room: str, text: str, rel_type: str = "", to: str = "", **more: Any) -> str:
    content: dict[str, Any] = {"msgtype": "m.text", "body": text, **more}
    if rel_type:
        content["m.relates_to"] = {"rel_type": rel_type, "event_id": to}
    return await _send(user, room, content)


async def _edit(user: Api, room: str, event_id: str, text: str) -> str:
    return await _say(user, room, f"* {text}", "m.replace", event_id, **{"m.new_content": {"body": text}})


async def _react(user: Api, room: str, event_id: str, key: str, txn: str = "") -> Answer:
    relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
    return await _put(user, room, {"m.relates_to": relation}, "m.reaction", txn)


async def _redact(user: Api, room: str, event_id: str) -> None:
    answer = await user.put(f"/rooms/{quote(room)}/redact/{quote(event_id)}/t{next(_txn)}", {})
    assert answer.status == 200, answer


async def _join(user: Api, room: str) -> None:
    assert (await user.post(f"/join/{quote(room)}", {})).status == 200


async def _ignore(user: Api, *others: Api) -> None:
    content: dict[str, Any] = {"ignored_users": {other.user_id: {} for other in others}}
    await user.put(f"/user/{quote(user.user_id)}/account_data/m.ignored_user_list", content)


async def _get(user: Api, room: str, event_id: str, path: str = "", **query: str) -> Answer:
    return await user.get(f"{_V1}/rooms/{quote(room)}/relations/{quote(event_id)}{path}", query=query)


async def _related(user: Api, room: str, event_id: str, path: str = "", **query: str) -> list[str]:
    answer = await _get(user, room, event_id, path, **query)
    assert answer.status == 200, answer
    return [event["event_id"] for event in answer.body["chunk"]]


async def _bundle(user: Api, room: str, event_id: str) -> Any:
    answer = await user.get(f"/rooms/{quote(room)}/event/{quote(event_id)}")
    assert answer.status == 200, answer
    return answer.body["unsigned"].get("m.relations", {})


async def _threads(user: Api, room: str, **query: str) -> Answer:
    return await user.get(f"{_V1}/rooms/{quote(room)}/threads", query=query)


async def _roots(user: Api, room: str, **query: str) -> list[str]:
    answer = await _threads(user, room, **query)
    assert answer.status == 200, answer
    return [event["event_id"] for event in answer.body["chunk"]]


@pytest.fixture
async def bob(api: Api) -> Api:
    return await api.register("bob")


@pytest.fixture
async def room(alice: Api, bob: Api) -> str:
    """A room of Alice and Bob."""
    room = await _room(alice)
    await _join(bob, room)
    return room


async def test_relations_are_given_by_type_and_event_type(alice: Api, bob: Api, room: str) -> None:
    """/relations gives the children of an event, newest first, of any type, of one, or of one with one event type."""
    root = await _say(alice, room, "root")
    thread = await _say(bob, room, "in thread", "m.thread", root)
    reaction = (await _react(bob, room, root, "👍")).body["event_id"]
    sticker = {"body": "s", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    other = await _send(alice, room, sticker, "m.sticker")
    assert await _related(alice, room, root) == [other, reaction, thread]
    assert await _related(alice, room, root, dir="f") == [thread, reaction, other]
    assert await _related(alice, room, root, "/m.thread") == [other, thread]
    assert await _related(alice, room, root, "/m.thread/m.sticker") == [other]
    assert await _related(alice, room, root, "/m.nothing") == []


async def test_relations_come_in_pages(alice: Api, room: str) -> None:
    """Following next_batch in either direction gives every child once; the first page has no prev_batch."""
    root = await _say(alice, room, "root")
    sent = [await _say(alice, room, str(number), "m.thread", root) for number in range(7)]
    for direction, expected in (("b", sent[::-1]), ("f", sent)):
        found: list[str] = []
        query: dict[str, str] = {"dir": direction, "limit": "3"}
        for page in range(3):
            answer = (await _get(alice, room, root, **query)).body
            assert ("prev_batch" in answer) == (page > 0)
            assert ("next_batch" in answer) == (page < 2)
            found += [event["event_id"] for event in answer["chunk"]]
            query["from"] = answer.get("next_batch", "")
        assert found == expected


async def test_relations_take_tokens_of_sync_and_stop_at_to(alice: Api, room: str) -> None:
    """`from` and `to` may be tokens of /sync: with them only what came between is given."""
    root = await _say(alice, room, "root")
    await _say(alice, room, "before", "m.thread", root)
    first = (await alice.get("/sync")).body["next_batch"]
    between = await _say(alice, room, "between", "m.thread", root)
    second = (await alice.get("/sync")).body["next_batch"]
    await _say(alice, room, "after", "m.thread", root)
    assert await _related(alice, room, root, **{"from": second, "to": first}) == [between]
    assert await _related(alice, room, root, **{"from": first, "to": second, "dir": "f"}) == [between]
    assert await _related(alice, room, root, **{"from": first, "to": second}) == []


async def test_relations_of_relations_are_followed_when_asked(alice: Api, room: str) -> None:
    """With `recurse` children of children come too, three levels deep, and the filter holds for those in between."""
    root = await _say(alice, room, "0")
    levels = [root]
    for number in range(1, 5):
        levels.append(await _say(alice, room, str(number), "org.example.child", levels[-1]))
    reaction = (await _react(alice, room, levels[1], "👍")).body["event_id"]
    answer = (await _get(alice, room, root, recurse="true")).body
    assert [event["event_id"] for event in answer["chunk"]] == [reaction, levels[3], levels[2], levels[1]]
    assert answer["recursion_depth"] == 3
    assert await _related(alice, room, root, "/m.annotation", recurse="true") == []
    assert "recursion_depth" not in (await _get(alice, room, root)).body


async def test_a_circle_of_relations_ends(alice: Api, room: str) -> None:
    """Events that would relate to themselves over others, which no client can send, don't keep the server going."""
    root = await _say(alice, room, "root")
    child = await _say(alice, room, "child", "org.example.child", root)
    assert await _related(alice, room, root, recurse="true") == [child]


async def test_redacted_and_ignored_relations_are_gone(alice: Api, bob: Api, room: str) -> None:
    """What was redacted relates to nothing any more; what an ignored user sent is left out for who ignores."""
    root = await _say(alice, room, "root")
    gone = await _say(bob, room, "gone", "m.thread", root)
    stays = await _say(bob, room, "stays", "m.thread", root)
    await _redact(bob, room, gone)
    assert await _related(alice, room, root) == [stays]
    await _ignore(alice, bob)
    assert await _related(alice, room, root) == []
    assert await _related(bob, room, root) == [stays]


async def test_relations_are_only_for_those_who_see_the_event(api: Api, alice: Api) -> None:
    """Who is not in the room, or sees another part of its history, is told M_NOT_FOUND, and children that can't be
    seen are left out."""
    history = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room = await _room(alice, initial_state=[history])
    root = await _say(alice, room, "root")
    carol = await api.register("carol")
    assert (await _get(carol, room, root)).errcode == "M_NOT_FOUND"
    await _join(carol, room)
    assert (await _get(carol, room, root)).errcode == "M_NOT_FOUND"
    seen = await _say(alice, room, "seen")
    await carol.post(f"/rooms/{quote(room)}/leave", {})
    hidden = await _say(alice, room, "hidden", "m.thread", seen)
    await _join(carol, room)
    shown = await _say(alice, room, "shown", "m.thread", seen)
    assert await _related(carol, room, seen) == [shown]
    assert (await _bundle(carol, room, seen))["m.thread"]["count"] == 1
    assert (await _get(carol, room, hidden)).errcode == "M_NOT_FOUND"
    assert await _related(alice, room, seen) == [shown, hidden]


async def test_an_event_of_another_room_relates_to_nothing(alice: Api, room: str) -> None:
    """A relation across rooms is ignored, and the parent is not found in the other room."""
    other = await _room(alice)
    root = await _say(alice, room, "root")
    await _say(alice, other, "elsewhere", "m.thread", root)
    assert await _related(alice, room, root) == []
    assert await _bundle(alice, room, root) == {}
    assert (await _get(alice, other, root)).errcode == "M_NOT_FOUND"


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"dir": "x"}, {"from": "x"}, {"to": "t"}, {"recurse": "1"}]
)
async def test_parameters_of_relations_are_checked(alice: Api, room: str, query: dict[str, str]) -> None:
    """A parameter that is not what the specification says is refused with M_INVALID_PARAM."""
    root = await _say(alice, room, "root")
    answer = await _get(alice, room, root, **query)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


async def test_the_latest_valid_edit_is_bundled(alice: Api, bob: Api, room: str) -> None:
    """m.replace is the whole of the last edit by the sender; invalid ones count nothing, a redacted one no longer."""
    root = await _say(alice, room, "one")
    first = await _edit(alice, room, root, "two")
    second = await _edit(alice, room, root, "three")
    await _edit(bob, room, root, "by another")
    await _say(alice, room, "no new content", "m.replace", root)
    relation = {"rel_type": "m.replace", "event_id": root}
    await _send(alice, room, {"m.new_content": {}, "m.relates_to": relation}, "org.example.other")
    await _edit(alice, room, first, "of an edit")
    replaced = (await _bundle(alice, room, root))["m.replace"]
    assert replaced["event_id"] == second
    assert replaced["content"]["m.new_content"] == {"body": "three"}
    assert replaced["room_id"] == room
    assert await _bundle(alice, room, first) == {}
    await _redact(alice, room, second)
    assert (await _bundle(alice, room, root))["m.replace"]["event_id"] == first
    await _redact(alice, room, root)
    assert await _bundle(alice, room, root) == {}


async def test_an_encrypted_edit_needs_no_visible_new_content(alice: Api, room: str) -> None:
    """The new content of an encrypted edit is inside, so the server takes it as valid."""
    root = await _send(alice, room, {"algorithm": "x"}, "m.room.encrypted")
    edit = await _send(
        alice, room, {"algorithm": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": root}}, "m.room.encrypted"
    )
    assert (await _bundle(alice, room, root))["m.replace"]["event_id"] == edit


async def test_a_thread_is_summed_up(alice: Api, bob: Api, api: Api, room: str) -> None:
    """m.thread has the latest event with its own edit, the count and whether the reader took part."""
    root = await _say(alice, room, "root")
    await _say(alice, room, "first", "m.thread", root)
    last = await _say(bob, room, "last", "m.thread", root)
    edit = await _edit(bob, room, last, "last, edited")
    carol = await api.register("carol")
    await _join(carol, room)
    thread = (await _bundle(carol, room, root))["m.thread"]
    assert (thread["count"], thread["current_user_participated"]) == (2, False)
    assert thread["latest_event"]["event_id"] == last
    assert thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit
    assert (await _bundle(alice, room, root))["m.thread"]["current_user_participated"] is True
    assert (await _bundle(bob, room, root))["m.thread"]["current_user_participated"] is True
    await _ignore(alice, bob)
    thread = (await _bundle(alice, room, root))["m.thread"]
    assert (thread["count"], thread["latest_event"]["content"]["body"]) == (1, "first")


async def test_references_are_listed_and_annotations_are_not(alice: Api, room: str) -> None:
    """m.reference is the list of ids in order; annotations are no longer aggregated by servers."""
    root = await _say(alice, room, "root")
    ids = [await _say(alice, room, str(number), "m.reference", root) for number in range(2)]
    await _react(alice, room, root, "👍")
    assert await _bundle(alice, room, root) == {"m.reference": {"chunk": [{"event_id": id} for id in ids]}}


async def test_every_reading_endpoint_bundles(alice: Api, room: str) -> None:
    """sync, messages, context, event, relations, threads and search all give an event with its aggregations."""
    root = await _say(alice, room, "zebra")
    child = await _say(alice, room, "stripes", "m.thread", root)
    edit = await _edit(alice, room, root, "zebras")
    path = f"/rooms/{quote(room)}"
    limited = {"filter": '{"room":{"timeline":{"limit":3}}}'}
    events: dict[str, list[Any]] = {
        "sync": (await alice.get("/sync", query=limited)).body["rooms"]["join"][room]["timeline"]["events"],
        "messages": (await alice.get(f"{path}/messages?dir=b")).body["chunk"],
        "context": [(await alice.get(f"{path}/context/{quote(root)}")).body["event"]],
        "context_before": (await alice.get(f"{path}/context/{quote(child)}")).body["events_before"],
        "threads": (await _threads(alice, room)).body["chunk"],
    }
    body = {"search_categories": {"room_events": {"search_term": "zebra", "order_by": "recent"}}}
    results = (await alice.post("/search", body)).body["search_categories"]["room_events"]["results"]
    events["search"] = [result["result"] for result in results]
    for where, found in events.items():
        relations = next(event for event in found if event["event_id"] == root)["unsigned"]["m.relations"]
        assert relations["m.replace"]["event_id"] == edit, where
        assert relations["m.thread"]["latest_event"]["event_id"] == child, where


async def test_a_sync_without_a_gap_leaves_aggregations_to_the_client(alice: Api, room: str) -> None:
    """Where the timeline of a sync is not limited its events come without aggregations: the children come too."""
    since = (await alice.get("/sync")).body["next_batch"]
    root = await _say(alice, room, "root")
    await _say(alice, room, "child", "m.thread", root)
    events = (await alice.get("/sync", query={"since": since})).body["rooms"]["join"][room]["timeline"]["events"]
    assert events[0]["event_id"] == root
    assert not any("m.relations" in event["unsigned"] for event in events)


async def test_state_events_have_no_aggregations(alice: Api, room: str) -> None:
    """State events do not receive bundled aggregations."""
    answer = await alice.put(f"/rooms/{quote(room)}/state/m.room.topic/", {"topic": "Boats"})
    await _say(alice, room, "about the topic", "m.reference", answer.body["event_id"])
    assert await _bundle(alice, room, answer.body["event_id"]) == {}


async def test_the_same_annotation_twice_is_refused(alice: Api, bob: Api, room: str) -> None:
    """A second annotation by one user with one key is M_DUPLICATE_ANNOTATION until the first is redacted; a repeated
    request is the same one."""
    root = await _say(alice, room, "root")
    first = await _react(alice, room, root, "👍", txn="again")
    assert (await _react(alice, room, root, "👍", txn="again")).body == first.body
    refused = await _react(alice, room, root, "👍")
    assert (refused.status, refused.errcode) == (400, "M_DUPLICATE_ANNOTATION")
    assert (await _react(alice, room, root, "👎")).status == 200
    assert (await _react(bob, room, root, "👍")).status == 200
    await _redact(alice, room, first.body["event_id"])
    assert (await _react(alice, room, root, "👍")).status == 200


async def test_of_annotations_at_once_one_is_taken(alice: Api, room: str) -> None:
    """However many equal annotations come at the same time, one gets in."""
    root = await _say(alice, room, "root")
    answers = await asyncio.gather(*(_react(alice, room, root, "👍") for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 7


async def test_a_thread_does_not_begin_at_a_relation(alice: Api, room: str) -> None:
    """A thread off an event that relates to another is refused with 400; off a rich reply it is not."""
    root = await _say(alice, room, "root")
    child = await _say(alice, room, "child", "m.thread", root)
    relation = {"rel_type": "m.thread", "event_id": child}
    refused = await _put(alice, room, {"body": "nested", "m.relates_to": relation})
    assert (refused.status, refused.errcode) == (400, "M_UNKNOWN")
    reply = await _send(alice, room, {"body": "r", "m.relates_to": {"m.in_reply_to": {"event_id": root}}})
    await _say(alice, room, "off a reply", "m.thread", reply)
    assert await _roots(alice, room) == [reply, root]


async def test_threads_are_listed_by_their_latest_event(alice: Api, bob: Api, room: str) -> None:
    """/threads gives roots, the one written in last first, in pages; `participated` only those of the reader."""
    roots = [await _say(alice, room, f"root {number}") for number in range(3)]
    for root in roots:
        await _say(bob, room, "reply", "m.thread", root)
    await _say(bob, room, "again", "m.thread", roots[0])
    expected = [roots[0], roots[2], roots[1]]
    assert await _roots(alice, room) == expected
    first = (await _threads(alice, room, limit="2")).body
    assert [event["event_id"] for event in first["chunk"]] == expected[:2]
    second = (await _threads(alice, room, limit="2", **{"from": first["next_batch"]})).body
    assert [event["event_id"] for event in second["chunk"]] == expected[2:]
    assert "next_batch" not in second
    own = await _say(bob, room, "bob's root")
    await _say(alice, room, "reply", "m.thread", own)
    carol = await alice.as_token(None).register("carol")
    await _join(carol, room)
    assert await _roots(carol, room, include="participated") == []
    await _say(carol, room, "carol was here", "m.thread", roots[1])
    assert await _roots(carol, room, include="participated") == [roots[1]]
    assert await _roots(alice, room, include="participated") == [roots[1], own, roots[0], roots[2]]


async def test_the_root_of_an_ignored_user_is_shown_redacted(alice: Api, bob: Api, room: str) -> None:
    """A thread that an ignored user began is listed with its root redacted, and their own replies don't count."""
    root = await _say(bob, room, "root")
    reply = await _say(alice, room, "reply", "m.thread", root)
    await _say(bob, room, "bob again", "m.thread", root)
    await _ignore(alice, bob)
    [shown] = (await _threads(alice, room)).body["chunk"]
    assert (shown["event_id"], shown["content"]) == (root, {})
    thread = shown["unsigned"]["m.relations"]["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (1, reply)


async def test_threads_are_only_for_those_who_may_read_the_room(api: Api, alice: Api, room: str) -> None:
    """Outside the room /threads is M_FORBIDDEN, whether or not there is such a room; a bad token M_INVALID_PARAM."""
    carol = await api.register("carol")
    assert (await _threads(carol, room)).errcode == "M_FORBIDDEN"
    assert (await _threads(carol, "!nowhere:test.example")).errcode == "M_FORBIDDEN"
    assert (await _threads(alice, room, **{"from": "x"})).errcode == "M_INVALID_PARAM"
    assert (await _threads(alice, room, include="some")).errcode == "M_INVALID_PARAM"


async def test_filters_by_relations(alice: Api, bob: Api, room: str) -> None:
    """related_by_rel_types and related_by_senders give the events that such relations point to."""
    one, two = await _say(alice, room, "one"), await _say(alice, room, "two")
    await _say(bob, room, "in one", "m.thread", one)
    reaction = (await _react(alice, room, two, "👍")).body["event_id"]

    async def filtered(filter: str) -> list[str]:
        answer = await alice.get(f"/rooms/{quote(room)}/messages", query={"dir": "b", "filter": filter})
        return [event["event_id"] for event in answer.body["chunk"]]

    assert await filtered('{"related_by_rel_types":["m.thread"]}') == [one]
    assert await filtered('{"related_by_rel_types":["m.thread","m.annotation"]}') == [two, one]
    assert await filtered(f'{{"related_by_senders":["{bob.user_id}"]}}') == [one]
    await _redact(alice, room, reaction)
    assert await filtered('{"related_by_rel_types":["m.annotation"]}') == []


@pytest.mark.parametrize(
    "relation",
    [
        "x",
        {"rel_type": 1, "event_id": "$x"},
        {"rel_type": "m.thread", "event_id": ["$x"]},
        {"rel_type": "x" * 40_000, "event_id": "$x"},
        {"rel_type": "m.annotation", "event_id": "$" + "x" * 40_000, "key": "👍"},
        {"rel_type": "m.annotation", "event_id": "$x\0", "key": "\0"},
        {"rel_type": "m.annotation", "event_id": "$x", "key": {}},
    ],
    ids=["text", "number", "array", "long type", "long target", "null character", "key"],
)
async def test_relations_that_are_none_are_only_content(alice: Api, room: str, relation: Any) -> None:
    """A malformed or endless m.relates_to is content like any other: the event is sent and relates to nothing."""
    sent = await _send(alice, room, {"body": "odd", "m.relates_to": relation})
    event = await alice.get(f"/rooms/{quote(room)}/event/{quote(sent)}")
    assert event.body["content"]["m.relates_to"] == relation
