"""Which state of a room a client wants: what its patterns match, and members as they are needed.

Requests say it in two ways (see client_api/sliding_sync_request.py); both become `RequiredState`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, TypeAlias

from homeserver.protocol.events import StateKey

_MEMBER = "m.room.member"
_LONGEST = 255  # characters of a type or state key; no event has longer ones

Key: TypeAlias = tuple[str | None, str | None]


class Pattern(NamedTuple):
    """Matches state of this type and with this state key, None standing for any; unless one of `but` matches it."""

    type: str | None
    state_key: str | None
    but: frozenset[Key] = frozenset()

    def matches(self, key: StateKey) -> bool:
        return _matches((self.type, self.state_key), key) and not any(_matches(each, key) for each in self.but)

    def covers(self, other: Pattern) -> bool:
        """Whether all that `other` matches is matched by this, as far as can be told from looking at them."""
        return (
            (self.type is None or self.type == other.type)
            and (self.state_key is None or self.state_key == other.state_key)
            and self.but <= other.but
        )


def _matches(pattern: Key, key: StateKey) -> bool:
    return pattern[0] in (None, key[0]) and pattern[1] in (None, key[1])


class RequiredState:
    """What a client wants of a room's state. A value: made once, compared by what it says.

    `exact` has the keys that are named whole, `types` those types of which every key is wanted, `others` the patterns
    that are neither. `broad` are all that do not name a key whole. `lazy`: members too, as the timeline needs them.
    """

    __slots__ = ("_hash", "broad", "exact", "lazy", "others", "patterns", "types")

    def __init__(self, patterns: Iterable[Pattern] = (), *, lazy: bool = False) -> None:
        self.patterns = frozenset(patterns)
        self.lazy = lazy
        plain = [each for each in self.patterns if not each.but]
        self.types = frozenset(each.type for each in plain if each.type is not None and each.state_key is None)
        self.exact = frozenset(
            (each.type, each.state_key) for each in plain if each.type is not None and each.state_key is not None
        )
        self.broad = tuple(each for each in self.patterns if each.type is None or each.state_key is None)
        self.others = tuple(each for each in self.patterns if each.but or each.type is None)
        self._hash = hash((self.patterns, lazy))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequiredState) and self.patterns == other.patterns and self.lazy == other.lazy

    def __hash__(self) -> int:
        return self._hash

    def matches(self, key: StateKey) -> bool:
        """Whether that state is wanted whatever the timeline holds."""
        return key in self.exact or key[0] in self.types or any(each.matches(key) for each in self.others)

    @property
    def may_match_members(self) -> bool:
        """Whether one of `others` may match any member."""
        return any(
            each.type in (None, _MEMBER) and (_MEMBER, None) not in each.but and each.state_key is None
            for each in self.others
        )

    def covers(self, other: RequiredState) -> bool:
        """Whether a client that has been told this needs nothing more for that."""
        if other.lazy and not self.lazy and not self._covers(Pattern(_MEMBER, None)):
            return False
        return all(self._covers(pattern) for pattern in other.patterns)

    def _covers(self, pattern: Pattern) -> bool:
        return pattern in self.patterns or any(each.covers(pattern) for each in self.broad)

    def union(self, other: RequiredState) -> RequiredState:
        """What matches either."""
        return RequiredState(self.patterns | other.patterns, lazy=self.lazy or other.lazy)

    def json(self) -> list[Any]:
        """For storing; `from_json` reads it."""
        patterns = sorted(([each.type, each.state_key, sorted(each.but, key=str)] for each in self.patterns), key=str)
        return [self.lazy, patterns]

    @classmethod
    def from_json(cls, json: list[Any]) -> RequiredState:
        lazy, patterns = json
        return cls(
            (Pattern(type, key, frozenset((but[0], but[1]) for but in buts)) for type, key, buts in patterns),
            lazy=lazy,
        )


def required_state(include: Iterable[Key], exclude: Collection[Key] = (), *, lazy: bool = False) -> RequiredState:
    """What these keys include, but for what is excluded; None stands for any type or state key."""
    patterns = []
    for type, key in include:
        if max(len(type or ""), len(key or "")) > _LONGEST or (type, key) in exclude:
            continue
        but = {each for each in exclude if _overlap(each, (type, key))}
        if any(_is_within((type, key), each) for each in but):
            continue
        if lazy and key is None:
            # What would match every member does not where they are lazy; those named one by one are told still.
            if type == _MEMBER:
                continue
            if type is None:
                but.add((_MEMBER, None))
        patterns.append(Pattern(type, key, frozenset(but)))
    return RequiredState(patterns, lazy=lazy)


def _overlap(one: Key, other: Key) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _is_within(one: Key, other: Key) -> bool:
    return all(b is None or a == b for a, b in zip(one, other, strict=True))
