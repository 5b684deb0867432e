"""The grammar of identifiers.  # spec: appendices/#identifier-grammar"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.errors import MatrixError
from homeserver.protocol.identifiers import (
    check_new_localpart,
    domain_of,
    fits_identifier,
    is_compliant_user_id,
    is_domain_event_id,
    is_domain_room_id,
    is_event_id,
    is_hash_room_id,
    is_historical_user_id,
    is_room_alias,
    is_room_id,
    is_server_name,
    is_user_id,
    localpart_of,
    split_server_name,
)

SERVER_NAMES = {
    "matrix.org": ("matrix.org", None),
    "matrix.org:8888": ("matrix.org", 8888),
    "1.2.3.4": ("1.2.3.4", None),
    "1.2.3.4:1234": ("1.2.3.4", 1234),
    "[1234:5678::abcd]": ("[1234:5678::abcd]", None),
    "[1234:5678::abcd]:5678": ("[1234:5678::abcd]", 5678),
    "[::ffff:1.2.3.4]": ("[::ffff:1.2.3.4]", None),
    "MATRIX.ORG": ("MATRIX.ORG", None),
    "localhost:0": ("localhost", 0),
}
NOT_SERVER_NAMES = [
    "", ":80", "a:", "a:b", "a:123456", "a:65536", "a:-1", "a b", "a_b", "é.org", "a/b", "a@b", "[::1", "::1", "[]",
    "[1::2::3]", "[::1%eth0]", "[12345::]", "a:1:2", "a\n", "a:1\n", "a" * 256, "a:١",
]  # fmt: skip
HASH = "Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ"


@pytest.mark.parametrize(("name", "parts"), SERVER_NAMES.items())
def test_server_names(name: str, parts: tuple[str, int | None]) -> None:
    """Every form of server name is taken apart into host and port."""
    assert is_server_name(name)
    assert split_server_name(name) == parts
    assert domain_of("@a:" + name) == name


@pytest.mark.parametrize("name", NOT_SERVER_NAMES)
def test_not_server_names(name: str) -> None:
    """What breaks the grammar is no server name, nor is anything on it a user."""
    assert not is_server_name(name)
    assert not is_user_id("@a:" + name)
    with pytest.raises(ValueError, match="Not a server name"):
        split_server_name(name)


@pytest.mark.parametrize("localpart", ["a", "a.b_c=d-e/f+1", "0"])
def test_user_ids_of_today(localpart: str) -> None:
    """The characters of the grammar may be registered, and make user ids that aren't historical."""
    check_new_localpart(localpart, "example.org")
    user_id = f"@{localpart}:example.org"
    assert is_user_id(user_id)
    assert is_compliant_user_id(user_id)
    assert not is_historical_user_id(user_id)
    assert localpart_of(user_id) == localpart


@pytest.mark.parametrize(
    ("localpart", "compliant"), [("", False), ("A", True), ("é", False), ("a b", False), ("a!", True), ("\n", False)]
)
def test_historical_user_ids(localpart: str, compliant: bool) -> None:
    """Historical localparts are accepted but not registered; beyond U+0021 to U+007E they aren't passed on."""
    user_id = f"@{localpart}:example.org"
    assert is_user_id(user_id)
    assert is_historical_user_id(user_id)
    assert is_compliant_user_id(user_id) is compliant
    with pytest.raises(MatrixError) as caught:
        check_new_localpart(localpart)
    assert caught.value.errcode == "M_INVALID_USERNAME"
    assert caught.value.status == 400


@pytest.mark.parametrize("value", ["", "@", "a", "@a", "@a:", "a:b", "@a\0:b", "@\ud800:b", "#a:b", None, 1, [], {}])
def test_not_user_ids(value: Any) -> None:
    """A user id needs sigil and domain, and no NUL or surrogate."""
    assert not is_user_id(value)
    assert not is_historical_user_id(value)


@pytest.mark.parametrize("is_one", [is_user_id, is_room_id, is_room_alias, is_domain_event_id])
def test_length_is_counted_in_bytes(is_one: Any) -> None:
    """255 bytes, sigil and domain included, are the limit; characters don't matter."""
    sigil = {is_user_id: "@", is_room_id: "!", is_room_alias: "#", is_domain_event_id: "$"}[is_one]
    assert is_one(sigil + "a" * 252 + ":b")
    assert not is_one(sigil + "a" * 253 + ":b")
    assert is_one(sigil + "é" * 126 + ":b")
    assert not is_one(sigil + "é" * 127 + ":b")


def test_new_localparts_are_bounded() -> None:
    """A new user id may not exceed 255 bytes with its domain."""
    check_new_localpart("a" * 250, "abc")
    with pytest.raises(MatrixError) as caught:
        check_new_localpart("a" * 251, "abc")
    assert caught.value.errcode == "M_INVALID_USERNAME"


def test_room_ids() -> None:
    """Room ids have a domain up to room version 11, and are a hash from 12 on."""
    assert is_room_id("!" + HASH)
    assert is_hash_room_id("!" + HASH)
    assert not is_domain_room_id("!" + HASH)
    assert is_room_id("!a b:c")
    assert not is_hash_room_id("!a:c")
    for value in ("!", "!short", "!" + HASH + "\n", "!" + HASH + "A", "$" + HASH, "!" + HASH.replace("-", "+"), 5):
        assert not is_room_id(value)


def test_event_ids() -> None:
    """Event ids are opaque after their sigil, except in room versions 1 and 2."""
    assert is_event_id("$" + HASH)
    assert is_event_id("$a:b")
    assert is_domain_event_id("$a:b")
    assert not is_domain_event_id("$" + HASH)
    for value in ("", "$", HASH, "$" + "a" * 255, "$\ud800", None):
        assert not is_event_id(value)


def test_aliases() -> None:
    """Aliases are `#localpart:domain` with any Unicode localpart."""
    assert is_room_alias("#räume und mehr:example.org")
    assert not is_room_alias("#a")
    assert not is_room_alias("!a:b")


@given(st.text(st.characters(exclude_categories=())) | st.none() | st.integers())
def test_predicates_take_anything(value: Any) -> None:
    """No value makes a predicate raise."""
    for predicate in (is_user_id, is_room_id, is_room_alias, is_event_id, is_server_name, is_historical_user_id):
        assert predicate(value) in (True, False)


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_fits_identifier(text: str) -> None:
    """The fast way of counting bytes counts right."""
    expected = not any("\ud800" <= character <= "\udfff" for character in text) and len(text.encode()) <= 255
    assert fits_identifier(text) is expected
