"""Events to be sent later (MSC4140): scheduled, managed, sent once, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.main import Server, running_server
from homeserver.storage.delayed_events import claim_due
from tests.support.api import Answer, Api, open_api
from tests.support.client import eventually
from tests.support.servers import server_config

_UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"
_V1 = "/_matrix/client/v1"
_TEXT = {"msgtype": "m.text", "body": "I have gone"}
_HOUR = 3600_000


async def room_of(user: Api, **settings: Any) -> str:
    answer = await user.post("/createRoom", settings)
    assert answer.status == 200, answer
    return str(answer.body["room_id"])


async def schedule(
    user: Api, room: str, txn: str = "t1", delay_ms: int = _HOUR, type: str = "m.room.message", **fields: Any
) -> str:
    body = {"content": _TEXT, "delay_ms": delay_ms, **fields}
    answer = await user.put(f"{_UNSTABLE}/rooms/{room}/delayed_event/{type}/{txn}", body)
    assert answer.status == 200, answer
    assert answer.body.keys() == {"delay_id"}
    return str(answer.body["delay_id"])


async def act(user: Api, delay_id: str, action: str) -> Answer:
    return await user.post(f"{_UNSTABLE}/delayed_events/{delay_id}/{action}", {})


async def found(user: Api, delay_id: str) -> Any:
    answer = await user.get(f"{_UNSTABLE}/delayed_events/{delay_id}")
    assert answer.status == 200, answer
    return answer.body


async def texts(user: Api, room: str) -> list[Any]:
    """The messages of the room, the newest first."""
    answer = await user.get(f"/rooms/{room}/messages?dir=b&limit=50")
    assert answer.status == 200, answer
    return [event for event in answer.body["chunk"] if event["type"] == "m.room.message"]


async def make_due(server: Server, *delay_ids: str) -> None:
    """Lets their time have come."""
    async with server.services.pool.acquire() as conn:
        await conn.execute(
            "UPDATE delayed_events SET send_ts = $2 WHERE delay_id = ANY($1)", list(delay_ids), int(time.time() * 1000)
        )
    await server.services.delayed_events.send_due()


async def test_a_delayed_message_is_sent_when_its_time_has_come(server: Server, alice: Api) -> None:
    """Before its time the event is not in the room; then it is, once, and its sender alone sees its delay_id."""
    room = await room_of(alice, preset="public_chat")
    bob = await alice.as_token(None).register("bob")
    await bob.post(f"/join/{room}", {})
    delay_id = await schedule(alice, room)
    await server.services.delayed_events.send_due()
    assert await texts(alice, room) == []
    await make_due(server, delay_id)
    await server.services.delayed_events.send_due()
    [event] = await texts(alice, room)
    assert event["content"] == _TEXT
    assert event["unsigned"]["org.matrix.msc4140.delay_id"] == delay_id
    assert "transaction_id" not in event["unsigned"]
    [seen] = await texts(bob, room)
    assert "org.matrix.msc4140.delay_id" not in seen["unsigned"]
    ended = await found(alice, delay_id)
    assert ended["event_id"] == event["event_id"]
    assert ended["finalised_ts"] >= ended["scheduled_at"]
    assert "error" not in ended


async def test_the_loop_sends_by_itself(alice: Api) -> None:
    """Nobody has to ask: a short delay passes and the event is there."""
    room = await room_of(alice)
    await schedule(alice, room, delay_ms=1)

    async def is_there() -> bool:
        return bool(await texts(alice, room))

    await eventually(is_there, "the event to be sent")


async def test_delayed_state(server: Server, alice: Api) -> None:
    """With a state_key the event is a state event, and replaces what was set meanwhile."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room, type="m.room.topic", state_key="", content={"topic": "later"})
    await alice.put(f"/rooms/{room}/state/m.room.topic", {"topic": "meanwhile"})
    assert (await found(alice, delay_id))["state_key"] == ""
    await make_due(server, delay_id)
    assert (await alice.get(f"/rooms/{room}/state/m.room.topic")).body == {"topic": "later"}


