"""Backups of room keys.  # spec: client-server-api/#server-side-key-backups"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Answer, Api, Json

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
AUTH = {"public_key": "abc", "signatures": {"@alice:test.example": {"ed25519:D": "x"}}, "org.example.kept": [1]}
ROOM = "!a:test.example"
OTHER_ROOM = "!b:test.example"


def key(first: int = 0, forwarded: int = 0, verified: bool = False, data: str = "x") -> Json:
    return {
        "first_message_index": first,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": {"ciphertext": data},
    }


async def new_version(user: Api) -> str:
    answer = await user.post("/room_keys/version", {"algorithm": ALGORITHM, "auth_data": AUTH})
    assert answer.status == 200, answer
    return str(answer.body["version"])


async def put(user: Api, version: str, body: Json, room: str = "", session: str = "") -> Answer:
    path = "/room_keys/keys" + (f"/{room}" if room else "") + (f"/{session}" if session else "")
    return await user.put(path, body, query={"version": version})


async def get(user: Api, version: str, path: str = "") -> Answer:
    return await user.get(f"/room_keys/keys{path}", query={"version": version})


async def test_versions(alice: Api) -> None:
    """Backups have versions; without one the newest is meant; auth_data is kept as it is and can be replaced."""
    assert (await alice.get("/room_keys/version")).errcode == "M_NOT_FOUND"
    first, second = await new_version(alice), await new_version(alice)
    assert first != second
    expected = {"algorithm": ALGORITHM, "auth_data": AUTH, "count": 0, "etag": "0", "version": second}
    assert (await alice.get("/room_keys/version")).body == expected
    assert (await alice.get(f"/room_keys/version/{first}")).body == {**expected, "version": first}
    body: Json = {"algorithm": ALGORITHM, "auth_data": {"public_key": "new"}, "version": first}
    assert (await alice.put(f"/room_keys/version/{first}", body)).body == {}
    assert (await alice.get(f"/room_keys/version/{first}")).body["auth_data"] == {"public_key": "new"}
    for wrong in ({**body, "algorithm": "other"}, {**body, "version": second}):
        answer = await alice.put(f"/room_keys/version/{first}", wrong)
        assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


async def test_deleted_versions(alice: Api) -> None:
    """A deleted backup can't be found, may be deleted again, and its number never comes back."""
    first, second = await new_version(alice), await new_version(alice)
    await put(alice, second, {"sessions": {"s": key()}}, ROOM)
    for _ in range(2):
        assert (await alice.delete(f"/room_keys/version/{second}")).status == 200
    assert (await alice.get(f"/room_keys/version/{second}")).errcode == "M_NOT_FOUND"
    assert (await get(alice, second)).errcode == "M_NOT_FOUND"
    assert (await alice.get("/room_keys/version")).body["version"] == first
    assert (await new_version(alice)) not in (first, second)
    for unknown in ("77", "x", "0", "-1", "%D9%A3", "9" * 40, "01"):
        assert (await alice.delete(f"/room_keys/version/{unknown}")).errcode == "M_NOT_FOUND"


async def test_keys_are_stored_and_found_by_every_path(alice: Api) -> None:
    """All of a backup, a room or one session can be stored, fetched and deleted; count and etag follow."""
    version = await new_version(alice)
    answer = await put(alice, version, key(1), ROOM, "one")
    assert answer.body["count"] == 1
    etags = [answer.body["etag"]]
    etags.append((await put(alice, version, {"sessions": {"two": key(2), "t%2F": key(3)}}, ROOM)).body["etag"])
    answer = await put(alice, version, {"rooms": {OTHER_ROOM: {"sessions": {"three": key(4)}}}})
    etags.append(answer.body["etag"])
    assert answer.body["count"] == 4
    assert len(set(etags)) == 3
    in_room = {"one": key(1), "two": key(2), "t%2F": key(3)}
    rooms = {ROOM: {"sessions": in_room}, OTHER_ROOM: {"sessions": {"three": key(4)}}}
    assert (await get(alice, version)).body == {"rooms": rooms}
    assert (await get(alice, version, f"/{ROOM}")).body == {"sessions": in_room}
    assert (await get(alice, version, f"/{ROOM}/two")).body == key(2)
    assert (await get(alice, version, f"/{ROOM}/none")).errcode == "M_NOT_FOUND"
    assert (await get(alice, version, "/!none:test.example")).body == {"sessions": {}}
    shown = (await alice.get("/room_keys/version")).body
    assert (shown["count"], shown["etag"]) == (4, etags[-1])
    for path, left in ((f"/{ROOM}/two", 3), (f"/{ROOM}/two", 3), (f"/{ROOM}", 1), ("", 0)):
        answer = await alice.delete(f"/room_keys/keys{path}", query={"version": version})
        assert answer.body["count"] == left
        etags.append(answer.body["etag"])
    assert etags[3] == etags[4]  # nothing was there to be deleted
    assert len(set(etags)) == 6
    assert (await get(alice, version)).body == {"rooms": {}}


