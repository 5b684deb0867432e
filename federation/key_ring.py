"""The public keys of other servers, and the checks of signatures that need them.

A key is looked for in memory, then in storage, then at the server itself, then at the notaries that the operator
trusts. Whoever sends us a request or an event can name any server and any key id, so look-ups are shared, failures are
remembered and asked again ever later, and every count is bounded.

# spec: server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from nacl.signing import VerifyKey

from federation.expiring_cache import ExpiringCache
from federation.transport import Transport
from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.errors import InvalidEvent, InvalidSignature, MatrixError, Unavailable
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import is_server_name
from homeserver.protocol.signing import check_event_signature, check_signed_json, parse_verify_key, required_signers

_DAY_MS = 24 * 3600 * 1000
_LONGEST_VALIDITY_MS = 7 * _DAY_MS
_FRESH_MS = 60_000  # a server that just told its keys isn't asked again for another key id
_FAILED_MS = 10_000  # doubles with every further failure …
_FAILED_MAX_MS = 600_000  # … up to this
_MAX_KEYS = 64
_MAX_NOTARY_ANSWERS = 64
_MAX_SIGNATURES = 8
_MAX_KEY_ID = 255
_MAX_BYTES = 256 * 1024
_MAX_FETCHES = 64
_NOTARY_QUERIES_A_MINUTE = 8


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A public key as it was published.

    `verify_key` is unpadded Base64, times are milliseconds. `expired_ts` is set for an old key, which then has the same
    `valid_until_ts`. `response` is the signed JSON that it came in, for answering as a notary.
    """

    key_id: str
    verify_key: str
    valid_until_ts: int
    expired_ts: int | None
    fetched_ts: int
    response: bytes

    @property
    def last_valid_ms(self) -> int:
        """Until when signatures by this key count.

        # spec: server-server-api/#publishing-keys
        """
        if self.expired_ts is not None:
            # It was old when we learned of it, whatever date the server gives.
            return min(self.expired_ts, self.fetched_ts)
        return min(self.valid_until_ts, self.fetched_ts + _LONGEST_VALIDITY_MS)


