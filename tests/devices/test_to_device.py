"""Messages from device to device: who gets them, once, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from homeserver.main import Server, running_server
from homeserver.storage import to_device
from tests.support.api import Api, open_api
from tests.support.servers import server_config

TYPE = "org.example.test"


async def send(api: Api, messages: Any, txn_id: str = "1", type: str = TYPE) -> None:
    answer = await api.put(f"/sendToDevice/{type}/{txn_id}", {"messages": messages})
    assert (answer.status, answer.body) == (200, {})


async def sync(api: Api, since: str | None = None) -> Any:
    answer = await api.get("/sync", query={"since": since} if since else {})
    assert answer.status == 200, answer
    return answer.body


async def got(api: Api) -> list[Any]:
    """The contents of what waits for a device that has had nothing."""
    return [event["content"] for event in (await sync(api))["to_device"]["events"]]


async def test_a_message_reaches_the_device_that_is_named(api: Api, alice: Api) -> None:
    """A message goes to the devices that are named, with its sender and type, and to no others."""
    bob = await api.register("bob")
    other = await api.login("bob")
    await send(alice, {bob.user_id: {bob.device_id: {"n": 1}, "NOSUCH": {"n": 2}}, "@nobody:test.example": {"*": {}}})
    assert (await sync(bob))["to_device"]["events"] == [{"sender": alice.user_id, "type": TYPE, "content": {"n": 1}}]
    assert await got(other) == []


async def test_a_star_stands_for_all_devices(api: Api, alice: Api) -> None:
    """`*` reaches every device of the user; one that is named as well gets only what is for it alone."""
    bob = await api.register("bob")
    other = await api.login("bob")
    await send(alice, {bob.user_id: {"*": {"for": "all"}, other.device_id: {"for": "other"}}})
    assert await got(bob) == [{"for": "all"}]
    assert await got(other) == [{"for": "other"}]


async def test_a_repeated_request_sends_once(api: Api, alice: Api) -> None:
    """A transaction id does nothing the second time, even at once; for another type or device it is another one."""
    bob = await api.register("bob")
    both = {bob.user_id: {"*": {"n": 1}}}
    await asyncio.gather(*(send(alice, both) for _ in range(5)))
    assert await got(bob) == [{"n": 1}]
    await send(alice, both, type="org.example.other")
    await send(await api.login("alice"), both)
    assert len(await got(bob)) == 3


async def test_messages_of_many_at_once_all_arrive(api: Api, alice: Api) -> None:
    """Of messages sent at the same time none gets lost, and each sender's stay in order."""
    bob = await api.register("bob")
    carol = await api.register("carol")

    async def chatter(api: Api) -> None:
        for number in range(20):
            await send(api, {bob.user_id: {"*": {"n": number}}}, txn_id=str(number))

    since = (await sync(bob))["next_batch"]
    work = asyncio.gather(chatter(alice), chatter(carol))
    events: list[Any] = []
    while len(events) < 40:
        answer = await bob.get("/sync", query={"since": since, "timeout": "10000"})
        since = answer.body["next_batch"]
        events += answer.body["to_device"]["events"]
    await work
    for one in (alice, carol):
        assert [e["content"]["n"] for e in events if e["sender"] == one.user_id] == list(range(20))


async def test_messages_outlive_a_restart(database: str, tmp_path: Path) -> None:
    """What was accepted before the server stopped is delivered after it has started again; what was had is not."""
    config = server_config(database, tmp_path)
    async with running_server(config) as server, open_api(server.url) as api:
        alice, bob = await api.register("alice"), await api.register("bob")
        await send(alice, {bob.user_id: {"*": {"n": 1}}}, "1")
        first = await sync(bob)
        await send(alice, {bob.user_id: {"*": {"n": 2}}}, "2")
    async with running_server(config) as server, open_api(server.url) as api:
        again = api.as_token(bob.token)
        answer = await sync(again, first["next_batch"])
        assert [event["content"] for event in answer["to_device"]["events"]] == [{"n": 2}]
        await send(api.as_token(alice.token), {bob.user_id: {"*": {"n": 2}}}, "2")
        assert (await sync(again, answer["next_batch"]))["to_device"]["events"] == []


async def test_a_deleted_device_leaves_nothing_behind(api: Api, alice: Api, server: Server) -> None:
    """What waits for a device goes when it logs out."""
    bob = await api.register("bob")
    await send(alice, {bob.user_id: {"*": {"n": 1}}})
    assert (await bob.post("/logout")).status == 200
    assert await server.services.pool.fetchval("SELECT count(*) FROM to_device_messages") == 0
    again = await api.login("bob", device_id=bob.device_id)
    assert await got(again) == []


async def test_what_waits_for_a_device_is_bounded(
    api: Api, alice: Api, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more messages than are kept for one device, the oldest go."""
    monkeypatch.setattr(to_device, "MOST_KEPT", 3)
    bob = await api.register("bob")
    for number in range(5):
        await send(alice, {bob.user_id: {"*": {"n": number}}}, str(number))
    assert await got(bob) == [{"n": 2}, {"n": 3}, {"n": 4}]


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"messages": []}, "M_BAD_JSON"),
        ({"messages": {"bob": {}}}, "M_INVALID_PARAM"),
        ({"messages": {"@bob:test.example": []}}, "M_BAD_JSON"),
        ({"messages": {"@bob:test.example": {"*": "hello"}}}, "M_BAD_JSON"),
        ({"messages": {"@bob:test.example": {"\0": {}}}}, "M_INVALID_PARAM"),
        ({"messages": {"@bob:test.example": {"D" * 256: {}}}}, "M_INVALID_PARAM"),
    ],
)
async def test_malformed_messages_are_refused(alice: Api, body: Any, errcode: str) -> None:
    """A request with anything malformed in it is refused, and its transaction id is not used up."""
    assert (await alice.put(f"/sendToDevice/{TYPE}/1", body)).errcode == errcode
    await send(alice, {alice.user_id: {"*": {"n": 1}}})
    assert await got(alice) == [{"n": 1}]
