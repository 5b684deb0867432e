"""Reports, rooms that two users share, and networks that nobody bridges to."""

from __future__ import annotations

from urllib.parse import quote

from homeserver.main import Server
from homeserver.storage.reports import Report, list_reports
from tests.support.api import Api


async def _reports(server: Server) -> list[Report]:
    async with server.services.pool.acquire() as conn:
        return [report for _, report in await list_reports(conn)]


async def test_rooms_and_users_are_reported_by_anyone(server: Server, api: Api, alice: Api) -> None:
    """A room or user is reported by whoever likes to; the answer is the same for those that don't exist."""
    bob = await api.register("bob")
    room_id = (await alice.post("/createRoom", {})).body["room_id"]
    for room in (room_id, "!unknown:test.example", "nonsense"):
        assert (await bob.post(f"/rooms/{quote(room)}/report", {"reason": "spam"})).body == {}
    unstable = f"/_matrix/client/unstable/org.matrix.msc4151/rooms/{quote(room_id)}/report"
    assert (await bob.post(unstable, {"reason": ""})).status == 200
    for user_id in (alice.user_id, "@nobody:test.example", "@else:where.example"):
        assert (await bob.post(f"/users/{quote(user_id)}/report", {"reason": "spam"})).body == {}
    kept = await _reports(server)
    assert [report.room_id or report.user_id for report in kept] == [
        "@else:where.example",
        alice.user_id,
        room_id,
        room_id,
    ]
    assert (await bob.post(f"/rooms/{quote(room_id)}/report", {})).errcode == "M_MISSING_PARAM"
    assert (await bob.post("/users/nonsense/report", {"reason": "x"})).errcode == "M_INVALID_PARAM"


async def test_events_are_reported_by_those_who_see_them(server: Server, api: Api, alice: Api) -> None:
    """An event is reported by members who may see it; to all others it doesn't exist."""
    bob = await api.register("bob")
    initial = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    created = await alice.post("/createRoom", {"preset": "public_chat", "initial_state": initial})
    room = quote(created.body["room_id"])
    message = {"msgtype": "m.text", "body": "x"}
    early = (await alice.put(f"/rooms/{room}/send/m.room.message/1", message)).body["event_id"]
    answers = [await bob.post(f"/rooms/{room}/report/{quote(event_id)}", {}) for event_id in (early, "$unknown")]
    await bob.post(f"/join/{room}", {})
    answers.append(await bob.post(f"/rooms/{room}/report/{quote(early)}", {}))
    assert [answer.status for answer in answers] == [404] * 3
    assert len({answer.body["error"] for answer in answers}) == 1
    late = (await alice.put(f"/rooms/{room}/send/m.room.message/2", message)).body["event_id"]
    body = {"reason": "spam", "score": -100}
    assert (await bob.post(f"/rooms/{room}/report/{quote(late)}", body)).body == {}
    [report] = await _reports(server)
    assert (report.event_id, report.reason, report.score) == (late, "spam", -100)
    assert (await bob.post(f"/rooms/{room}/report/{quote(late)}", {"score": -101})).errcode == "M_INVALID_PARAM"


async def test_rooms_that_both_are_in(api: Api, alice: Api) -> None:
    """Mutual rooms are those that both users are joined to, on the stable and the unstable path."""
    bob = await api.register("bob")
    shared, invited = [
        (await alice.post("/createRoom", {"preset": "public_chat", "invite": [bob.user_id]})).body["room_id"]
        for _ in range(2)
    ]
    await bob.post(f"/join/{quote(shared)}", {})
    paths = (
        "/_matrix/client/v1/mutual_rooms",
        "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
    )
    for path in paths:
        answer = await alice.get(path, query={"user_id": bob.user_id})
        assert answer.body == {"joined": [shared], "count": 1}
        assert (await alice.get(path, query={"user_id": "@nobody:x"})).body == {"joined": [], "count": 0}
        assert (await alice.get(path, query={"user_id": alice.user_id})).errcode == "M_INVALID_PARAM"
        assert (await alice.get(path, query={"user_id": "nonsense"})).errcode == "M_INVALID_PARAM"
        assert (await alice.get(path)).errcode == "M_MISSING_PARAM"
    wrong = await alice.get(paths[0], query={"user_id": bob.user_id, "from": "x"})
    assert wrong.errcode == "M_INVALID_PARAM"
    await alice.post(f"/rooms/{quote(invited)}/leave", {})


async def test_there_are_no_networks(alice: Api) -> None:
    """Without application services that bridge, no protocol, place or user of another network is known."""
    assert (await alice.get("/thirdparty/protocols")).body == {}
    assert (await alice.get("/thirdparty/protocol/irc")).errcode == "M_NOT_FOUND"
    for path in ("location", "location/irc", "user", "user/irc"):
        assert (await alice.get(f"/thirdparty/{path}")).body == []
