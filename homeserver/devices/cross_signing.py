"""Cross-signing keys: published and replaced by their user.

The self-signing and the user-signing key hang on the master key: with a new one, those that it has not signed are gone.
Whether the user must prove who they are is decided twice, before the proof is asked for and again under the lock.

# spec: client-server-api/#cross-signing
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.devices.device_lists import mark_changed
from homeserver.devices.published_keys import (
    MASTER,
    USAGES,
    BadSignature,
    SigningKeyObject,
    canonical,
    check_signature,
    checked_signing_key,
    identity_key,
)
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import Forbidden, InvalidParam, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.storage.cross_signing_keys import (
    KeySignature,
    StoredSigningKey,
    delete_signing_keys,
    lock_signing_keys,
    signing_keys,
    store_signatures,
    store_signing_key,
)
from homeserver.storage.device_keys import all_device_keys
from homeserver.storage.device_lists import own_device_ids
from homeserver.storage.stream import Connection, Write


def parse_signing_keys(body: JsonObject, user_id: str) -> dict[str, SigningKeyObject]:
    """The keys in an upload by their usage.

    :raises BadJson, InvalidParam, TooLarge: if any is malformed, or two are the same
    # spec: client-server-api/#post_matrixclientv3keysdevice_signingupload
    """
    keys = {
        usage: checked_signing_key(body[f"{usage}_key"], user_id, usage)
        for usage in USAGES
        if body.get(f"{usage}_key") is not None
    }
    if len({key.public_key for key in keys.values()}) < len(keys):
        raise InvalidParam("Each usage needs a key of its own")
    return keys


async def stored_signing_keys(conn: Connection, user_id: str) -> dict[str, StoredSigningKey]:
    """A user's keys by their usage."""
    return {key.usage: key for key in await signing_keys(conn, [user_id])}


def needs_proof(stored: Mapping[str, StoredSigningKey], new: Mapping[str, SigningKeyObject]) -> bool:
    """Whether an upload would change keys of a user who has some already.

    # spec: client-server-api/#post_matrixclientv3keysdevice_signingupload
    """
    return MASTER in stored and any(not _is_stored(stored.get(usage), key) for usage, key in new.items())


def _is_stored(stored: StoredSigningKey | None, key: SigningKeyObject) -> bool:
    return stored is not None and stored.public_key == key.public_key


async def upload_signing_keys(
    write: Write, user_id: str, user_nid: int, new: Mapping[str, SigningKeyObject], *, proved: bool
) -> None:
    """Stores cross-signing keys. In the transaction of `write`.

    :param proved: whether the user has proved who they are, or need not
    :raises BadSignature: if a key is not signed by the master key, or a device's signature on that is wrong
    :raises MissingParam: if there is no master key
    :raises Forbidden: if a proof has become necessary meanwhile, or a key is also the id of a device
    # spec: client-server-api/#post_matrixclientv3keysdevice_signingupload
    """
    conn = write.conn
    await lock_signing_keys(conn, user_nid)
    stored = await stored_signing_keys(conn, user_id)
    if not proved and needs_proof(stored, new):
        raise Forbidden("Your keys have changed in the meantime; try again")
    if MASTER not in stored and MASTER not in new:
        raise MissingParam("There is no master key")
    await _check_collisions(conn, user_nid, stored, new)
    master = new[MASTER].public_key if MASTER in new else stored[MASTER].public_key
    objects = {usage: _signed_by(master, key, user_id) for usage, key in new.items() if usage != MASTER}
    changed = {usage for usage, key in new.items() if not _is_stored(stored.get(usage), key)}
    await delete_signing_keys(conn, user_nid, USAGES if MASTER in changed else changed)
    if MASTER in new:
        objects[MASTER] = new[MASTER].content
    for usage, obj in objects.items():
        await store_signing_key(conn, user_nid, usage, new[usage].public_key, canonical(obj))
    vouched = MASTER in new and await _store_device_signatures(conn, user_id, user_nid, new[MASTER])
    if changed or vouched:
        await mark_changed(write, user_nid, [], signing_keys=True)


async def _check_collisions(
    conn: Connection, user_nid: int, stored: Mapping[str, StoredSigningKey], new: Mapping[str, SigningKeyObject]
) -> None:
    """A key that is also a device id could be verified in the device's place, and the other way round."""
    if {key.public_key for key in new.values()} & set(await own_device_ids(conn, user_nid)):
        raise Forbidden("A cross-signing key is the id of one of your devices")
    kept = {key.public_key for usage, key in stored.items() if usage not in new}
    if kept & {key.public_key for key in new.values()}:
        raise InvalidParam("Each usage needs a key of its own")


def _signed_by(master: str, key: SigningKeyObject, user_id: str) -> JsonObject:
    """The object with the master key's signature alone."""
    key_id = f"ed25519:{master}"
    if key_id not in key.signatures:
        raise BadSignature(f"The {key.usage} key is not signed by the master key")
    signed = {**key.content, "signatures": {user_id: {key_id: key.signatures[key_id]}}}
    check_signature(signed, user_id, key_id, master)
    return signed


async def _store_device_signatures(conn: Connection, user_id: str, user_nid: int, master: SigningKeyObject) -> bool:
    """Stores the signatures of the user's devices that came with the master key, once each is verified."""
    devices = await all_device_keys(conn, user_nid)
    found = []
    for key_id, signature in master.signatures.items():
        device_id = key_id.removeprefix("ed25519:")
        if device_id not in devices or device_id == key_id:
            continue
        signed = {**master.content, "signatures": {user_id: {key_id: signature}}}
        check_signature(signed, user_id, key_id, identity_key(decode_json(devices[device_id]), device_id))
        found.append(KeySignature(user_nid, master.public_key, user_nid, key_id, signature, signing_device=device_id))
    return bool(await store_signatures(conn, found))
