"""Several of our servers in the test's own process, talking with one another over TLS on loopback.

Each has its own database, key and name, `localhost:PORT`; all trust one authority. A test can stop one and start it
again, and cut the line between two: then neither reaches the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from federation.client import FederationClient
from homeserver.config import Config
from homeserver.main import Server, running_server
from homeserver.protocol.errors import Unavailable
from homeserver.services import Services
from tests.support.client import Client, eventually, registering
from tests.support.processes import free_port
from tests.support.servers import server_config
from tests.support.tls import Authority

_RETRY_MS = 50


class Node:
    """One server of a network. It may be stopped and started again with everything that it had."""

    def __init__(self, network: Network, config: Config) -> None:
        self._network = network
        self._config = config
        self._stack: AsyncExitStack | None = None
        self.server: Server

    @property
    def name(self) -> str:
        """The server name."""
        return self._config.server_name

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self._config.listeners[0].port}"

    @property
    def federation_url(self) -> str:
        """Where other servers reach it, over TLS."""
        return f"https://127.0.0.1:{self._config.listeners[1].port}"

    @property
    def services(self) -> Services:
        return self.server.services

    @property
    def remote(self) -> FederationClient:
        """Asks other servers in the name of this one."""
        remote = self.services.remote
        assert isinstance(remote, FederationClient)
        return remote

    async def start(self) -> None:
        """Starts it."""
        stack = AsyncExitStack()
        self.server = await stack.enter_async_context(running_server(self._config))
        self._stack = stack
        self.server.federation.outbox.retry_ms = _RETRY_MS
        transport = self.remote._transport
        routes = transport._routes

        async def routes_unless_cut(destination: str) -> Any:
            if self._network.is_cut(self.name, destination):
                raise Unavailable(f"the line to {destination} is cut")
            return await routes(destination)

        transport._routes = routes_unless_cut  # type: ignore[method-assign]

    async def stop(self) -> None:
        """Stops it, unless it is stopped."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def user(self, name: str) -> Client:
        """Registers a user."""
        return await self._network.register(self, name)


class Network:
    """Servers and the lines between them."""

    def __init__(self, make_database: Callable[[], Awaitable[str]], directory: Path) -> None:
        self._make_database = make_database
        self._directory = directory
        self.authority = Authority(directory)
        self._cut: set[frozenset[str]] = set()
        self.nodes: list[Node] = []
        self.register: Callable[[Any, str], Awaitable[Client]]

    async def server(self, **settings: Any) -> Node:
        """Starts one more server."""
        port = free_port()
        issued = self.authority.issue(["localhost", "127.0.0.1"])
        data_dir = self._directory / f"server-{port}"
        data_dir.mkdir()
        federation = {
            "ca_file": str(self.authority.ca_file),
            "allow_addresses": ["127.0.0.0/8", "::1"],
            "allow_domains": None,
            "timeout_seconds": 30,
        }
        tls = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
        values = {
            "server_name": f"localhost:{port}",
            "listeners": [{"port": free_port()}, {"port": port, "tls": tls, "serves": ["federation"]}],
            "federation": federation | settings.pop("federation", {}),
        }
        node = Node(self, server_config(await self._make_database(), data_dir, **(values | settings)))
        self.nodes.append(node)
        await node.start()
        return node

    def cut(self, one: Node, other: Node) -> None:
        """Lets neither of the two reach the other."""
        self._cut.add(frozenset((one.name, other.name)))

    def heal(self) -> None:
        """Mends all lines."""
        self._cut.clear()

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._cut


@asynccontextmanager
async def network(make_database: Callable[[], Awaitable[str]], directory: Path) -> AsyncIterator[Network]:
    """A network without servers yet. At the end those that it has are stopped."""
    made = Network(make_database, directory)
    async with registering() as register:
        made.register = register
        try:
            yield made
        finally:
            await asyncio.gather(*(node.stop() for node in made.nodes))


async def timeline_ids(node: Node, room_id: str) -> set[str]:
    """The events that a server has in a room's timeline."""
    rows = await node.services.pool.fetch(
        "SELECT e.event_id FROM events e JOIN rooms r USING (room_nid) WHERE r.room_id = $1 AND e.ord IS NOT NULL",
        room_id,
    )
    return {row["event_id"] for row in rows}


async def state_ids(node: Node, room_id: str) -> dict[tuple[str, str], str]:
    """What a server takes for the room's current state."""
    rows = await node.services.pool.fetch(
        "SELECT k.type, k.state_key, e.event_id FROM room_state s JOIN rooms r USING (room_nid) "
        "JOIN state_keys k USING (state_key_nid) JOIN events e ON e.event_nid = s.event_nid "
        "WHERE r.room_id = $1 AND s.to_pos = 9223372036854775807",
        room_id,
    )
    return {(row["type"], row["state_key"]): row["event_id"] for row in rows}


async def is_idle(node: Node) -> bool:
    """Whether nobody lacks anything of this server's any more."""
    waiting = await node.services.pool.fetchval("SELECT count(*) FROM destination_rooms")
    return not waiting


async def agree(room_id: str, *nodes: Node, seconds: float = 30.0) -> None:
    """Waits until these servers have the same events, from the first on, and the same state of the room."""
    for node in nodes:
        room = await node.services.timeline.room(room_id)
        while await node.services.backfiller.fill(room, None, 2**63 - 1):
            pass

    async def same() -> bool:
        first = await state_ids(nodes[0], room_id), await timeline_ids(nodes[0], room_id)
        return all([(await state_ids(node, room_id), await timeline_ids(node, room_id)) == first for node in nodes[1:]])

    try:
        await eventually(same, "the servers to agree", seconds)
    except TimeoutError as error:
        for node in nodes:
            state, timeline = await state_ids(node, room_id), await timeline_ids(node, room_id)
            error.add_note(f"{node.name}: {len(timeline)} events, state {sorted(state.items())}")
        raise
