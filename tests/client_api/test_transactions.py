"""Transaction ids: what is sent again is the same, and only that.

# spec: client-server-api/#transaction-identifiers
"""

from __future__ import annotations

from pathlib import Path

from homeserver.main import running_server
from tests.support.api import PASSWORD, Api, open_api
from tests.support.servers import server_config

_TEXT = {"msgtype": "m.text", "body": "once"}


async def _send(user: Api, room: str, txn_id: str, type: str = "m.room.message") -> str:
    answer = await user.put(f"/rooms/{room}/send/{type}/{txn_id}", _TEXT)
    assert answer.status == 200, answer
    return str(answer.body["event_id"])


async def _create(user: Api) -> str:
    return str((await user.post("/createRoom", {})).body["room_id"])


async def test_the_same_request_is_the_same_event(alice: Api) -> None:
    """A retransmission has the same device, transaction id and path, whatever is in its body; all else is new."""
    room, other_room = await _create(alice), await _create(alice)
    other_device = await alice.as_token(None).login("alice")
    first = await _send(alice, room, "1")
    assert await _send(alice, room, "1") == first
    assert (await alice.put(f"/rooms/{room}/send/m.room.message/1", {"body": "else"})).body["event_id"] == first
    different = [
        await _send(alice, other_room, "1"),
        await _send(alice, room, "1", "org.example.type"),
        await _send(alice, room, "2"),
        await _send(other_device, room, "1"),
    ]
    assert len({first, *different}) == 5
    redaction = (await alice.put(f"/rooms/{room}/redact/{first}/1", {})).body["event_id"]
    assert redaction not in {first, *different}
    assert (await alice.put(f"/rooms/{room}/redact/{first}/1", {})).body["event_id"] == redaction
    assert (await alice.put(f"/rooms/{room}/redact/{different[1]}/1", {})).body["event_id"] != redaction
    chunk = (await alice.get(f"/rooms/{room}/messages?dir=b&limit=4")).body["chunk"]
    assert [event["type"] for event in chunk] == ["m.room.redaction"] * 2 + ["m.room.message"] * 2


async def test_what_is_in_another_room_is_not_redacted(alice: Api) -> None:
    """An event is redacted in its own room; elsewhere the request is refused and changes nothing."""
    room, other = await _create(alice), await _create(alice)
    event_id = await _send(alice, room, "1")
    for path in (f"/rooms/{other}/redact/{event_id}/2", f"/rooms/{other}/send/m.room.redaction/3"):
        answer = await alice.put(path, {"redacts": event_id})
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    assert (await alice.get(f"/rooms/{room}/event/{event_id}")).body["content"] == _TEXT
    chunk = (await alice.get(f"/rooms/{other}/messages?dir=b")).body["chunk"]
    assert "m.room.redaction" not in {event["type"] for event in chunk}


async def test_only_the_device_that_sent_it_is_told_the_transaction_id(alice: Api) -> None:
    """`transaction_id` in `unsigned` is for the device that used it, in sync and wherever else the event is read."""
    room = await _create(alice)
    other = await alice.as_token(None).login("alice")
    event_id = await _send(alice, room, "mine")
    for device, expected in ((alice, "mine"), (other, None)):
        timeline = (await device.get("/sync")).body["rooms"]["join"][room]["timeline"]["events"]
        event = (await device.get(f"/rooms/{room}/event/{event_id}")).body
        assert [one["unsigned"].get("transaction_id") for one in (timeline[-1], event)] == [expected] * 2


async def test_transactions_survive_restarts(database: str, tmp_path: Path) -> None:
    """What was sent before a restart is not sent again after it, nor by the same device with another token."""
    config = server_config(database, tmp_path)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        room = await _create(alice)
        first = await _send(alice, room, "1")
    async with running_server(config) as server, open_api(server.url) as api:
        assert await _send(Api(api.session, api.url, alice.token), room, "1") == first
        again = await api.login("alice", PASSWORD, device_id=alice.device_id)
        assert await _send(again, room, "1") == first
