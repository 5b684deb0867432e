"""Signatures on keys that are published already: taken only where cross-signing has a use for them, and only if good.

Three relations there are: a user's self-signing key signs the user's devices, a device signs the user's master key, and
the user-signing key signs the master keys of others. The last is shown to its maker alone.

# spec: client-server-api/#key-and-signature-security
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeserver.devices.device_lists import mark_changed
from homeserver.devices.published_keys import (
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    BadSignature,
    SigningKeyObject,
    check_signature,
    checked_signing_key,
    content_of,
    identity_key,
    signatures_of,
)
from homeserver.devices.remote_keys import ask_all, by_server, remote_signing_key
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import BadJson, InvalidParam, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.remote import Remote
from homeserver.storage.cross_signing_keys import KeySignature, lock_signing_keys, signing_keys, store_signatures
from homeserver.storage.device_keys import all_device_keys
from homeserver.storage.stream import Connection, Stream
from homeserver.storage.users import ensure_user

_MAX_OBJECTS = 1000
_MAX_OTHERS = 100  # users other than the one who signs
_TIMEOUT = 10.0  # seconds, for other servers to show the keys that are signed

Signed = Mapping[str, Mapping[str, JsonObject]]


@dataclass(frozen=True, slots=True)
class _OwnKeys:
    """What a user has published: devices by id, cross-signing keys by usage."""

    devices: Mapping[str, JsonObject]
    signing: Mapping[str, SigningKeyObject]


async def upload_signatures(
    stream: Stream, remote: Remote, server_name: str, user_id: str, user_nid: int, body: JsonObject
) -> JsonObject:
    """Stores signatures by a user. Each object is taken or refused by itself.

    :param body: user id -> device id or public key -> signed object
    :returns: the failures: user id -> device id or public key -> error
    :raises BadJson, InvalidParam: if the body has not that form or too much in it
    # spec: client-server-api/#post_matrixclientv3keyssignaturesupload
    """
    signed = _checked(body, user_id)
    others, failures = await _others_masters(stream, remote, server_name, user_id, signed)
    found: list[KeySignature] = []
    async with stream.write() as write:
        await lock_signing_keys(write.conn, user_nid)
        own = await _own_keys(write.conn, user_id, user_nid)
        nids = {user_id: user_nid}
        for owner, objects in signed.items():
            for target, obj in objects.items():
                if target in failures.get(owner, {}):
                    continue
                try:
                    if owner == user_id:
                        found += _on_own(own, user_id, user_nid, target, obj)
                    else:
                        master, key_id, signature = _on_other(own, user_id, others.get(owner), target, obj)
                        nids[owner] = await ensure_user(write.conn, owner)
                        found.append(KeySignature(nids[owner], master, user_nid, key_id, signature))
                except MatrixError as error:
                    failures.setdefault(owner, {})[target] = error.body()
        changed = [one for one in found if await store_signatures(write.conn, [one])]
        devices = {one.target_device for one in changed if one.target_device is not None}
        vouched = any(one.signing_device is not None for one in changed)
        # In one order, so that two uploads don't wait for each other.
        for nid in sorted({one.user_nid for one in changed}):
            if nid == user_nid:
                await mark_changed(write, nid, devices, signing_keys=vouched)
            else:
                # Nobody else sees it, but the signer's other devices have to look again.
                await mark_changed(write, nid, [])
    return failures


def _checked(body: JsonObject, user_id: str) -> Signed:
    if not all(
        is_user_id(owner) and isinstance(objects, dict) and all(isinstance(obj, dict) for obj in objects.values())
        for owner, objects in body.items()
    ):
        raise BadJson("The body must map users to signed objects by device id or key")
    if sum(len(objects) for objects in body.values()) > _MAX_OBJECTS or len(body.keys() - {user_id}) > _MAX_OTHERS:
        raise InvalidParam("So many signatures can't be uploaded at once")
    return body


async def _own_keys(conn: Connection, user_id: str, user_nid: int) -> _OwnKeys:
    devices = {device_id: decode_json(raw) for device_id, raw in (await all_device_keys(conn, user_nid)).items()}
    signing = {
        key.usage: checked_signing_key(decode_json(key.json), user_id, key.usage)
        for key in await signing_keys(conn, [user_id])
    }
    return _OwnKeys(devices, signing)


async def _others_masters(
    stream: Stream, remote: Remote, server_name: str, user_id: str, signed: Signed
) -> tuple[dict[str, SigningKeyObject], JsonObject]:
    """The master keys of the other users, and the failures where their server can't be asked."""
    wanted: dict[str, list[str]] = {owner: [] for owner in signed if owner != user_id}
    here = [owner for owner in wanted if domain_of(owner) == server_name]
    servers = by_server({owner: none for owner, none in wanted.items() if owner not in here})
    masters: dict[str, SigningKeyObject] = {}
    async with stream.pool.acquire() as conn:
        for key in await signing_keys(conn, here):
            if key.usage == MASTER:
                masters[key.user_id] = checked_signing_key(decode_json(key.json), key.user_id, MASTER)
    answers, unreachable = await ask_all(servers, lambda server: remote.query_keys(server, servers[server]), _TIMEOUT)
    for server, answer in answers.items():
        for owner in servers[server]:
            master = remote_signing_key(answer, owner, MASTER)
            if master is not None:
                masters[owner] = master
    failures: JsonObject = {
        owner: dict.fromkeys(signed[owner], error) for server, error in unreachable.items() for owner in servers[server]
    }
    return masters, failures


