"""Rooms without HTTP, for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.rooms import Rooms, rooms_on


@pytest.fixture
async def rooms(database: str) -> AsyncIterator[Rooms]:
    """The rooms of a server that has just been installed."""
    async with rooms_on(database) as built:
        yield built
