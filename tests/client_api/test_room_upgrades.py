"""Replacing a room by one of another version."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.rooms.upgrade import power_levels_after
from tests.support.api import Answer, Api


async def _create(user: Api, **fields: Any) -> str:
    answer = await user.post("/createRoom", fields)
    assert answer.status == 200, answer
    return str(answer.body["room_id"])


async def _upgrade(user: Api, room_id: str, version: str, **fields: Any) -> Answer:
    return await user.post(f"/rooms/{quote(room_id)}/upgrade", {"new_version": version, **fields})


async def _state(user: Api, room_id: str) -> dict[tuple[str, str], dict[str, Any]]:
    answer = await user.get(f"/rooms/{quote(room_id)}/state")
    assert answer.status == 200, answer
    return {(event["type"], event["state_key"]): event for event in answer.body}


@pytest.mark.parametrize(("old", "new"), [("1", "11"), ("9", "10"), ("11", "12"), ("12", "12"), ("12", "11")])
async def test_the_new_room_takes_over_what_the_old_one_was(alice: Api, old: str, new: str) -> None:
    """Whatever the versions, both rooms name each other and the new one has the state that is not about persons."""
    room_id = await _create(
        alice,
        room_version=old,
        preset="public_chat",
        name="Harbour",
        topic="Boats",
        creation_content={"type": "org.example.club", "m.federate": False},
        initial_state=[
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
            {"type": "org.example.own", "content": {"kept": False}},
        ],
    )
    answer = await _upgrade(alice, room_id, new)
    assert answer.status == 200, answer
    new_id = answer.body["replacement_room"]
    before, after = await _state(alice, room_id), await _state(alice, new_id)
    assert before["m.room.tombstone", ""]["content"]["replacement_room"] == new_id
    create = after["m.room.create", ""]["content"]
    assert create["predecessor"]["room_id"] == room_id
    if new != "12":
        assert create["predecessor"]["event_id"] == before["m.room.tombstone", ""]["event_id"]
    assert (create["room_version"], create["type"], create["m.federate"]) == (new, "org.example.club", False)
    for type in ("name", "topic", "encryption", "join_rules", "history_visibility"):
        assert after[f"m.room.{type}", ""]["content"] == before[f"m.room.{type}", ""]["content"]
    assert ("org.example.own", "") not in after
    levels = after["m.room.power_levels", ""]["content"]
    assert ("@alice:test.example" in levels["users"]) == (new != "12")
    sent = await alice.put(f"/rooms/{quote(new_id)}/state/m.room.server_acl/", {"allow": ["*"]})
    assert sent.status == 200, sent


async def test_ordinary_members_can_no_longer_send_or_invite(api: Api, alice: Api) -> None:
    """After the upgrade the old room takes no more messages and invitations of ordinary members."""
    bob, _ = await api.register("bob"), await api.register("carol")
    room_id = await _create(alice, preset="public_chat")
    await bob.post(f"/join/{quote(room_id)}", {})
    await _upgrade(alice, room_id, "12")
    sent = await bob.put(f"/rooms/{quote(room_id)}/send/m.room.message/1", {"msgtype": "m.text", "body": "x"})
    assert sent.errcode == "M_FORBIDDEN"
    invited = await bob.post(f"/rooms/{quote(room_id)}/invite", {"user_id": "@carol:test.example"})
    assert invited.errcode == "M_FORBIDDEN"


async def test_who_may_upgrade(api: Api, alice: Api) -> None:
    """Only who may send a tombstone upgrades a room, to a version that there is; a refusal changes nothing."""
    bob = await api.register("bob")
    room_id = await _create(alice, preset="public_chat")
    assert (await _upgrade(bob, room_id, "12")).errcode == "M_FORBIDDEN"
    await bob.post(f"/join/{quote(room_id)}", {})
    before = {key: event["event_id"] for key, event in (await _state(alice, room_id)).items()}
    for version in ("11", "12"):
        assert (await _upgrade(bob, room_id, version)).errcode == "M_FORBIDDEN"
    assert (await _upgrade(alice, room_id, "99")).errcode == "M_UNSUPPORTED_ROOM_VERSION"
    assert (await _upgrade(alice, room_id, "12", additional_creators=["bob"])).errcode == "M_INVALID_PARAM"
    assert (await _upgrade(alice, "!unknown:test.example", "12")).errcode == "M_FORBIDDEN"
    assert {key: event["event_id"] for key, event in (await _state(alice, room_id)).items()} == before


async def test_additional_creators_are_those_of_the_request(alice: Api) -> None:
    """Additional creators are not taken over: the new room has those that are named, where its version has any."""
    room_id = await _create(alice, creation_content={"additional_creators": ["@old:test.example"]})
    new_id = (await _upgrade(alice, room_id, "12", additional_creators=["@bob:test.example"])).body["replacement_room"]
    create = (await _state(alice, new_id))["m.room.create", ""]["content"]
    assert create["additional_creators"] == ["@bob:test.example"]
    older = (await _upgrade(alice, new_id, "11", additional_creators=["nonsense"])).body["replacement_room"]
    assert "additional_creators" not in (await _state(alice, older))["m.room.create", ""]["content"]


async def test_aliases_directory_and_bans_move(api: Api, alice: Api) -> None:
    """The aliases of this server and the entry in the directory come to the new room, and who was banned stays out."""
    bob = await api.register("bob")
    room_id = await _create(alice, visibility="public", name="Harbour", room_alias_name="harbour")
    await alice.post(f"/rooms/{quote(room_id)}/ban", {"user_id": bob.user_id, "reason": "spam"})
    new_id = (await _upgrade(alice, room_id, "12")).body["replacement_room"]
    found = await api.get(f"/directory/room/{quote('#harbour:test.example')}")
    assert found.body["room_id"] == new_id
    assert [room["room_id"] for room in (await api.get("/publicRooms")).body["chunk"]] == [new_id]
    before, after = await _state(alice, room_id), await _state(alice, new_id)
    assert after["m.room.canonical_alias", ""]["content"] == {"alias": "#harbour:test.example"}
    assert before["m.room.canonical_alias", ""]["content"] == {}
    assert after["m.room.member", bob.user_id]["content"] == {"membership": "ban", "reason": "spam"}
    assert (await bob.post(f"/join/{quote(new_id)}", {})).errcode == "M_FORBIDDEN"


async def test_a_space_keeps_its_rooms(alice: Api) -> None:
    """The children of a space are those of the space that replaces it."""
    child = await _create(alice)
    space = await _create(alice, creation_content={"type": "m.space"})
    content = {"via": ["test.example"], "order": "a"}
    await alice.put(f"/rooms/{quote(space)}/state/m.space.child/{quote(child)}", content)
    new_id = (await _upgrade(alice, space, "12")).body["replacement_room"]
    assert (await _state(alice, new_id))["m.space.child", child]["content"] == content


async def test_settings_follow_their_user(api: Api, alice: Api) -> None:
    """Tags and direct chats of a member hold for the new room as soon as the member joins it, and of nobody else's."""
    bob = await api.register("bob")
    room_id = await _create(alice, preset="public_chat")
    await bob.post(f"/join/{quote(room_id)}", {})
    await bob.put(f"/user/{bob.user_id}/account_data/m.direct", {alice.user_id: [room_id]})
    await bob.put(f"/user/{bob.user_id}/rooms/{quote(room_id)}/account_data/m.tag", {"tags": {"m.favourite": {}}})
    new_id = (await _upgrade(alice, room_id, "12")).body["replacement_room"]
    await bob.post(f"/join/{quote(new_id)}", {})
    direct = (await bob.get(f"/user/{bob.user_id}/account_data/m.direct")).body
    assert direct == {alice.user_id: [room_id, new_id]}
    tags = await bob.get(f"/user/{bob.user_id}/rooms/{quote(new_id)}/account_data/m.tag")
    assert tags.body == {"tags": {"m.favourite": {}}}


