"""What a handler is given of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload
from urllib.parse import parse_qsl

from aiohttp import web

from homeserver.http.bodies import checked_text, decode_object
from homeserver.protocol.errors import BadRequest, InvalidParam, MissingParam, TooLarge
from homeserver.protocol.events import JsonObject

if TYPE_CHECKING:
    from homeserver.config import RateLimit
    from homeserver.http.routes import Route
    from homeserver.http.server import HttpServer

_MAX_INTEGER = 2**63 - 1  # what a bigint column holds
_BODY_TIMEOUT = 120.0  # seconds until a body must have come
_STREAM_PAUSE = 60.0  # seconds within which the next piece of a streamed body must come
_STREAM_TIMEOUT = 3600.0  # … and all of it


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks. `token_hash` is that of the access token; an application service that acts as a user has none.

    `client_id` and `scope` are those of a session that was made by OAuth 2.0.
    """

    user_id: str
    user_nid: int
    device_id: str | None
    admin: bool
    guest: bool
    appservice_id: str | None
    token_hash: bytes | None
    rate_limited: bool = True
    client_id: str | None = None
    scope: str | None = None
    suspended: bool = False
    shadow_banned: bool = False
    message_limit: RateLimit | None = None  # instead of what the configuration says of messages


class Query:
    """The query string, with getters that refuse what is not as the specification says. Of a repeated key the last
    value counts; `all` gives every one."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, query_string: str) -> None:
        """:raises InvalidParam: if it is not percent-encoded UTF-8, has NUL characters or very many keys"""
        try:
            raw = query_string.encode("utf-8", "surrogateescape").decode("utf-8")
            self._pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=1000)
        except ValueError:
            raise InvalidParam("The query string is not UTF-8 or too long") from None
        if any("\0" in name or "\0" in value for name, value in self._pairs):
            raise InvalidParam("The query string has a NUL character in it")
        self._values = dict(self._pairs)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    @overload
    def string(self, name: str, *, required: Literal[True], max_length: int = ...) -> str: ...
    @overload
    def string(self, name: str, *, default: str, max_length: int = ...) -> str: ...
    @overload
    def string(self, name: str, *, max_length: int = ...) -> str | None: ...
    def string(
        self, name: str, *, required: bool = False, default: str | None = None, max_length: int = 65536
    ) -> str | None:
        """Raises MissingParam, InvalidParam."""
        value = self._values.get(name)
        if value is None:
            if required:
                raise MissingParam(f"{name} is missing")
            return default
        return checked_text(name, value, max_length)

    @overload
    def integer(self, name: str, *, default: int, minimum: int = ..., maximum: int = ...) -> int: ...
    @overload
    def integer(self, name: str, *, minimum: int = ..., maximum: int = ...) -> int | None: ...
    def integer(
        self, name: str, *, default: int | None = None, minimum: int = -_MAX_INTEGER, maximum: int = _MAX_INTEGER
    ) -> int | None:
        """Raises InvalidParam if it is no integer from `minimum` to `maximum`."""
        value = self._values.get(name)
        if value is None:
            return default
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise InvalidParam(f"{name} must be an integer")
        number = int(value)
        if not minimum <= number <= maximum:
            raise InvalidParam(f"{name} must be from {minimum} to {maximum}")
        return number

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Raises InvalidParam if it is neither true nor false."""
        value = self._values.get(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise InvalidParam(f"{name} must be true or false")
        return value == "true"

    @overload
    def choice(self, name: str, allowed: tuple[str, ...], *, default: str) -> str: ...
    @overload
    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None: ...
    def choice(self, name: str, allowed: tuple[str, ...], *, default: str | None = None) -> str | None:
        """Raises InvalidParam if it is none of those allowed."""
        value = self._values.get(name, default)
        if value is not None and value not in allowed:
            raise InvalidParam(f"{name} must be one of {', '.join(allowed)}")
        return value


class ApiRequest:
    """A request that has found its route. Handlers read it through this and not through aiohttp.

    `client_address` is where it comes from (X-Forwarded-For counts only from trusted proxies), "" if unknown.
    `raw_target` is path and query exactly as sent, which federation signatures cover.
    """

    __slots__ = ("_body", "_query", "_requester", "client_address", "http", "params", "raw", "request_id", "route")

    def __init__(
        self,
        raw: web.BaseRequest,
        route: Route,
        params: Mapping[str, str],
        http: HttpServer,
        client_address: str,
        request_id: str,
    ) -> None:
        self.raw = raw
        self.route = route
        self.params = params
        self.http = http
        self.client_address = client_address
        self.request_id = request_id
        self._query: Query | None = None
        self._body: bytes | None = None
        self._requester: Requester | None = None

    @property
    def method(self) -> str:
        return self.raw.method

    @property
    def raw_target(self) -> str:
        return self.raw.raw_path

    @property
    def headers(self) -> Mapping[str, str]:
        return self.raw.headers

    @property
    def query(self) -> Query:
        """:raises InvalidParam: for a query string that can't be read"""
        if self._query is None:
            self._query = Query(self.raw_target.partition("?")[2].partition("#")[0])
        return self._query

    @property
    def requester(self) -> Requester:
        """Who asks. Only for routes that need a token."""
        assert self._requester is not None, "the route does not ask for a token"
        return self._requester

    @property
    def optional_requester(self) -> Requester | None:
        """Who asks, if anyone says so. For routes with Auth.OPTIONAL."""
        return self._requester

    def set_requester(self, requester: Requester) -> None:
        self._requester = requester

    def limit(self, name: str, key: str, times: int = 1) -> None:
        """Counts one more use of the limit `name` by `key`, or more than one.

        :raises LimitExceeded: if that is one too many
        """
        self.http.rate_limits.use(name, key, times)

    def sessions_changed(self, user_nid: int) -> None:
        """Says that sessions of that user have ended or that their rights have changed. After the commit."""
        self.http.sessions_changed(user_nid)

    async def body(self, max_bytes: int | None = None) -> bytes:
        """The body, at most `max_bytes` (without it `config.limits.request_bytes`).

        :raises TooLarge: if it is larger
        :raises BadRequest: if the client does not send all of it
        """
        if self._body is None:
            self._body = await self._read(max_bytes or self.http.max_body)
        return self._body

    async def _read(self, limit: int) -> bytes:
        if not self.raw.can_read_body:
            return b""
        if (self.raw.content_length or 0) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes")
        content = self.raw.content
        try:
            if content.is_eof():  # all of it is here already
                chunks = [content.read_nowait()]
            else:
                chunks, size = [], 0
                async with asyncio.timeout(_BODY_TIMEOUT):
                    while size <= limit and (chunk := await content.readany()):
                        size += len(chunk)
                        chunks.append(chunk)
        except (web.RequestPayloadError, ConnectionError, TimeoutError):
            raise BadRequest("The body is incomplete") from None
        body = b"".join(chunks)
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes")
        return body

    async def stream(self, max_bytes: int) -> AsyncIterator[bytes]:
        """The body as it comes, at most `max_bytes`, whatever its announced length.

        :raises TooLarge: before more than that was given
        :raises BadRequest: if the client does not send all of it, or too slowly
        """
        if not self.raw.can_read_body:
            return
        if (self.raw.content_length or 0) > max_bytes:
            raise TooLarge(f"The body is larger than {max_bytes} bytes")
        if self.headers.get("Expect", "").lower() == "100-continue" and self.raw.transport is not None:
            self.raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = 0
        ends = asyncio.get_running_loop().time() + _STREAM_TIMEOUT
        while True:
            try:
                async with asyncio.timeout_at(min(ends, asyncio.get_running_loop().time() + _STREAM_PAUSE)):
                    chunk = await self.raw.content.readany()
            except (web.RequestPayloadError, ConnectionError, TimeoutError):
                raise BadRequest("The body is incomplete") from None
            if not chunk:
                return
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(f"The body is larger than {max_bytes} bytes")
            yield chunk

    async def json(self, *, allow_empty: bool = False) -> JsonObject:
        """The JSON object in the body; `{}` for an empty body where that is allowed.

        :raises NotJson: if it is not JSON in UTF-8, or nested very deeply
        :raises BadJson: if it is no object
        :raises TooLarge: if it is larger than `config.limits.request_bytes`
        """
        raw = await self.body()
        if not raw and allow_empty:
            return {}
        return decode_object(raw)
