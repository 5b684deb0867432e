"""One's own account, devices and password, and the proofs that they ask for."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.api import PASSWORD, Answer, Api

NEW_PASSWORD = "another good password"


def _proof(password: str = PASSWORD, user: str = "alice", **fields: Any) -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": user}
    return {"type": "m.login.password", "identifier": identifier, "password": password, **fields}


async def _log_in(api: Api, password: str) -> Answer:
    body = {"type": "m.login.password", "user": "alice", "password": password}
    return await api.as_token(None).post("/login", body)


async def test_a_password_is_changed_by_its_owner(alice: Api) -> None:
    """With the old password proved, the new one counts; other devices are logged out, this one is not."""
    other = await alice.as_token(None).login("alice")
    body = {"new_password": NEW_PASSWORD}
    asked = await alice.post("/account/password", body)
    assert asked.status == 401
    assert asked.body["flows"] == [{"stages": ["m.login.password"]}]
    answer = await alice.post("/account/password", {**body, "auth": _proof(session=asked.body["session"])})
    assert answer.status == 200
    assert (await alice.get("/account/whoami")).status == 200
    assert (await other.get("/account/whoami")).status == 401
    assert (await _log_in(alice, PASSWORD)).status == 403
    assert (await _log_in(alice, NEW_PASSWORD)).status == 200


async def test_other_devices_stay_if_asked(alice: Api) -> None:
    """With logout_devices false, other sessions go on."""
    other = await alice.as_token(None).login("alice")
    body = {"new_password": NEW_PASSWORD, "logout_devices": False, "auth": _proof()}
    assert (await alice.post("/account/password", body)).status == 200
    assert (await other.get("/account/whoami")).status == 200


@pytest.mark.parametrize(
    "auth",
    [
        _proof("wrong"),
        _proof(user="@alice:other.example"),
        {"type": "m.login.password"},
        {"type": "m.login.password", "password": 5},
        {"type": "m.login.dummy"},
        {"type": "m.login.password", "identifier": "x", "password": PASSWORD},
    ],
)
async def test_a_wrong_proof_changes_nothing(alice: Api, auth: dict[str, Any]) -> None:
    """A failed stage is a 401 that says why and may be tried again."""
    answer = await alice.post("/account/password", {"new_password": NEW_PASSWORD, "auth": auth})
    assert answer.status == 401
    assert answer.errcode in ("M_FORBIDDEN", "M_UNRECOGNIZED")
    assert answer.body["flows"]
    assert (await _log_in(alice, PASSWORD)).status == 200


async def test_a_proof_of_somebody_else_is_none(alice: Api) -> None:
    """A good password of another account is refused, and the session goes on with that of its own."""
    other = await alice.as_token(None).login("alice")
    await alice.as_token(None).register("bob")
    session = (await alice.delete(f"/devices/{other.device_id}")).body["session"]
    for user in ("bob", "@bob:test.example", "nobody"):
        answer = await alice.delete(f"/devices/{other.device_id}", {"auth": {**_proof(user=user), "session": session}})
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert (await other.get("/account/whoami")).status == 200
    answer = await alice.delete(f"/devices/{other.device_id}", {"auth": {**_proof(), "session": session}})
    assert answer.status == 200


@pytest.mark.parametrize("auth", [5, [], "x", {"type": 5}, {"type": "m.login.password", "session": 5}])
async def test_auth_that_is_not_even_that(alice: Api, auth: Any) -> None:
    """An `auth` of the wrong form is bad JSON."""
    answer = await alice.post("/account/password", {"new_password": NEW_PASSWORD, "auth": auth})
    assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")


async def test_a_weak_password_is_refused(alice: Api) -> None:
    """The rules for new passwords hold for changed ones."""
    answer = await alice.post("/account/password", {"new_password": "short", "auth": _proof()})
    assert (answer.status, answer.errcode) == (400, "M_WEAK_PASSWORD")


async def test_a_device_is_named_and_deleted_by_its_owner(alice: Api) -> None:
    """Devices can be renamed freely and deleted with a proof; their sessions go with them."""
    other = await alice.as_token(None).login("alice")
    path = f"/devices/{other.device_id}"
    assert (await alice.put(path, {"display_name": "Old phone"})).body == {}
    assert (await alice.put(path, {})).status == 200
    assert (await alice.get(path)).body["display_name"] == "Old phone"
    assert (await alice.delete(path)).status == 401
    assert (await alice.delete(path, {"auth": _proof()})).status == 200
    assert (await other.get("/account/whoami")).status == 401
    assert (await alice.get(path)).errcode == "M_NOT_FOUND"
    assert (await alice.put(path, {"display_name": "x"})).errcode == "M_NOT_FOUND"


async def test_deleting_what_is_gone_succeeds(alice: Api) -> None:
    """A device that is not there was deleted before, as far as its owner is concerned."""
    assert (await alice.delete("/devices/GONE", {"auth": _proof()})).status == 200


async def test_several_devices_are_deleted_at_once(alice: Api) -> None:
    """/delete_devices deletes those that it names, with one proof."""
    others = [await alice.as_token(None).login("alice") for _ in range(3)]
    body = {"devices": [other.device_id for other in others[:2]]}
    assert (await alice.post("/delete_devices", body)).status == 401
    assert (await alice.post("/delete_devices", {**body, "auth": _proof()})).status == 200
    left = [device["device_id"] for device in (await alice.get("/devices")).body["devices"]]
    assert left == [alice.device_id, others[2].device_id]


async def test_nobody_touches_anothers_devices(alice: Api) -> None:
    """A device id is looked up among one's own."""
    bob = await alice.as_token(None).register("bob")
    path = f"/devices/{alice.device_id}"
    assert (await bob.get(path)).status == 404
    assert (await bob.put(path, {"display_name": "mine"})).status == 404
    assert (await bob.delete(path, {"auth": _proof(user="bob")})).status == 200
    assert (await alice.get("/account/whoami")).status == 200


async def test_a_deactivated_account_is_gone_for_good(alice: Api) -> None:
    """After deactivation no session and no password work, the profile is gone, and the name stays taken."""
    await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Alice"})
    assert (await alice.post("/account/deactivate", {})).status == 401
    answer = await alice.post("/account/deactivate", {"auth": _proof(), "erase": True})
    assert (answer.status, answer.body) == (200, {"id_server_unbind_result": "success"})
    assert (await alice.get("/account/whoami")).errcode == "M_UNKNOWN_TOKEN"
    login = await _log_in(alice, PASSWORD)
    assert (login.status, login.errcode) == (403, "M_USER_DEACTIVATED")
    stranger = alice.as_token(None)
    assert (await stranger.get(f"/profile/{alice.user_id}")).status == 404
    taken = await stranger.post("/register", {"username": "alice", "password": PASSWORD})
    assert taken.errcode == "M_USER_IN_USE"


async def test_a_deactivated_account_leaves_its_rooms(alice: Api) -> None:
    """The rooms of somebody who is gone show that."""
    bob = await alice.as_token(None).register("bob")
    room_id = (await alice.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    assert (await bob.post(f"/join/{quote(room_id)}", {})).status == 200
    assert (await bob.post("/account/deactivate", {"auth": _proof(user="bob")})).status == 200
    member = await alice.get(f"/rooms/{quote(room_id)}/state/m.room.member/{quote(bob.user_id)}")
    assert member.body["membership"] == "leave"


async def test_no_third_party_identifiers_are_known(alice: Api) -> None:
    """The list is there, and empty."""
    assert (await alice.get("/account/3pid")).body == {"threepids": []}
