"""A provider of OpenID Connect on loopback: conforming unless a test makes it lie.

It checks what a provider must check (client, redirect address, PKCE, single use of codes), so that a sign-in which
succeeds has been done properly, and signs whatever claims it is told to.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID = "talk-pai"
CLIENT_SECRET = "a secret that only two know"
_KEY = RSAKey.generate_key(2048, {"kid": "one"})  # one for all, because it takes long to make
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass
class OidcServer:
    """The provider. `person` are the claims of whoever signs in; `lies` replace claims of ID tokens (None: left out);
    `user_info` are claims that only the userinfo endpoint tells."""

    person: dict[str, Any] = field(default_factory=lambda: {"sub": "alice-there"})
    lies: dict[str, Any] = field(default_factory=dict)
    user_info: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: _KEY)
    algorithm: str = "RS256"
    signing_key: Any = None  # another than the published one
    client_key: Any = None  # that of a client whose secret is a token signed with it
    denies: bool = False
    asks: bool = False  # shows a page with a link back instead of sending people back at once
    asked: list[dict[str, str]] = field(default_factory=list)  # queries of the authorization endpoint
    issuer: str = ""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/.well-known/openid-configuration", self._discovery),
            web.get("/keys", self._keys),
            web.get("/authorize", self._authorize),
            web.post("/token", self._token),
            web.get("/userinfo", self._user_info),
        ]

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                **self.metadata,
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def _authorize(self, request: web.Request) -> web.Response:
        """Signs the person in and sends them back."""
        address = self.answer(dict(request.query))
        if self.asks:
            return web.Response(text=f'<a href="{html.escape(address)}">Back</a>', content_type="text/html")
        raise web.HTTPFound(address)

    def answer(self, query: dict[str, str]) -> str:
        """Where somebody is sent back to who was sent to the authorization endpoint with this query."""
        self.asked.append(query)
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        answer = {"state": query["state"]}
        if self.denies:
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self._codes[answer["code"]] = query
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        asked = self._codes.pop(form.get("code", ""), None)
        pair = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        name, _, secret = pair.partition(":")
        if pair:
            given = parse_qs(f"a={name}")["a"][0], parse_qs(f"a={secret}")["a"][0]
        else:
            given = form.get("client_id", ""), self.secret_of(form.get("client_secret", ""))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or given != (CLIENT_ID, CLIENT_SECRET):
            return web.json_response({"error": "invalid_grant"}, status=400)
        if asked["redirect_uri"] != form.get("redirect_uri") or asked["code_challenge"] != challenge:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(
            {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}
        )

    def secret_of(self, text: str) -> str:
        """The secret that a client has sent in the form; of a signed one, that of whose key it is."""
        if self.client_key is None:
            return text
        claims = jwt.decode(text, self.client_key, algorithms=["ES256"]).claims
        jwt.JWTClaimsRegistry(
            sub={"essential": True, "value": CLIENT_ID}, aud={"essential": True, "value": "https://appleid.apple.com"}
        ).validate(claims)
        return CLIENT_SECRET

    async def _user_info(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer at"
        return web.json_response({"sub": self.person["sub"], **self.user_info})

    def id_token(self, nonce: str) -> str:
        """An ID token for the person."""
        return self.signed({"iss": self.issuer, "aud": CLIENT_ID, "nonce": nonce, **self.person, **self.lies})

    def logout_token(self, **claims: Any) -> str:
        """A logout token with these claims besides those that each has (None: left out)."""
        common = {"iss": self.issuer, "aud": CLIENT_ID, "jti": secrets.token_hex(8), "events": {_LOGOUT_EVENT: {}}}
        return self.signed({**common, **claims})

    def signed(self, claims: dict[str, Any]) -> str:
        """A token with these claims and the times that it needs."""
        now = int(time.time())
        stated = {name: value for name, value in {"iat": now, "exp": now + 300, **claims}.items() if value is not None}
        key = self.signing_key or self.key
        return jwt.encode({"alg": self.algorithm, "kid": "one"}, stated, key, algorithms=[self.algorithm])


@asynccontextmanager
async def running_oidc_server() -> AsyncIterator[OidcServer]:
    """A provider that serves meanwhile."""
    provider = OidcServer()
    app = web.Application()
    app.add_routes(provider.routes())
    async with TestServer(app, host="127.0.0.1") as server:
        provider.issuer = str(server.make_url("")).rstrip("/")
        yield provider


def query_of(address: str) -> dict[str, str]:
    """The query of an address, each name once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
