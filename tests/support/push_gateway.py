"""A push gateway that belongs to a test: it listens on loopback and answers as the test says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.api import Answer, Api

Json = dict[str, Any]
PATH = "/_matrix/push/v1/notify"
Answering = Callable[[Json], Awaitable[web.Response]]


class PushGateway:
    """`notifications` holds every one that it was sent, in order, whatever it answered.

    `answer` says what it answers to a notification; without it, that nothing is rejected.
    """

    def __init__(self) -> None:
        self.url = ""
        self.notifications: list[Json] = []
        self.headers: list[Any] = []
        self.answer: Answering | None = None
        self._came = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert set(body) == {"notification"}, body
        async with self._came:
            self.notifications.append(body["notification"])
            self.headers.append(request.headers)
            self._came.notify_all()
        if self.answer is not None:
            return await self.answer(body["notification"])
        return taken()

    async def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Returns once `condition`, which is about what has come, holds."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(condition)

    async def count(self, number: int) -> list[Json]:
        """Returns the notifications once there are so many."""
        await self.wait_for(lambda: len(self.notifications) >= number)
        return self.notifications

    def events(self, pushkey: str | None = None) -> list[str]:
        """The events that came, for one device or for all, in order, with repetitions."""
        return [
            one["event_id"]
            for one in self.notifications
            if "event_id" in one and pushkey in (None, one["devices"][0]["pushkey"])
        ]

    def repeated(self) -> Counter[str]:
        """The events that came more than once, and how often besides."""
        return Counter(self.events()) - Counter(set(self.events()))


def taken(*rejected: str) -> web.Response:
    return web.json_response({"rejected": list(rejected)})


def refused(status: int) -> Answering:
    """What answers with that status."""

    async def answer(_: Json) -> web.Response:
        return web.Response(status=status, text=json.dumps({}))

    return answer


@asynccontextmanager
async def push_gateway() -> AsyncIterator[PushGateway]:
    """A gateway for as long as the block lasts."""
    gateway = PushGateway()
    app = web.Application()
    app.router.add_post(PATH, gateway.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        gateway.url = f"http://{host}:{port}{PATH}"
        yield gateway
    finally:
        await runner.cleanup()


def pusher(url: str, pushkey: str = "key", /, **fields: Any) -> Json:
    """The body of a request for a pusher; `format` belongs to its data."""
    data = {"url": url}
    if "format" in fields:
        data["format"] = fields.pop("format")
    return {
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": pushkey,
        "app_display_name": "App",
        "device_display_name": "Telephone",
        "lang": "en",
        "data": data,
        **fields,
    }


async def set_pusher(api: Api, body: Json) -> Answer:
    answer = await api.post("/pushers/set", body)
    assert answer.status == 200, answer
    return answer
