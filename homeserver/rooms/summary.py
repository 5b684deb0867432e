"""What a room shows of itself: made from its state, written as JSON, and shown to whom.

# spec: client-server-api/#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from homeserver.protocol.canonical_json import JsonObject
from homeserver.protocol.events import StateKey
from homeserver.protocol.identifiers import is_room_alias, is_room_id
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.storage.room_summaries import RoomSummary, Shown

# The state events that say it.
SHOWN_KEYS: frozenset[StateKey] = frozenset(
    (type, "")
    for type in (
        "m.room.create",
        "m.room.name",
        "m.room.topic",
        "m.room.canonical_alias",
        "m.room.avatar",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.encryption",
    )
)
GUEST_ACCESS: StateKey = ("m.room.guest_access", "")
SPACE = "m.space"
_LONGEST_NAME, _LONGEST_TOPIC = 1_000, 10_000  # characters: lists of rooms have many of them
_MOST_ALLOWED = 100


def shown(contents: Mapping[str, JsonObject]) -> Shown:
    """What the contents (by type) of the state events of SHOWN_KEYS say. What is malformed counts as not there."""

    def of(type: str, field: str) -> Any:
        return contents.get(type, {}).get(field)

    alias, avatar_url = of("m.room.canonical_alias", "alias"), _text(of("m.room.avatar", "url"))
    return Shown(
        name=_text(of("m.room.name", "name"), _LONGEST_NAME),
        topic=_text(_topic(contents.get("m.room.topic", {})), _LONGEST_TOPIC),
        canonical_alias=alias if is_room_alias(alias) else None,
        avatar_url=avatar_url if avatar_url is not None and avatar_url.startswith("mxc://") else None,
        join_rule=_text(of("m.room.join_rules", "join_rule")) or "invite",
        world_readable=of("m.room.history_visibility", "history_visibility") == "world_readable",
        guest_can_join=of("m.room.guest_access", "guest_access") == "can_join",
        room_type=_text(of("m.room.create", "type")),
        encryption=_text(of("m.room.encryption", "algorithm")),
        allowed_room_ids=_allowed(contents.get("m.room.join_rules", {})),
    )


def _text(value: object, longest: int = 255) -> str | None:
    # PostgreSQL's text has no NUL.
    return value[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) and value else None


def _topic(content: JsonObject) -> object:
    # spec: client-server-api/#mroomtopic
    block = content.get("m.topic")
    texts = block.get("m.text") if isinstance(block, dict) else None
    for text in texts if isinstance(texts, list) else []:
        if isinstance(text, dict) and text.get("mimetype", "text/plain") == "text/plain":
            return text.get("body")
    return content.get("topic")


def _allowed(content: JsonObject) -> tuple[str, ...]:
    # spec: client-server-api/#restricted-rooms
    if content.get("join_rule") not in ("restricted", "knock_restricted"):
        return ()
    rules = content.get("allow")
    return tuple(
        rule["room_id"]
        for rule in (rules if isinstance(rules, list) else [])[:_MOST_ALLOWED]
        if isinstance(rule, dict) and rule.get("type") == "m.room_membership" and is_room_id(rule.get("room_id"))
    )


def directory_entry(summary: RoomSummary) -> JsonObject:
    """The room as the directory lists it.  # spec: client-server-api/#get_matrixclientv3publicrooms"""
    shown = summary.shown
    optional = {
        "name": shown.name,
        "topic": shown.topic,
        "canonical_alias": shown.canonical_alias,
        "avatar_url": shown.avatar_url,
        "room_type": shown.room_type,
    }
    return {
        "room_id": summary.room_id,
        "num_joined_members": summary.joined_members,
        "world_readable": shown.world_readable,
        "guest_can_join": shown.guest_can_join,
        "join_rule": shown.join_rule,
        **{key: value for key, value in optional.items() if value is not None},
    }


def summary_json(summary: RoomSummary) -> JsonObject:
    """The room as previews and spaces show it.

    # spec: client-server-api/#get_matrixclientv1room_summaryroomidoralias
    """
    entry = directory_entry(summary) | {"room_version": summary.room_version}
    if summary.shown.encryption is not None:
        entry["encryption"] = summary.shown.encryption
    if summary.shown.allowed_room_ids:
        entry["allowed_room_ids"] = list(summary.shown.allowed_room_ids)
    return entry


def shown_to(summary: JsonObject, membership: str | None, joined_rooms: Collection[str]) -> bool:
    """Whether a room is shown to somebody: to its members, to who may join or knock, and to all if they may read it.

    :param summary: as `summary_json` writes it, or another server does
    :param membership: theirs in the room
    :param joined_rooms: the rooms that they are in, as far as `summary` allows members of rooms to join
    # spec: client-server-api/#get_matrixclientv1roomsroomidhierarchy
    """
    if membership in ("join", "invite") or summary.get("world_readable") is True:
        return True
    if membership == "ban":
        return False
    rule = summary.get("join_rule", "public")
    version = ROOM_VERSIONS.get(summary.get("room_version", ""))
    if rule == "public" or (rule == "knock" and (version is None or version.knocking)):
        return True
    if rule == "knock_restricted":
        return version is None or version.knock_restricted
    if rule == "restricted" and (version is None or version.restricted_joins):
        return any(room_id in joined_rooms for room_id in allowed_room_ids(summary))
    return False


def allowed_room_ids(summary: JsonObject) -> list[str]:
    """The rooms whose members may join.  # spec: client-server-api/#restricted-rooms"""
    allowed = summary.get("allowed_room_ids")
    return [room_id for room_id in allowed if is_room_id(room_id)] if isinstance(allowed, list) else []
