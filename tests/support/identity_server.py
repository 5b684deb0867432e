"""An identity server: knows whose address is whose, keeps invitations of addresses that are nobody's yet, and tells the
server of whoever binds one.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from homeserver.protocol.hashing import encode_urlsafe_base64
from homeserver.protocol.signing import generate_signing_key, sign_json
from tests.support.processes import free_port
from tests.support.tls import Authority

TOKEN = "identity-token"
_BASE = "/_matrix/identity/v2"


class IdentityServer:
    """What one knows. `name` is what clients call it by."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = generate_signing_key()
        self.pepper = "pepper"
        self.bound: dict[tuple[str, str], str] = {}  # (medium, address) -> user
        self.invites: list[dict[str, Any]] = []  # what was asked of store-invite, with its token
        self.revoked = False
        self.requests: list[str] = []
        self.stale_peppers = 0  # so many lookups are answered as if the pepper had just changed
        self.refusal: tuple[int, dict[str, Any]] | None = None  # what store-invite answers instead

    def access(self, address: str, medium: str = "email") -> dict[str, str]:
        """The body with which a client invites that address."""
        return {"id_server": self.name, "id_access_token": TOKEN, "medium": medium, "address": address}

    def signed(self, index: int, user_id: str) -> dict[str, Any]:
        """The proof that the address of that invitation is this user's."""
        invite = self.invites[index]
        token = {"mxid": user_id, "sender": invite["sender"], "token": invite["token"]}
        return sign_json(token, self.name, self.key)

    async def bind(self, address: str, user_id: str, homeserver: str, medium: str = "email") -> int:
        """Somebody proves that the address is theirs: their server is told of the invitations; its status."""
        self.bound[medium, address] = user_id
        invites = [
            {**invite, "mxid": user_id, "signed": self.signed(index, user_id)}
            for index, invite in enumerate(self.invites)
            if (invite["medium"], invite["address"]) == (medium, address)
        ]
        body = {"medium": medium, "address": address, "mxid": user_id, "invites": invites}
        url = f"https://{homeserver}/_matrix/federation/v1/3pid/onbind"
        async with aiohttp.ClientSession() as session, session.put(url, json=body, ssl=False) as response:
            return response.status

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(f"{_BASE}/hash_details", self._hash_details)
        app.router.add_post(f"{_BASE}/lookup", self._lookup)
        app.router.add_post(f"{_BASE}/store-invite", self._store_invite)
        app.router.add_get(f"{_BASE}/pubkey/isvalid", self._is_valid)
        return app

    def _heard(self, request: web.Request) -> None:
        self.requests.append(request.path.removeprefix(_BASE))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized(text='{"errcode":"M_UNAUTHORIZED"}', content_type="application/json")

    async def _hash_details(self, request: web.Request) -> web.Response:
        self._heard(request)
        return web.json_response({"lookup_pepper": self.pepper, "algorithms": ["none", "sha256"]})

    async def _lookup(self, request: web.Request) -> web.Response:
        self._heard(request)
        body = await request.json()
        if self.stale_peppers or body["pepper"] != self.pepper:
            self.stale_peppers = max(0, self.stale_peppers - 1)
            return web.json_response({"errcode": "M_INVALID_PEPPER", "error": "another"}, status=400)
        known = {self._hashed(*threepid): user_id for threepid, user_id in self.bound.items()}
        assert body["algorithm"] == "sha256"
        return web.json_response({"mappings": {key: known[key] for key in body["addresses"] if key in known}})

    def _hashed(self, medium: str, address: str) -> str:
        return encode_urlsafe_base64(hashlib.sha256(f"{address} {medium} {self.pepper}".encode()).digest())

    async def _store_invite(self, request: web.Request) -> web.Response:
        self._heard(request)
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        invite = {**await request.json(), "token": f"token{len(self.invites)}"}
        self.invites.append(invite)
        url = f"https://{self.name}{_BASE}/pubkey/isvalid"
        public_key = {"public_key": self.key.verify_key_base64, "key_validity_url": url}
        return web.json_response({"token": invite["token"], "public_keys": [public_key], "display_name": "b…@e…"})

    async def _is_valid(self, request: web.Request) -> web.Response:
        self.requests.append("/pubkey/isvalid")
        ours = request.query["public_key"] == self.key.verify_key_base64
        return web.json_response({"valid": ours and not self.revoked})


@asynccontextmanager
async def identity_server(authority: Authority) -> AsyncIterator[IdentityServer]:
    """One that listens on loopback, over TLS with a certificate of that authority."""
    port = free_port()
    issued = authority.issue(["localhost", "127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.private_key)
    server = IdentityServer(f"localhost:{port}")
    runner = web.AppRunner(server.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield server
    finally:
        await runner.cleanup()
