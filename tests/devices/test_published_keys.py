"""Any JSON at all in the place of keys is either taken as keys that verify or refused with an error for the client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.devices.published_keys import (
    USAGES,
    checked_device_keys,
    checked_one_time_keys,
    checked_signing_key,
    identity_key,
)
from homeserver.protocol.errors import BadRequest, TooLarge
from tests.support.keys import ALGORITHM, DeviceKeys, Identity, public

USER, DEVICE = "@alice:test.example", "DEVICE"
KEYS = DeviceKeys(USER, DEVICE)
IDENTITY = Identity(USER)

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner))


@st.composite
def _changed(draw: st.DrawFn, obj: dict[str, Any]) -> dict[str, Any]:
    """A copy of an object with something in it replaced."""
    name = draw(st.sampled_from(sorted(obj)))
    inside = obj[name]
    if isinstance(inside, dict) and inside and draw(st.booleans()):
        return {**obj, name: draw(_changed(inside))}
    return {**obj, name: draw(_JSON)}


@given(_changed(KEYS.identity()))
@settings(max_examples=150)
def test_changed_identity_keys(obj: dict[str, Any]) -> None:
    """Whatever is changed of identity keys, they are refused, unless it is a signature that nobody looks at."""
    with suppress(BadRequest, TooLarge):
        assert checked_device_keys(obj, USER, DEVICE) == KEYS.identity()


@given(_changed(KEYS.one_time_key()) | _JSON)
@settings(max_examples=150)
def test_changed_one_time_keys(value: Any) -> None:
    """A one-time key that was changed after it was signed is refused."""
    with suppress(BadRequest, TooLarge):
        (checked,) = checked_one_time_keys({f"{ALGORITHM}:A": value}, USER, DEVICE, public(KEYS.key), most=1)
        assert checked.value == value


@given(st.sampled_from(USAGES).flatmap(lambda usage: st.tuples(st.just(usage), _changed(IDENTITY.key(usage)) | _JSON)))
@settings(max_examples=150)
def test_changed_signing_keys(case: tuple[str, Any]) -> None:
    """A cross-signing key that is taken has one public key, under its own name, and the usage it is uploaded for."""
    usage, obj = case
    with suppress(BadRequest, TooLarge):
        checked = checked_signing_key(obj, USER, usage)
        assert checked.content["keys"] == {checked.key_id: checked.public_key}
        assert checked.content["usage"] == [usage]


def test_good_keys_are_taken() -> None:
    """What clients make is taken as it is."""
    obj = KEYS.identity()
    assert checked_device_keys(obj, USER, DEVICE) == obj
    assert identity_key(obj, DEVICE) == public(KEYS.key)
    for usage in USAGES:
        assert checked_signing_key(IDENTITY.key(usage), USER, usage).public_key == public(getattr(IDENTITY, usage))
