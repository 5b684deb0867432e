"""The HTTP API as a test calls it: any method, any path, any body, and the answer as it came.

Every answer is held against the specification's schema for it.
"""

from __future__ import annotations

import json as stdlib_json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import aiohttp
from yarl import URL

from tests.contract.answers import check_answer

Json: TypeAlias = dict[str, Any]
PASSWORD = "correct horse battery staple"
_PREFIX = "/_matrix/client/v3"


class Answer(NamedTuple):
    """`body` is decoded JSON, or bytes where the answer is none."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def errcode(self) -> str | None:
        return self.body.get("errcode") if isinstance(self.body, dict) else None


@dataclass
class Api:
    """Calls a server, as a user if `token` is set. Paths that start with neither `/_` nor `/.` are below the prefix."""

    session: aiohttp.ClientSession
    url: str
    token: str | None = None
    user_id: str = ""
    device_id: str = ""

    async def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`json` is encoded; `body` is sent as it is. The path is sent as it is too, so it must be percent-encoded."""
        full = path if path.startswith(("/_", "/.", "/health", "/ready", "/metrics")) else _PREFIX + path
        url = URL(self.url + full, encoded=True)
        if query:
            url = url.update_query(query)
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        # The library's encoder, because it writes integers of any size.
        data = stdlib_json.dumps(json).encode() if json is not None else body
        async with self.session.request(method, url, data=data, headers=sent) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json" and raw
            answer = Answer(response.status, stdlib_json.loads(raw) if is_json else raw, response.headers)
            check_answer(method, url.raw_path, answer.status, response.content_type, answer.body)
            return answer

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("PUT", path, json, **options)

    async def delete(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("DELETE", path, json, **options)

    def as_token(self, token: str | None) -> Api:
        """The same with another access token."""
        return Api(self.session, self.url, token)

    async def register(self, name: str, password: str = PASSWORD, **fields: Any) -> Api:
        """Makes an account where registration is open; returns the API as that user calls it."""
        auth = {"type": "m.login.dummy"}
        answer = await self.post("/register", {"username": name, "password": password, "auth": auth, **fields})
        assert answer.status == 200, answer
        return self._logged_in(answer.body)

    async def login(self, user: str, password: str = PASSWORD, **fields: Any) -> Api:
        """Logs in with the password; returns the API as that user calls it."""
        identifier = {"type": "m.id.user", "user": user}
        body = {"type": "m.login.password", "identifier": identifier, "password": password, **fields}
        answer = await self.post("/login", body)
        assert answer.status == 200, answer
        return self._logged_in(answer.body)

    def _logged_in(self, body: Json) -> Api:
        return Api(self.session, self.url, body["access_token"], body["user_id"], body["device_id"])


@asynccontextmanager
async def open_api(url: str) -> AsyncIterator[Api]:
    """The API of the server at `url`, without a token."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=60), auto_decompress=True
    ) as session:
        yield Api(session, url)
