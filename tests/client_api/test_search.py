"""Search in rooms."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.main import Server
from tests.support.api import Answer, Api

_txn = itertools.count()


async def _room(user: Api, **fields: Any) -> str:
    return str((await user.post("/createRoom", {"preset": "public_chat", **fields})).body["room_id"])


async def _say(user: Api, room: str, text: Any, type: str = "m.room.message", **more: Any) -> str:
    content = {"msgtype": "m.text", "body": text, **more}
    answer = await user.put(f"/rooms/{quote(room)}/send/{type}/s{next(_txn)}", content)
    assert answer.status == 200, answer
    return str(answer.body["event_id"])


async def _act(user: Api, room: str, action: str) -> None:
    assert (await user.post(f"/rooms/{quote(room)}/{action}", {})).status == 200


async def _search(user: Api, term: str, *, token: str = "", **criteria: Any) -> Answer:
    body = {"search_categories": {"room_events": {"search_term": term, **criteria}}}
    return await user.post("/search", body, query={"next_batch": token} if token else None)


async def _results(user: Api, term: str, **criteria: Any) -> Any:
    answer = await _search(user, term, **criteria)
    assert answer.status == 200, answer
    return answer.body["search_categories"]["room_events"]


async def _found(user: Api, term: str, **criteria: Any) -> list[str]:
    found = await _results(user, term, **{"order_by": "recent", **criteria})
    return [result["result"]["event_id"] for result in found["results"]]


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("The Martians are landing", "martians"),
        ("The Martians are landing", "landing martian"),
        ("The Martians are landing", "LAND"),
        ("The Martians are landing", "rtia"),
        ("The Martians are landing", "the"),
        ("Donaudampfschifffahrt", "schiff"),
        ("Straße am ÄRMELKANAL", "strasse ärmel"),
        ("see https://example.org/a_b?c=d%20e", "example.org/a_b?c=d%"),
        ("C++ and C#", "c++"),
        ("今天天气很好", "天气"),
        ("今天天气很好", "好"),
        ("こんにちは世界", "世界 にち"),
        ("안녕하세요 여러분", "하세"),
        ("สวัสดีครับ", "สดีค"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("Привет, мир", "ривет"),
        ("well done 👍🏽", "👍"),
    ],
)
async def test_words_and_parts_of_words_are_found(alice: Api, text: str, term: str) -> None:
    """Words are found in any case and form, parts of them too, in scripts with spaces and without."""
    room = await _room(alice)
    event = await _say(alice, room, text)
    await _say(alice, room, "something else: 其他 その他 기타")
    assert await _found(alice, term) == [event]


@pytest.mark.parametrize("term", ["martianz", "landing venus", "气天", "thema", "ra%n", "r_n", "!?", "\\"])
async def test_what_is_not_there_is_not_found(alice: Api, term: str) -> None:
    """All words must be there, as they are written; `%` and `_` stand for themselves."""
    room = await _room(alice)
    await _say(alice, room, "The Martians are landing; run, rain, prune; 今天天气很好")
    found = await _results(alice, term)
    assert (found["results"], found["count"]) == ([], 0)


async def test_a_stem_does_not_match_a_part_of_another_word(alice: Api) -> None:
    """`runs` finds `running`, which is another form of it, and not `prune`, which only has letters of it."""
    room = await _room(alice)
    await _say(alice, room, "prune")
    event = await _say(alice, room, "running")
    assert await _found(alice, "runs") == [event]
    assert (await _results(alice, "runs"))["highlights"] == ["runs", "running"]


async def test_names_and_topics_are_found_by_key(alice: Api) -> None:
    """`keys` narrows the search to bodies, names or topics; by default all are searched."""
    room = await _room(alice, name="Harbour", topic="Harbour talk")
    message = await _say(alice, room, "harbour")
    plain = {"m.text": [{"mimetype": "text/html", "body": "<b>"}, {"body": "the harbour in plain"}]}
    answer = await alice.put(f"/rooms/{quote(room)}/state/m.room.topic/", {"topic": "x", "m.topic": plain})
    topic = answer.body["event_id"]
    assert len(await _found(alice, "harbour")) == 4
    assert await _found(alice, "harbour", keys=["content.body"]) == [message]
    assert (await _found(alice, "harbour", keys=["content.topic"]))[0] == topic
    assert len(await _found(alice, "harbour", keys=["content.name"])) == 1
    assert (await _search(alice, "harbour", keys=["content.url"])).errcode == "M_INVALID_PARAM"


async def test_what_is_encrypted_redacted_or_no_text_is_not_found(server: Server, alice: Api) -> None:
    """Only texts are indexed: nothing encrypted, nothing redacted, and redacting takes the row away."""
    room = await _room(alice)
    await _say(alice, room, "secret", "m.room.encrypted")
    await _say(alice, room, {"secret": "secret"})
    await _say(alice, room, "secret", "org.example.message")
    event = await _say(alice, room, "secret\0")
    assert await _found(alice, "secret") == [event]
    await alice.put(f"/rooms/{quote(room)}/redact/{quote(event)}/r", {})
    assert await _found(alice, "secret") == []
    assert await server.services.pool.fetchval("SELECT count(*) FROM event_search") == 0


async def test_only_what_the_user_may_see_is_found(api: Api, alice: Api) -> None:
    """Nobody finds what was said outside of their time in the room, or in a room that they were never in."""
    history = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room = await _room(alice, initial_state=[history])
    bob, carol = await api.register("bob"), await api.register("carol")
    await _say(alice, room, "boat before")
    await _act(bob, room, "join")
    seen = await _say(alice, room, "boat between")
    await _act(bob, room, "leave")
    await _say(alice, room, "boat after")
    assert len(await _found(alice, "boat")) == 3
    assert await _found(bob, "boat") == [seen]
    assert await _found(carol, "boat") == []
    open_room = await _room(alice)
    await _say(alice, open_room, "boat")
    assert await _found(carol, "boat") == []
    context = (await _results(bob, "boat", event_context={}))["results"][0]["context"]
    shown = [event["content"].get("body") for event in (*context["events_before"], *context["events_after"])]
    assert "boat before" not in shown
    assert "boat after" not in shown


async def test_left_rooms_are_searched_until_they_are_forgotten(alice: Api, api: Api) -> None:
    """A room that the user has left is searched up to then; one that is forgotten is not."""
    room = await _room(alice)
    bob = await api.register("bob")
    await _act(bob, room, "join")
    event = await _say(alice, room, "boat")
    await _act(bob, room, "leave")
    await alice.put(f"/rooms/{quote(room)}/state/m.room.name/", {"name": "Later"})
    found = await _results(bob, "boat", include_state=True)
    assert [result["result"]["event_id"] for result in found["results"]] == [event]
    assert "m.room.name" not in {state["type"] for state in found["state"][room]}
    await _act(bob, room, "forget")
    assert await _found(bob, "boat") == []


async def test_filters_narrow_a_search(alice: Api, api: Api) -> None:
    """The filter's rooms, senders, types and limit hold; ignored users are not found."""
    one, two = await _room(alice), await _room(alice)
    bob = await api.register("bob")
    await _act(bob, one, "join")
    first = await _say(alice, one, "boat")
    second = await _say(bob, one, "boat")
    third = await _say(alice, two, "boat")
    assert await _found(alice, "boat", filter={"rooms": [one]}) == [second, first]
    assert await _found(alice, "boat", filter={"not_rooms": [one]}) == [third]
    assert await _found(alice, "boat", filter={"senders": [bob.user_id]}) == [second]
    assert await _found(alice, "boat", filter={"types": ["m.room.name"]}) == []
    assert await _found(alice, "boat", filter={"limit": 1}) == [third]
    assert await _found(alice, "boat", filter={"limit": 0}) == []
    content: dict[str, Any] = {"ignored_users": {bob.user_id: {}}}
    await alice.put(f"/user/{quote(alice.user_id)}/account_data/m.ignored_user_list", content)
    assert await _found(alice, "boat") == [third, first]


