"""What the tests of federation share: servers that talk with one another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support import federating
from tests.support.federating import Network


@pytest.fixture
async def network(make_database: Callable[[], Awaitable[str]], tmp_path: Path) -> AsyncIterator[Network]:
    """Servers in this process that reach one another over TLS; none at first."""
    async with federating.network(make_database, tmp_path) as network:
        yield network
