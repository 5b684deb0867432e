"""Accounts that are locked, suspended and shadow-banned, and the administrators who make them so."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from homeserver.client_api.routes import CLIENT_ROUTES
from homeserver.http import Auth
from homeserver.http.restrictions import REFUSED_WHEN_SUSPENDED, endpoint
from homeserver.main import Server
from tests.support.api import PASSWORD, Api

_ALLOWED_WHEN_SUSPENDED = {
    # Reading, searching, and telling the server what one has read.
    *("/publicRooms", "/search", "/keys/query", "/user_directory/search", "/sync", "/user/{userId}/filter"),
    *("/rooms/{roomId}/read_markers", "/rooms/{roomId}/receipt/{receiptType}/{eventId}"),
    # Keys, backups and the verification of devices.
    *("/keys/upload", "/keys/claim", "/keys/signatures/upload", "/keys/device_signing/upload", "/room_keys/version"),
    *("/room_keys/version/{version}", "/room_keys/keys", "/room_keys/keys/{roomId}"),
    *("/room_keys/keys/{roomId}/{sessionId}", "/sendToDevice/{eventType}/{txnId}"),
    # Sessions and the account itself.
    *("/login", "/logout", "/logout/all", "/register", "/devices/{deviceId}", "/delete_devices", "/account/deactivate"),
    *("/login/get_token", "/refresh", "/rendezvous", "/account/password", "/user/{userId}/openid/request_token"),
    *(f"/org.talkpai.two_factor/{action}" for action in ("begin", "confirm", "disable", "backup_codes")),
    # What is one's own alone.
    *("/pushers/set", "/pushers/ack"),
    *("/user/{userId}/account_data/{type}", "/user/{userId}/rooms/{roomId}/account_data/{type}"),
    *("/user/{userId}/rooms/{roomId}/tags/{tag}", "/pushrules/global/{kind}/{ruleId}"),
    *("/pushrules/global/{kind}/{ruleId}/actions", "/pushrules/global/{kind}/{ruleId}/enabled"),
    *("/rooms/{roomId}/thread/{eventId}/subscription", "/rooms/{roomId}/leave", "/rooms/{roomId}/forget"),
    # What says nothing to others: complaints to the administrators, and redactions, of one's own events only.
    *("/rooms/{roomId}/report", "/rooms/{roomId}/report/{eventId}", "/users/{userId}/report"),
    "/rooms/{roomId}/redact/{eventId}/{txnId}",
    # Delayed events are refused when they are due.
    *("/delayed_events/{delayId}", "/delayed_events/{delayId}/{action}"),
    # Ways to be reached may be added, so that a suspended user can be written to, and not taken away.
    *("/account/3pid", "/account/3pid/add", "/account/3pid/email/requestToken", "/account/3pid/msisdn/requestToken"),
    # Not for people, or for administrators.
    *("/directory/list/appservice/{networkId}/{roomId}", "/admin/lock/{userId}", "/admin/suspend/{userId}"),
}


@pytest.fixture
async def admin(api: Api, database: str) -> Api:
    """An administrator."""
    made = await api.register("boss")
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET admin = true WHERE user_nid = (SELECT min(user_nid) FROM accounts)")
    await conn.close()
    return await api.login(made.user_id)


async def _room(owner: Api, *members: Api) -> str:
    room_id: str = (await owner.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    for member in members:
        assert (await member.post(f"/join/{room_id}", {})).status == 200
    return room_id


async def _bodies(reader: Api, room_id: str) -> list[str]:
    chunk = (await reader.get(f"/rooms/{room_id}/messages", query={"dir": "b", "limit": "100"})).body["chunk"]
    return [event["content"]["body"] for event in chunk if "body" in event["content"]]


_LOCK, _SUSPEND = "/_matrix/client/v1/admin/lock/", "/_matrix/client/v1/admin/suspend/"
_MESSAGE = {"msgtype": "m.text", "body": "hello"}


async def test_a_locked_account_can_only_log_out(admin: Api, alice: Api) -> None:
    """Everything answers 401 M_USER_LOCKED with soft_logout, tokens survive the lock, and logging out works."""
    path = _LOCK + alice.user_id
    assert (await admin.get(path)).body == {"locked": False}
    assert (await admin.put(path, {"locked": True})).body == {"locked": True}
    assert (await admin.get(path)).body == {"locked": True}
    for answer in (
        await alice.get("/sync", query={"timeout": "0"}),
        await alice.get("/account/whoami"),
        await alice.get(f"/profile/{alice.user_id}"),
        await alice.post("/createRoom", {}),
    ):
        assert (answer.status, answer.errcode) == (401, "M_USER_LOCKED")
        assert answer.body["soft_logout"] is True
    assert (await admin.put(path, {"locked": False})).status == 200
    assert (await alice.get("/account/whoami")).status == 200
    assert (await admin.put(path, {"locked": True})).status == 200
    assert (await alice.post("/logout", {})).status == 200
    assert (await alice.get("/account/whoami")).errcode == "M_UNKNOWN_TOKEN"


async def test_nobody_logs_in_to_a_locked_account(admin: Api, alice: Api) -> None:
    """The right password of a locked account opens no session; a wrong one does not even tell that it is locked."""
    await admin.put(_LOCK + alice.user_id, {"locked": True})
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD}
    answer = await alice.as_token(None).post("/login", body)
    assert (answer.status, answer.errcode) == (401, "M_USER_LOCKED")
    answer = await alice.as_token(None).post("/login", {**body, "password": "wrong"})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_a_lock_outlasts_no_refresh_token(admin: Api, alice: Api) -> None:
    """A locked account gets no new tokens for its refresh token, which is good again when the lock is lifted."""
    fields = {"type": "m.login.password", "user": "alice", "password": PASSWORD, "refresh_token": True}
    logged_in = (await alice.as_token(None).post("/login", fields)).body
    refresh = {"refresh_token": logged_in["refresh_token"]}
    await admin.put(_LOCK + alice.user_id, {"locked": True})
    answer = await alice.as_token(None).post("/refresh", refresh)
    assert (answer.status, answer.errcode, answer.body["soft_logout"]) == (401, "M_USER_LOCKED", True)
    await admin.put(_LOCK + alice.user_id, {"locked": False})
    assert (await alice.as_token(None).post("/refresh", refresh)).status == 200


async def test_a_suspended_account_reads_and_leaves_and_says_nothing(admin: Api, alice: Api) -> None:
    """What the specification lists is refused with 403 M_USER_SUSPENDED; what it asks to permit works."""
    bob = await alice.as_token(None).register("bob")
    room_id, other = await _room(alice, bob), await _room(bob)
    own = (await alice.put(f"/rooms/{room_id}/send/m.room.message/1", _MESSAGE)).body["event_id"]
    theirs = (await bob.put(f"/rooms/{room_id}/send/m.room.message/1", _MESSAGE)).body["event_id"]
    assert (await admin.put(_SUSPEND + alice.user_id, {"suspended": True})).body == {"suspended": True}
    assert (await admin.get(_SUSPEND + alice.user_id)).body == {"suspended": True}
    for answer in (
        await alice.put(f"/rooms/{room_id}/send/m.room.message/2", _MESSAGE),
        await alice.put(f"/rooms/{room_id}/state/m.room.topic", {"topic": "x"}),
        await alice.post(f"/join/{other}", {}),
        await alice.post(f"/rooms/{room_id}/invite", {"user_id": admin.user_id}),
        await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "x"}),
        await alice.put(f"/rooms/{room_id}/redact/{theirs}/3", {}),
        await alice.put(f"/rooms/{room_id}/send/m.room.redaction/4", {"redacts": theirs}),
        await alice.post("/createRoom", {}),
    ):
        assert (answer.status, answer.errcode) == (403, "M_USER_SUSPENDED")
    assert (await alice.as_token(None).login("alice")).user_id == alice.user_id
    assert await _bodies(alice, room_id) == ["hello", "hello"]
    assert (await alice.put(f"/rooms/{room_id}/redact/{own}/5", {})).status == 200
    assert (await alice.post(f"/rooms/{room_id}/leave", {})).status == 200
    await admin.put(_SUSPEND + alice.user_id, {"suspended": False})
    assert (await alice.post(f"/join/{other}", {})).status == 200


def test_each_route_that_changes_something_is_decided_for_the_suspended() -> None:
    """A route that is added must be put among those that a suspended user may call, or among the others."""
    changing = {endpoint(route) for route in CLIENT_ROUTES if route.method != "GET" and route.auth is not Auth.NONE}
    undecided = {
        called for called in changing if (called in REFUSED_WHEN_SUSPENDED) == (called[1] in _ALLOWED_WHEN_SUSPENDED)
    }
    assert undecided == set()


async def test_only_administrators_moderate_and_not_each_other(admin: Api, alice: Api, database: str) -> None:
    """Rights are checked before anything is looked up; administrators are safe from each other and from themselves."""
    bob = await alice.as_token(None).register("bob")
    for prefix, name in ((_LOCK, "locked"), (_SUSPEND, "suspended")):
        for target in (alice.user_id, "@nobody:test.example", "@far:else.example", "nonsense"):
            assert (await bob.get(prefix + target)).status == 403
            assert (await bob.put(prefix + target, {name: True})).status == 403
        assert (await admin.put(prefix + admin.user_id, {name: True})).status == 403
        assert (await admin.put(prefix + "@nobody:test.example", {name: True})).errcode == "M_NOT_FOUND"
        assert (await admin.put(prefix + "@far:else.example", {name: True})).errcode == "M_INVALID_PARAM"
        assert (await admin.put(prefix + alice.user_id, {})).errcode == "M_MISSING_PARAM"
        assert (await admin.put(prefix + alice.user_id, {name: "yes"})).errcode == "M_BAD_JSON"
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET admin = true")
    await conn.close()
    assert (await admin.put(_LOCK + bob.user_id, {"locked": True})).status == 403
    assert (await admin.get(_LOCK + bob.user_id)).status == 403


async def test_who_may_moderate_is_told_so(admin: Api, alice: Api) -> None:
    """The capability is announced to administrators, under both names, and to nobody else."""
    capabilities = (await admin.get("/capabilities")).body["capabilities"]
    assert capabilities["m.account_moderation"] == {"suspend": True, "lock": True}
    assert capabilities["uk.timedout.msc4323"] == {"suspend": True, "lock": True}
    assert "m.account_moderation" not in (await alice.get("/capabilities")).body["capabilities"]
    unstable = f"/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{alice.user_id}"
    assert (await admin.put(unstable, {"suspended": True})).body == {"suspended": True}


async def test_a_shadow_ban_is_not_noticed_and_silences(admin: Api, alice: Api, database: str) -> None:
    """The banned get every answer that others get; no message, invitation, name or redaction of theirs arrives."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    before = (await alice.put(f"/rooms/{room_id}/send/m.room.message/1", {**_MESSAGE, "body": "before"})).body
    conn = await asyncpg.connect(database)
    await conn.execute(
        "UPDATE accounts SET shadow_banned = true WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = $1)",
        alice.user_id,
    )
    await conn.close()
    alice = await alice.as_token(None).login("alice")
    sent = await alice.put(f"/rooms/{room_id}/send/m.room.message/2", _MESSAGE)
    again = await alice.put(f"/rooms/{room_id}/send/m.room.message/2", _MESSAGE)
    assert sent.status == 200
    assert sent.body == again.body
    assert sent.body["event_id"].startswith("$")
    for answer in (
        await alice.put(f"/rooms/{room_id}/state/m.room.name", {"name": "spam"}),
        await alice.post(f"/rooms/{room_id}/invite", {"user_id": admin.user_id}),
        await alice.put(f"/rooms/{room_id}/redact/{before['event_id']}/3", {}),
        await alice.put(f"/rooms/{room_id}/typing/{alice.user_id}", {"typing": True, "timeout": 9000}),
        await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "spam"}),
        await alice.post("/createRoom", {"invite": [bob.user_id], "name": "spam", "visibility": "public"}),
        await alice.put("/sendToDevice/m.spam/1", {"messages": {bob.user_id: {"*": {"spam": 1}}}}),
    ):
        assert answer.status == 200
    assert await _bodies(bob, room_id) == ["before"]
    synced = (await bob.get("/sync", query={"timeout": "0"})).body
    assert "spam" not in str(synced)
    assert synced.get("rooms", {}).get("invite", {}) == {}
    assert (await admin.get("/sync", query={"timeout": "0"})).body.get("rooms", {}).get("invite", {}) == {}
    assert (await alice.as_token(None).get("/publicRooms")).body["chunk"] == []


