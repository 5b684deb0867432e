"""A client of OAuth 2.0 as tests need it: any request, right or wrong, and the answer as it came.

The browser's part, which is pages, is done here by what the pages call.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from homeserver.accounts.oauth2 import authorization, device_grants
from homeserver.accounts.oauth2.authorization import AuthorizationRequest
from homeserver.main import Server
from homeserver.storage.accounts import find_account
from tests.support.api import Answer, Api, Json

CLIENT_URI = "https://app.example/"
REDIRECT_URI = "https://app.example/callback"
VERIFIER = "a-verifier-of-43-characters-or-more-0123456789"
SCOPE = "urn:matrix:client:api:* urn:matrix:client:device:PHONE12345"
METADATA: Json = {
    "client_name": "App",
    "client_uri": CLIENT_URI,
    "redirect_uris": [REDIRECT_URI],
    "application_type": "web",
    "token_endpoint_auth_method": "none",
    "response_types": ["code"],
    "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
}


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class OAuth2:
    """Calls the endpoints of a server; `client_id` is that of a client that has registered with METADATA."""

    server: Server
    api: Api
    client_id: str = ""

    @property
    def issuer(self) -> str:
        return f"{self.server.url}/"

    async def post(self, path: str, form: dict[str, str] | str | bytes, **headers: str) -> Answer:
        """A form, or a body as it is, to an endpoint below /oauth2."""
        data = urlencode(form) if isinstance(form, dict) else form
        sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        url = f"{self.server.url}/oauth2/{path}"
        async with self.api.session.post(url, data=data, headers=sent) as response:
            raw = await response.read()
            body = json.loads(raw) if response.content_type == "application/json" else raw
            return Answer(response.status, body, response.headers)

    async def register(self, **metadata: object) -> Answer:
        body = {key: value for key, value in {**METADATA, **metadata}.items() if value is not None}
        return await self.post("register", json.dumps(body), **{"Content-Type": "application/json"})

    def query(self, **changes: str | None) -> str:
        """The query of a good authorization request, with these parameters changed or (None) left out."""
        values: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": SCOPE,
            "state": "a state",
            "response_mode": "query",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **changes,
        }
        return urlencode({key: value for key, value in values.items() if value is not None})

    async def check(self, query: str) -> AuthorizationRequest:
        """What the page of the authorization endpoint does first."""
        async with self.server.services.pool.acquire() as conn:
            return await authorization.check_authorization_request(conn, self.server.config.oauth2, self.issuer, query)

    async def agree(self, user_id: str, **changes: str | None) -> str:
        """The user agrees; returns where the browser is sent."""
        request = await self.check(self.query(**changes))
        async with self.server.services.pool.acquire() as conn, conn.transaction():
            account = await find_account(conn, user_id)
            assert account is not None
            return await authorization.grant(conn, request, account.user_nid)

    async def code(self, user_id: str, **changes: str | None) -> str:
        return answered(await self.agree(user_id, **changes))["code"]

    async def exchange(self, code: str, **changes: str | None) -> Answer:
        values: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "client_id": self.client_id,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.post("token", {key: value for key, value in values.items() if value is not None})

    async def sign_in(self, user_id: str, device_id: str = "PHONE12345") -> Json:
        """A whole sign-in; returns the token response."""
        scope = f"urn:matrix:client:api:* urn:matrix:client:device:{device_id}"
        answer = await self.exchange(await self.code(user_id, scope=scope))
        assert answer.status == 200, answer
        return dict(answer.body)

    async def refresh(self, token: str, **changes: str) -> Answer:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id, **changes}
        return await self.post("token", form)

    async def works(self, access_token: str) -> bool:
        answer = await self.api.as_token(access_token).get("/account/whoami")
        assert answer.status in (200, 401), answer
        return answer.status == 200

    async def begin_device(self, **changes: str) -> Answer:
        return await self.post("device_authorization", {"client_id": self.client_id, "scope": SCOPE, **changes})

    async def poll(self, device_code: str, **changes: str) -> Answer:
        grant_type = "urn:ietf:params:oauth:grant-type:device_code"
        form = {"grant_type": grant_type, "device_code": device_code, "client_id": self.client_id, **changes}
        return await self.post("token", form)

    async def answer_device(self, user_code: str, user_id: str | None) -> None:
        """The user agrees on the page of the user code; None: refuses."""
        async with self.server.services.pool.acquire() as conn, conn.transaction():
            grant = await device_grants.find(conn, self.server.config.oauth2, user_code)
            assert grant is not None
            if user_id is None:
                await device_grants.deny(conn, grant)
                return
            account = await find_account(conn, user_id)
            assert account is not None
            await device_grants.approve(conn, grant, account.user_nid)


def answered(location: str) -> dict[str, str]:
    """The parameters that a browser is sent back with, in query or fragment."""
    parts = urlsplit(location)
    return dict(parse_qsl(parts.fragment or parts.query))


async def registered(server: Server, api: Api, **metadata: Any) -> OAuth2:
    """A client that has registered."""
    client = OAuth2(server, api.as_token(None))
    answer = await client.register(**metadata)
    assert answer.status == 201, answer
    client.client_id = answer.body["client_id"]
    return client