async def test_the_older_forms(server: Server, alice: Api) -> None:
    """A delay in the query of /send and /state schedules too, and an action may stand in the body."""
    room = await room_of(alice)
    query = {"org.matrix.msc4140.delay": str(_HOUR)}
    sent = await alice.put(f"/rooms/{room}/send/m.room.message/t1", _TEXT, query=query)
    assert sent.body.keys() == {"delay_id"}
    again = await alice.put(f"/rooms/{room}/send/m.room.message/t1", _TEXT, query=query)
    assert again.body == sent.body
    state = await alice.put(f"/rooms/{room}/state/org.example.call/{alice.user_id}", {"a": 1}, query=query)
    listed = (await alice.get(f"{_UNSTABLE}/delayed_events")).body["delayed_events"]
    assert [one["delay_id"] for one in listed] == [sent.body["delay_id"], state.body["delay_id"]]
    assert listed[0].items() >= {"delay": _HOUR, "type": "m.room.message", "room_id": room, "content": _TEXT}.items()
    assert listed[0]["running_since"] == listed[0]["scheduled_at"]
    assert listed[1]["state_key"] == alice.user_id
    path = f"{_UNSTABLE}/delayed_events/{sent.body['delay_id']}"
    for action in ("restart", "send"):
        assert (await alice.post(path, {"action": action})).status == 200
    assert len(await texts(alice, room)) == 1
    assert (await alice.post(path, {"action": "dance"})).status == 400
    assert (await alice.post(path, {})).errcode == "M_MISSING_PARAM"


async def test_scheduling_is_idempotent(alice: Api) -> None:
    """Repeating a request with its transaction id gives the delay_id that it gave before."""
    room = await room_of(alice)
    assert await schedule(alice, room, "a") == await schedule(alice, room, "a")
    assert await schedule(alice, room, "a") != await schedule(alice, room, "b")


async def test_restart_begins_the_delay_anew(server: Server, alice: Api) -> None:
    """The heartbeat: after a restart the whole delay has to pass again."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room)
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE delayed_events SET scheduled_ts = 5, send_ts = $1", int(time.time() * 1000) + 60_000)
    assert (await act(alice, delay_id, "restart")).body == {}
    one = await found(alice, delay_id)
    assert one["scheduled_at"] > 5
    async with server.services.pool.acquire() as conn:
        send_ts = await conn.fetchval("SELECT send_ts FROM delayed_events")
    assert send_ts == one["scheduled_at"] + _HOUR


async def test_a_cancelled_event_is_never_sent(server: Server, alice: Api) -> None:
    """Cancelling ends it; doing so again is fine, sending or restarting it is a conflict."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room)
    for _ in range(2):
        assert (await act(alice, delay_id, "cancel")).body == {}
    for action in ("send", "restart"):
        answer = await act(alice, delay_id, action)
        assert (answer.status, answer.errcode) == (409, "M_UNKNOWN")
    await make_due(server, delay_id)
    assert await texts(alice, room) == []
    ended = await found(alice, delay_id)
    assert "finalised_ts" in ended
    assert not {"event_id", "error"} & ended.keys()
    assert (await alice.get(f"{_V1}/delayed_events")).body["delayed_events"] == []


async def test_sending_at_once(alice: Api) -> None:
    """`send` sends without waiting; doing so again is fine and sends nothing more, cancelling is a conflict."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room)
    for _ in range(2):
        assert (await act(alice, delay_id, "send")).body == {}
    assert len(await texts(alice, room)) == 1
    assert (await act(alice, delay_id, "cancel")).status == 409
    assert (await act(alice, delay_id, "restart")).status == 409


async def test_what_can_not_be_sent_at_once_stays_scheduled(alice: Api) -> None:
    """If sending fails the client is told why, and the event keeps its time."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room)
    await alice.post(f"/rooms/{room}/leave", {})
    answer = await act(alice, delay_id, "send")
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert "finalised_ts" not in await found(alice, delay_id)
    assert (await act(alice, delay_id, "restart")).status == 200


