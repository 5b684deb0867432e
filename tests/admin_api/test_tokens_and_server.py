"""Registration tokens, reports and the server itself over the admin API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from homeserver.main import running_server
from tests.admin_api.conftest import Audited
from tests.support.api import PASSWORD, Api, open_api
from tests.support.servers import server_config

_V1 = "/_synapse/admin/v1"
_TOKENS = f"{_V1}/registration_tokens"


async def test_registration_tokens_from_beginning_to_end(admin: Api, audited: Audited) -> None:
    """Tokens are made, listed, limited and revoked; the record of it has no token whole."""
    made = (await admin.post(f"{_TOKENS}/new", {"token": "welcome-to-us", "uses_allowed": 1})).body
    assert made == {
        "token": "welcome-to-us",
        "uses_allowed": 1,
        "pending": 0,
        "completed": 0,
        "expiry_time": None,
    }
    assert len((await admin.post(f"{_TOKENS}/new", {"length": 40})).body["token"]) == 40
    assert (await admin.post(f"{_TOKENS}/new", {"token": "welcome-to-us"})).status == 400
    assert len((await admin.get(_TOKENS)).body["registration_tokens"]) == 2
    later = int(time.time() * 1000) + 3600_000
    changed = (await admin.put(f"{_TOKENS}/welcome-to-us", {"uses_allowed": None, "expiry_time": later})).body
    assert (changed["uses_allowed"], changed["expiry_time"]) == (None, later)
    assert (await admin.put(f"{_TOKENS}/welcome-to-us", {"uses_allowed": 0})).body["expiry_time"] == later
    valid = (await admin.get(_TOKENS, query={"valid": "false"})).body["registration_tokens"]
    assert [token["token"] for token in valid] == ["welcome-to-us"]
    assert (await admin.delete(f"{_TOKENS}/welcome-to-us")).body == {}
    assert (await admin.get(f"{_TOKENS}/welcome-to-us")).status == 404
    assert (await admin.delete(f"{_TOKENS}/welcome-to-us")).status == 404
    log = await audited()
    assert [action.rpartition(".")[2] for action, _, _ in log] == ["make", "make", "change", "change", "revoke"]
    assert "welcome-to-us" not in str(log)


@pytest.mark.parametrize(
    "body",
    [
        {"token": "with space"},
        {"token": "x" * 65},
        {"token": ""},
        {"uses_allowed": -1},
        {"uses_allowed": True},
        {"uses_allowed": 2**31},
        {"expiry_time": 5},
        {"length": 0},
        {"length": 65},
    ],
)
async def test_tokens_that_can_not_be(admin: Api, body: dict[str, Any]) -> None:
    """A token of other characters, a past end and impossible limits are refused, and nothing is made."""
    assert (await admin.post(f"{_TOKENS}/new", body)).status == 400
    assert (await admin.get(_TOKENS)).body == {"registration_tokens": []}


@pytest.fixture
async def by_token(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """The API of a server that lets people register with a token."""
    config = server_config(database, tmp_path, registration={"mode": "token"})
    async with running_server(config) as server, open_api(server.url) as api:
        yield api


async def test_a_token_made_here_lets_in_as_often_as_it_says(
    by_token: Api, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    """What the admin API makes is what registration takes, and counts."""
    await sql.execute("INSERT INTO registration_tokens (token, uses_allowed) VALUES ('first', 1)")

    async def register(name: str, token: str) -> Any:
        auth = {"type": "m.login.registration_token", "token": token}
        body = {"username": name, "password": PASSWORD, "auth": auth}
        answer = await by_token.post("/register", body)
        if answer.status == 401 and "completed" in answer.body:
            body["auth"] = {"type": "m.login.dummy", "session": answer.body["session"]}
            answer = await by_token.post("/register", body)
        return answer

    boss = (await register("boss", "first")).body
    await sql.execute("UPDATE accounts SET admin = true")
    admin = by_token.as_token(boss["access_token"])
    await admin.post(f"{_TOKENS}/new", {"token": "once", "uses_allowed": 1})
    assert (await register("alice", "once")).status == 200
    assert (await register("bob", "once")).status == 401
    assert (await admin.get(f"{_TOKENS}/once")).body["completed"] == 1


async def test_limits_of_one_user_s_own(database: str, tmp_path: Path, sql: asyncpg.Connection[asyncpg.Record]) -> None:
    """A user may be given other limits than everyone, or none, and everyone's again."""
    limits = {"enabled": True, "message": {"per_second": 0.001, "burst": 1}, "registration": False}
    async with (
        running_server(server_config(database, tmp_path, rate_limits=limits)) as server,
        open_api(server.url) as api,
    ):
        admin, bob = await api.register("boss"), await api.register("bob")
        await sql.execute("UPDATE accounts SET admin = true WHERE user_nid = (SELECT min(user_nid) FROM accounts)")
        admin = await api.login("boss")
        room_id = (await bob.post("/createRoom", {})).body["room_id"]
        path = f"{_V1}/users/{bob.user_id}/override_ratelimit"

        async def send(number: int) -> int:
            body = {"msgtype": "m.text", "body": "x"}
            return (await bob.put(f"/rooms/{room_id}/send/m.room.message/{number}", body)).status

        assert [await send(number) for number in range(2)] == [200, 429]
        assert (await admin.get(path)).body == {}
        await admin.post(path, {"messages_per_second": 0, "burst_count": 0})
        assert [await send(number) for number in range(2, 6)] == [200] * 4
        given = {"messages_per_second": 1000, "burst_count": 1000}
        assert (await admin.post(path, given)).body == given
        assert (await admin.get(path)).body == given
        assert [await send(number) for number in range(6, 10)] == [200] * 4
        assert (await admin.delete(path)).body == {}
        assert await send(10) == 429


