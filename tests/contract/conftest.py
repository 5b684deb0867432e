"""What the tests of the contract share: the specification, and a server that lives as long as their file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from homeserver.main import running_server
from tests.conftest import databases
from tests.contract.answers import required_here
from tests.contract.federation_world import FederationWorld
from tests.contract.specification import VARIABLE, Specification, specification
from tests.contract.world import World
from tests.support import federating
from tests.support.api import open_api
from tests.support.servers import server_config


@pytest.fixture(scope="session")
def matrix() -> Specification:
    """The specification. Where it is absent, the test is skipped, but fails in continuous integration."""
    found = specification()
    if found is None:
        assert not required_here(), f"The Matrix specification is not there; {VARIABLE} must name its folder"
        pytest.skip(f"The Matrix specification is not there; {VARIABLE} may name its folder")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A server and its users."""
    directory: Path = tmp_path_factory.mktemp("contract")
    async with databases(postgres_url) as make:
        config = server_config(
            await make(),
            directory,
            public_baseurl="https://test.example/",
            registration={"guests": True},
            policy_server={"public_key": "6yhHGKhCiXTSEN2ksjV7kXN6rBQZ3XbM7LlC6NSs0WM"},
            support={"page": "https://test.example/help"},
        )
        async with running_server(config) as server, open_api(server.url) as api:
            yield World(server, api)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FederationWorld]:
    """A server and a peer that asks it."""
    async with (
        databases(postgres_url) as make,
        federating.network(make, tmp_path_factory.mktemp("peers")) as network,
        open_api("") as api,
    ):
        yield await FederationWorld.made(network, api)
