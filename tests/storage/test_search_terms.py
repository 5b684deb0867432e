"""Text as the search indexes know it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.storage.search_terms import MOST_INDEXED, MOST_WORDS, normalised, search_words, searchable


@pytest.mark.parametrize(
    ("one", "other"),
    [("STRASSE", "straße"), ("ＡＢＣ", "abc"), ("ﬁne", "FINE"), ("ｶﾞ", "ガ"), ("É", "e\u0301"), ("a \n\t b", "A b")],
)
def test_what_reads_alike_is_alike(one: str, other: str) -> None:
    """Case, width, ligatures, composition and white space make no difference."""
    assert normalised(one) == normalised(other)


def test_scripts_without_spaces_are_cut_into_characters_and_pairs() -> None:
    """Of Chinese, Japanese and Korean every character and every pair are pieces, of words every three characters."""
    assert set(searchable("你好世 word").pieces.split()) == {
        *("~你", "~好", "~世", "~你好", "~好世"),
        *("~wor", "~ord", "~rd", "~d"),
    }
    assert [word.pieces for word in search_words("好世 好 ord or")] == ["'~好世'", "'~好'", "'~ord'", "'~or':*"]


def test_marks_stay_in_their_words() -> None:
    """The vowel signs of Indian scripts and of Thai are part of the word, as in `\\w` they are not."""
    [word] = search_words("हिन्दी")
    assert word.pieces.count("'~") == len("हिन्दी") - 2


def test_a_search_is_bounded() -> None:
    """Of a search only the first words count, of a text its beginning; punctuation alone finds nothing."""
    assert len(search_words(" ".join(str(number) for number in range(100)))) == MOST_WORDS
    assert len(searchable("x" * 100_000).text) == MOST_INDEXED
    assert search_words("?! - … \0") == []


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=40), st.integers(0, 39), st.integers(1, 6))
def test_any_part_of_a_text_is_found_through_its_pieces(text: str, start: int, length: int) -> None:
    """Whatever part of a text is searched for, the text has all pieces of it."""
    pieces = set(searchable(text).pieces.split())
    whole = normalised(text)
    for word in search_words(whole[start : start + length]):
        if word.word not in whole:  # cutting made another text of it
            continue
        for piece in word.pieces.split(" & "):
            quoted, _, prefix = piece.rpartition("'")
            wanted = quoted.removeprefix("'")
            assert any(has.startswith(wanted) if prefix else has == wanted for has in pieces), (text, word)


@given(st.text(max_size=60))
def test_nothing_in_a_text_breaks_the_query(text: str) -> None:
    """What is handed to PostgreSQL as a tsvector or a tsquery has no character that would need quoting there."""
    assert not set("'\\:&|!()<>*") & set(searchable(text).pieces)
    for word in search_words(text):
        for piece in word.pieces.split(" & "):
            assert not set("'\\&|!()<>") & set(piece.removesuffix(":*")[1:-1])
