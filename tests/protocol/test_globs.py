"""Glob matching against a naive reference, and its cost.  # spec: appendices/#glob-style-matching"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.globs import Glob, GlobSet, Positions

PATTERNS = st.text(alphabet="ab_- ?*", max_size=8)
TEXTS = st.text(alphabet="ab_- ?*", max_size=10)


def naive(pattern: str, text: str, wildcards: str = "*?") -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*" and "*" in wildcards:
        return any(naive(pattern[1:], text[skipped:], wildcards) for skipped in range(len(text) + 1))
    one = pattern[0] == "?" and "?" in wildcards
    return bool(text) and (one or pattern[0] == text[0]) and naive(pattern[1:], text[1:], wildcards)


def boundary(text: str, position: int) -> bool:
    around = text[max(position - 1, 0) : position + 1]
    at_end = position in (0, len(text))
    return at_end or any(not (char.isascii() and char.isalnum()) and char != "_" for char in around)


def naive_words(pattern: str, text: str, wildcards: str = "*?") -> bool:
    places = [place for place in range(len(text) + 1) if boundary(text, place)]
    return any(naive(pattern, text[start:end], wildcards) for start in places for end in places if start <= end)


@given(PATTERNS, TEXTS)
def test_matches_what_the_definition_matches(pattern: str, text: str) -> None:
    """`*` matches any run of characters, `?` exactly one, everything else itself, over the whole text."""
    assert Glob(pattern).matches(text) == naive(pattern, text)
    assert Glob(pattern, wildcards="*").matches(text) == naive(pattern, text, "*")


@given(PATTERNS, TEXTS)
def test_word_matches_start_and_end_at_word_boundaries(pattern: str, text: str) -> None:
    """A body matches if some part of it that starts and ends at a word boundary does."""
    assert Glob(pattern).matches_words(Positions(text)) == naive_words(pattern, text)
    assert Glob(pattern, wildcards="*").matches_words(Positions(text)) == naive_words(pattern, text, "*")
    assert Glob(pattern, wildcards="").matches_words(Positions(text)) == naive_words(pattern, text, "")


@given(st.lists(PATTERNS, max_size=5), TEXTS)
def test_a_set_matches_what_any_of_its_patterns_matches(patterns: list[str], text: str) -> None:
    """Sorting patterns into literals, prefixes, suffixes and the rest changes no answer."""
    assert GlobSet(patterns).matches(text) == any(naive(pattern, text) for pattern in patterns)
    assert GlobSet(patterns, wildcards="*").matches(text) == any(naive(pattern, text, "*") for pattern in patterns)


def test_only_patterns_without_wildcards_are_literal() -> None:
    """`literal` names the one text that a pattern matches, and is None for the others."""
    assert Glob("abc").literal == "abc"
    assert Glob("a?c").literal is None
    assert Glob("a?c", wildcards="*").literal == "a?c"
    assert Glob("a*").literal is None


@pytest.mark.parametrize(
    "pattern", ["*a" * 100 + "b", "?a" * 100 + "b", "*?a" * 80 + "*b", "a" * 250 + "?b", "a?" * 120]
)
def test_hostile_patterns_cost_no_more_than_others(pattern: str) -> None:
    """No pattern makes a text of the largest possible event expensive."""
    positions = Positions("a" * 65_000)
    glob = Glob(pattern)
    started = time.process_time()
    glob.matches(positions.text, positions)
    glob.matches_words(positions)
    assert time.process_time() - started < 1
