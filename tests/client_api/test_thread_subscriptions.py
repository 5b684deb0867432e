"""Subscriptions to threads: the endpoints, sliding sync telling of them, and the push rules that they bring."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api, Json

_SYNC = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
_UNSTABLE = "/_matrix/client/unstable/io.element.msc4306"
_PAGES = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"
_RULE = ".io.element.msc4306.rule.{}"


async def say(api: Api, room_id: str, text: str, thread: str | None = None) -> str:
    body: Json = {"msgtype": "m.text", "body": text}
    if thread is not None:
        body["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
    return str((await api.put(f"/rooms/{room_id}/send/m.room.message/{text}", body)).body["event_id"])


def path(room_id: str, thread: str, prefix: str = "/_matrix/client/v1") -> str:
    return f"{prefix}/rooms/{room_id}/thread/{thread}/subscription"


@pytest.fixture
async def room_id(alice: Api) -> str:
    return str((await alice.post("/createRoom", {"preset": "public_chat"})).body["room_id"])


async def ask(api: Api, pos: str | None = None, **config: Any) -> Json:
    body = {"extensions": {"io.element.msc4308.thread_subscriptions": {"enabled": True, **config}}}
    answer = await api.post(_SYNC, body, query={"pos": pos} if pos else {})
    assert answer.status == 200, answer
    return dict(answer.body)


def told(response: Json) -> Json:
    return dict(response["extensions"].get("io.element.msc4308.thread_subscriptions", {}))


@pytest.mark.parametrize("prefix", ["/_matrix/client/v1", _UNSTABLE])
async def test_subscribing_and_unsubscribing(alice: Api, room_id: str, prefix: str) -> None:
    """A subscription is there until it is taken back; doing either twice changes nothing."""
    thread = path(room_id, await say(alice, room_id, "root"), prefix)
    assert (await alice.get(thread)).errcode == "M_NOT_FOUND"
    for _ in range(2):
        assert (await alice.put(thread, {})).body == {}
        assert (await alice.get(thread)).body == {"automatic": False}
    for _ in range(2):
        assert (await alice.delete(thread)).body == {}
        assert (await alice.get(thread)).errcode == "M_NOT_FOUND"


async def test_automatic_subscriptions(alice: Api, room_id: str) -> None:
    """One needs an event of the thread; it becomes manual and not automatic again; after it was taken back it takes a
    newer event."""
    root = await say(alice, room_id, "root")
    cause = await say(alice, room_id, "mention", root)
    elsewhere = await say(alice, room_id, "elsewhere")
    thread = path(room_id, root)
    for bad in (elsewhere, root, "$unknown"):
        answer = await alice.put(thread, {"automatic": bad})
        assert (answer.status, answer.errcode) == (400, "M_NOT_IN_THREAD")
    assert (await alice.put(path(room_id, root, _UNSTABLE), {"automatic": elsewhere})).errcode == (
        "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"
    )
    await alice.put(thread, {"automatic": cause})
    assert (await alice.get(thread)).body == {"automatic": True}
    await alice.put(thread, {})
    await alice.put(thread, {"automatic": cause})
    assert (await alice.get(thread)).body == {"automatic": False}
    await alice.delete(thread)
    answer = await alice.put(thread, {"automatic": cause})
    assert (answer.status, answer.errcode) == (409, "M_CONFLICTING_UNSUBSCRIPTION")
    answer = await alice.put(path(room_id, root, _UNSTABLE), {"automatic": cause})
    assert answer.errcode == "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"
    newer = await say(alice, room_id, "again", root)
    assert (await alice.put(thread, {"automatic": newer})).status == 200
    assert (await alice.get(thread)).body == {"automatic": True}


async def test_threads_that_are_not_there_or_not_to_be_seen(api: Api, alice: Api, room_id: str) -> None:
    """What the user can't see can't be subscribed to, and looks as if it weren't there."""
    bob = await api.register("bob")
    root = await say(alice, room_id, "root")
    for thread in (path(room_id, root), path(room_id, "$unknown"), path("!unknown:test.example", root)):
        for answer in (await bob.put(thread, {}), await bob.get(thread), await bob.delete(thread)):
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    assert (await alice.put(path(room_id, root), {"automatic": 1})).errcode == "M_BAD_JSON"
    assert (await api.put(path(room_id, root), {})).status == 401