def _on_own(own: _OwnKeys, user_id: str, user_nid: int, target: str, obj: JsonObject) -> list[KeySignature]:
    """The new signatures on a device or the master key of the user who signs.

    :raises NotFound, BadJson, BadSignature: if the object is not one of these, or any signature is not as it must be
    """
    given = signatures_of(obj, user_id)
    master, self_signing = own.signing.get(MASTER), own.signing.get(SELF_SIGNING)
    found: list[KeySignature] = []
    if target in own.devices:
        device = own.devices[target]
        _check_same(obj, device)
        # Clients send the device's own signature along.
        new = {key_id: one for key_id, one in given.items() if device["signatures"][user_id].get(key_id) != one}
        for key_id, signature in new.items():
            if self_signing is None or key_id != self_signing.key_id:
                raise BadSignature(f"{key_id} is not your self-signing key")
            check_signature(obj, user_id, key_id, self_signing.public_key)
            found.append(KeySignature(user_nid, target, user_nid, key_id, signature, target_device=target))
    elif master is not None and target == master.public_key:
        _check_same(obj, master.content)
        for key_id, signature in given.items():
            device_id = key_id.removeprefix("ed25519:")
            if key_id == device_id or device_id not in own.devices:
                raise BadSignature(f"{key_id} is not the key of one of your devices")
            check_signature(obj, user_id, key_id, identity_key(own.devices[device_id], device_id))
            found.append(KeySignature(user_nid, target, user_nid, key_id, signature, signing_device=device_id))
    else:
        raise NotFound("You have no such device or master key")
    if not given:
        raise BadSignature("There is no signature of yours")
    return found


def _on_other(
    own: _OwnKeys, user_id: str, master: SigningKeyObject | None, target: str, obj: JsonObject
) -> tuple[str, str, str]:
    """The signature on another's master key: that key, the id of the key that signs, the signature. Raises as above."""
    if master is None or target != master.public_key:
        raise NotFound("The user has no such master key")
    _check_same(obj, master.content)
    given = signatures_of(obj, user_id)
    user_signing = own.signing.get(USER_SIGNING)
    if user_signing is None or list(given) != [user_signing.key_id]:
        raise BadSignature("The signature must be by your user-signing key")
    check_signature(obj, user_id, user_signing.key_id, user_signing.public_key)
    return master.public_key, user_signing.key_id, given[user_signing.key_id]


def _check_same(obj: JsonObject, published: Mapping[str, Any]) -> None:
    if content_of(obj) != content_of(dict(published)):
        raise BadSignature("The object is not the one that was published")
