"""matrix-js-sdk under Node, called from Python: the other end of js/client.mjs."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).parent / "js/client.mjs"
_LONGEST_LINE = 16 * 1024 * 1024


class JsClient:
    """One client in a process of its own. Several calls may be under way at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def call(self, name: str, *args: object) -> Any:
        """Calls a function of client.mjs. Raises RuntimeError with the text of whatever it throws."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None, "is a pipe"
        self._process.stdin.write(json.dumps({"id": number, "call": name, "args": args}).encode() + b"\n")
        try:
            async with asyncio.timeout(90):
                return await answer
        finally:
            del self._waiting[number]

    async def listen(self) -> None:
        """Hands the answers to those who wait for them, until the process ends."""
        assert self._process.stdout is not None, "is a pipe"
        async for line in self._process.stdout:
            reply = json.loads(line)
            waiting = self._waiting.get(reply["id"])
            if waiting is None or waiting.done():
                continue
            if "error" in reply:
                waiting.set_exception(RuntimeError(reply["error"]))
            else:
                waiting.set_result(reply["result"])
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RuntimeError("Node has ended"))


@asynccontextmanager
async def js_client(node: Path, log_file: Path) -> AsyncIterator[JsClient]:
    """A client that is not logged in yet; what the library logs goes to `log_file`."""
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            node, _SCRIPT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            limit=_LONGEST_LINE,
        )  # fmt: skip
    client = JsClient(process)
    listening = asyncio.create_task(client.listen())
    try:
        yield client
        assert process.stdin is not None, "is a pipe"
        process.stdin.close()
        async with asyncio.timeout(10):
            assert await process.wait() == 0, f"see {log_file}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await listening
