"""Application services as callers of the client API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from homeserver.main import running_server
from tests.support.api import PASSWORD, Api, open_api
from tests.support.servers import server_config

_APPSERVICE = "m.login.application_service"


@pytest.fixture
async def bridge(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server with an application service, called with its token. Alice has an account."""
    registration = tmp_path / "bridge.yaml"
    registration.write_text(
        yaml.safe_dump(
            {
                "id": "bridge",
                "url": None,
                "as_token": "as-secret",
                "hs_token": "hs-secret",
                "sender_localpart": "_bridge",
                "namespaces": {
                    "users": [{"exclusive": True, "regex": "@_irc_.*"}],
                    "aliases": [{"exclusive": True, "regex": "#_irc_.*"}],
                },
            }
        )
    )
    config = server_config(database, tmp_path, application_services=[str(registration)])
    async with running_server(config) as server, open_api(server.url) as api:
        await api.register("alice")
        yield api.as_token("as-secret")


async def _register(bridge: Api, name: str = "_irc_bob", **fields: object) -> None:
    answer = await bridge.post("/register", {"type": _APPSERVICE, "username": name, "inhibit_login": True, **fields})
    assert answer.status == 200, answer


async def test_its_sender_exists_from_the_start(bridge: Api) -> None:
    """Without a user_id the service acts as its sender, who needs no registration."""
    assert (await bridge.get("/account/whoami")).body == {"user_id": "@_bridge:test.example", "is_guest": False}


async def test_it_registers_users_of_its_namespaces(bridge: Api) -> None:
    """Without any proof but its token, and nobody else can have those names."""
    outside = await bridge.post("/register", {"type": _APPSERVICE, "username": "carol"})
    assert (outside.status, outside.errcode) == (400, "M_EXCLUSIVE")
    stranger = await bridge.as_token(None).post("/register", {"username": "_irc_eve", "password": PASSWORD})
    assert stranger.errcode == "M_EXCLUSIVE"
    assert (await bridge.get("/register/available?username=_irc_eve")).errcode == "M_EXCLUSIVE"
    for token in (None, "hs-secret", "guess"):
        answer = await bridge.as_token(token).post("/register", {"type": _APPSERVICE, "username": "_irc_eve"})
        assert answer.status == 401
    await _register(bridge)
    again = await bridge.post("/register", {"type": _APPSERVICE, "username": "_irc_bob"})
    assert again.errcode == "M_USER_IN_USE"


async def test_it_acts_as_its_users(bridge: Api) -> None:
    """Identity assertion: user_id must be a registered user of its namespaces.

    # spec: application-service-api/#identity-assertion
    """
    whoami = "/account/whoami?user_id=@_irc_bob:test.example"
    assert (await bridge.get(whoami)).errcode == "M_FORBIDDEN"
    await _register(bridge)
    assert (await bridge.get(whoami)).body["user_id"] == "@_irc_bob:test.example"
    assert (await bridge.get("/account/whoami?user_id=@alice:test.example")).errcode == "M_FORBIDDEN"
    assert (await bridge.get("/account/whoami?user_id=nonsense")).errcode == "M_FORBIDDEN"
    assert (await bridge.as_token("guess").get(whoami)).status == 401


@pytest.mark.parametrize("name", ["device_id", "org.matrix.msc3202.device_id"])
async def test_it_acts_as_a_device(bridge: Api, name: str) -> None:
    """A device must be one of the user's; the service makes and deletes them without further proof."""
    await _register(bridge)
    user = "user_id=@_irc_bob:test.example"
    assert (await bridge.get(f"/account/whoami?{user}&{name}=D")).errcode == "M_UNKNOWN_DEVICE"
    assert (await bridge.put(f"/devices/D?{user}", {"display_name": "Bridge"})).status == 201
    assert (await bridge.put(f"/devices/D?{user}", {"display_name": "The bridge"})).status == 200
    assert (await bridge.get(f"/account/whoami?{user}&{name}=D")).body["device_id"] == "D"
    assert (await bridge.delete(f"/devices/D?{user}")).status == 200
    assert (await bridge.get(f"/account/whoami?{user}&{name}=D")).status == 400


