"""What the server does leaves nothing that only a collector of reference cycles would free: it runs very seldom."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from tests.sync.world import World


async def test_sends_and_syncs_leave_no_reference_cycles(world: World) -> None:
    """After sends, joins and syncs, first ones, later ones and ones that wait, there is no garbage to collect."""
    room = await world.create_room("alice")

    async def act_all(numbers: Iterable[int]) -> None:
        for number in numbers:
            await act(number)

    async def act(number: int) -> None:
        await world.say(room, "alice", str(number), txn_id=f"t{number}")
        await world.join(room, f"member{number}")
        since = (await world.sync("alice"))["next_batch"]
        waiting = asyncio.create_task(world.sync("alice", since, timeout=10))
        await asyncio.sleep(0)
        await world.say(room, f"member{number}", "hello")
        await waiting

    await act(0)
    # What earlier tests left may end meanwhile; what these acts leave, they leave each time.
    rounds = [await garbage_of(partial(act_all, range(start, start + 5))) for start in (1, 6, 11)]
    assert not min(rounds, key=Counter.total)


async def garbage_of(act: Callable[[], Awaitable[None]]) -> Counter[str]:
    """How many objects of which types only the collector would have freed after that act."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await act()
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
