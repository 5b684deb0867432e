"""Which keys are asked for, by clients and by other servers: the bodies of queries and claims, checked and bounded.

# spec: client-server-api/#key-management-api  server-server-api/#end-to-end-encryption
"""

from __future__ import annotations

from typing import Any

from homeserver.protocol.errors import BadJson, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_user_id

_MAX_USERS = 5000
_MAX_DEVICES = 20_000  # in one request, over all users
_MAX_NAME = 255


def wanted_devices(asked: JsonObject) -> dict[str, list[str]]:
    """`device_keys` of a query: user id -> device ids, none for all. What is no user id has no keys.

    :raises BadJson, InvalidParam: for other things, and for too much
    """
    _check_count(len(asked), _MAX_USERS)
    for devices in asked.values():
        if not isinstance(devices, list) or not all(isinstance(one, str) for one in devices):
            raise BadJson("device_keys must map users to arrays of device ids")
    _check_count(sum(len(devices) for devices in asked.values()), _MAX_DEVICES)
    return {user_id: devices for user_id, devices in asked.items() if is_user_id(user_id)}


def wanted_keys(asked: JsonObject) -> dict[str, dict[str, str]]:
    """`one_time_keys` of a claim: user id -> device id -> algorithm. Raises as `wanted_devices`."""
    _check_count(len(asked), _MAX_USERS)
    for devices in asked.values():
        if not isinstance(devices, dict) or not all(_is_name(one) for one in devices.values()):
            raise BadJson("one_time_keys must map users to algorithms by device id")
        if not all(_is_name(device_id) for device_id in devices):
            raise InvalidParam("A device id is too long or has a NUL character in it")
    _check_count(sum(len(devices) for devices in asked.values()), _MAX_DEVICES)
    return {user_id: devices for user_id, devices in asked.items() if is_user_id(user_id)}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_NAME and "\0" not in value


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise InvalidParam(f"At most {most} can be asked for at once")