async def test_it_logs_its_users_in(bridge: Api) -> None:
    """m.login.application_service gives a session of a user of its namespaces.

    # spec: client-server-api/#appservice-login
    """
    body = {"type": _APPSERVICE, "identifier": {"type": "m.id.user", "user": "_irc_bob"}}
    assert (await bridge.post("/login", body)).errcode == "M_FORBIDDEN"
    await _register(bridge)
    answer = await bridge.post("/login", body)
    assert answer.status == 200
    assert (await bridge.as_token(answer.body["access_token"]).get("/account/whoami")).status == 200
    body["identifier"] = {"type": "m.id.user", "user": "alice"}
    assert (await bridge.post("/login", body)).errcode == "M_EXCLUSIVE"


@pytest.mark.parametrize("path", ["/login", "/register"])
async def test_only_its_token_speaks_for_it(bridge: Api, path: str) -> None:
    """Nobody makes or logs in its users without a token, or with one that is not a service's.

    # spec: application-service-api/#server-admin-style-permissions
    """
    carol = await bridge.as_token(None).register("carol")
    body = {"type": _APPSERVICE, "identifier": {"type": "m.id.user", "user": "_irc_bob"}, "username": "_irc_eve"}
    for token, errcode in (
        (None, "M_MISSING_TOKEN"),
        ("nonsense", "M_UNKNOWN_TOKEN"),
        (carol.token, "M_UNKNOWN_TOKEN"),
    ):
        answer = await bridge.as_token(token).post(path, body)
        assert (answer.status, answer.errcode) == (401, errcode)


async def test_its_users_have_no_password(bridge: Api) -> None:
    """Nobody logs in as one of its users with a password."""
    await _register(bridge, password="a password")
    body = {"type": "m.login.password", "user": "_irc_bob", "password": "a password"}
    assert (await bridge.post("/login", body)).errcode == "M_FORBIDDEN"
    answer = await bridge.post("/account/password?user_id=@_irc_bob:test.example", {"new_password": "another one"})
    assert answer.errcode == "M_FORBIDDEN"


async def test_it_lists_members_where_one_of_its_users_is(bridge: Api) -> None:
    """/joined_members is for who is in the room; an application service may ask if any of its users is."""
    await _register(bridge)
    alice = await bridge.as_token(None).login("alice")
    room = (await alice.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    path = f"/rooms/{room}/joined_members"
    assert (await bridge.get(path)).errcode == "M_FORBIDDEN"
    assert (await bridge.post(f"/join/{room}?user_id=@_irc_bob:test.example", {})).status == 200
    members = {alice.user_id, "@_irc_bob:test.example"}
    for query in ("", "?user_id=@_irc_bob:test.example", "?user_id=@_bridge:test.example"):
        assert (await bridge.get(path + query)).body["joined"].keys() == members
    carol = await bridge.as_token(None).register("carol")
    assert (await carol.get(path)).errcode == "M_FORBIDDEN"
    assert (await bridge.get("/rooms/!unknown:test.example/joined_members")).errcode == "M_FORBIDDEN"


async def test_nobody_else_makes_aliases_of_its_namespace(bridge: Api) -> None:
    """An alias in an exclusive namespace is for the service alone: M_EXCLUSIVE, and no room."""
    alice = await bridge.as_token(None).login("alice")
    room = (await alice.post("/createRoom", {})).body["room_id"]
    refused = await alice.put("/directory/room/%23_irc_chat:test.example", {"room_id": room})
    assert (refused.status, refused.errcode) == (400, "M_EXCLUSIVE")
    assert (await alice.post("/createRoom", {"room_alias_name": "_irc_chat"})).errcode == "M_EXCLUSIVE"
    assert (await alice.get("/joined_rooms")).body["joined_rooms"] == [room]
    assert (await bridge.post("/createRoom", {"room_alias_name": "_irc_chat"})).status == 200


async def test_it_may_be_exempt_from_limits(database: str, tmp_path: Path) -> None:
    """With `rate_limited: false` a service creates rooms with as many invitations as it likes; others do not."""
    registration = tmp_path / "bridge.yaml"
    fields = {"id": "b", "url": None, "as_token": "as-secret", "hs_token": "hs-secret", "sender_localpart": "_bridge"}
    registration.write_text(yaml.safe_dump({**fields, "namespaces": {}, "rate_limited": False}))
    limits = {"enabled": True, "invite": {"per_second": 0.001, "burst": 1}, "create_room": False}
    config = server_config(database, tmp_path, application_services=[str(registration)], rate_limits=limits)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        for user, expected in ((api.as_token("as-secret"), 200), (alice, 429)):
            answers = [
                await user.post("/createRoom", {"invite": [f"@user{number}:test.example"]}) for number in range(2)
            ]
            assert [answer.status for answer in answers] == [200, expected]
