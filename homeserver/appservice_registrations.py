"""Application services as their registration files describe them.

# spec: application-service-api/#registration
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from homeserver.config import ConfigError
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.identifiers import check_new_localpart

_MAX_MATCHED = 255  # characters: no user id, alias or room id is longer


@dataclass(frozen=True, slots=True)
class Namespace:
    exclusive: bool
    regex: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Appservice:
    """One application service. `sender` is the user id made of its `sender_localpart`."""

    id: str
    url: str | None
    as_token: str
    hs_token: str
    sender: str
    users: tuple[Namespace, ...]
    aliases: tuple[Namespace, ...]
    rooms: tuple[Namespace, ...]
    rate_limited: bool
    protocols: tuple[str, ...]
    receive_ephemeral: bool

    def covers_user(self, user_id: str) -> bool:
        """Whether it may act as this local user."""
        return user_id == self.sender or _matches(self.users, user_id)

    def interested_in_alias(self, alias: str) -> bool:
        return _matches(self.aliases, alias)

    def interested_in_room(self, room_id: str) -> bool:
        return _matches(self.rooms, room_id)

    def excludes_others_from_user(self, user_id: str) -> bool:
        """Whether only it may have this user."""
        return user_id == self.sender or _matches((one for one in self.users if one.exclusive), user_id)

    def excludes_others_from_alias(self, alias: str) -> bool:
        """Whether only it may have this alias."""
        return _matches((one for one in self.aliases if one.exclusive), alias)


def _matches(namespaces: Iterable[Namespace], text: str) -> bool:
    return len(text) <= _MAX_MATCHED and any(one.regex.match(text) for one in namespaces)


class Appservices:
    """All application services of this server."""

    def __init__(self, appservices: Iterable[Appservice] = ()) -> None:
        """Raises ConfigError if two share an id, a token or a sender."""
        self.all = tuple(appservices)
        for name in ("id", "as_token", "sender"):
            values = [getattr(one, name) for one in self.all]
            if len(values) != len(set(values)):
                raise ConfigError(f"application_services: two of them have the same {name}")
        # Found by hash, so that how long a wrong token takes says nothing about the right ones.
        self._by_token = {hashlib.sha256(one.as_token.encode()).digest(): one for one in self.all}
        self._by_id = {one.id: one for one in self.all}

    def by_token_hash(self, token_hash: bytes) -> Appservice | None:
        """:param token_hash: SHA-256 of the `as_token`"""
        return self._by_token.get(token_hash)

    def by_id(self, appservice_id: str) -> Appservice | None:
        return self._by_id.get(appservice_id)

    def excluding_user(self, user_id: str, *, other_than: str | None = None) -> bool:
        """Whether an application service (not the one with the id `other_than`) claims this user for itself alone."""
        return any(one.id != other_than and one.excludes_others_from_user(user_id) for one in self.all)

    def excluding_alias(self, alias: str, *, other_than: str | None = None) -> bool:
        """Whether an application service (not the one with the id `other_than`) claims this alias for itself alone."""
        return any(one.id != other_than and one.excludes_others_from_alias(alias) for one in self.all)


def load_appservices(paths: Iterable[Path], server_name: str) -> Appservices:
    """Reads the registration files. Raises ConfigError, one line that names the file and the key."""
    return Appservices([_load(path, server_name) for path in paths])


def _load(path: Path, server_name: str) -> Appservice:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{path}: must be YAML in UTF-8") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines")
    namespaces = data.get("namespaces")
    if not isinstance(namespaces, dict):
        raise ConfigError(f"{path}: namespaces: must be a section with users, aliases and rooms")
    url = data.get("url")
    if url is not None and not isinstance(url, str):
        raise ConfigError(f"{path}: url: must be an address or null")
    protocols = data.get("protocols") or []
    if not isinstance(protocols, list) or not all(isinstance(one, str) for one in protocols):
        raise ConfigError(f"{path}: protocols: must be a list of names")
    sender_localpart = _text(path, data, "sender_localpart")
    try:
        check_new_localpart(sender_localpart, server_name)
    except BadRequest as error:
        raise ConfigError(f"{path}: sender_localpart: {error.message}") from None
    return Appservice(
        id=_text(path, data, "id"),
        url=url.rstrip("/") if url else None,
        as_token=_text(path, data, "as_token"),
        hs_token=_text(path, data, "hs_token"),
        sender=f"@{sender_localpart}:{server_name}",
        users=_namespaces(path, namespaces, "users"),
        aliases=_namespaces(path, namespaces, "aliases"),
        rooms=_namespaces(path, namespaces, "rooms"),
        rate_limited=_flag(path, data, "rate_limited", True),
        protocols=tuple(protocols),
        receive_ephemeral=_flag(path, data, "receive_ephemeral", False),
    )


def _text(path: Path, data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f"{path}: {key}: must be text")
    return value


def _flag(path: Path, data: dict[str, Any], key: str, default: bool) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {key}: must be true or false")
    return value


def _namespaces(path: Path, namespaces: dict[str, Any], kind: str) -> tuple[Namespace, ...]:
    entries = namespaces.get(kind) or []
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: namespaces.{kind}: must be a list")
    return tuple(_namespace(path, f"namespaces.{kind}[{index}]", entry) for index, entry in enumerate(entries))


def _namespace(path: Path, where: str, entry: Any) -> Namespace:
    regex = entry.get("regex") if isinstance(entry, dict) else None
    if not isinstance(regex, str) or not isinstance(entry.get("exclusive"), bool):
        raise ConfigError(f"{path}: {where}: must have exclusive (true or false) and regex")
    try:
        return Namespace(entry["exclusive"], re.compile(regex))
    except (re.error, OverflowError, RecursionError):
        raise ConfigError(f"{path}: {where}.regex: must be a regular expression") from None
