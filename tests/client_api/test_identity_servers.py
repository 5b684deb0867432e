"""Publishing one's address at an identity server that the operator trusts, and having it forgotten."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from homeserver.main import Server, running_server
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.signing import check_signed_json
from tests.support.api import Api
from tests.support.identity_server import TOKEN, IdentityServer, identity_server
from tests.support.servers import server_config
from tests.support.tls import Authority

_THREEPID = {"medium": "email", "address": "alice@example.org"}


class Binding(IdentityServer):
    """One that binds whatever a session says, and checks who asks it to forget. Set `homeserver` before."""

    homeserver: Server

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/_matrix/identity/v2/3pid/bind", self._bind)
        app.router.add_post("/_matrix/identity/v2/3pid/unbind", self._unbind)
        return app

    async def _bind(self, request: web.Request) -> web.Response:
        self._heard(request)
        body = await request.json()
        if body["sid"] != "proved":
            return web.json_response({"errcode": "M_SESSION_NOT_VALIDATED", "error": "not yet"}, status=400)
        self.bound["email", "alice@example.org"] = body["mxid"]
        return web.json_response({**_THREEPID, "mxid": body["mxid"]})

    async def _unbind(self, request: web.Request) -> web.Response:
        body = await request.json()
        scheme, _, rest = request.headers["Authorization"].partition(" ")
        fields = dict(part.split("=", 1) for part in rest.split(","))
        origin, key_id = json.loads(fields["origin"]), json.loads(fields["key"])
        signed: dict[str, Any] = {
            "method": "POST",
            "uri": request.path,
            "origin": origin,
            "destination": self.name,
            "content": body,
            "signatures": {origin: {key_id: json.loads(fields["sig"])}},
        }
        key = self.homeserver.services.signing_key
        try:
            check_signed_json(signed, "test.example", key.key_id, key.verify_key)
        except (InvalidEvent, ValueError):
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "signature"}, status=403)
        assert scheme == "X-Matrix"
        del self.bound[body["threepid"]["medium"], body["threepid"]["address"]]
        return web.json_response({})


@pytest.fixture
async def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Binding]:
    monkeypatch.setattr("tests.support.identity_server.IdentityServer", Binding)
    async with identity_server(Authority(tmp_path)) as server:
        assert isinstance(server, Binding)
        yield server


@pytest.fixture
async def server(database: str, tmp_path: Path, identity: Binding) -> AsyncIterator[Server]:
    config = server_config(
        database,
        tmp_path / "data",
        identity_servers={"trusted": [identity.name]},
        federation={"allow_addresses": ["127.0.0.0/8", "::1/128"], "ca_file": str(tmp_path / "ca.pem")},
    )
    async with running_server(config) as server:
        identity.homeserver = server
        yield server


async def _bind(api: Api, identity: Binding, sid: str = "proved") -> tuple[int, str | None]:
    creds = {"sid": sid, "client_secret": "x", "id_server": identity.name, "id_access_token": TOKEN}
    answer = await api.post("/account/3pid/bind", creds)
    return answer.status, answer.errcode


async def test_an_address_is_published_and_forgotten(alice: Api, identity: Binding) -> None:
    """The identity server is told for whom, and later forgets it because this server vouches for the wish."""
    assert await _bind(alice, identity) == (200, None)
    assert identity.bound == {("email", "alice@example.org"): "@alice:test.example"}
    assert (await alice.get("/account/3pid")).body == {"threepids": []}
    answer = await alice.post("/account/3pid/unbind", _THREEPID)
    assert answer.body == {"id_server_unbind_result": "success"}
    assert identity.bound == {}
    assert (await alice.post("/account/3pid/unbind", _THREEPID)).body == {"id_server_unbind_result": "no-support"}


async def test_nothing_is_noted_of_what_was_not_bound(alice: Api, identity: Binding, server: Server) -> None:
    """What the identity server refuses is an error, and leaves nothing to be unbound."""
    status, errcode = await _bind(alice, identity, "unproved")
    assert (status, errcode) == (502, "M_UNKNOWN")
    assert await server.services.pool.fetchval("SELECT count(*) FROM bound_threepids") == 0


async def test_deleting_an_address_unbinds_it(alice: Api, identity: Binding) -> None:
    """An address that is taken from the account is not left published."""
    await _bind(alice, identity)
    answer = await alice.post("/account/3pid/delete", _THREEPID)
    assert answer.body == {"id_server_unbind_result": "success"}
    assert identity.bound == {}