LoadKeys = Callable[[str, Sequence[str]], Awaitable[Iterable[StoredKey]]]
StoreKeys = Callable[[str, Sequence[StoredKey]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Known:
    stored: StoredKey
    key: VerifyKey


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How asking a server (or the notaries) for keys went; `failures` counts those in a row."""

    error: str | None
    failures: int


class KeyRing:
    """One for the process. `own_keys` are all keys of this server by id, old ones too; they are never asked for."""

    def __init__(
        self,
        transport: Transport,
        *,
        own_name: str,
        own_keys: Mapping[str, VerifyKey],
        load_keys: LoadKeys,
        store_keys: StoreKeys,
        trusted_key_servers: Collection[str] = (),
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        cache_size: int = 20_000,
    ) -> None:
        self._transport = transport
        self._own_name = own_name
        self._own_keys = dict(own_keys)
        self._load_keys = load_keys
        self._store_keys = store_keys
        self._notaries = tuple(name for name in trusted_key_servers if name != own_name)
        self._now_ms = now_ms
        self._known: ExpiringCache[tuple[str, str], _Known] = ExpiringCache(cache_size, now_ms)
        self._direct: ExpiringCache[str, _Attempt] = ExpiringCache(cache_size, now_ms)
        self._notary: ExpiringCache[tuple[str, tuple[str, ...]], _Attempt] = ExpiringCache(cache_size, now_ms)
        self._notary_queries: ExpiringCache[tuple[str, int], int] = ExpiringCache(cache_size, now_ms)
        self._fetches = asyncio.Semaphore(_MAX_FETCHES)

    async def verify_key(self, server_name: str, key_id: str, *, valid_at_ms: int) -> VerifyKey:
        """That key of that server, if it was valid at that time (0 where its validity doesn't matter).

        :raises InvalidSignature: when the server has no such key, or it was not valid then
        :raises Unavailable: when neither the server nor a notary can be asked at present
        """
        return (await self._keys(server_name, [key_id], valid_at_ms))[key_id]

    async def check_json(self, obj: JsonObject, server_name: str, valid_at_ms: int) -> None:
        """Checks that the object bears a signature of that server by a key that was valid at that time.

        :raises InvalidSignature: when it bears none, or a wrong one
        :raises Unavailable: when no key can be had at present

        # spec: appendices/#checking-for-a-signature
        """
        keys = await self._keys(server_name, _signing_key_ids(obj, server_name), valid_at_ms)
        for key_id, key in keys.items():
            check_signed_json(obj, server_name, key_id, key)

    async def check_event(self, event: Event) -> None:
        """Checks that every server that must have signed the event did, with a key that was valid then.

        Signatures by unknown and expired keys are skipped; all others must be right, and at least one must be there.

        :raises InvalidSignature: when one of the servers did not sign
        :raises Unavailable: when a key can't be had at present

        # spec: server-server-api/#validating-hashes-and-signatures-on-received-events
        # spec: rooms/v5#signing-key-validity-period
        """
        valid_at_ms = event.origin_server_ts if event.room_version.enforces_key_validity else 0
        for server_name in sorted(required_signers(event)):
            keys = await self._keys(server_name, _signing_key_ids(event.json, server_name), valid_at_ms)
            for key_id, key in keys.items():
                check_event_signature(event, server_name, key_id, key)

    async def refresh(self, server_name: str) -> None:
        """Asks that server for its keys and stores them, unless it was asked a moment ago. Failures are remembered."""
        if server_name != self._own_name and is_server_name(server_name):
            await self._direct.get(server_name, lambda previous: self._ask_server(server_name, previous))

    async def _keys(self, server_name: str, key_ids: Sequence[str], valid_at_ms: int) -> dict[str, VerifyKey]:
        """At least one of those keys of that server. Others are asked only if none is at hand that was valid then."""
        if server_name == self._own_name:
            own = {key_id: self._own_keys[key_id] for key_id in key_ids if key_id in self._own_keys}
            return _at_least_one(own, server_name)
        if not is_server_name(server_name) or not key_ids or not all(_is_key_id(key_id) for key_id in key_ids):
            raise InvalidSignature(f"no usable signature of {server_name[:_MAX_KEY_ID]}")
        found = self._usable(server_name, key_ids, valid_at_ms)
        if not found:
            await self._load(server_name, key_ids)
            found = self._usable(server_name, key_ids, valid_at_ms)
        if found:
            return found
        attempt = await self._direct.get(server_name, lambda previous: self._ask_server(server_name, previous))
        found = self._usable(server_name, key_ids, valid_at_ms)
        if not found and self._notaries and server_name not in self._notaries:
            wanted = tuple(sorted(key_ids))
            await self._notary.get(
                (server_name, wanted), lambda previous: self._ask_notaries(server_name, wanted, valid_at_ms, previous)
            )
            found = self._usable(server_name, key_ids, valid_at_ms)
        if not found and attempt.error is not None:
            raise Unavailable(f"The keys of {server_name} can't be had: {attempt.error}")
        return _at_least_one(found, server_name)

    def _usable(self, server_name: str, key_ids: Iterable[str], valid_at_ms: int) -> dict[str, VerifyKey]:
        known = ((key_id, self._known.peek((server_name, key_id))) for key_id in key_ids)
        return {key_id: one.key for key_id, one in known if one and valid_at_ms <= one.stored.last_valid_ms}

    async def _load(self, server_name: str, key_ids: Sequence[str]) -> None:
        # Also those that memory has: another process may have learned that they are valid for longer.
        for stored in await self._load_keys(server_name, key_ids):
            known = self._known.peek((server_name, stored.key_id))
            if known is None or known.stored.fetched_ts < stored.fetched_ts:
                self._remember(server_name, stored)

    def _remember(self, server_name: str, stored: StoredKey) -> None:
        known = _Known(stored, parse_verify_key(stored.verify_key))
        self._known.put((server_name, stored.key_id), known, _DAY_MS)

    async def _learn(self, server_name: str, keys: Sequence[StoredKey]) -> None:
        for key in keys:
            self._remember(server_name, key)
        if keys:
            await self._store_keys(server_name, keys)

    async def _ask_server(self, server_name: str, previous: _Attempt | None) -> tuple[_Attempt, int]:
        """# spec: server-server-api/#get_matrixkeyv2server"""
        try:
            async with self._fetches:
                answer = await self._transport.request_json(
                    server_name, "GET", "/_matrix/key/v2/server", max_bytes=_MAX_BYTES
                )
            keys = _parse_server_keys(answer, server_name, self._now_ms())
        except (MatrixError, InvalidSignature) as error:
            return _failed(str(error), previous)
        await self._learn(server_name, keys)
        return _Attempt(None, 0), _FRESH_MS

    async def _ask_notaries(
        self, server_name: str, key_ids: Sequence[str], valid_at_ms: int, previous: _Attempt | None
    ) -> tuple[_Attempt, int]:
        """# spec: server-server-api/#post_matrixkeyv2query"""
        minute = (server_name, self._now_ms() // 60_000)
        queries = self._notary_queries.peek(minute) or 0
        if queries >= _NOTARY_QUERIES_A_MINUTE:
            return _failed("too many queries for this server", previous)
        self._notary_queries.put(minute, queries + 1, 60_000)
        criteria = {key_id: {"minimum_valid_until_ts": max(valid_at_ms, 0)} for key_id in key_ids}
        error = "no notary has the key"
        for notary in self._notaries:
            try:
                async with self._fetches:
                    answer = await self._transport.request_json(
                        notary,
                        "POST",
                        "/_matrix/key/v2/query",
                        content={"server_keys": {server_name: criteria}},
                        max_bytes=_MAX_BYTES,
                    )
                keys = await self._keys_from_notary(answer, notary, server_name)
            except (MatrixError, InvalidSignature) as failure:
                error = str(failure)
                continue
            await self._learn(server_name, keys)
            if self._usable(server_name, key_ids, valid_at_ms):
                return _Attempt(None, 0), _FRESH_MS
        return _failed(error, previous)

    async def _keys_from_notary(self, answer: Any, notary: str, server_name: str) -> list[StoredKey]:
        """The keys in a notary's answer that say something new; each response has to be signed by both servers."""
        responses = answer.get("server_keys") if isinstance(answer, dict) else None
        if not isinstance(responses, list) or len(responses) > _MAX_NOTARY_ANSWERS:
            raise InvalidSignature(f"{notary} did not answer with server_keys")
        latest: dict[str, StoredKey] = {}
        for response in responses:
            if not isinstance(response, dict) or response.get("server_name") != server_name:
                continue
            await self.check_json(response, notary, self._now_ms())
            for key in _parse_server_keys(response, server_name, self._now_ms()):
                known = self._known.peek((server_name, key.key_id))
                best = latest.get(key.key_id) or (known.stored if known else None)
                # A notary may answer out of an old cache; what the server itself told us last outlives that.
                if best is None or best.last_valid_ms < key.last_valid_ms:
                    latest[key.key_id] = key
        return list(latest.values())


def _failed(error: str, previous: _Attempt | None) -> tuple[_Attempt, int]:
    failures = previous.failures if previous is not None else 0
    return _Attempt(error, failures + 1), min(_FAILED_MS << min(failures, 10), _FAILED_MAX_MS)


def _at_least_one(keys: dict[str, VerifyKey], server_name: str) -> dict[str, VerifyKey]:
    if not keys:
        raise InvalidSignature(f"no signature by a key of {server_name} that was valid then")
    return keys


def _is_key_id(key_id: object) -> bool:
    return (
        isinstance(key_id, str)
        and len(key_id) <= _MAX_KEY_ID
        and key_id.startswith("ed25519:")
        and key_id.isascii()
        and key_id.isprintable()
    )


def _signing_key_ids(obj: JsonObject, server_name: str) -> list[str]:
    signatures = obj.get("signatures")
    by_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    if not isinstance(by_server, dict):
        return []
    return sorted(key_id for key_id in by_server if _is_key_id(key_id))[:_MAX_SIGNATURES]


def _parse_server_keys(answer: Any, server_name: str, now_ms: int) -> list[StoredKey]:
    """The keys in a response that its own keys have signed.

    :raises InvalidSignature: when it is malformed, of another server, or a signature by one of its keys is wrong
    """
    if not isinstance(answer, dict) or answer.get("server_name") != server_name:
        raise InvalidSignature(f"not a response about the keys of {server_name}")
    verify_keys, old_keys = answer.get("verify_keys"), answer.get("old_verify_keys", {})
    valid_until_ts = answer.get("valid_until_ts")
    if not isinstance(verify_keys, dict) or not isinstance(old_keys, dict) or not _is_timestamp(valid_until_ts):
        raise InvalidSignature(f"malformed keys of {server_name}")
    if len(verify_keys) + len(old_keys) > _MAX_KEYS:
        raise InvalidSignature(f"{server_name} has more than {_MAX_KEYS} keys")
    current = {key_id: text for key_id, value in verify_keys.items() if (text := _key_text(key_id, value))}
    signed_with = [key_id for key_id in _signing_key_ids(answer, server_name) if key_id in current]
    if not signed_with:
        raise InvalidSignature(f"the keys of {server_name} are not signed by one of them")
    for key_id in signed_with:
        check_signed_json(answer, server_name, key_id, parse_verify_key(current[key_id]))
    try:
        response = encode_canonical_json(answer, strict=False)
    except InvalidEvent as error:
        raise InvalidSignature(str(error)) from error
    keys = [StoredKey(key_id, text, valid_until_ts, None, now_ms, response) for key_id, text in current.items()]
    for key_id, value in old_keys.items():
        text = _key_text(key_id, value)
        if text and key_id not in current and _is_timestamp(expired_ts := value.get("expired_ts")):
            keys.append(StoredKey(key_id, text, expired_ts, expired_ts, now_ms, response))
    return keys


def _key_text(key_id: str, value: Any) -> str | None:
    """The Base64 of a usable Ed25519 key; keys of other algorithms and malformed ones are left out."""
    text = value.get("key") if isinstance(value, dict) else None
    if not _is_key_id(key_id) or not isinstance(text, str):
        return None
    try:
        parse_verify_key(text)
    except InvalidSignature:
        return None
    return text


def _is_timestamp(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**53
