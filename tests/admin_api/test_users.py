"""Accounts over the admin API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_api.conftest import Audited
from tests.support.api import PASSWORD, Api
from tests.support.push_gateway import pusher, set_pusher

_USERS = "/_synapse/admin/v2/users"
_V1 = "/_synapse/admin/v1"
NEW_PASSWORD = "another good password"


async def _names(admin: Api, **query: str) -> list[str]:
    answer = await admin.get(_USERS, query=query)
    assert answer.status == 200, answer
    return [user["name"].split(":")[0] for user in answer.body["users"]]


async def test_the_list_is_paged_filtered_and_ordered(admin: Api, alice: Api) -> None:
    """Pages follow one another without loss; the filters and orders that the API names work."""
    for name in ("carol", "dave", "erin"):
        await alice.as_token(None).register(name)
    await admin.post(f"{_V1}/deactivate/@erin:test.example", {})
    assert await _names(admin) == ["@alice", "@boss", "@carol", "@dave"]
    assert await _names(admin, deactivated="true") == ["@alice", "@boss", "@carol", "@dave", "@erin"]
    assert await _names(admin, dir="b") == ["@dave", "@carol", "@boss", "@alice"]
    assert await _names(admin, order_by="creation_ts", dir="b") == ["@dave", "@carol", "@alice", "@boss"]
    assert await _names(admin, admins="true") == ["@boss"]
    assert await _names(admin, name="AR") == ["@carol"]
    assert await _names(admin, user_id="@da") == ["@dave"]
    assert await _names(admin, name="_") == []
    first = (await admin.get(_USERS, query={"limit": "3"})).body
    assert (first["total"], first["next_token"], len(first["users"])) == (4, "3", 3)
    rest = (await admin.get(_USERS, query={"limit": "3", "from": first["next_token"]})).body
    assert [user["name"] for user in rest["users"]] == ["@dave:test.example"]
    assert "next_token" not in rest
    third = (await admin.get("/_synapse/admin/v3/users", query={"deactivated": "true"})).body
    assert [user["name"] for user in third["users"]] == ["@erin:test.example"]


@pytest.mark.parametrize(
    "query", [{"limit": "-1"}, {"from": "x"}, {"order_by": "password"}, {"dir": "up"}, {"guests": "maybe"}]
)
async def test_a_list_asked_for_wrongly(admin: Api, query: dict[str, str]) -> None:
    """What is no page and no order is refused and never reaches the database."""
    answer = await admin.get(_USERS, query=query)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


async def test_an_account_is_made_and_changed(admin: Api, audited: Audited) -> None:
    """PUT makes what is not there with 201, changes what the body names with 200, and leaves the rest."""
    path = f"{_USERS}/@carol:test.example"
    made = await admin.put(path, {"password": PASSWORD, "displayname": "Carol", "admin": False})
    assert (made.status, made.body["name"], made.body["displayname"]) == (201, "@carol:test.example", "Carol")
    carol = await admin.as_token(None).login("carol")
    changed = await admin.put(path, {"displayname": "Caroline", "avatar_url": "mxc://test.example/x"})
    assert (changed.status, changed.body["displayname"]) == (200, "Caroline")
    assert (await carol.get("/account/whoami")).status == 200
    assert (await admin.put(path, {"password": NEW_PASSWORD})).status == 200
    assert (await carol.get("/account/whoami")).status == 401
    await admin.as_token(None).login("carol", NEW_PASSWORD)
    found = (await admin.get(path)).body
    assert found["displayname"] == "Caroline"
    assert (found["threepids"], found["external_ids"], found["deactivated"]) == ([], [], False)
    actions = [action for action, target, _ in await audited() if target == "@carol:test.example"]
    assert actions == ["user.create", "user.set_displayname", "user.set_avatar_url", "user.set_password"]
    assert PASSWORD not in str(await audited())


@pytest.mark.parametrize(
    "body",
    [
        {"displayname": 5},
        {"admin": "yes"},
        {"password": "short"},
        {"avatar_url": "https://x"},
        {"user_type": "bot"},
        {"deactivated": True},
        {"displayname": "x" * 300},
    ],
)
async def test_what_can_not_be_made_is_not_made(admin: Api, body: dict[str, Any]) -> None:
    """A body that is wrong anywhere makes no account at all."""
    path = f"{_USERS}/@carol:test.example"
    assert (await admin.put(path, body)).status == 400
    assert (await admin.get(path)).status == 404


async def test_an_account_ends_and_comes_back(admin: Api, alice: Api) -> None:
    """Deactivated by PUT nobody logs in; reactivated it needs a password, and has it."""
    path = f"{_USERS}/{alice.user_id}"
    assert (await admin.put(path, {"deactivated": True})).body["deactivated"] is True
    assert (await alice.get("/account/whoami")).status == 401
    assert (await admin.put(path, {"deactivated": False})).status == 400
    body = {"deactivated": False, "password": NEW_PASSWORD}
    assert (await admin.put(path, body)).body["deactivated"] is False
    await alice.as_token(None).login("alice", NEW_PASSWORD)


async def test_deactivating_twice_is_no_error_and_erases_later(admin: Api, alice: Api) -> None:
    """The second time nothing happens, but that the user is forgotten if that is asked for now."""
    path = f"{_V1}/deactivate/{alice.user_id}"
    for erase in (False, False, True, True):
        answer = await admin.post(path, {"erase": erase})
        assert answer.body == {"id_server_unbind_result": "success"}
    assert (await admin.get(f"{_USERS}/{alice.user_id}")).body["erased"] is True


async def test_administrators_do_not_do_away_with_themselves(admin: Api) -> None:
    """The only administrator is neither deactivated nor demoted nor locked, however it is tried."""
    path = f"{_USERS}/{admin.user_id}"
    for answer in (
        await admin.put(path, {"admin": False}),
        await admin.put(path, {"deactivated": True}),
        await admin.put(path, {"locked": True}),
        await admin.post(f"{_V1}/deactivate/{admin.user_id}", {}),
        await admin.put(f"{_V1}/users/{admin.user_id}/admin", {"admin": False}),
        await admin.put(f"{_V1}/suspend/{admin.user_id}", {"suspend": True}),
    ):
        assert answer.status in (400, 403), answer
    assert (await admin.get(path)).body["admin"] is True


async def test_acting_as_a_user(admin: Api, alice: Api, audited: Audited) -> None:
    """The token is the user's, on a device that says whose doing it is; it is recorded, and ends when it is to end."""
    got = await admin.post(f"{_V1}/users/{alice.user_id}/login", {})
    acting = alice.as_token(got.body["access_token"])
    assert (await acting.get("/account/whoami")).body["user_id"] == alice.user_id
    names = {device.get("display_name") for device in (await alice.get("/devices")).body["devices"]}
    assert f"Administrator {admin.user_id}" in names
    assert [action for action, _, _ in await audited()] == ["user.login_as"]
    assert got.body["access_token"] not in str(await audited())
    for path, body in ((admin.user_id, {}), (alice.user_id, {"valid_until_ms": 5})):
        assert (await admin.post(f"{_V1}/users/{path}/login", body)).status == 400