@pytest.mark.parametrize("order", ["recent", "rank"])
async def test_results_come_in_pages(alice: Api, order: str) -> None:
    """next_batch leads through all results once, in either order; the count is that of all."""
    room = await _room(alice)
    sent = [await _say(alice, room, "boat " * (1 + number % 3)) for number in range(7)]
    found: list[str] = []
    ranks: list[float] = []
    token = ""
    for _ in range(4):
        page = await _results(alice, "boat", order_by=order, filter={"limit": 2}, token=token)
        assert page["count"] == 7
        found += [result["result"]["event_id"] for result in page["results"]]
        ranks += [result["rank"] for result in page["results"]]
        token = page.get("next_batch", "")
    assert token == ""
    assert sorted(found) == sorted(sent)
    if order == "recent":
        assert found == sent[::-1]
    else:
        assert ranks == sorted(ranks, reverse=True)
        assert len(set(ranks)) == 3


async def test_results_are_grouped(alice: Api, api: Api) -> None:
    """Groups list their results, and the token of a group leads to the rest of that group alone."""
    one, two = await _room(alice), await _room(alice)
    bob = await api.register("bob")
    await _act(bob, one, "join")
    in_one = [await _say(alice, one, f"boat {number}") for number in range(3)]
    from_bob = await _say(bob, one, "boat of bob")
    in_two = await _say(alice, two, "boat")
    grouping = {"group_by": [{"key": "room_id"}, {"key": "sender"}]}
    criteria: dict[str, Any] = {"order_by": "recent", "groupings": grouping, "filter": {"limit": 3}}
    found = await _results(alice, "boat", **criteria)
    by_room, by_sender = found["groups"]["room_id"], found["groups"]["sender"]
    assert by_room[two]["results"] == [in_two]
    assert by_room[one]["results"] == [from_bob, in_one[2]]
    assert by_sender[alice.user_id]["results"] == [in_two, in_one[2]]
    assert (by_room[two]["order"], by_room[one]["order"]) == (1, 2)
    rest = await _results(alice, "boat", token=by_room[one]["next_batch"], **criteria)
    assert [result["result"]["event_id"] for result in rest["results"]] == [in_one[1], in_one[0]]
    rest = await _results(alice, "boat", token=by_sender[bob.user_id]["next_batch"], **criteria)
    assert rest["results"] == []


