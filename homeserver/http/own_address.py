"""Where browsers and clients reach this server, for addresses that it tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homeserver.config import Config
    from homeserver.http.requests import ApiRequest

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")


def own_address(config: Config, request: ApiRequest) -> str | None:
    """The address of this server without a `/` at its end: `public_baseurl`, or without it the listener's own.

    The latter only if the request came straight to it: what a proxy in between is called, only its operator can know,
    and the Host header alone is for whoever sends the request to choose.

    :returns: None if it can't be known
    """
    if config.public_baseurl is not None:
        return config.public_baseurl
    raw = request.raw
    place = raw.transport.get_extra_info("sockname") if raw.transport is not None else None
    if not isinstance(place, tuple) or any(name in raw.headers for name in _FORWARDED):
        return None
    host, port = (f"[{place[0]}]" if ":" in place[0] else place[0]), place[1]
    names = {f"{host}:{port}"}
    if host.startswith("127.") or host == "[::1]":
        names.add(f"localhost:{port}")
    called = raw.headers.get("Host", "").lower()
    return f"{'https' if raw.secure else 'http'}://{called}" if called in names else None
