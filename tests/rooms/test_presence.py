"""Presence by time: who is online, idle, offline, and what others are told of it.

Time is what the tests say it is.  # spec: client-server-api/#presence
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeserver.changes import Changes
from homeserver.rooms.presence import (
    ACTIVE_MS,
    DISCONNECTED_MS,
    IDLE_MS,
    OFFLINE,
    ONLINE,
    REMOTE_MS,
    REPEAT_MS,
    UNAVAILABLE,
    Presence,
    UserPresence,
)
from homeserver.rooms.typing_users import TypingUsers

ALICE, BOB = (1, "@alice:test"), (2, "@bob:elsewhere")
START = 1_000_000


class Clock:
    """Milliseconds, as far as they have been moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Told:
    """A presence, the clock it goes by, and what it told whom."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.numbers = TypingUsers(Changes())
        self.presence = Presence(self.numbers, clock=self.clock)
        self.changes: list[tuple[str, bool]] = []
        self.to_servers = 0
        self.presence.on_change(lambda user: self.changes.append((user.presence, user.currently_active)))
        self.presence.on_local_change(self._count)

    def _count(self, user: UserPresence) -> None:
        self.to_servers += 1

    def later(self, ms: int) -> None:
        self.clock.now += ms
        self.presence.tick()

    def alice(self) -> dict[str, object]:
        user = self.presence.of(1)
        return {} if user is None else user.content(self.clock.now)

    def sync(self, state: str = ONLINE, device: str = "PHONE") -> None:
        with self.presence.syncing(*ALICE, device, state):
            pass


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    """A presence that has just begun."""
    told = Told()
    yield told
    told.presence.close()
    told.numbers.close()


async def test_who_syncs_is_online(told: Told) -> None:
    """A client that syncs marks its user as online, and as currently active: it has just come."""
    told.sync()
    assert told.alice() == {"presence": ONLINE, "currently_active": True, "last_active_ago": 0}
    assert told.changes == [(ONLINE, True)]


async def test_syncing_as_offline_says_nothing(told: Told) -> None:
    """With set_presence=offline the client is not marked as online when it syncs."""
    told.sync(OFFLINE)
    assert told.alice() == {}
    assert told.changes == []


async def test_who_stops_syncing_goes_offline(told: Told) -> None:
    """Without a further sync a user is offline after a while; with one, they stay."""
    told.sync()
    told.later(DISCONNECTED_MS - 1)
    told.sync()
    told.later(DISCONNECTED_MS - 1)
    assert told.alice()["presence"] == ONLINE
    told.later(1)
    assert told.alice()["presence"] == OFFLINE
    assert "currently_active" not in told.alice()


async def test_a_long_poll_keeps_its_user_there(told: Told) -> None:
    """While a sync waits its user is connected, however long that takes."""
    with told.presence.syncing(*ALICE, "PHONE", ONLINE):
        told.later(10 * DISCONNECTED_MS)
        assert told.alice()["presence"] != OFFLINE
    told.later(DISCONNECTED_MS)
    assert told.alice()["presence"] == OFFLINE


async def test_the_idle_become_unavailable(told: Told) -> None:
    """After a minute without an action the user is not currently active, after five they are unavailable; each is told
    once. Any action makes them online again."""
    with told.presence.syncing(*ALICE, "PHONE", ONLINE):
        told.later(ACTIVE_MS)
        assert told.alice() == {"presence": ONLINE, "currently_active": False, "last_active_ago": ACTIVE_MS}
        told.later(IDLE_MS - ACTIVE_MS - 1)
        assert told.alice()["presence"] == ONLINE
        told.later(1)
        assert told.alice() == {"presence": UNAVAILABLE, "last_active_ago": IDLE_MS}
        told.presence.active(1)
        assert told.alice() == {"presence": ONLINE, "currently_active": True, "last_active_ago": 0}
        assert told.changes == [(ONLINE, True), (ONLINE, False), (UNAVAILABLE, False), (ONLINE, True)]


async def test_activity_is_not_told_while_currently_active(told: Told) -> None:
    """During currently_active no further update is sent, but the last active time goes on for those who ask."""
    with told.presence.syncing(*ALICE, "PHONE", ONLINE):
        for _ in range(10):
            told.later(ACTIVE_MS // 2)
            told.presence.active(1)
        assert told.changes == [(ONLINE, True)]
        assert told.alice()["last_active_ago"] == 0


async def test_one_online_device_is_enough(told: Told) -> None:
    """The states of the devices are put together: online counts more than unavailable, and that more than absence."""
    with (
        told.presence.syncing(*ALICE, "PHONE", ONLINE),
        told.presence.syncing(*ALICE, "DESK", UNAVAILABLE),
    ):
        assert told.alice()["presence"] == ONLINE
        told.sync(UNAVAILABLE, "PHONE")
        assert told.alice()["presence"] == UNAVAILABLE


async def test_set_presence_is_told_with_its_message(told: Told) -> None:
    """Setting a status is a change even if the state is the same, and counts as activity."""
    told.sync()
    told.later(1000)
    told.presence.set_local(*ALICE, "PHONE", ONLINE, "in a meeting")
    assert told.alice() == {
        "presence": ONLINE,
        "currently_active": True,
        "last_active_ago": 0,
        "status_msg": "in a meeting",
    }
    told.presence.set_local(*ALICE, "PHONE", UNAVAILABLE)
    assert told.alice() == {"presence": UNAVAILABLE, "last_active_ago": 0}
    told.presence.set_local(*ALICE, "PHONE", OFFLINE)
    assert told.alice()["presence"] == OFFLINE
    assert len(told.changes) == 4


async def test_changes_are_found_by_their_number(told: Told) -> None:
    """A client that knows everything up to a number is told of those who changed after it, and of each once."""
    told.sync()
    before = told.numbers.position
    assert list(told.presence.changed_since(before)) == []
    told.presence.set_remote(*BOB, ONLINE, last_active_ago=5, currently_active=True)
    assert list(told.presence.changed_since(before)) == [2]
    told.presence.set_local(*ALICE, "PHONE", ONLINE, "a")
    told.presence.set_local(*ALICE, "PHONE", ONLINE, "b")
    assert list(told.presence.changed_since(before)) == [1, 2]
    assert sorted(told.presence.changed_since(0)) == [1, 2]


async def test_a_remote_user_is_lost_with_time(told: Told) -> None:
    """If a server says nothing more of its user, the user is taken for offline; another word in between keeps them."""
    told.presence.set_remote(*BOB, ONLINE, last_active_ago=5, currently_active=True, status_msg="hm")
    user = told.presence.of(2)
    assert user is not None
    assert user.content(told.clock.now) == {
        "presence": ONLINE,
        "currently_active": True,
        "last_active_ago": 5,
        "status_msg": "hm",
    }
    told.later(REMOTE_MS - 1)
    told.presence.set_remote(*BOB, ONLINE, last_active_ago=5, currently_active=True, status_msg="hm")
    told.later(REMOTE_MS - 1)
    assert user.presence == ONLINE
    told.later(1)
    assert user.presence == OFFLINE
    assert told.to_servers == 0


async def test_servers_hear_of_someone_who_stays(told: Told) -> None:
    """Who neither comes nor goes is told to other servers again before those give them up."""
    with told.presence.syncing(*ALICE, "PHONE", ONLINE):
        told.later(ACTIVE_MS)
        told.later(IDLE_MS)
        assert told.to_servers == 3
        told.later(REPEAT_MS)
        assert told.to_servers == 4
        assert len(told.changes) == 3


async def test_after_a_restart_the_gone_are_told_of(told: Told) -> None:
    """Who was online before a restart still is, until the time to come back has passed; then everyone hears of it."""
    before = told.numbers.position
    told.presence.restore([UserPresence(*ALICE, local=True, presence=ONLINE, last_active=START - 10)])
    assert list(told.presence.changed_since(before)) == [1]
    assert told.alice()["presence"] == ONLINE
    told.later(DISCONNECTED_MS)
    assert told.alice()["presence"] == OFFLINE


async def test_many_users_need_one_timer(told: Told) -> None:
    """However many users come and sync again, the queue has few entries for each and one timer."""
    for _ in range(20):
        for nid in range(500):
            with told.presence.syncing(nid, f"@u{nid}:test", "PHONE", ONLINE):
                pass
        told.later(1000)
    assert len(told.presence._queue) <= 1500
    told.later(DISCONNECTED_MS)
    assert list(told.presence.present()) == []


async def test_switched_off_it_knows_nobody() -> None:
    """With presence off nothing is kept and nobody is told anything."""
    numbers = TypingUsers(Changes())
    presence = Presence(numbers, enabled=False)
    with presence.syncing(*ALICE, "PHONE", ONLINE):
        presence.set_local(*ALICE, "PHONE", ONLINE, "x")
        presence.set_remote(*BOB, ONLINE, last_active_ago=0)
        presence.active(1)
    assert presence.of(1) is None
    assert presence.of(2) is None
