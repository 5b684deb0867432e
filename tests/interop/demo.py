"""`make demo`: people on our server and on a real Synapse in one room, told line by line.

It tells the stories that test_synapse.py tests, with fresh servers on loopback that are gone afterwards.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.interop import stories
from tests.interop.stories import Cast, Person
from tests.interop.synapse import PYTHON_VARIABLE, synapse, synapse_python
from tests.support.client import registering
from tests.support.processes import Homeserver, talk_pai
from tests.support.tls import Authority


async def tell_all(ours: Homeserver, theirs: Homeserver) -> None:
    """Tells every story between two running servers. Raises where one does not come out as it should."""
    started = time.monotonic()

    def tell(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - started:6.1f} s  {line}\n")
        sys.stdout.flush()

    def chapter(title: str) -> None:
        sys.stdout.write(f"\n{title}\n")

    async with registering() as register:
        alice = Person("Alice", await register(ours, "alice"), ours)
        bob = Person("Bob", await register(theirs, "bob"), theirs)
        hers, his = Cast(alice, bob, tell), Cast(bob, alice, tell)

        chapter("A room of Alice's, joined by its alias")
        room_id = await stories.join_by_alias(hers)
        await stories.talk(hers, room_id)
        await stories.edit(hers, room_id)
        await stories.redact(hers, room_id)

        chapter("A room of Bob's, joined by invitation")
        his_room_id = await stories.join_by_invite(his)
        await stories.talk(his, his_room_id)
        await stories.change_state_at_once(his, his_room_id)

        chapter("Our server is away")
        await stories.catch_up(hers, room_id, absent=alice, present=bob)

        chapter("Synapse is away")
        await stories.catch_up(hers, room_id, absent=bob, present=alice)

        chapter("Goodbye")
        await stories.leave(hers, room_id)
        await stories.ban(his, his_room_id)


def main() -> int:
    """Starts both servers, tells the stories, and stops the servers. Returns the exit status."""
    python = synapse_python()
    if python is None:
        sys.stderr.write(f"There is no Synapse: `make demo` installs one, or {PYTHON_VARIABLE} names its Python.\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="talk-pai-demo-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # under root PostgreSQL runs as somebody else
        authority = Authority(directory)
        ours, theirs = talk_pai(directory / "talk-pai", authority), synapse(python, directory / "synapse", authority)
        try:
            for server in (ours, theirs):
                server.process.start()
                sys.stdout.write(f"{server.name} is {server.server_name}, for clients at {server.url}\n")
            asyncio.run(tell_all(ours, theirs))
            for server in (ours, theirs):
                server.process.stop()
        finally:
            for server in (ours, theirs):
                server.process.kill()
    sys.stdout.write("\nBoth servers are stopped and nothing is left running.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