async def test_whois_tells_administrators_and_oneself(admin: Api, alice: Api, server: Server) -> None:
    """Addresses of sessions are known to their user and to administrators only."""
    await alice.get("/sync", query={"timeout": "0"})
    bob = await alice.as_token(None).register("bob")
    for asking in (admin, alice):
        answer = await asking.get(f"/admin/whois/{alice.user_id}")
        assert answer.status == 200
        assert list(answer.body["devices"]) == [alice.device_id]
    assert (await bob.get(f"/admin/whois/{alice.user_id}")).status == 403


async def test_every_moderation_is_recorded_and_the_record_stays(admin: Api, alice: Api, database: str) -> None:
    """Each change has one row with who, what, whom and from where, and no statement changes or deletes it."""
    for on in (True, True, False):
        await admin.put(_LOCK + alice.user_id, {"locked": on})
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch("SELECT actor, action, target, address FROM audit_log ORDER BY audit_id")
        assert [tuple(row) for row in rows] == [
            (admin.user_id, "user.lock", alice.user_id, "127.0.0.1"),
            (admin.user_id, "user.unlock", alice.user_id, "127.0.0.1"),
        ]
        for statement in (
            "UPDATE audit_log SET actor = 'x'",
            "DELETE FROM audit_log",
            "TRUNCATE audit_log",
            "DELETE FROM audit_log WHERE false",
            "INSERT INTO audit_log (audit_id, actor, action, target, details, created_ts) "
            "OVERRIDING SYSTEM VALUE VALUES (1, 'x', 'x', 'x', '{}', 1) "
            "ON CONFLICT (audit_id) DO UPDATE SET actor = 'x'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(statement)
        assert await conn.fetchval("SELECT count(*) FROM audit_log") == 2
    finally:
        await conn.close()


async def test_a_lock_ends_what_waits(admin: Api, alice: Api) -> None:
    """A long poll of an account that is locked meanwhile is told so at once, and in words that keep its keys."""
    since = (await alice.get("/sync", query={"timeout": "0"})).body["next_batch"]
    waiting = asyncio.create_task(alice.get("/sync", query={"timeout": "60000", "since": since}))
    await asyncio.sleep(0)
    while not waiting.done():
        await admin.put(_LOCK + alice.user_id, {"locked": True})
        await asyncio.wait({waiting}, timeout=0.5)
    answer = await waiting
    assert (answer.status, answer.errcode, answer.body["soft_logout"]) == (401, "M_USER_LOCKED", True)