async def test_results_have_context_profiles_and_state(alice: Api) -> None:
    """event_context gives what stood around a result, with tokens that lead on, and what senders were called then."""
    await alice.put(f"/profile/{quote(alice.user_id)}/displayname", {"displayname": "Alice then"})
    room = await _room(alice)
    sent = [await _say(alice, room, text) for text in ("a", "b", "boat", "c", "d")]
    await alice.put(f"/profile/{quote(alice.user_id)}/displayname", {"displayname": "Alice now"})
    context = {"before_limit": 1, "after_limit": 1, "include_profile": True}
    found = await _results(alice, "boat", event_context=context, include_state=True)
    shown = found["results"][0]["context"]
    assert [event["event_id"] for event in shown["events_before"]] == [sent[1]]
    assert [event["event_id"] for event in shown["events_after"]] == [sent[3]]
    assert shown["profile_info"] == {alice.user_id: {"displayname": "Alice then"}}
    back = await alice.get(f"/rooms/{quote(room)}/messages", query={"dir": "b", "from": shown["start"], "limit": "1"})
    forth = await alice.get(f"/rooms/{quote(room)}/messages", query={"dir": "f", "from": shown["end"], "limit": "1"})
    assert [event["event_id"] for event in back.body["chunk"] + forth.body["chunk"]] == [sent[0], sent[4]]
    member = next(event for event in found["state"][room] if event["type"] == "m.room.member")
    assert member["content"]["displayname"] == "Alice now"
    assert "context" not in (await _results(alice, "boat"))["results"][0]


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"search_categories": []}, "M_BAD_JSON"),
        ({"search_categories": {"room_events": {}}}, "M_MISSING_PARAM"),
        ({"search_categories": {"room_events": {"search_term": 1}}}, "M_BAD_JSON"),
        ({"search_categories": {"room_events": {"search_term": "x" * 2000}}}, "M_INVALID_PARAM"),
        ({"search_categories": {"room_events": {"search_term": "x", "order_by": "x"}}}, "M_INVALID_PARAM"),
        ({"search_categories": {"room_events": {"search_term": "x", "filter": 1}}}, "M_BAD_JSON"),
        ({"search_categories": {"room_events": {"search_term": "x", "groupings": {"group_by": [{}]}}}}, None),
        ({"search_categories": {"room_events": {"search_term": "x", "groupings": {"group_by": "x"}}}}, "M_BAD_JSON"),
        ({"search_categories": {"room_events": {"search_term": "x", "event_context": {"before_limit": -1}}}}, None),
        ({"search_categories": {"room_events": {"search_term": "x", "include_state": "yes"}}}, "M_BAD_JSON"),
    ],
)
async def test_broken_searches_are_refused(alice: Api, body: Any, errcode: str | None) -> None:
    """A criterion of the wrong type or out of range is refused with 400 and its errcode."""
    answer = await alice.post("/search", body)
    assert answer.status == 400
    assert errcode is None or answer.errcode == errcode


@pytest.mark.parametrize(
    "token", ["x", "é", "bnVsbA", "W251bGwsMSwxXQ", "W251bGwsIngiLDEsMV0", "W1sieCIsInkiXSwxLDEsMV0"]
)
async def test_tokens_that_are_none_are_refused(alice: Api, token: str) -> None:
    """A next_batch that this server did not give is M_INVALID_PARAM."""
    assert (await _search(alice, "x", token=token)).errcode == "M_INVALID_PARAM"


async def test_other_categories_are_passed_over(alice: Api) -> None:
    """Without room_events there is nothing to search."""
    answer = await alice.post("/search", {"search_categories": {"org.example": {}}})
    assert (answer.status, answer.body) == (200, {"search_categories": {}})