async def test_a_room_that_only_claims_to_replace_another_gets_nothing(api: Api, alice: Api) -> None:
    """Settings go only to the room that the old one's tombstone names."""
    bob = await api.register("bob")
    room_id = await _create(alice, preset="public_chat")
    await bob.post(f"/join/{quote(room_id)}", {})
    await bob.put(f"/user/{bob.user_id}/account_data/m.direct", {alice.user_id: [room_id]})
    false = await _create(alice, preset="public_chat", creation_content={"predecessor": {"room_id": room_id}})
    await bob.post(f"/join/{quote(false)}", {})
    assert (await bob.get(f"/user/{bob.user_id}/account_data/m.direct")).body == {alice.user_id: [room_id]}


def test_power_levels_fit_the_new_version() -> None:
    """Levels that were strings become numbers; creators lose their entries; tombstones need more than state does."""
    v9, v11, v12 = (ROOM_VERSIONS[number] for number in ("9", "11", "12"))
    strings = {"ban": "60", "users": {"@a:x": "100", "@b:x": " 50 ", "nonsense": 1}, "events": {"x": "7", "y": []}}
    assert power_levels_after(strings, v9, v11, "@a:x", set()) == {
        "ban": 60,
        "users": {"@a:x": 100, "@b:x": 50},
        "events": {"x": 7},
    }
    levels = power_levels_after({"users": {"@a:x": 100, "@b:x": 100}}, v11, v12, "@a:x", {"@a:x"})
    assert levels == {"users": {"@b:x": 100}, "events": {"m.room.tombstone": 150}}
    chosen = {"users": {}, "events": {"m.room.tombstone": 60}}
    assert power_levels_after(chosen, v12, v12, "@a:x", {"@a:x"})["events"]["m.room.tombstone"] == 60
    high = power_levels_after({"state_default": 200}, v11, v12, "@a:x", {"@a:x"})
    assert high["events"]["m.room.tombstone"] == 201
    assert power_levels_after({"users": {"@b:x": 120}}, v12, v11, "@a:x", set())["users"]["@a:x"] == 120
