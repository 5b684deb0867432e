"""The push rules that every user has without making them, as the API shows them.

A rule that names its user has `ME` in that place: rules are compiled once for everybody, and only an answer to a client
puts the user's id there. The legacy rules that looked for names in the body of a message are gone from the
specification (since v1.17) and from here. The rules for polls and thread subscriptions are proposals that clients rely
on; they carry the ids under which clients know them.

# spec: client-server-api/#predefined-rules
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from homeserver.protocol.events import JsonObject

KINDS = ("override", "content", "room", "sender", "underride")
"""The kinds of rules that users can make, in the order in which they are checked."""

EVALUATION_ORDER = ("override", "content", "postcontent", "room", "sender", "underride")
"""KINDS with the one that thread subscriptions add, of which only the server makes rules."""

MASTER = ".m.rule.master"
ME = "\0me"  # no rule of a user's own can hold it: null characters are refused there

DefaultRules: TypeAlias = Mapping[str, tuple[JsonObject, ...]]

_SOUND = {"set_tweak": "sound", "value": "default"}
_RING = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT = {"set_tweak": "highlight"}
_TWO_MEMBERS = {"kind": "room_member_count", "is": "2"}


def _match(key: str, pattern: str) -> JsonObject:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _rule(rule_id: str, conditions: list[JsonObject], actions: list[Any], *, enabled: bool = True) -> JsonObject:
    return {
        "rule_id": rule_id,
        "default": True,
        "enabled": enabled,
        "conditions": conditions,
        "actions": actions,
    }


# spec: client-server-api/#default-override-rules
_OVERRIDE = (
    _rule(MASTER, [], [], enabled=False),
    _rule(".m.rule.suppress_notices", [_match("content.msgtype", "m.notice")], []),
    _rule(
        ".m.rule.invite_for_me",
        [_match("type", "m.room.member"), _match("content.membership", "invite"), _match("state_key", ME)],
        ["notify", _SOUND],
    ),
    _rule(".m.rule.member_event", [_match("type", "m.room.member")], []),
    _rule(
        ".m.rule.is_user_mention",
        [{"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": ME}],
        ["notify", _SOUND, _HIGHLIGHT],
    ),
    _rule(
        ".m.rule.is_room_mention",
        [
            {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
            {"kind": "sender_notification_permission", "key": "room"},
        ],
        ["notify", _HIGHLIGHT],
    ),
    _rule(".m.rule.tombstone", [_match("type", "m.room.tombstone"), _match("state_key", "")], ["notify", _HIGHLIGHT]),
    _rule(".m.rule.reaction", [_match("type", "m.reaction")], []),
    _rule(".m.rule.room.server_acl", [_match("type", "m.room.server_acl"), _match("state_key", "")], []),
    _rule(
        ".m.rule.suppress_edits",
        [{"kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace"}],
        [],
    ),
    # Polls: MSC3930.
    _rule(".org.matrix.msc3930.rule.poll_response", [_match("type", "org.matrix.msc3381.poll.response")], []),
)

# spec: client-server-api/#default-underride-rules
_UNDERRIDE = (
    _rule(".m.rule.call", [_match("type", "m.call.invite")], ["notify", _RING]),
    _rule(
        ".m.rule.encrypted_room_one_to_one",
        [_TWO_MEMBERS, _match("type", "m.room.encrypted")],
        ["notify", _SOUND],
    ),
    _rule(".m.rule.room_one_to_one", [_TWO_MEMBERS, _match("type", "m.room.message")], ["notify", _SOUND]),
    _rule(".m.rule.message", [_match("type", "m.room.message")], ["notify"]),
    _rule(".m.rule.encrypted", [_match("type", "m.room.encrypted")], ["notify"]),
    _rule(
        ".org.matrix.msc3930.rule.poll_start_one_to_one",
        [_TWO_MEMBERS, _match("type", "org.matrix.msc3381.poll.start")],
        ["notify", _SOUND],
    ),
    _rule(".org.matrix.msc3930.rule.poll_start", [_match("type", "org.matrix.msc3381.poll.start")], ["notify"]),
    _rule(
        ".org.matrix.msc3930.rule.poll_end_one_to_one",
        [_TWO_MEMBERS, _match("type", "org.matrix.msc3381.poll.end")],
        ["notify", _SOUND],
    ),
    _rule(".org.matrix.msc3930.rule.poll_end", [_match("type", "org.matrix.msc3381.poll.end")], ["notify"]),
)

DEFAULT_RULES: DefaultRules = {
    "override": _OVERRIDE,
    "content": (),
    "room": (),
    "sender": (),
    "underride": _UNDERRIDE,
}


def _thread_rule(name: str, *, subscribed: bool, actions: list[Any]) -> JsonObject:
    condition = {"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}
    return _rule(f".io.element.msc4306.rule.{name}", [condition], actions)


THREAD_SUBSCRIPTION_RULES: DefaultRules = {
    **DEFAULT_RULES,
    "postcontent": (
        _thread_rule("unsubscribed_thread", subscribed=False, actions=[]),
        _thread_rule("subscribed_thread", subscribed=True, actions=["notify", _SOUND]),
    ),
}
"""DEFAULT_RULES where thread subscriptions (MSC4306) are on. They silence threads to which a user has not subscribed,
so they are only right for users whose clients subscribe them."""