@pytest.mark.parametrize(
    ("old", "new", "replaced"),
    [
        (key(0, 0, False), key(9, 9, True), True),
        (key(9, 9, True), key(0, 0, False), False),
        (key(5, 0), key(4, 9), True),
        (key(4, 9), key(5, 0), False),
        (key(5, 2), key(5, 1), True),
        (key(5, 1), key(5, 2), False),
        (key(5, 1, True), key(4, 3, True), True),
        (key(5, 1), key(5, 1), False),
    ],
)
async def test_the_better_key_stays(alice: Api, old: Json, new: Json, replaced: bool) -> None:
    """Verified beats unverified, then the lower first index, then fewer forwards; the etag changes only with a key."""
    version = await new_version(alice)
    before = (await put(alice, version, old, ROOM, "s")).body
    after = (await put(alice, version, {**new, "session_data": {"ciphertext": "new"}}, ROOM, "s")).body
    assert after["count"] == 1
    assert (after["etag"] != before["etag"]) == replaced
    kept = (await get(alice, version, f"/{ROOM}/s")).body
    assert kept == ({**new, "session_data": {"ciphertext": "new"}} if replaced else old)


async def test_only_the_current_backup_takes_keys(alice: Api) -> None:
    """For another version than the newest the current one is named; without any backup there is nothing."""
    assert (await put(alice, "1", {"rooms": {}})).status == 404
    first, second = await new_version(alice), await new_version(alice)
    for version in (first, "77", "x"):
        answer = await put(alice, version, key(), ROOM, "s")
        assert (answer.status, answer.errcode) == (403, "M_WRONG_ROOM_KEYS_VERSION")
        assert answer.body["current_version"] == second
    assert (await alice.put("/room_keys/keys", {"rooms": {}})).errcode == "M_MISSING_PARAM"


_LACKING: list[Any] = [{name: value for name, value in key().items() if name != missing} for missing in key()]


@pytest.mark.parametrize(
    "bad",
    [
        *_LACKING,
        5,
        {**key(), "is_verified": 1},
        {**key(), "first_message_index": True},
        {**key(), "first_message_index": -1},
        {**key(), "forwarded_count": 2**53},
        {**key(), "forwarded_count": 1.5},
        {**key(), "session_data": "x"},
        {**key(), "session_data": {"ciphertext": "x" * 70_000}},
    ],
)
async def test_malformed_keys_are_refused(alice: Api, bad: Any) -> None:
    """A key that lacks something or has the wrong types or sizes is refused, and all that came with it."""
    version = await new_version(alice)
    answer = await put(alice, version, {"sessions": {"good": key(), "bad": bad}}, ROOM)
    assert answer.status in (400, 413)
    assert (await get(alice, version)).body == {"rooms": {}}


@pytest.mark.parametrize(
    "rooms",
    [{"x": {"sessions": {}}}, {ROOM: 5}, {ROOM: {}}, {ROOM: {"sessions": 5}}, {ROOM: {"sessions": {"": key()}}}],
)
async def test_malformed_rooms_are_refused(alice: Api, rooms: Json) -> None:
    """Keys stand under room ids and session ids."""
    version = await new_version(alice)
    assert (await put(alice, version, {"rooms": rooms})).status == 400


@pytest.mark.parametrize(
    "body",
    [{}, {"algorithm": ALGORITHM}, {"algorithm": "x", "auth_data": {}}, {"algorithm": ALGORITHM, "auth_data": 5}],
)
async def test_malformed_versions_are_refused(alice: Api, body: Json) -> None:
    """A backup needs an algorithm that the specification knows and auth_data."""
    assert (await alice.post("/room_keys/version", body)).status == 400
    assert (await alice.get("/room_keys/version")).status == 404


async def test_backups_are_their_owners(alice: Api) -> None:
    """Nobody sees another's backup, whatever version they ask for."""
    version = await new_version(alice)
    await put(alice, version, key(), ROOM, "s")
    bob = await alice.as_token(None).register("bob")
    assert (await bob.get(f"/room_keys/version/{version}")).status == 404
    assert (await get(bob, version)).status == 404
