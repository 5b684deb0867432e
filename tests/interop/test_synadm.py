"""synadm, the command line tool for Synapse's administrators, drives our admin API."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.interop.conftest import missing
from tests.support.api import PASSWORD, Api
from tests.support.client import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

Synadm = Callable[..., Awaitable[Any]]
_CONFIG = """\
user: boss
token: {token}
base_url: {url}
admin_path: /_synapse/admin
matrix_path: /_matrix
timeout: 30
server_discovery: well-known
homeserver: test.example
format: json
ssl_verify: true
"""


@pytest.fixture
async def synadm(api: Api, database: str, tmp_path: Path) -> Synadm:
    """A function that runs `synadm WORDS` as an administrator and gives the last JSON object that it prints."""
    program = Path(sys.executable).with_name("synadm")
    found = str(program) if program.exists() else shutil.which("synadm")
    if found is None:
        missing("There is no synadm: `make test` installs it.")
    boss = await api.register("boss")
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET admin = true")
    await conn.close()
    config = tmp_path / "synadm.yaml"
    config.write_text(_CONFIG.format(token=boss.token, url=api.url))

    async def run(*words: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            str(found),
            *("--config-file", str(config), "--batch", "--output", "json", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, (words, out, err)
        return _last_object(out.decode())

    return run


def _last_object(text: str) -> Any:
    """The last JSON object in what was printed, between sentences for people and what was there before; else None."""
    starts = [place for place, line in _lines(text) if line.startswith("{")]
    return json.JSONDecoder().raw_decode(text[starts[-1] :])[0] if starts else None


def _lines(text: str) -> list[tuple[int, str]]:
    place, lines = 0, []
    for line in text.splitlines(keepends=True):
        lines.append((place, line))
        place += len(line)
    return lines


async def test_users(synadm: Synadm, alice: Api) -> None:
    """Users are made, found, looked at, changed, signed in as, restricted and deactivated."""
    made = await synadm("user", "modify", "carol", "--password", PASSWORD, "--display-name", "Carol")
    assert made["name"] == "@carol:test.example"
    assert (await synadm("user", "list"))["total"] == 3
    assert [user["name"] for user in (await synadm("user", "search", "caro"))["users"]] == ["@carol:test.example"]
    carol = await alice.as_token(None).login("carol")
    assert (await synadm("user", "details", "carol"))["displayname"] == "Carol"
    await synadm("user", "modify", "carol", "--display-name", "Caroline")
    assert (await carol.get(f"/profile/{carol.user_id}")).body == {"displayname": "Caroline"}
    room_id = (await carol.post("/createRoom", {})).body["room_id"]
    assert (await synadm("user", "membership", "carol", "--ids"))["joined_rooms"] == [room_id]
    assert list((await synadm("user", "whois", "carol"))["devices"]) == [carol.device_id]
    token = (await synadm("user", "login", "carol"))["access_token"]
    assert (await carol.as_token(token).get("/account/whoami")).body["user_id"] == carol.user_id
    await synadm("user", "password", "carol", "--password", "another good password")
    assert (await carol.get("/account/whoami")).status == 401
    await synadm("user", "deactivate", "carol", "--gdpr-erase")
    details = await synadm("user", "details", "carol")
    assert (details["deactivated"], details["erased"]) == (True, True)
    assert (await synadm("user", "list"))["total"] == 2
    assert (await synadm("user", "list", "--deactivated"))["total"] == 3


async def test_rooms(synadm: Synadm, alice: Api) -> None:
    """Rooms are listed, found, looked at, taken charge of, blocked and deleted."""
    room_id = (await alice.post("/createRoom", {"name": "Den", "preset": "private_chat"})).body["room_id"]
    assert (await synadm("room", "list"))["total_rooms"] == 1
    assert [room["room_id"] for room in (await synadm("room", "search", "den"))["rooms"]] == [room_id]
    assert (await synadm("room", "details", room_id))["name"] == "Den"
    assert (await synadm("room", "members", room_id))["members"] == [alice.user_id]
    assert "m.room.create" in {event["type"] for event in (await synadm("room", "state", room_id))["state"]}
    await synadm("room", "make-admin", room_id)
    levels = (await alice.get(f"/rooms/{room_id}/state/m.room.power_levels")).body
    assert "@boss:test.example" in levels["users"]
    assert (await synadm("room", "block", room_id, "--block"))["block"] is True
    assert (await synadm("room", "block-status", room_id))["user_id"] == "@boss:test.example"
    await synadm("room", "block", room_id, "--unblock")
    ordered = await synadm("room", "delete", room_id)

    async def is_deleted() -> bool:
        status = await synadm("room", "delete-status", "--delete-id", ordered["delete_id"])
        return bool(status["status"] == "complete")

    await eventually(is_deleted, "the deletion")
    assert (await synadm("room", "list"))["total_rooms"] == 0


async def test_registration_tokens_and_version(synadm: Synadm) -> None:
    """Tokens are made, listed, looked at, changed and deleted; the version is told."""
    made = await synadm("regtok", "new", "--token", "welcome", "--uses-allowed", "3")
    assert (made["token"], made["uses_allowed"]) == ("welcome", 3)
    assert [token["token"] for token in (await synadm("regtok", "list"))["registration_tokens"]] == ["welcome"]
    assert (await synadm("regtok", "details", "welcome"))["completed"] == 0
    assert (await synadm("regtok", "update", "welcome", "--uses-allowed", "5"))["uses_allowed"] == 5
    await synadm("regtok", "delete", "welcome")
    assert (await synadm("regtok", "list"))["registration_tokens"] == []
    assert (await synadm("version"))["server_version"].startswith("Talk pAI")