async def test_devices_are_listed_named_and_deleted(admin: Api, alice: Api) -> None:
    """Deleting a device ends its session, whoever does it."""
    path = f"{_USERS}/{alice.user_id}/devices"
    assert [device["device_id"] for device in (await admin.get(path)).body["devices"]] == [alice.device_id]
    one = f"{path}/{alice.device_id}"
    assert (await admin.put(one, {"display_name": "Phone"})).status == 200
    assert (await admin.get(one)).body["display_name"] == "Phone"
    assert (await admin.get(f"{path}/NONE")).status == 404
    assert (await admin.put(f"{path}/NONE", {"display_name": "x"})).status == 404
    assert (await admin.post(path, {"device_id": "MADE"})).status == 201
    answer = await admin.post(f"{_USERS}/{alice.user_id}/delete_devices", {"devices": ["MADE"]})
    assert answer.status == 200
    assert (await admin.delete(one)).status == 200
    assert (await alice.get("/account/whoami")).status == 401
    assert (await admin.get(path)).body["total"] == 0


async def test_what_there_is_of_a_user(admin: Api, alice: Api) -> None:
    """Rooms, memberships, account data, counts and pushers are told."""
    bob = await alice.as_token(None).register("bob")
    room_id = (await alice.post("/createRoom", {"invite": [bob.user_id]})).body["room_id"]
    await alice.put(f"/user/{alice.user_id}/account_data/org.example", {"a": 1})
    await alice.put(f"/user/{alice.user_id}/rooms/{room_id}/account_data/org.example", {"b": 2})
    base = f"{_V1}/users/{alice.user_id}"
    assert (await admin.get(f"{base}/joined_rooms")).body == {"joined_rooms": [room_id], "total": 1}
    assert (await admin.get(f"{_V1}/users/{bob.user_id}/memberships")).body == {"memberships": {room_id: "invite"}}
    data = (await admin.get(f"{base}/accountdata")).body["account_data"]
    assert data["global"]["org.example"] == {"a": 1}
    assert data["rooms"] == {room_id: {"org.example": {"b": 2}}}
    assert (await admin.get(f"{base}/pushers")).body == {"pushers": [], "total": 0}
    body = pusher("https://push.example.org/_matrix/push/v1/notify")
    body["data"]["key"] = "secret"
    await set_pusher(alice, body)
    shown = {**body, "data": {"url": body["data"]["url"]}, "profile_tag": ""}
    assert (await admin.get(f"{base}/pushers")).body == {"pushers": [shown], "total": 1}
    assert (await admin.get(f"{base}/sent_invite_count", query={"from_ts": "0"})).body == {"invite_count": 1}
    answer = await admin.get(f"{base}/cumulative_joined_room_count")
    assert answer.body == {"cumulative_joined_room_count": 1}
    assert (await admin.get(f"{_V1}/whois/{alice.user_id}")).body["user_id"] == alice.user_id
    assert (await admin.get(f"{_V1}/username_available", query={"username": "free"})).body == {"available": True}
    taken = await admin.get(f"{_V1}/username_available", query={"username": "alice"})
    assert (taken.status, taken.errcode) == (400, "M_USER_IN_USE")
    assert (await admin.get(f"{_V1}/auth_providers/none/users/x")).status == 404


