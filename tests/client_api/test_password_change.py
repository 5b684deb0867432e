"""What a changed password puts an end to: sessions, and whatever somebody could still make one of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.accounts.interactive_auth import complete_stage
from homeserver.accounts.login_tokens import create_login_token
from homeserver.accounts.password import claim_by_password, hash_new_password, set_password
from homeserver.accounts.web_sessions import find_session, new_token, start_session
from homeserver.main import Server
from homeserver.protocol.errors import Forbidden
from homeserver.storage.users import ensure_user
from tests.support.api import PASSWORD, Api

_NEW = "another good password"
_PROOF = {"type": "m.login.password", "password": PASSWORD}


async def _change(alice: Api, **fields: Any) -> None:
    answer = await alice.post("/account/password", {"new_password": _NEW, "auth": _PROOF, **fields})
    assert answer.status == 200, answer


async def _user_nid(server: Server) -> int:
    async with server.services.pool.acquire() as conn:
        return await ensure_user(conn, "@alice:test.example")


async def test_refresh_tokens_of_other_sessions_end(api: Api, alice: Api) -> None:
    """A session that was ended can't be brought back with its refresh token."""
    body = {"type": "m.login.password", "user": "alice", "password": PASSWORD, "refresh_token": True}
    other = (await api.post("/login", body)).body
    await _change(alice)
    assert (await api.post("/refresh", {"refresh_token": other["refresh_token"]})).status == 401
    assert (await alice.get("/account/whoami")).status == 200


@pytest.mark.parametrize("logout_devices", [True, False])
async def test_what_could_become_a_session_is_void(server: Server, api: Api, alice: Api, logout_devices: bool) -> None:
    """Login tokens that were given out before are worth nothing, also where other devices stay logged in."""
    async with server.services.pool.acquire() as conn:
        token = await create_login_token(conn, await _user_nid(server))
    other = await api.login("alice")
    await _change(alice, logout_devices=logout_devices)
    assert (await api.post("/login", {"type": "m.login.token", "token": token})).status == 403
    assert (await other.get("/account/whoami")).status == (401 if logout_devices else 200)
    for table in ("login_tokens", "oauth2_device_grants", "recovery_tokens"):
        assert await server.services.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_links_to_recover_the_account_are_void(server: Server, alice: Api) -> None:
    """A link that was mailed before the change, perhaps to who should not have it, sets no password any more."""
    user_nid = await _user_nid(server)
    await server.services.pool.execute(
        "INSERT INTO recovery_tokens (token_hash, user_nid, created_ts, expires_ts) VALUES ('h', $1, 0, $2)",
        user_nid,
        2**50,
    )
    await _change(alice, logout_devices=False)
    assert await server.services.pool.fetchval("SELECT count(*) FROM recovery_tokens") == 0


@pytest.mark.parametrize("logout_devices", [True, False])
async def test_browsers_are_signed_out_with_the_other_devices(server: Server, alice: Api, logout_devices: bool) -> None:
    """A browser that is signed in to the pages of this server counts as another device."""
    services = server.services
    token = new_token()
    async with services.pool.acquire() as conn:
        token = await start_session(conn, await _user_nid(server))
    await _change(alice, logout_devices=logout_devices)
    async with services.pool.acquire() as conn:
        found = await find_session(conn, services.config.web, token)
    assert (found is None) == logout_devices


async def test_no_login_with_the_old_password_outlives_the_change(server: Server, api: Api, alice: Api) -> None:
    """Logins that were under way with the old password leave no session behind, whenever they come through."""
    other = await api.login("alice")
    body = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
    logins = [asyncio.create_task(api.post("/login", body)) for _ in range(10)]
    await asyncio.sleep(0)
    await _change(alice)
    logins += [asyncio.create_task(api.post("/login", body)) for _ in range(3)]
    for answer in await asyncio.gather(*logins):
        assert answer.status in (200, 403)
        if answer.status == 200:
            assert (await api.as_token(answer.body["access_token"]).get("/account/whoami")).status == 401
    assert (await other.get("/account/whoami")).status == 401


async def test_a_login_that_was_checked_before_the_change_is_refused(server: Server, alice: Api) -> None:
    """Between the check of a password and the session the password may change: then there is no session."""
    services = server.services
    claim = await claim_by_password(services.pool, services.config.passwords, alice.user_id, PASSWORD)
    async with services.pool.acquire() as conn, conn.transaction():
        assert (await claim(conn)).user_id == alice.user_id
    new_hash = await hash_new_password(_NEW, services.config.passwords)
    async with services.stream.write() as write:
        await set_password(write.conn, user_id=alice.user_id, password_hash=new_hash)
    async with services.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        with pytest.raises(Forbidden):
            await claim(conn)
        await transaction.rollback()


async def test_two_changes_with_one_proof_are_one(api: Api, alice: Api) -> None:
    """Of two requests that finish the same session at once, one changes the password."""
    body = {"new_password": _NEW}
    session = (await alice.post("/account/password", body)).body["session"]
    auth = {**_PROOF, "session": session}
    answers = await asyncio.gather(*(alice.post("/account/password", {**body, "auth": auth}) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]
    await api.login("alice", _NEW)


async def test_a_proof_for_one_password_sets_no_other(server: Server, api: Api, alice: Api) -> None:
    """What was proved on a page for one new password, nobody can use to set another, nor for anything else."""
    body = {"new_password": _NEW}
    session = (await alice.post("/account/password", body)).body["session"]
    await complete_stage(server.services.uia, session, "m.login.password")
    bob = await api.register("bob")
    others: list[tuple[Api, str, dict[str, Any]]] = [
        (alice, "/account/password", {"new_password": "a password of mallory's"}),
        (alice, "/account/password", {"new_password": _NEW, "logout_devices": False}),
        (alice, "/delete_devices", {"devices": [alice.device_id]}),
        (bob, "/account/password", body),
    ]
    for caller, path, other in others:
        answer = await caller.post(path, {**other, "auth": {"session": session}})
        assert answer.status == 401
        assert "completed" not in answer.body
        assert answer.body["session"] != session
    await api.login("alice")
    assert (await alice.post("/account/password", {**body, "auth": {"session": session}})).status == 200
    await api.login("alice", _NEW)


async def test_weak_passwords_are_refused_before_the_proof(alice: Api) -> None:
    """The user's own name and common passwords can't be chosen; nothing has to be proved to learn that."""
    for password in ("short", "password1", "ALICE"):
        answer = await alice.post("/account/password", {"new_password": password})
        assert (answer.status, answer.errcode) == (400, "M_WEAK_PASSWORD")
