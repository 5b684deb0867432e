"""What the server does leaves nothing that only a collector of reference cycles would free: it runs very seldom."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

from tests.sync.world import World


async def test_sends_and_syncs_leave_no_reference_cycles(world: World) -> None:
    """After sends, joins and syncs, first ones, later ones and ones that wait, there is no garbage to collect."""
    room = await world.create_room("alice")

    async def act(number: int) -> None:
        await world.say(room, "alice", str(number), txn_id=f"t{number}")
        await world.join(room, f"member{number}")
        since = (await world.sync("alice"))["next_batch"]
        waiting = asyncio.create_task(world.sync("alice", since, timeout=10))
        await asyncio.sleep(0)
        await world.say(room, f"member{number}", "hello")
        await waiting

    await act(0)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for number in range(1, 11):
            await act(number)
        found = gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.garbage).most_common(5)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found < 10, f"{found} objects in cycles: {kinds}"