async def test_reports_are_read_and_dealt_with(admin: Api, alice: Api, audited: Audited) -> None:
    """Reports are listed with what they are about, the newest first, and deleted when done."""
    room_id = (await alice.post("/createRoom", {"name": "Den", "preset": "public_chat"})).body["room_id"]
    content = {"msgtype": "m.text", "body": "spam"}
    event_id = (await alice.put(f"/rooms/{room_id}/send/m.room.message/1", content)).body["event_id"]
    bob = await alice.as_token(None).register("bob")
    await bob.post(f"/join/{room_id}", {})
    await bob.post(f"/rooms/{room_id}/report/{event_id}", {"reason": "it is spam", "score": -100})
    await bob.post(f"/users/{alice.user_id}/report", {"reason": "spammer"})
    listed = (await admin.get(f"{_V1}/event_reports")).body
    assert (listed["total"], [report["kind"] for report in listed["event_reports"]]) == (2, ["user", "event"])
    one = listed["event_reports"][1]
    assert (one["event_id"], one["sender"], one["user_id"]) == (event_id, alice.user_id, bob.user_id)
    assert (one["name"], one["reason"], one["score"]) == ("Den", "it is spam", -100)
    path = f"{_V1}/event_reports/{one['id']}"
    assert (await admin.get(path)).body["event_json"]["content"] == content
    page = (await admin.get(f"{_V1}/event_reports", query={"limit": "1", "dir": "f"})).body
    assert ([report["kind"] for report in page["event_reports"]], page["next_token"]) == (["event"], 1)
    for query, number in (({"user_id": alice.user_id}, 0), ({"user_id": bob.user_id}, 2), ({"room_id": room_id}, 1)):
        assert (await admin.get(f"{_V1}/event_reports", query=query)).body["total"] == number
    assert (await admin.delete(path)).body == {}
    assert (await admin.get(path)).status == 404
    assert (await admin.get(f"{_V1}/event_reports/x")).status == 400
    assert [action for action, _, _ in await audited()] == ["report.delete"]


async def test_the_server_says_what_it_is(admin: Api) -> None:
    """Version, background updates and statistics answer in the shapes that tools expect."""
    assert (await admin.get(f"{_V1}/server_version")).body["server_version"].startswith("Talk pAI ")
    status = (await admin.get(f"{_V1}/background_updates/status")).body
    assert status == {"enabled": True, "current_updates": {}}
    assert (await admin.get(f"{_V1}/statistics/users/media")).body == {"users": [], "total": 0}


async def test_servers_that_fail_can_be_tried_at_once(
    admin: Api, sql: asyncpg.Connection[asyncpg.Record], audited: Audited
) -> None:
    """What is given up for a while is listed, and reset on request; what does not fail can't be reset."""
    now = int(time.time() * 1000)
    await sql.execute(
        "INSERT INTO destinations (destination, failing_since_ts, retry_at_ts, retry_interval_ms) "
        "VALUES ('far.example', $1, $2, 60000), ('other.example', NULL, 0, 0)",
        now,
        now + 60_000,
    )
    base = f"{_V1}/federation/destinations"
    listed = (await admin.get(base)).body
    assert (listed["total"], [one["destination"] for one in listed["destinations"]]) == (
        2,
        ["far.example", "other.example"],
    )
    assert (await admin.get(base, query={"destination": "oth"})).body["total"] == 1
    assert (await admin.get(f"{base}/far.example")).body["failure_ts"] == now
    assert (await admin.get(f"{base}/far.example/rooms")).body == {"rooms": [], "total": 0}
    assert (await admin.post(f"{base}/far.example/reset_connection", {})).body == {}
    assert (await admin.get(f"{base}/far.example")).body["failure_ts"] is None
    assert (await admin.post(f"{base}/far.example/reset_connection", {})).status == 400
    assert (await admin.get(f"{base}/none.example")).status == 404
    assert [action for action, _, _ in await audited()] == ["destination.reset"]
