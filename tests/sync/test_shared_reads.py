"""Reads that readers of one position share."""

from __future__ import annotations

import asyncio

import pytest

from homeserver.sync.shared_reads import SharedReads


class Database:
    """Answers slowly, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answer = asyncio.Event()
        self.fails = False

    async def read(self, keys: list[str]) -> dict[str, str]:
        self.asked.append(keys)
        number = len(self.asked)
        await self.answer.wait()
        if self.fails:
            raise ConnectionError("gone")
        return {key: f"{key}{number}" for key in keys}


async def test_who_reads_the_same_at_one_position_shares_it() -> None:
    """Each key is read once for a position, be the others there at the same time or later."""
    shared, database = SharedReads(), Database()
    first = asyncio.create_task(shared.get(5, ["a", "b"], database.read))
    second = asyncio.create_task(shared.get(5, ["b", "c"], database.read))
    await asyncio.sleep(0)
    database.answer.set()
    assert await first == {"a": "a1", "b": "b1"}
    assert await second == {"b": "b1", "c": "c2"}
    assert await shared.get(5, ["a", "c"], database.read) == {"a": "a1", "c": "c2"}
    assert database.asked == [["a", "b"], ["c"]]


async def test_nothing_is_shared_between_positions() -> None:
    """A reader of another position, later or earlier, is never given what was read for this one."""
    shared, database = SharedReads(), Database()
    database.answer.set()
    for until, expected in ((5, "a1"), (6, "a2"), (5, "a3"), (6, "a2"), (7, "a4")):
        assert await shared.get(until, ["a"], database.read) == {"a": expected}


async def test_who_reads_for_others_may_go() -> None:
    """If the one who reads is cancelled or fails, those who wait read for themselves."""
    shared, database = SharedReads(), Database()
    first = asyncio.create_task(shared.get(5, ["a"], database.read))
    second = asyncio.create_task(shared.get(5, ["a"], database.read))
    await asyncio.sleep(0)
    first.cancel()
    database.answer.set()
    assert await second == {"a": "a2"}
    database.fails = True
    with pytest.raises(ConnectionError):
        await shared.get(6, ["a"], database.read)
    database.fails = False
    assert await shared.get(6, ["a"], database.read) == {"a": "a4"}


async def test_who_waits_for_others_may_go() -> None:
    """One who waits and is cancelled takes nothing from the one who reads."""
    shared, database = SharedReads(), Database()
    first = asyncio.create_task(shared.get(5, ["a"], database.read))
    second = asyncio.create_task(shared.get(5, ["a"], database.read))
    await asyncio.sleep(0)
    second.cancel()
    database.answer.set()
    assert await first == {"a": "a1"}


async def test_nothing_is_asked_for_nothing() -> None:
    """Without keys there is no question, at whatever position."""
    shared, database = SharedReads(), Database()
    for until in (5, 6, 5):
        assert await shared.get(until, [], database.read) == {}
    assert not database.asked
