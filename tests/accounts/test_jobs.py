"""Work in the background: done once, tried again when that helps, taken up by whoever comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from homeserver.accounts.jobs import GiveUp, Handler, Jobs, Tools, Work
from homeserver.protocol.errors import Forbidden, Unavailable
from homeserver.storage import jobs as rows
from tests.support.client import eventually
from tests.support.rooms import Rooms, rooms_on


@pytest.fixture
async def rooms(database: str) -> AsyncIterator[Rooms]:
    """What work is done with."""
    async with rooms_on(database) as rooms:
        yield rooms


@asynccontextmanager
async def _running(rooms: Rooms, handler: Handler, processes: int = 1) -> AsyncIterator[list[Jobs]]:
    """So many processes that do work of the kind `x` with `handler`."""
    jobs = [Jobs(Tools(rooms.membership), {"x": handler}) for _ in range(processes)]
    tasks = [asyncio.create_task(each.run()) for each in jobs]
    try:
        yield jobs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _order(rooms: Rooms, number: int = 1) -> list[str]:
    async with rooms.pool.acquire() as conn:
        return [await rows.insert_job(conn, "x", f"target {place}", {}, place) for place in range(number)]


async def _job(rooms: Rooms, job_id: str) -> rows.Job:
    async with rooms.pool.acquire() as conn:
        job = await rows.find_job(conn, job_id, ["x"])
    assert job is not None
    return job


async def test_several_processes_do_each_work_once(rooms: Rooms) -> None:
    """What one has claimed no other does, however many look for it at the same time."""
    done: list[str] = []

    async def handler(tools: Tools, work: Work) -> None:
        await work.note(step=1)
        done.append(work.job.target)

    await _order(rooms, 40)
    async with _running(rooms, handler, processes=3):

        async def all_done() -> bool:
            return bool(await rooms.pool.fetchval("SELECT count(*) FROM jobs WHERE finished_ts IS NULL") == 0)

        await eventually(all_done, "all work to be done")
    assert sorted(done) == sorted(f"target {number}" for number in range(40))


async def test_what_may_pass_is_tried_again_with_what_was_noted(rooms: Rooms) -> None:
    """An error that may pass puts the work off; the next attempt begins where the first one noted that it was."""
    seen: list[int] = []

    async def handler(tools: Tools, work: Work) -> None:
        seen.append(work.progress.get("step", 0))
        await work.note(step=len(seen))
        if len(seen) == 1:
            raise Unavailable("not now")

    [job_id] = await _order(rooms)
    async with _running(rooms, handler) as [jobs]:

        async def put_off() -> bool:
            return (await _job(rooms, job_id)).error == "not now"

        await eventually(put_off, "the work to be put off")
        assert (await _job(rooms, job_id)).status == "scheduled"
        await rooms.pool.execute("UPDATE jobs SET claimed_until = 0")
        await jobs.wait(job_id, 30)
    job = await _job(rooms, job_id)
    assert (seen, job.status, job.progress, job.error) == ([0, 1], "complete", {"step": 2}, None)


@pytest.mark.parametrize("failure", [Forbidden("never"), GiveUp("never")])
async def test_what_will_not_pass_ends_the_work(rooms: Rooms, failure: Exception) -> None:
    """A refusal is the end of it, and its reason can be read."""

    async def handler(tools: Tools, work: Work) -> None:
        raise failure

    [job_id] = await _order(rooms)
    async with _running(rooms, handler) as [jobs]:
        await jobs.wait(job_id, 30)
    job = await _job(rooms, job_id)
    assert (job.status, job.error, job.attempts) == ("failed", "never", 1)


async def test_a_fault_tells_nothing_of_itself(rooms: Rooms) -> None:
    """What is not meant for anyone's eyes stands in the server's log, and not in what administrators are shown."""

    async def handler(tools: Tools, work: Work) -> None:
        raise RuntimeError("secret")

    [job_id] = await _order(rooms)
    async with _running(rooms, handler):

        async def noted() -> bool:
            return (await _job(rooms, job_id)).error is not None

        await eventually(noted, "the fault to be noted")
    assert "secret" not in str(await _job(rooms, job_id))


async def test_what_a_process_left_is_taken_up(rooms: Rooms) -> None:
    """Work whose claim has run out is done by whoever comes, with its progress; what is claimed is left alone."""

    async def handler(tools: Tools, work: Work) -> None:
        await work.note(steps=[*work.progress["steps"], "second"])

    left, claimed = await _order(rooms, 2)
    await rooms.pool.execute(
        "UPDATE jobs SET status = 'active', attempts = 1, progress = '{\"steps\": [\"first\"]}', "
        "claimed_until = CASE WHEN job_id = $1 THEN 5 ELSE 9000000000000 END",
        left,
    )
    async with _running(rooms, handler) as [jobs]:
        await jobs.wait(left, 30)
    assert (await _job(rooms, left)).progress == {"steps": ["first", "second"]}
    assert (await _job(rooms, claimed)).attempts == 1


async def test_finished_work_is_forgotten_in_the_end(rooms: Rooms) -> None:
    """What ended long ago goes; what is open stays, however old."""
    old, open_one = await _order(rooms, 2)
    async with rooms.pool.acquire() as conn:
        await rows.finish_job(conn, old, {}, None, 10)
        await rows.forget_finished(conn, 11)
        assert [row["job_id"] for row in await conn.fetch("SELECT job_id FROM jobs")] == [open_one]
