"""Identity, one-time and fallback keys of this server's devices: uploaded, looked up, claimed.

A claim takes each one-time key exactly once: it is marked in the transaction that gives it out, and rows that another
claim has locked are passed over. A device's keys are written by one upload at a time.

# spec: client-server-api/#key-management-api
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from homeserver.devices.device_lists import mark_changed
from homeserver.devices.published_keys import (
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    OneTimeKey,
    canonical,
    checked_device_keys,
    checked_one_time_keys,
    content_of,
    identity_key,
)
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage import cross_signing_keys, device_keys
from homeserver.storage.device_keys import StoredKey
from homeserver.storage.stream import Connection, Stream

MAX_ONE_TIME_KEYS = 1000  # of a device, over all algorithms
_MAX_FALLBACK_KEYS = 20  # of a device, one for each algorithm
_REMEMBER_CLAIMED_MS = 7 * 24 * 3600 * 1000
_SECTIONS = {MASTER: "master_keys", SELF_SIGNING: "self_signing_keys", USER_SIGNING: "user_signing_keys"}


async def upload_keys(
    stream: Stream,
    user_id: str,
    user_nid: int,
    device_id: str,
    *,
    identity: JsonObject | None,
    one_time: JsonObject,
    fallback: JsonObject,
) -> dict[str, int]:
    """Stores keys that a device publishes, all of them or none.

    :param identity: its `device_keys`
    :returns: how many one-time keys there are now, by algorithm
    :raises BadRequest: for keys that are malformed, wrongly signed, too many, or other than those of the same id
    :raises NotFound: if the device is gone
    # spec: client-server-api/#post_matrixclientv3keysupload
    """
    checked = checked_device_keys(identity, user_id, device_id) if identity is not None else None
    async with stream.write() as write:
        conn = write.conn
        if not await device_keys.lock_device(conn, user_nid, device_id):
            raise NotFound("There is no such device")
        stored = await device_keys.find_device_keys(conn, user_nid, device_id)
        if checked is not None and (stored is None or content_of(decode_json(stored)) != content_of(checked)):
            # A device id that is a cross-signing key could be verified in its place.
            # spec: client-server-api/#cross-signing
            if await cross_signing_keys.is_signing_key(conn, user_nid, device_id):
                raise Forbidden("The device id is one of your cross-signing keys")
            stored = canonical(checked)
            await device_keys.replace_device_keys(conn, user_nid, device_id, stored)
            await mark_changed(write, user_nid, [device_id])
        if one_time or fallback:
            if stored is None:
                raise BadRequest("The device has no identity keys, which one-time keys are signed with")
            signing = identity_key(decode_json(stored), device_id)
            new = checked_one_time_keys(one_time, user_id, device_id, signing, most=MAX_ONE_TIME_KEYS)
            spare = checked_one_time_keys(fallback, user_id, device_id, signing, most=_MAX_FALLBACK_KEYS)
            await _add_one_time_keys(conn, user_nid, device_id, new)
            await _replace_fallback_keys(conn, user_nid, device_id, spare)
            write.changed(users=[user_nid])
        return await device_keys.count_one_time_keys(conn, user_nid, device_id)


async def _add_one_time_keys(conn: Connection, user_nid: int, device_id: str, keys: Sequence[OneTimeKey]) -> None:
    now_ms = int(time.time() * 1000)
    await device_keys.forget_claimed_keys(conn, user_nid, device_id, now_ms - _REMEMBER_CLAIMED_MS)
    present = await device_keys.find_one_time_keys(
        conn, user_nid, device_id, [(key.algorithm, key.key_id) for key in keys]
    )
    new = []
    for key in keys:
        known, claimed = present.get((key.algorithm, key.key_id), (None, False))
        if known is not None and _same_key(decode_json(known), key.value):
            continue  # an upload repeated; if it has been given out meanwhile, it is not offered again
        if known is not None and not claimed:
            raise InvalidParam(f"There is another key {key.algorithm}:{key.key_id} already")
        new.append(StoredKey(key.algorithm, key.key_id, key.json))
    held = sum((await device_keys.count_one_time_keys(conn, user_nid, device_id)).values())
    if held + len(new) > MAX_ONE_TIME_KEYS:
        raise InvalidParam(f"A device may have at most {MAX_ONE_TIME_KEYS} one-time keys")
    await device_keys.store_one_time_keys(conn, user_nid, device_id, new)


async def _replace_fallback_keys(conn: Connection, user_nid: int, device_id: str, keys: Sequence[OneTimeKey]) -> None:
    if len({key.algorithm for key in keys}) < len(keys):
        raise InvalidParam("There can be only one fallback key for each algorithm")
    for key in keys:
        await device_keys.store_fallback_key(conn, user_nid, device_id, StoredKey(key.algorithm, key.key_id, key.json))
    if keys and await device_keys.count_fallback_keys(conn, user_nid, device_id) > _MAX_FALLBACK_KEYS:
        raise InvalidParam(f"A device may have at most {_MAX_FALLBACK_KEYS} fallback keys")


def _same_key(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return content_of(one) == content_of(other)
    return bool(one == other)


async def own_keys(
    conn: Connection, wanted: Mapping[str, Sequence[str]], viewer: str | None, *, names: bool
) -> JsonObject:
    """The keys of users of this server as `viewer` may see them.

    :param wanted: user id -> device ids, none for all
    :param viewer: who asks; None: another server
    :param names: whether devices are shown with the names that their owners gave them
    :returns: device_keys, master_keys, self_signing_keys and user_signing_keys of the answer
    # spec: client-server-api/#post_matrixclientv3keysquery
    """
    answer: JsonObject = {"device_keys": {}, **{section: {} for section in _SECTIONS.values()}}
    signatures: dict[tuple[str, str], list[cross_signing_keys.SeenSignature]] = {}
    for signature in await cross_signing_keys.visible_signatures(conn, wanted, viewer):
        signatures.setdefault((signature.user_id, signature.target), []).append(signature)
    for device in await device_keys.device_keys_of(conn, wanted):
        asked = wanted[device.user_id]
        if asked and device.device_id not in asked:
            continue
        shown = decode_json(device.json)
        add_signatures(shown, signatures.get((device.user_id, device.device_id), ()))
        if names and device.display_name is not None:
            shown["unsigned"] = {"device_display_name": device.display_name}
        answer["device_keys"].setdefault(device.user_id, {})[device.device_id] = shown
    for key in await cross_signing_keys.signing_keys(conn, wanted):
        # What somebody has verified is nobody else's business.  # spec: client-server-api/#cross-signing
        if key.usage == USER_SIGNING and key.user_id != viewer:
            continue
        shown = decode_json(key.json)
        add_signatures(shown, signatures.get((key.user_id, key.public_key), ()))
        answer[_SECTIONS[key.usage]][key.user_id] = shown
    return answer


def add_signatures(obj: JsonObject, signatures: Sequence[cross_signing_keys.SeenSignature]) -> None:
    """Adds signatures that were made later to a key object."""
    for signature in signatures:
        by_user = obj.setdefault("signatures", {}).setdefault(signature.signer, {})
        by_user[signature.key_id] = signature.signature


async def claim_own_keys(stream: Stream, wanted: Mapping[str, Mapping[str, str]]) -> JsonObject:
    """Claims keys of devices of this server.

    :param wanted: user id -> device id -> algorithm
    :returns: user id -> device id -> "<algorithm>:<key id>" -> key; what has none is left out
    # spec: client-server-api/#post_matrixclientv3keysclaim
    """
    async with stream.write() as write:
        nids = await device_keys.user_nids(write.conn, wanted)
        left = {
            (nids[user_id], device_id): algorithm
            for user_id, devices in wanted.items()
            if user_id in nids
            for device_id, algorithm in devices.items()
        }
        if not left:
            return {}
        claimed = await device_keys.claim_one_time_keys(write.conn, left, int(time.time() * 1000))
        for one in claimed:
            del left[one.user_nid, one.device_id]
        if left:
            claimed += await device_keys.use_fallback_keys(write.conn, left)
        # Their owners' clients are told how many are left.
        write.changed(users={one.user_nid for one in claimed})
    user_ids = {nid: user_id for user_id, nid in nids.items()}
    answer: JsonObject = {}
    for one in claimed:
        devices = answer.setdefault(user_ids[one.user_nid], {})
        devices[one.device_id] = {f"{one.algorithm}:{one.key_id}": decode_json(one.json)}
    return answer
