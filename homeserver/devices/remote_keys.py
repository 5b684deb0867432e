"""Keys of users of other servers, asked for at all of these servers at once, each failure reported by its server.

What comes back is let through only if it was asked for and is of the promised form. Signatures are for clients to
judge; those that nobody here may see or has made are left out.

# spec: server-server-api/#end-to-end-encryption
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from homeserver.devices.keys import add_signatures
from homeserver.devices.published_keys import MASTER, SELF_SIGNING, SigningKeyObject, checked_signing_key
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.remote import Remote, RemoteError
from homeserver.storage.cross_signing_keys import SeenSignature

T = TypeVar("T")

MAX_TIMEOUT = 60.0  # seconds
_AT_ONCE = 100  # servers
_SECTIONS = {MASTER: "master_keys", SELF_SIGNING: "self_signing_keys"}


def by_server(wanted: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """server -> user id -> value."""
    servers: dict[str, dict[str, T]] = {}
    for user_id, value in wanted.items():
        servers.setdefault(domain_of(user_id), {})[user_id] = value
    return servers


async def ask_all(
    servers: Collection[str], ask: Callable[[str], Awaitable[JsonObject]], timeout: float
) -> tuple[dict[str, JsonObject], JsonObject]:
    """Asks servers, all at once.

    :param timeout: seconds until whoever has not answered counts as unreachable
    :returns: the answers, and an error for each server that gave none
    """
    answers: dict[str, JsonObject] = {}
    failures: JsonObject = {}
    deadline = asyncio.get_running_loop().time() + timeout
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def ask_one(server: str) -> None:
        try:
            async with asyncio.timeout_at(deadline), at_once:
                answers[server] = await ask(server)
        except TimeoutError:
            failures[server] = {"errcode": "M_UNKNOWN", "error": "The server did not answer in time"}
        except MatrixError as error:
            # spec: client-server-api/#post_matrixclientv3keysquery: users that a server doesn't know are no failure
            if not (isinstance(error, RemoteError) and error.peer_errcode == "M_NOT_FOUND"):
                failures[server] = {"errcode": error.errcode, "error": error.message}

    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(ask_one(server))
    return answers, failures


async def query_remote_keys(
    ask: Callable[[str, Mapping[str, Sequence[str]]], Awaitable[JsonObject]],
    wanted: Mapping[str, Sequence[str]],
    viewer: str,
    added: Sequence[SeenSignature],
    timeout: float,
) -> JsonObject:
    """The keys of users of other servers.

    :param ask: what a server answers to POST /user/keys/query, as `remote_device_lists.query_keys`
    :param wanted: user id -> device ids, none for all
    :param added: signatures by `viewer` on their master keys, which are kept here
    :returns: device_keys, master_keys, self_signing_keys and failures of the answer
    # spec: server-server-api/#post_matrixfederationv1userkeysquery
    """
    servers = by_server(wanted)
    answers, failures = await ask_all(servers, lambda server: ask(server, servers[server]), timeout)
    found: JsonObject = {"device_keys": {}, **{section: {} for section in _SECTIONS.values()}, "failures": failures}
    for server, answer in answers.items():
        for user_id, asked in servers[server].items():
            devices = _devices(answer, user_id, asked)
            if devices:
                found["device_keys"][user_id] = devices
            for usage, section in _SECTIONS.items():
                key = remote_signing_key(answer, user_id, usage)
                if key is not None:
                    shown = dict(key.content)
                    if key.signatures:
                        shown["signatures"] = {user_id: dict(key.signatures)}
                    if usage == MASTER:
                        own = [one for one in added if (one.user_id, one.target) == (user_id, key.public_key)]
                        add_signatures(shown, own)
                    found[section][user_id] = shown
    return found


def remote_signing_key(answer: JsonObject, user_id: str, usage: str) -> SigningKeyObject | None:
    """A user's key in another server's answer; None if there is none or it is malformed."""
    section = answer.get(_SECTIONS[usage])
    try:
        return checked_signing_key(section.get(user_id) if isinstance(section, dict) else None, user_id, usage)
    except MatrixError:
        return None


def _devices(answer: JsonObject, user_id: str, asked: Sequence[str]) -> JsonObject:
    users = answer.get("device_keys")
    devices = users.get(user_id) if isinstance(users, dict) else None
    shown = {}
    for device_id, device in (devices if isinstance(devices, dict) else {}).items():
        if (asked and device_id not in asked) or not _is_device(device, user_id, device_id):
            continue
        # Others' signatures on a device mean nothing, and only their number is without bound.
        signatures = device["signatures"].get(user_id)
        shown[device_id] = {**device, "signatures": {user_id: signatures} if isinstance(signatures, dict) else {}}
    return shown


def _is_device(device: Any, user_id: str, device_id: str) -> bool:
    return (
        isinstance(device, dict)
        and device.get("user_id") == user_id
        and device.get("device_id") == device_id
        and isinstance(device.get("algorithms"), list)
        and isinstance(device.get("keys"), dict)
        and isinstance(device.get("signatures"), dict)
    )


async def claim_remote_keys(remote: Remote, wanted: Mapping[str, Mapping[str, str]], timeout: float) -> JsonObject:
    """Claims keys of devices of other servers.

    :param wanted: user id -> device id -> algorithm
    :returns: one_time_keys and failures of the answer
    # spec: server-server-api/#post_matrixfederationv1userkeysclaim
    """
    servers = by_server(wanted)
    answers, failures = await ask_all(servers, lambda server: remote.claim_keys(server, servers[server]), timeout)
    found: JsonObject = {}
    for server, answer in answers.items():
        users = answer.get("one_time_keys")
        for user_id, asked in servers[server].items():
            devices = users.get(user_id) if isinstance(users, dict) else None
            for device_id, algorithm in asked.items():
                keys = devices.get(device_id) if isinstance(devices, dict) else None
                if isinstance(keys, dict) and len(keys) == 1 and _is_claimed(keys, algorithm):
                    found.setdefault(user_id, {})[device_id] = keys
    return {"one_time_keys": found, "failures": failures}


def _is_claimed(keys: JsonObject, algorithm: str) -> bool:
    ((name, key),) = keys.items()
    if not name.startswith(f"{algorithm}:"):
        return False
    return isinstance(key, str) or (
        isinstance(key, dict) and isinstance(key.get("key"), str) and isinstance(key.get("signatures"), dict)
    )
