"""Our own keys, and those of others that we vouch for as a notary.

# spec: server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

import orjson

from federation.key_ring import KeyRing, StoredKey
from federation.peers import Federation
from homeserver.config import Config
from homeserver.http import ApiRequest
from homeserver.http.bodies import json_object
from homeserver.http.routes import Handler
from homeserver.protocol.errors import BadJson, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_server_name
from homeserver.protocol.signing import SigningKey, sign_json
from homeserver.services import Services
from homeserver.storage.server_keys import ServerKeyRow, server_keys, write_server_keys
from homeserver.storage.stream import Pool

_DAY_MS = 24 * 3600 * 1000
_MOST_SERVERS = 50  # that one query of a notary may name
_FETCH_SECONDS = 20.0


def own_keys(config: Config, key: SigningKey, now_ms: int) -> JsonObject:
    """What this server publishes about its keys, signed.

    # spec: server-server-api/#publishing-keys
    """
    published: JsonObject = {
        "server_name": config.server_name,
        "verify_keys": {key.key_id: {"key": key.verify_key_base64}},
        "old_verify_keys": {
            old.key_id: {"key": old.public_key, "expired_ts": old.expired_ts}
            for old in config.old_signing_keys
            if old.key_id != key.key_id
        },
        "valid_until_ts": now_ms + _DAY_MS,
    }
    return sign_json(published, config.server_name, key)


class KeyStore:
    """The keys of other servers in the database, as the key ring reads and writes them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, server_name: str, key_ids: Sequence[str]) -> Iterable[StoredKey]:
        """See `federation.key_ring.LoadKeys`."""
        async with self._pool.acquire() as conn:
            rows = await server_keys(conn, server_name, key_ids)
        return [_stored(row) for row in rows]

    async def store(self, server_name: str, keys: Sequence[StoredKey]) -> None:
        """See `federation.key_ring.StoreKeys`."""
        rows = [
            ServerKeyRow(key.key_id, key.verify_key, key.valid_until_ts, key.expired_ts, key.fetched_ts, key.response)
            for key in keys
        ]
        async with self._pool.acquire() as conn:
            await write_server_keys(conn, server_name, rows)


def _stored(row: ServerKeyRow) -> StoredKey:
    return StoredKey(row.key_id, row.verify_key, row.valid_until_ts, row.expired_ts, row.fetched_ts, row.response)


async def get_server_keys(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixkeyv2server"""
    return own_keys(services.config, services.signing_key, int(time.time() * 1000))


def notary_handlers(federation: Federation) -> tuple[Handler, Handler]:
    """The handlers of GET and POST of /_matrix/key/v2/query, which nobody signs."""

    async def get_query(services: Services, request: ApiRequest) -> JsonObject:
        """# spec: server-server-api/#get_matrixkeyv2queryservername"""
        minimum = request.query.integer("minimum_valid_until_ts", default=0, minimum=0)
        return await _answer(federation, {_server_name(request.params["serverName"]): minimum})

    async def post_query(services: Services, request: ApiRequest) -> JsonObject:
        """# spec: server-server-api/#post_matrixkeyv2query"""
        criteria = json_object(await request.json(), "server_keys", required=True)
        if len(criteria) > _MOST_SERVERS:
            raise InvalidParam(f"A query may name {_MOST_SERVERS} servers")
        return await _answer(federation, {_server_name(name): _minimum(one) for name, one in criteria.items()})

    return get_query, post_query


def _server_name(name: str) -> str:
    if not is_server_name(name):
        raise InvalidParam("Not a server name")
    return name


def _minimum(criteria: object) -> int:
    """Until when the keys must be valid: the latest time that is asked for any of them."""
    if not isinstance(criteria, dict):
        raise BadJson("The keys asked for must be an object")
    wanted = [one.get("minimum_valid_until_ts", 0) for one in criteria.values() if isinstance(one, dict)]
    return max((ts for ts in wanted if type(ts) is int), default=0)


async def _answer(federation: Federation, wanted: Mapping[str, int]) -> JsonObject:
    found = await asyncio.gather(*(_responses(federation, name, minimum) for name, minimum in wanted.items()))
    config, key = federation.services.config, federation.services.signing_key
    return {"server_keys": [sign_json(one, config.server_name, key) for responses in found for one in responses]}


async def _responses(federation: Federation, server_name: str, minimum: int) -> list[JsonObject]:
    """The newest signed responses that hold that server's keys."""
    services = federation.services
    now_ms = int(time.time() * 1000)
    if server_name == federation.server_name:
        return [own_keys(services.config, services.signing_key, now_ms)]
    known = await _known(services.pool, server_name)
    # spec: server-server-api/#querying-keys-through-another-server: fetched anew unless valid for long enough
    if max((key.valid_until_ts for key in known), default=0) < max(minimum, now_ms):
        await _fetch(federation.key_ring, server_name)
        known = await _known(services.pool, server_name)
    responses = {key.response for key in known}
    return [orjson.loads(response) for response in sorted(responses)]


async def _known(pool: Pool, server_name: str) -> list[ServerKeyRow]:
    async with pool.acquire() as conn:
        return await server_keys(conn, server_name)


async def _fetch(key_ring: KeyRing, server_name: str) -> None:
    try:
        async with asyncio.timeout(_FETCH_SECONDS):
            await key_ring.refresh(server_name)
    except TimeoutError:
        return  # what is known is what there is to answer with