async def test_restrictions_over_the_admin_api(admin: Api, alice: Api, audited: Audited) -> None:
    """Suspending, locking and shadow-banning show in the account, take effect and are recorded."""
    path = f"{_USERS}/{alice.user_id}"
    answer = await admin.put(f"{_V1}/suspend/{alice.user_id}", {"suspend": True})
    assert answer.body == {f"user_{alice.user_id}_suspended": True}
    assert (await alice.post("/createRoom", {})).errcode == "M_USER_SUSPENDED"
    assert (await admin.put(path, {"locked": True})).body["locked"] is True
    assert (await alice.get("/account/whoami")).errcode == "M_USER_LOCKED"
    assert await _names(admin) == ["@boss"]
    assert await _names(admin, locked="true") == ["@alice", "@boss"]
    await admin.put(path, {"locked": False})
    assert (await admin.post(f"{_V1}/users/{alice.user_id}/shadow_ban")).body == {}
    assert (await admin.get(path)).body["shadow_banned"] is True
    assert (await admin.delete(f"{_V1}/users/{alice.user_id}/shadow_ban")).body == {}
    actions = [action for action, _, _ in await audited()]
    assert actions == ["user.suspend", "user.lock", "user.unlock", "user.shadow_ban", "user.shadow_unban"]


async def test_what_a_user_said_is_redacted_everywhere(admin: Api, alice: Api, audited: Audited) -> None:
    """A job redacts a user's messages in all rooms, the newest first up to the limit, and says how far it is."""
    bob = await alice.as_token(None).register("bob")
    room_id = (await alice.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    await bob.post(f"/join/{room_id}", {})
    sent = []
    for number in range(3):
        content = {"msgtype": "m.text", "body": f"spam {number}"}
        sent.append((await bob.put(f"/rooms/{room_id}/send/m.room.message/{number}", content)).body["event_id"])
    ordered = await admin.post(f"{_V1}/user/{bob.user_id}/redact", {"rooms": [], "reason": "spam", "limit": 2})
    status: dict[str, Any] = {"status": "active"}
    while status["status"] in ("scheduled", "active"):
        status = (await admin.get(f"{_V1}/user/redact_status/{ordered.body['redact_id']}")).body
    assert (status["status"], status["failed_redactions"]) == ("complete", {})
    bodies = [(await alice.get(f"/rooms/{room_id}/event/{id}")).body["content"].get("body") for id in sent]
    assert bodies == ["spam 0", None, None]
    assert [action for action, _, _ in await audited()] == ["user.redact"]
    assert (await admin.get(f"{_V1}/user/redact_status/none")).status == 404


async def test_addresses_over_the_admin_api(admin: Api, alice: Api, audited: Audited) -> None:
    """An administrator gives and takes addresses, which belong to one account, and finds whose one is."""
    path = "/_synapse/admin/v2/users/@alice:test.example"
    wanted = [{"medium": "email", "address": "Alice@Example.org"}, {"medium": "msisdn", "address": "+380441234567"}]
    answer = await admin.put(path, {"threepids": wanted})
    shown = [(one["medium"], one["address"]) for one in answer.body["threepids"]]
    assert shown == [("email", "alice@example.org"), ("msisdn", "380441234567")]
    identifier = {"type": "m.id.thirdparty", "medium": "email", "address": "alice@example.org"}
    login = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    assert (await alice.as_token(None).post("/login", login)).status == 200
    found = await admin.get("/_synapse/admin/v1/threepid/email/users/alice%40example.org")
    assert found.body == {"user_id": "@alice:test.example"}
    taken = await admin.put("/_synapse/admin/v2/users/@boss:test.example", {"threepids": wanted[:1]})
    assert (taken.status, taken.errcode) == (400, "M_THREEPID_IN_USE")
    for wrong in (
        "x",
        [1],
        [{"medium": "email"}],
        [{"medium": "email", "address": "x"}],
        [{"medium": "x", "address": "y"}],
    ):
        assert (await admin.put(path, {"threepids": wrong})).status == 400, wrong
    answer = await admin.put(path, {"threepids": [{"medium": "email", "address": "new@example.org"}]})
    assert [one["address"] for one in answer.body["threepids"]] == ["new@example.org"]
    assert (await admin.get("/_synapse/admin/v1/threepid/email/users/alice%40example.org")).status == 404
    assert [action for action, *_ in await audited()] == ["user.set_threepids"] * 2
