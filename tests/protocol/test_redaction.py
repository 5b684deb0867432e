"""Redaction, key by key.  # spec: rooms/v1#redactions … rooms/v11#redactions"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import JsonObject
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import ROOM_VERSIONS

ALWAYS_KEPT = [
    "event_id",
    "type",
    "room_id",
    "sender",
    "state_key",
    "content",
    "hashes",
    "signatures",
    "depth",
    "prev_events",
    "auth_events",
    "origin_server_ts",
]
KEPT_BEFORE_11 = ["prev_state", "origin", "membership"]
NEVER_KEPT = ["unsigned", "redacts", "age_ts", "prev_content", "replaces_state", "extra"]

POWER_LEVEL_KEYS = ["ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"]
# event type -> content key -> the room versions that keep it
CONTENT: dict[str, dict[str, range]] = {
    "m.room.member": {
        "membership": range(1, 13),
        "join_authorised_via_users_server": range(9, 13),
        "displayname": range(0),
        "reason": range(0),
    },
    "m.room.create": {"creator": range(1, 13), "room_version": range(11, 13), "m.federate": range(11, 13)},
    "m.room.join_rules": {"join_rule": range(1, 13), "allow": range(8, 13), "other": range(0)},
    "m.room.power_levels": {
        **dict.fromkeys(POWER_LEVEL_KEYS, range(1, 13)),
        "invite": range(11, 13),
        "notifications": range(0),
    },
    "m.room.aliases": {"aliases": range(1, 6), "other": range(0)},
    "m.room.history_visibility": {"history_visibility": range(1, 13), "other": range(0)},
    "m.room.redaction": {"redacts": range(11, 13), "reason": range(0)},
    "m.room.message": {"body": range(0), "membership": range(0), "redacts": range(0)},
    "m.room.topic": {"topic": range(0)},
    "m.room.third_party_invite": {"public_key": range(0)},
}

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
contents = st.dictionaries(
    st.sampled_from(sorted({key for keys in CONTENT.values() for key in keys} | {"third_party_invite", "other"})),
    json_values | st.dictionaries(st.sampled_from(["signed", "display_name"]), json_values),
    max_size=6,
)
pdus = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(CONTENT)) | json_values, "content": contents | json_values},
    optional=dict.fromkeys(sorted({*ALWAYS_KEPT, *KEPT_BEFORE_11, *NEVER_KEPT} - {"type", "content"}), json_values),
)
versions = st.sampled_from(list(ROOM_VERSIONS.values()))


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_top_level_keys(version: str) -> None:
    """Each room version keeps just its own top-level keys."""
    pdu: JsonObject = {key: key for key in [*ALWAYS_KEPT, *KEPT_BEFORE_11, *NEVER_KEPT]} | {"content": {}}
    kept = set(ALWAYS_KEPT) | (set(KEPT_BEFORE_11) if int(version) < 11 else set())
    assert redact(pdu, ROOM_VERSIONS[version]) == {key: pdu[key] for key in kept}


@pytest.mark.parametrize("version", ROOM_VERSIONS)
@pytest.mark.parametrize("event_type", CONTENT)
def test_content_keys(version: str, event_type: str) -> None:
    """Each room version keeps just its own content keys of every event type."""
    content = {key: {"value": key} for key in CONTENT[event_type]}
    pdu: JsonObject = {"type": event_type, "content": content}
    redacted = redact(pdu, ROOM_VERSIONS[version])
    expected = {key: content[key] for key, kept_in in CONTENT[event_type].items() if int(version) in kept_in}
    assert redacted == {"type": event_type, "content": expected}


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_third_party_invite(version: str) -> None:
    """From room version 11 on a member event keeps `third_party_invite.signed`, and nothing beside it."""
    content = {"membership": "invite", "third_party_invite": {"signed": {"token": "t"}, "display_name": "Bob"}}
    redacted = redact({"type": "m.room.member", "content": content}, ROOM_VERSIONS[version])["content"]
    expected: JsonObject = {"membership": "invite"}
    if int(version) >= 11:
        expected |= {"third_party_invite": {"signed": {"token": "t"}}}
    assert redacted == expected


@pytest.mark.parametrize(("invite", "kept"), [({}, {}), ({"display_name": "Bob"}, {}), ("x", None), (None, None)])
def test_malformed_third_party_invite(invite: Any, kept: Any) -> None:
    """An invite without `signed` leaves an empty object; what isn't an object leaves nothing."""
    pdu = {"type": "m.room.member", "content": {"third_party_invite": invite}}
    redacted = redact(pdu, ROOM_VERSIONS["11"])["content"]
    assert redacted == ({} if kept is None else {"third_party_invite": kept})


@given(pdus, versions)
def test_redaction_is_idempotent(pdu: JsonObject, version: Any) -> None:
    """Redacting what is redacted changes nothing, and the original stays as it was."""
    before = repr(pdu)
    once = redact(pdu, version)
    assert redact(once, version) == once
    assert repr(pdu) == before
    assert "unsigned" not in once