async def test_permission_counts_when_the_event_is_sent(server: Server, alice: Api) -> None:
    """Who may not send it when its time has come does not; the error is kept for the sender to look up."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room)
    await alice.post(f"/rooms/{room}/leave", {})
    await make_due(server, delay_id)
    ended = await found(alice, delay_id)
    assert ended["error"]["errcode"] == "M_FORBIDDEN"
    assert "event_id" not in ended
    assert (await act(alice, delay_id, "cancel")).status == 200
    assert (await act(alice, delay_id, "send")).status == 409


async def test_others_know_nothing_of_it(alice: Api) -> None:
    """Delayed events are their owner's: to others there is no such event."""
    delay_id = await schedule(alice, await room_of(alice))
    bob = await alice.as_token(None).register("bob")
    assert (await bob.get(f"{_V1}/delayed_events")).body["delayed_events"] == []
    assert (await bob.get(f"{_V1}/delayed_events/{delay_id}")).errcode == "M_NOT_FOUND"
    for action in ("send", "cancel", "restart"):
        assert (await act(bob, delay_id, action)).errcode == "M_NOT_FOUND"
    nobody = alice.as_token(None)
    assert (await act(nobody, delay_id, "restart")).errcode == "M_MISSING_TOKEN"


async def test_the_list_comes_in_pages(server: Server, alice: Api) -> None:
    """The list is in the order of sending; what is left comes after next_batch."""
    room = await room_of(alice)
    ids = [await schedule(alice, room, f"t{number}", _HOUR + 60_000 * number) for number in (3, 1, 2)]
    async with server.services.pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO delayed_events (delay_id, user_nid, device_id, room_nid, type, content, rate_limited, "
            "delay_ms, scheduled_ts, send_ts) SELECT 'x' || n, user_nid, device_id, room_nid, type, content, "
            "rate_limited, delay_ms, scheduled_ts, 9000000000000 + n FROM delayed_events, generate_series(1, 120) n "
            "WHERE delay_id = $1",
            ids[0],
        )
    first = (await alice.get(f"{_V1}/delayed_events")).body
    assert [one["delay_id"] for one in first["delayed_events"]][:3] == [ids[1], ids[2], ids[0]]
    assert len(first["delayed_events"]) == 100
    rest = (await alice.get(f"{_V1}/delayed_events", query={"from": first["next_batch"]})).body
    assert [one["delay_id"] for one in rest["delayed_events"]] == [f"x{number}" for number in range(98, 121)]
    assert "next_batch" not in rest
    assert (await alice.get(f"{_V1}/delayed_events?from=nonsense")).errcode == "M_INVALID_PARAM"


async def test_an_event_is_sent_once_however_often_it_is_tried(server: Server, alice: Api) -> None:
    """A server that dies between sending and noting it tries again, and finds what it has sent."""
    room = await room_of(alice)
    delay_id = await schedule(alice, room)
    await make_due(server, delay_id)
    async with server.services.pool.acquire() as conn:
        await conn.execute("UPDATE delayed_events SET finalised_ts = NULL, event_id = NULL, claimed_until = 0")
    await server.services.delayed_events.send_due()
    [event] = await texts(alice, room)
    assert (await found(alice, delay_id))["event_id"] == event["event_id"]


async def test_who_claims_an_event_keeps_others_from_it(server: Server, alice: Api) -> None:
    """While an event is being sent it can neither be cancelled nor claimed again."""
    delay_id = await schedule(alice, await room_of(alice))
    now = int(time.time() * 1000) + 2 * _HOUR
    async with server.services.pool.acquire() as conn:
        assert [one.delay_id for one in await claim_due(conn, now, now + 60_000, 10)] == [delay_id]
        assert await claim_due(conn, now, now + 60_000, 10) == []
    assert (await act(alice, delay_id, "cancel")).status == 409


