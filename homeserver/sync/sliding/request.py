"""What a client asks for in one request, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeserver.sync.client_events import Reader
from homeserver.sync.sliding.required_state import RequiredState


@dataclass(frozen=True, slots=True)
class RoomConfig:
    """What to tell of a room."""

    timeline_limit: int
    required: RequiredState

    def union(self, other: RoomConfig) -> RoomConfig:
        """What tells all that either does."""
        required = self.required if self.required == other.required else self.required.union(other.required)
        return RoomConfig(max(self.timeline_limit, other.timeline_limit), required)


@dataclass(frozen=True, slots=True)
class RoomFilter:
    """Which rooms a list has; None of anything asks for nothing."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invited: bool | None = None
    spaces: frozenset[str] | None = None
    room_types: frozenset[str | None] | None = None
    not_room_types: frozenset[str | None] = frozenset()
    tags: frozenset[str] | None = None
    not_tags: frozenset[str] = frozenset()

    @property
    def looks_at_kinds(self) -> bool:
        """Whether it asks what rooms are: of which type, and encrypted or not."""
        return self.is_encrypted is not None or self.room_types is not None or bool(self.not_room_types)


@dataclass(frozen=True, slots=True)
class ListConfig:
    """One list. `ranges` has first and last indices; None: the whole list."""

    config: RoomConfig
    ranges: tuple[tuple[int, int], ...] | None
    filter: RoomFilter


@dataclass(frozen=True, slots=True)
class ExtensionConfig:
    """What is asked of one extension. `name` is what the client calls it. `lists` and `rooms`, where not None, say to
    which it is limited; a `*` among them says all that there are.
    """

    name: str
    limit: int | None = None
    since: str | None = None
    lists: frozenset[str] | None = None
    rooms: frozenset[str] | None = None

    @property
    def unlimited(self) -> bool:
        """Whether it covers every room that the connection does."""
        return all(names is None or "*" in names for names in (self.lists, self.rooms))


@dataclass(frozen=True, slots=True)
class SlidingRequest:
    """One request. `timeout` is how long to wait at most, in seconds. `extensions` are those that are enabled."""

    reader: Reader
    conn_id: str = ""
    pos: str | None = None
    timeout: float = 0.0
    lists: Mapping[str, ListConfig] = field(default_factory=dict)
    subscriptions: Mapping[str, RoomConfig] = field(default_factory=dict)
    extensions: Mapping[str, ExtensionConfig] = field(default_factory=dict)
