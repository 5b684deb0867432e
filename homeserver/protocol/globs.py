"""Glob patterns of the specification: `*` is any run of characters, `?` exactly one.

Patterns and the texts they meet are both chosen by strangers, so nothing here backtracks. A pattern is cut at its `*`
into segments, and each segment is sought leftmost after the one before it, which is always a right choice. A segment
without `?` is found by `str.find`. One with `?` is found by `Positions`: an integer per character whose bit i says that
the text has this character at i; shifting and and-ing those integers compares the segment with every place of the text
at once. A match costs at most (length of the pattern) × (length of the text / 30) machine steps.

# spec: appendices/#glob-style-matching
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_WORD_CHARS = re.compile("[A-Za-z0-9_]")
_OTHER_CHARS = re.compile("[^A-Za-z0-9_]")


class Positions:
    """Where the characters of one text stand, as bit masks made when they are first asked for."""

    __slots__ = ("_boundaries", "_masks", "length", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = len(text)
        self._masks: dict[str, int] = {}
        self._boundaries: int | None = None

    def of(self, char: str) -> int:
        """Bit i is set where `text[i] == char`."""
        mask = self._masks.get(char)
        if mask is None:
            zeros = ["0" * len(part) for part in self.text[::-1].split(char)]
            mask = self._masks[char] = _mask("1".join(zeros))
        return mask

    def of_segment(self, segment: str, any_char: str = "?") -> int:
        """Bit i is set where `segment` matches from i on; `any_char` in it stands for any one character."""
        if len(segment) > self.length:
            return 0
        found = (1 << (self.length - len(segment) + 1)) - 1
        for offset, char in enumerate(segment):
            if char != any_char:
                found &= self.of(char) >> offset
                if not found:
                    break
        return found

    @property
    def word_boundaries(self) -> int:
        """Bit i is set where a word may start or end: bits 0 and `length`, and both sides of every non-word character.

        # spec: client-server-api/#push-rules
        """
        if self._boundaries is None:
            spaced = _OTHER_CHARS.sub(" ", self.text[::-1])
            other = _mask(_WORD_CHARS.sub("0", spaced).replace(" ", "1"))
            self._boundaries = other | other << 1 | 1 | 1 << self.length
        return self._boundaries


class Glob:
    """A compiled pattern. Case matters: fold pattern and text alike (`str.casefold`) where it should not."""

    __slots__ = ("pattern", "segments")

    def __init__(self, pattern: str, *, wildcards: str = "*?") -> None:
        """`wildcards` is "*?", "*" where the specification gives `?` no meaning, or "" for a text to find as it is."""
        self.pattern = pattern
        first, *rest = pattern.split("*") if "*" in wildcards else [pattern]
        # `**` says no more than `*`, and empty segments in the middle would only be walked over.
        texts = [first, *(part for part in rest[:-1] if part), rest[-1]] if rest else [first]
        self.segments = tuple(_Segment(text, text if "?" not in wildcards else None) for text in texts)

    @property
    def literal(self) -> str | None:
        """The only text that this pattern matches, if it is without wildcards."""
        return self.segments[0].literal if len(self.segments) == 1 else None

    def matches(self, text: str, positions: Positions | None = None) -> bool:
        """Whether the whole of `text` matches. `positions` of the same text may be shared between patterns."""
        first, last = self.segments[0], self.segments[-1]
        if first is last:
            return len(first.text) == len(text) and first.at(text, 0)
        end = len(text) - len(last.text)
        if len(first.text) > end or not first.at(text, 0) or not last.at(text, end):
            return False
        position = len(first.text)
        for segment in self.segments[1:-1]:
            if segment.literal is not None:
                found = text.find(segment.literal, position, end)
            else:
                positions = positions or Positions(text)
                found = _lowest(segment.positions(positions), position)
            if found < 0:
                return False
            position = found + len(segment.text)
        return position <= end

    def matches_words(self, positions: Positions) -> bool:
        """Whether any part of the text that starts and ends at a word boundary matches.

        # spec: client-server-api/#push-rules
        """
        for segment in self.segments:
            if segment.literal is not None and segment.literal not in positions.text:
                return False
        boundaries = positions.word_boundaries
        first, last = self.segments[0], self.segments[-1]
        starts = first.positions(positions) & boundaries
        if first is last:
            return bool(starts & boundaries >> len(first.text))
        if not starts:
            return False
        position = _lowest(starts, 0) + len(first.text)
        for segment in self.segments[1:-1]:
            found = _lowest(segment.positions(positions), position)
            if found < 0:
                return False
            position = found + len(segment.text)
        return bool((last.positions(positions) & boundaries >> len(last.text)) >> position)


class GlobSet:
    """Many patterns asked as one: does any of them match? Those without wildcards cost one look-up together."""

    __slots__ = ("_globs", "_literals", "_prefixes", "_suffixes")

    def __init__(self, patterns: Iterable[str], *, wildcards: str = "*?") -> None:
        literals: set[str] = set()
        prefixes: set[str] = set()
        suffixes: set[str] = set()
        globs: list[Glob] = []
        for pattern in dict.fromkeys(patterns):
            glob = Glob(pattern, wildcards=wildcards)
            parts = [segment.literal for segment in glob.segments]
            if len(parts) == 1 and parts[0] is not None:
                literals.add(parts[0])
            elif len(parts) == 2 and parts[0] is not None and parts[1] == "":
                prefixes.add(parts[0])
            elif len(parts) == 2 and parts[1] is not None and parts[0] == "":
                suffixes.add(parts[1])
            else:
                globs.append(glob)
        self._literals = frozenset(literals)
        self._prefixes = tuple(prefixes)
        self._suffixes = tuple(suffixes)
        self._globs = tuple(globs)

    def matches(self, text: str) -> bool:
        if text in self._literals or text.startswith(self._prefixes) or text.endswith(self._suffixes):
            return True
        if not self._globs:
            return False
        positions = Positions(text)
        return any(glob.matches(text, positions) for glob in self._globs)


@lru_cache(maxsize=4096)
def folded_glob(pattern: str) -> Glob:
    """The pattern for case-insensitive matching, to be held against texts after `str.casefold`."""
    return Glob(pattern.casefold())


class _Segment:
    """A part of a pattern without `*`. `literal` is None if it holds a `?` that stands for any character."""

    __slots__ = ("_pieces", "literal", "text")

    def __init__(self, text: str, literal: str | None) -> None:
        self.text = text
        self.literal = text if "?" not in text else literal
        self._pieces: tuple[tuple[int, str], ...] = ()
        if self.literal is None:
            offset = 0
            pieces = []
            for piece in text.split("?"):
                if piece:
                    pieces.append((offset, piece))
                offset += len(piece) + 1
            self._pieces = tuple(pieces)

    def positions(self, positions: Positions) -> int:
        """Bit i is set where this segment stands in the text from i on."""
        return positions.of_segment(self.text, "?" if self.literal is None else "")

    def at(self, text: str, position: int) -> bool:
        """Whether this segment stands in `text` from `position` on."""
        if self.literal is not None:
            return text.startswith(self.literal, position)
        if position + len(self.text) > len(text):
            return False
        return all(text.startswith(piece, position + offset) for offset, piece in self._pieces)


def _lowest(mask: int, position: int) -> int:
    """The lowest set bit that is not below `position`, or -1."""
    rest = mask >> position
    return position + (rest & -rest).bit_length() - 1 if rest else -1


def _mask(bits: str) -> int:
    # The most significant digit, of the text's last character, comes first. Linear, as the base is a power of 2.
    return int(bits, 2) if bits else 0
