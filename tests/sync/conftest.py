"""Fixtures of the tests of what clients read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sync.world import World, open_world


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    """An empty server."""
    async with open_world(database) as world:
        yield world
