"""Passwords: hashed as Synapse does, never cut off silently, never on the event loop."""

from __future__ import annotations

import unicodedata

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.passwords import (
    UnusablePassword,
    check_password,
    check_password_async,
    hash_password,
    hash_password_async,
    needs_rehash,
)

COST = 4


@settings(max_examples=40)
@given(st.text(st.characters(exclude_characters="\0"), max_size=4), st.text(max_size=4))
def test_only_the_same_password_checks(password: str, other: str) -> None:
    """A hash accepts its password, and no other unless both are the same text to Unicode."""
    stored = hash_password(password, COST)
    assert check_password(password, stored)
    same = unicodedata.normalize("NFKC", password) == unicodedata.normalize("NFKC", other)
    assert check_password(other, stored) == same


def test_different_ways_to_type_a_character_are_one() -> None:
    """Passwords are compared in the form NFKC: composed or decomposed, wide or narrow."""
    stored = hash_password("caf\u00e9 \uff11", COST)
    assert check_password("cafe\u0301 1", stored)
    assert not check_password("cafe 1", stored)


@pytest.mark.parametrize("pepper", ["", "a pepper"])
@pytest.mark.parametrize("password", ["simple", "gr\u00fc\u00df \uff11", "x" * 72, "x" * 100])
def test_hashes_of_synapse_keep_working(password: str, pepper: str) -> None:
    """Synapse hashes the NFKC form with the pepper appended, and of that bcrypt took the first 72 bytes."""
    normal = {"gr\u00fc\u00df \uff11": "gr\u00fc\u00df 1"}.get(password, password)
    stored = bcrypt.hashpw((normal + pepper).encode()[:72], bcrypt.gensalt(COST)).decode()
    assert check_password(password, stored, pepper)
    assert not check_password("y" + password, stored, pepper)


def test_a_password_that_would_be_cut_off_is_refused() -> None:
    """72 bytes are the limit for a new password, pepper and all."""
    hash_password("x" * 72, COST)
    with pytest.raises(UnusablePassword, match="at most 72 bytes"):
        hash_password("x" * 73, COST)
    with pytest.raises(UnusablePassword, match="at most 66 bytes"):
        hash_password("\u00fc" * 34, COST, "pepper")


@pytest.mark.parametrize("stored", ["", "plain", "$2b$04$short", "$9x$04$" + "a" * 53, "\u00fc" * 60])
def test_what_is_no_hash_checks_nothing(stored: str) -> None:
    """A damaged hash is a wrong password and no crash."""
    assert not check_password("x", stored)


def test_nul_is_refused() -> None:
    """bcrypt can't tell "a" from "a, NUL, a": such a password is neither set nor accepted."""
    with pytest.raises(UnusablePassword, match="NUL"):
        hash_password("a\0a", COST)
    assert not check_password("a\0a", hash_password("a", COST))


@pytest.mark.parametrize("password", ["lone \ud800 surrogate", ""])
def test_any_text_can_be_a_password(password: str) -> None:
    """Whatever text JSON can carry is hashed whole."""
    stored = hash_password(password, COST)
    assert check_password(password, stored)
    assert not check_password(password + "x", stored)


async def test_the_async_variants_agree() -> None:
    """They say what the others say; without a hash nothing checks, as slowly."""
    stored = await hash_password_async("secret", COST, "p")
    assert await check_password_async("secret", stored, COST, "p")
    assert not await check_password_async("secret", stored, COST)
    assert not await check_password_async("secret", None, COST)


def test_a_decoy_costs_as_much_as_a_hash() -> None:
    """The hash that stands in for a missing one is well-formed: bcrypt does its work."""
    from homeserver.passwords import _decoy

    assert not bcrypt.checkpw(b"x", _decoy(COST).encode())


def test_cheaper_hashes_are_renewed() -> None:
    """A hash below the cost in the configuration is to be made anew at the next login."""
    stored = hash_password("secret", 5)
    assert needs_rehash(stored, 6)
    assert not needs_rehash(stored, 5)
    assert needs_rehash("nonsense", 5)
