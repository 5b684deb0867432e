"""Text as the search indexes know it: normalised, and cut into pieces that find parts of words in any script.

Pieces are the runs of three characters of a word, and for scripts that write without spaces (Chinese, Japanese, Korean)
and for symbols like emoji each character and each two neighbours, because words are mostly two characters long there.
PostgreSQL's own pg_trgm is not used: it needs a privilege to be installed, with the locale C it knows no letters but
ASCII's, and nothing of fewer than three characters is found through it.

Whatever the pieces find is held against the text itself, so they may find too much, never too little.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MOST_INDEXED = 8_192  # characters of a text that can be found; beyond, only its beginning is
MOST_WORDS = 16  # of a search; further ones are not looked at
MOST_SEARCHED = 256  # characters of a search

# Characters that are pieces by themselves: kana, ideographs, Hangul, symbols.
_SINGLES = (
    "\u1100-\u11ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\u2e80-\u2fdf\u3005-\u3007\u3031-\u3035\u3040-\u30ff"
    "\u3100-\u318f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
# Marks belong to the word that they stand in, as the vowels of Indian scripts and of Thai do; `\w` lacks them.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0900-\u0903\u093a-\u094f\u0951-\u0957"
    "\u0962\u0963\u0981-\u0983\u09bc\u09be-\u09cd\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a70-\u0a75\u0a81-\u0a83"
    "\u0abc\u0abe-\u0acd\u0b01-\u0b03\u0b3c\u0b3e-\u0b57\u0b82\u0bbe-\u0bd7\u0c00-\u0c04\u0c3e-\u0c56\u0c81-\u0c83"
    "\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d57\u0dca-\u0ddf\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc"
    "\u0ec8-\u0ece\u0f18-\u0fbc\u102b-\u103e\u1056-\u109d\u135d-\u135f\u1712-\u17d3\u180b-\u180d\u1ab0-\u1aff"
    "\u1b00-\u1b04\u1b34-\u1b44\u1dc0-\u1dff\u20d0-\u20f0\u302a-\u302f\u3099\u309a\ufe20-\ufe2f"
)
_SPLIT = re.compile(f"([{_SINGLES}]+)|((?:(?![{_SINGLES}])[\\w{_MARKS}])+)")
_SINGLES_RUN = re.compile(f"[{_SINGLES}]+")
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_WORD = re.compile(f"[\\w{_MARKS}{_SINGLES}]+")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class SearchableText:
    """`text` normalised, `words` what of it full text search is to look at, `pieces` as a tsvector's text."""

    text: str
    words: str
    pieces: str


@dataclass(frozen=True, slots=True)
class SearchWord:
    """One word of a search: itself, normalised; a LIKE pattern that finds it; its pieces as a tsquery, "" if none."""

    word: str
    pattern: str
    pieces: str


def normalised(text: str) -> str:
    """The text so that what reads alike is alike: compatibility forms, case and runs of white space are made one."""
    text = text.replace("\0", " ")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    else:
        text = text.lower()
    return _SPACE.sub(" ", text).strip()


def searchable(text: str) -> SearchableText:
    """What the index has of a text."""
    text = normalised(text[:MOST_INDEXED])
    if text.isascii():
        pieces = _pieces_of_words(set(_ASCII_WORD.findall(text)))
        return SearchableText(text, text, " ".join(pieces))
    words: set[str] = set()
    pieces = set()
    for singles, word in _SPLIT.findall(text):
        if word:
            words.add(word)
        else:
            pieces.update(f"~{char}" for char in singles)
            pieces.update(f"~{singles[at : at + 2]}" for at in range(len(singles) - 1))
    return SearchableText(text, _SINGLES_RUN.sub(" ", text), " ".join(pieces | _pieces_of_words(words)))


def _pieces_of_words(words: set[str]) -> set[str]:
    pieces: set[str] = set()
    for word in words:
        # Its end too: what is shorter than a piece is looked for as the beginning of one.
        pieces.update((f"~{word[-1]}", f"~{word[-2:]}"))
        pieces.update([f"~{word[at : at + 3]}" for at in range(len(word) - 2)])
    return pieces


def search_words(term: str) -> list[SearchWord]:
    """The words of a search term, each to be found in the same text. A word is what stands between white space."""
    words = dict.fromkeys(normalised(term[:MOST_SEARCHED]).split(" "))
    found = [SearchWord(word, f"%{_like(word)}%", _query(word)) for word in words if _WORD.search(word)]
    return found[:MOST_WORDS]


def _query(word: str) -> str:
    pieces: dict[str, None] = {}
    for singles, part in _SPLIT.findall(word):
        if part:
            pieces.update(dict.fromkeys(part[at : at + 3] for at in range(len(part) - 2)))
            if len(part) < 3:
                pieces[f"{part}:*"] = None
        elif len(singles) == 1:
            pieces[singles] = None
        else:
            pieces.update(dict.fromkeys(singles[at : at + 2] for at in range(len(singles) - 1)))
    return " & ".join(f"'~{piece[:-2]}':*" if piece.endswith(":*") else f"'~{piece}'" for piece in pieces)


def _like(text: str) -> str:
    for char in "\\%_":
        text = text.replace(char, "\\" + char)
    return text