async def test_malformed_requests(alice: Api) -> None:
    """A delay that is missing, no number or not positive, and content that is no object, are refused."""
    path = f"{_UNSTABLE}/rooms/{await room_of(alice)}/delayed_event/m.room.message/t"
    for body in (
        {"content": _TEXT},
        {"content": _TEXT, "delay_ms": 0},
        {"content": _TEXT, "delay_ms": -5},
        {"content": _TEXT, "delay_ms": "5"},
        {"content": _TEXT, "delay_ms": 5.5},
        {"content": "x", "delay_ms": 5},
        {"delay_ms": 5},
        {"content": _TEXT, "delay_ms": 5, "state_key": 7},
        {"content": {"body": "x" * 70_000}, "delay_ms": 5},
    ):
        assert 400 <= (await alice.put(path, body)).status < 500
    unknown = f"{_UNSTABLE}/rooms/!nowhere:test.example/delayed_event/m.room.message/t"
    assert (await alice.put(unknown, {"content": _TEXT, "delay_ms": 5})).errcode == "M_FORBIDDEN"
    assert (await alice.get(f"{_V1}/delayed_events")).body["delayed_events"] == []


@pytest.fixture
async def strict(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server that lets each user schedule two events, an hour ahead at most."""
    config = server_config(database, tmp_path, delayed_events={"max_delay_seconds": 3600, "max_scheduled": 2})
    async with running_server(config) as server, open_api(server.url) as api:
        yield await api.register("alice")


async def test_limits_are_announced_and_kept(strict: Api) -> None:
    """Too long a delay is forbidden; too many at once are told when to come again. Both limits are a capability."""
    room = await room_of(strict)
    path = f"{_UNSTABLE}/rooms/{room}/delayed_event/m.room.message"
    answer = await strict.put(f"{path}/long", {"content": _TEXT, "delay_ms": _HOUR + 1})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert answer.body["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    assert answer.body["org.matrix.msc4140.max_delay"] == _HOUR
    query = {"org.matrix.msc4140.delay": str(_HOUR + 1)}
    older = await strict.put(f"/rooms/{room}/state/m.room.topic", {}, query=query)
    assert (older.status, older.errcode) == (400, "M_UNKNOWN")
    assert older.body["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    for number in range(2):
        await schedule(strict, room, str(number))
    answer = await strict.put(f"{path}/more", {"content": _TEXT, "delay_ms": 1000})
    assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    capabilities = (await strict.get("/capabilities")).body["capabilities"]
    assert capabilities["org.matrix.msc4140.delayed_events"] == {"max_delay_ms": _HOUR, "max_scheduled": 2}
    versions = (await strict.get("/_matrix/client/versions")).body
    assert versions["unstable_features"]["org.matrix.msc4140"] is True


async def test_delayed_events_survive_a_restart(database: str, tmp_path: Path) -> None:
    """What became due while the server was down is sent when it is up again, in the order of its times."""
    config = server_config(database, tmp_path)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        room = await room_of(alice)
        ids = [
            await schedule(alice, room, f"t{number}", content={"msgtype": "m.text", "body": str(number)})
            for number in range(3)
        ]
        async with server.services.pool.acquire() as conn:
            for place, number in enumerate((1, 2, 0)):
                await conn.execute("UPDATE delayed_events SET send_ts = $2 WHERE delay_id = $1", ids[number], place + 5)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = Api(api.session, api.url, alice.token, alice.user_id)

        async def are_there() -> bool:
            return len(await texts(alice, room)) == 3

        await eventually(are_there, "the events to be sent")
        assert [event["content"]["body"] for event in reversed(await texts(alice, room))] == ["1", "2", "0"]


async def test_transactions_are_those_of_a_path(alice: Api) -> None:
    """The same txnId for another type, over the other endpoint or in another room is another transaction; for the same
    path it is the same one."""
    room, other = await room_of(alice), await room_of(alice)
    older = {"org.matrix.msc4140.delay": str(_HOUR)}

    async def scheduled() -> list[str]:
        over_send = await alice.put(f"/rooms/{room}/send/m.room.message/t1", _TEXT, query=older)
        return [
            await schedule(alice, room),
            await schedule(alice, room, type="com.example.other"),
            await schedule(alice, other),
            str(over_send.body["delay_id"]),
        ]

    first = await scheduled()
    assert len(set(first)) == 4
    assert await scheduled() == first