async def test_sliding_sync_tells_of_changes(alice: Api, room_id: str) -> None:
    """At first what is subscribed; then the last change of each thread."""
    one, two, three = [await say(alice, room_id, text) for text in ("one", "two", "three")]
    await alice.put(path(room_id, one), {})
    await alice.put(path(room_id, two), {})
    await alice.delete(path(room_id, two))
    first = await ask(alice)
    assert told(first).keys() == {"subscribed"}
    assert told(first)["subscribed"][room_id].keys() == {one}
    assert told(first)["subscribed"][room_id][one]["automatic"] is False
    assert told(await ask(alice, first["pos"])) == {}
    await alice.delete(path(room_id, one))
    await alice.put(path(room_id, three), {})
    then = told(await ask(alice, first["pos"]))
    assert then["subscribed"][room_id].keys() == {three}
    assert then["unsubscribed"][room_id].keys() == {one}
    stamp = then["unsubscribed"][room_id][one]["bump_stamp"]
    assert stamp > told(first)["subscribed"][room_id][one]["bump_stamp"]


async def test_paging_through_what_did_not_fit(alice: Api, room_id: str) -> None:
    """The newest changes in the response, the others by the endpoint, down to where the client was."""
    threads = [await say(alice, room_id, str(number)) for number in range(6)]
    await alice.put(path(room_id, threads[0]), {})
    first = await ask(alice)
    for thread in threads[1:]:
        await alice.put(path(room_id, thread), {})
    second = await ask(alice, first["pos"], limit=2)
    found = [*told(second)["subscribed"][room_id]]
    query = {"dir": "b", "from": told(second)["prev_batch"], "to": first["pos"], "limit": "2"}
    page = (await alice.get(_PAGES, query=query)).body
    found += page["subscribed"][room_id]
    page = (await alice.get(_PAGES, query={**query, "from": page["end"]})).body
    found += page["subscribed"][room_id]
    assert "end" not in page
    assert sorted(found) == sorted(threads[1:])
    everything = (await alice.get("/_matrix/client/v1/thread_subscriptions", query={"dir": "b"})).body
    assert everything["subscribed"][room_id].keys() == set(threads)
    for bad in ({}, {"dir": "f"}, {"dir": "b", "from": "x"}, {"dir": "b", "to": "5"}, {"dir": "b", "limit": "0"}):
        assert (await alice.get(_PAGES, query=bad)).status == 400


async def test_the_first_subscription_brings_its_push_rules(api: Api, alice: Api, room_id: str) -> None:
    """They are there for whoever has subscribed once, a sync tells so, they are changed like other predefined rules,
    nobody can make or delete any of their kind, and a notification has their actions."""
    bob, carol = await api.register("bob"), await api.register("carol")
    for each in (bob, carol):
        assert (await each.post(f"/join/{room_id}", {})).status == 200
    one, two = [await say(alice, room_id, text) for text in ("one", "two")]
    first = (await bob.get("/sync")).body
    assert "postcontent" not in (await bob.get("/pushrules/global/")).body
    await bob.put(path(room_id, one, _UNSTABLE), {})

    then = (await bob.get("/sync", query={"since": first["next_batch"]})).body
    [synced] = [event["content"] for event in then["account_data"]["events"] if event["type"] == "m.push_rules"]
    assert synced == (await bob.get("/pushrules/")).body
    rules = [rule["rule_id"] for rule in synced["global"]["postcontent"]]
    assert rules == [_RULE.format("unsubscribed_thread"), _RULE.format("subscribed_thread")]
    assert "postcontent" not in (await alice.get("/pushrules/global/")).body
    await bob.put(path(room_id, two), {})
    again = (await bob.get("/sync", query={"since": then["next_batch"]})).body
    assert again.get("account_data", {}).get("events", []) == []

    await bob.delete(path(room_id, two))
    await say(alice, room_id, "in-one", one)
    await say(alice, room_id, "in-two", two)
    listed = (await bob.get("/notifications")).body["notifications"]
    assert [entry["event"]["content"]["body"] for entry in listed] == ["in-one", "two", "one"]
    assert listed[0]["actions"] == ["notify", {"set_tweak": "sound", "value": "default"}]

    rule = "/pushrules/global/postcontent/" + rules[0]
    assert (await bob.put(f"{rule}/enabled", {"enabled": False})).status == 200
    assert (await bob.get(f"{rule}/enabled")).body == {"enabled": False}
    await say(alice, room_id, "more-in-two", two)
    [newest, *_] = (await bob.get("/notifications")).body["notifications"]
    assert newest["event"]["content"]["body"] == "more-in-two"
    assert (await bob.put("/pushrules/global/postcontent/x", {"actions": [], "conditions": []})).errcode == (
        "M_INVALID_PARAM"
    )
    assert (await bob.delete(rule)).errcode == "M_INVALID_PARAM"
