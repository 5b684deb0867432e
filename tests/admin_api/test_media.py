"""Files as administrators see to them."""

from __future__ import annotations

import time

from homeserver.main import Server
from homeserver.storage import media as rows
from tests.admin_api.conftest import Audited
from tests.support.api import Api
from tests.support.media import picture, stored, upload

_V1 = "/_synapse/admin/v1"
_MEDIA = "/_matrix/client/v1/media"


async def test_quarantine(server: Server, admin: Api, alice: Api, audited: Audited) -> None:
    """What is quarantined is given to nobody, in no size, and keeps its file; it can be given again."""
    place = await upload(alice, picture((1000, 500)), "image/png")
    small = f"{_MEDIA}/thumbnail/{place}?width=96&height=96"
    assert (await admin.post(f"{_V1}/media/quarantine/{place}", {})).body == {}
    for path in (f"{_MEDIA}/download/{place}", small):
        answer = await alice.get(path)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    assert len(stored(server)) == 1
    assert (await admin.post(f"{_V1}/media/unquarantine/{place}", {})).status == 200
    assert (await alice.get(small)).status == 200
    assert (await admin.post(f"{_V1}/media/quarantine/test.example/nothing", {})).status == 404
    assert [entry[:2] for entry in await audited()] == [
        ("media.quarantine", f"mxc://{place}"),
        ("media.unquarantine", f"mxc://{place}"),
    ]


async def test_all_of_a_user(server: Server, admin: Api, alice: Api) -> None:
    """What a user has uploaded can be listed, quarantined and deleted, and counts as theirs."""
    places = [await upload(alice, b"%d" % number, name=f"{number}.txt") for number in range(3)]
    listed = (await admin.get(f"{_V1}/users/{alice.user_id}/media", query={"limit": "2"})).body
    assert [item["upload_name"] for item in listed["media"]] == ["2.txt", "1.txt"]
    assert (listed["total"], listed["next_token"]) == (3, 2)
    used = (await admin.get(f"{_V1}/statistics/users/media")).body
    assert used["total"] == 1
    assert (used["users"][0]["media_count"], used["users"][0]["media_length"]) == (3, 3)
    assert (await admin.post(f"{_V1}/user/{alice.user_id}/media/quarantine", {})).body == {"num_quarantined": 3}
    assert (await alice.get(f"{_MEDIA}/download/{places[0]}")).status == 404
    deleted = (await admin.delete(f"{_V1}/users/{alice.user_id}/media")).body
    assert deleted["total"] == 3
    assert stored(server) == []


async def test_one_file(server: Server, admin: Api, alice: Api) -> None:
    """A file that is deleted is gone at once, with its smaller forms; another server's is not deleted so."""
    place = await upload(alice, picture((1000, 500)), "image/png")
    assert (await alice.get(f"{_MEDIA}/thumbnail/{place}?width=96&height=96")).status == 200
    media_id = place.partition("/")[2]
    answer = await admin.delete(f"{_V1}/media/{place}")
    assert answer.body == {"deleted_media": [media_id], "total": 1}
    assert stored(server) == []
    assert (await admin.delete(f"{_V1}/media/{place}")).status == 404
    assert (await admin.delete(f"{_V1}/media/other.example/abc")).status == 400


async def test_copies_of_other_servers(server: Server, admin: Api, alice: Api) -> None:
    """Copies of other servers' files that nobody has looked at are removed; our own and the quarantined stay."""
    await upload(alice, b"own")
    now_ms = int(time.time() * 1000)
    async with server.services.pool.acquire() as conn:
        for name in ("old", "kept", "new"):
            file = rows.NewFile(name.encode().ljust(32), 1, "text/plain", None)
            seen_ms = now_ms if name == "new" else now_ms - 3_600_000
            assert await rows.insert_media(conn, "other.example", name, None, file, seen_ms)
        await conn.execute("UPDATE media SET quarantined_by = '@a:b' WHERE media_id = 'kept'")
    answer = await admin.post(f"{_V1}/purge_media_cache", {}, query={"before_ts": str(now_ms - 1_000)})
    assert answer.body == {"deleted": 1}
    async with server.services.pool.acquire() as conn:
        left = await conn.fetch("SELECT media_id FROM media WHERE origin = 'other.example'")
    assert {row["media_id"] for row in left} == {"kept", "new"}


async def test_only_administrators(alice: Api) -> None:
    """Nobody else quarantines or deletes."""
    place = await upload(alice, b"x")
    assert (await alice.post(f"{_V1}/media/quarantine/{place}", {})).status == 403
    assert (await alice.delete(f"{_V1}/media/{place}")).status == 403
