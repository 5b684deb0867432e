"""Fixtures of the tests of sliding sync."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from homeserver.sync.sliding.connections import Connections
from tests.sync.sliding.phone import Phone
from tests.sync.world import World, user_id

PhoneOf = Callable[..., Phone]


@pytest.fixture
async def connections(world: World) -> Connections:
    """The connections of the server."""
    return Connections(world.sources.pool)


@pytest.fixture
async def phone_of(world: World, connections: Connections) -> PhoneOf:
    """A function that gives a user's client: `phone_of("alice", device="OTHER", conn="encryption")`."""
    for name in ("alice", "bob", "carol", "dave"):
        await add_devices(world, name)
    return lambda name, **options: Phone(world, connections, name, **options)


async def add_devices(world: World, name: str) -> None:
    """Makes the devices that tests use, which their connections belong to."""
    nid = await world.timeline.names.user_nid(user_id(name))
    await world.sources.pool.executemany(
        "INSERT INTO devices (user_nid, device_id, created_ts) VALUES ($1, $2, 0)",
        [(nid, device) for device in ("DEVICE", "OTHER")],
    )
