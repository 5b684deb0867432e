"""What a session of OAuth 2.0 must prove before it replaces cross-signing keys: that its user agreed in the browser.

Such a session never learns a password, so it can't be asked for one. The page of the account management says
`allow_reset`, which is good for one replacement and a few minutes; the client then sends its request once more with the
session of the authentication alone. For everything else that would have to be proved, there is only the page.

# spec: client-server-api/#oauth-authentication
"""

from __future__ import annotations

import time
from typing import Any

from homeserver.accounts.interactive_auth import Challenge, Sessions, Stage
from homeserver.protocol.errors import BadJson, Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.storage import cross_signing_resets
from homeserver.storage.stream import Connection

OPERATION = "POST /keys/device_signing/upload"
ACTION = "org.matrix.cross_signing_reset"
_STAGE = "m.oauth"
# The name before it was in the specification, which clients of 2025 know.
_STAGES = (_STAGE, "org.matrix.cross_signing_reset")
_LIFETIME_MS = 10 * 60 * 1000


async def allow_reset(conn: Connection, user_nid: int) -> None:
    """The user has said in the browser that their cross-signing keys may be replaced, once, within ten minutes."""
    await cross_signing_resets.upsert_reset(conn, user_nid, int(time.time() * 1000) + _LIFETIME_MS)


def key_reset_challenge(sessions: Sessions, *, user_id: str, user_nid: int, url: str) -> Challenge:
    """What must be proved to replace cross-signing keys.

    :param url: the page where the user agrees
    """

    async def check(auth: JsonObject) -> None:
        async with sessions.pool.acquire() as conn:
            if not await cross_signing_resets.is_allowed(conn, user_nid, int(time.time() * 1000)):
                raise _not_yet()

    async def record(conn: Connection, auth: JsonObject) -> Any:
        if not await cross_signing_resets.take_reset(conn, user_nid, int(time.time() * 1000)):
            raise _not_yet()

    stage = Stage(check=check, record=record, params={"url": url})
    return Challenge(sessions, OPERATION, [(name,) for name in _STAGES], dict.fromkeys(_STAGES, stage), user_id)


def with_stage(body: JsonObject) -> JsonObject:
    """The body of a request whose `auth` names the session alone, as the specification has it, with the stage in it."""
    auth = body.get("auth")
    if auth is None:
        return body
    if not isinstance(auth, dict):
        raise BadJson("auth must be an object")
    return {**body, "auth": {"type": _STAGE, **auth}}


def _not_yet() -> Forbidden:
    return Forbidden("The user has not agreed to this in the browser yet")
