"""Joins, leaves, knocks and invitations that other servers hand over: only what was asked for counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from homeserver.protocol.event_builder import complete_template
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.remote import RemoteError, Template
from tests.support.client import Client, RequestFailed
from tests.support.federating import Network, Node, state_ids, timeline_ids
from tests.support.hostile import forge

VERSIONS = list(ROOM_VERSIONS)


async def _pair(network: Network) -> tuple[Node, Node, Client, Client]:
    victim, evil = await network.server(), await network.server()
    return victim, evil, await victim.user("alice"), await evil.user("mallory")


async def _template(evil: Node, victim: Node, action: str, room_id: str, user_id: str) -> Event:
    """An event that `evil` completes and signs from the victim's template."""
    make = {"join": evil.remote.make_join, "knock": evil.remote.make_knock}.get(action)
    if make is not None:
        template: Template = await make(victim.name, room_id, user_id, VERSIONS)
    else:
        template = await evil.remote.make_leave(victim.name, room_id, user_id)
    return complete_template(
        template.event, ROOM_VERSIONS[template.room_version or "1"], evil.name, evil.services.signing_key
    )


ALTERATIONS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "type": lambda alice, mallory: {"type": "m.room.power_levels", "state_key": ""},
    "no state": lambda alice, mallory: {"type": "m.room.message", "state_key": mallory},
    "another's membership": lambda alice, mallory: {"state_key": alice},
    "another sender": lambda alice, mallory: {"sender": alice, "state_key": alice},
    "another membership": lambda alice, mallory: {"content": {"membership": "ban"}},
    "no membership": lambda alice, mallory: {"content": {}},
    "another room": lambda alice, mallory: {"room_id": "!other:localhost"},
    "no auth events": lambda alice, mallory: {"auth_events": []},
    "no previous events": lambda alice, mallory: {"prev_events": []},
    "unknown previous events": lambda alice, mallory: {"prev_events": ["$" + "x" * 43]},
    "float": lambda alice, mallory: {"depth": 1.5},
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
async def test_an_altered_join_is_refused(network: Network, alteration: str) -> None:
    """A join that differs from the template in a field that matters is refused, and nothing of it is kept."""
    victim, evil, alice, mallory = await _pair(network)
    room_id = await alice.create_room(preset="public_chat", room_version="11")
    before = await state_ids(victim, room_id), await timeline_ids(victim, room_id)
    template = await evil.remote.make_join(victim.name, room_id, mallory.user_id, VERSIONS)
    fields = template.event | ALTERATIONS[alteration](alice.user_id, mallory.user_id)
    try:
        join = complete_template(fields, ROOM_VERSIONS["11"], evil.name, evil.services.signing_key)
        event_id, pdu = join.event_id, join.json
    except ValueError:  # we refuse to make it at all
        event_id, pdu = "$nothing", fields
    with pytest.raises(RemoteError) as refused:
        await evil.remote.send_join(victim.name, room_id, event_id, pdu)
    assert refused.value.peer_status in (400, 403)
    assert (await state_ids(victim, room_id), await timeline_ids(victim, room_id)) == before


async def test_a_join_that_someone_else_signed_is_refused(network: Network) -> None:
    """The user's own server has to sign, and the event that is sent has to be the one of the path."""
    victim, evil, alice, mallory = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    join = await _template(evil, victim, "join", room_id, mallory.user_id)
    with pytest.raises(RemoteError):
        await evil.remote.send_join(victim.name, room_id, join.event_id, join.json | {"signatures": {}})
    with pytest.raises(RemoteError):
        await evil.remote.send_join(victim.name, room_id, "$" + "x" * 43, join.json)
    assert ("m.room.member", mallory.user_id) not in await state_ids(victim, room_id)
    answer = await evil.remote.send_join(victim.name, room_id, join.event_id, join.json)
    # Sent again, it is answered again.
    again = await evil.remote.send_join(victim.name, room_id, join.event_id, join.json)
    assert len(again.state) == len(answer.state)
    assert (await state_ids(victim, room_id))["m.room.member", mallory.user_id] == join.event_id


async def test_templates_are_made_for_the_asking_servers_users_alone(network: Network) -> None:
    """A server can't have a join, leave or knock made for a user of another server."""
    victim, evil, alice, _mallory = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    for call in (evil.remote.make_join, evil.remote.make_knock):
        with pytest.raises(RemoteError) as refused:
            await call(victim.name, room_id, alice.user_id, VERSIONS)
        assert refused.value.peer_status == 403
    with pytest.raises(RemoteError) as refused:
        await evil.remote.make_leave(victim.name, room_id, alice.user_id)
    assert refused.value.peer_status == 403


async def test_rooms_that_may_not_be_joined_give_no_template(network: Network) -> None:
    """An unknown room, a version that the other doesn't know, and a room for invited people: each its own error."""
    victim, evil, alice, mallory = await _pair(network)
    with pytest.raises(RemoteError) as refused:
        await evil.remote.make_join(victim.name, "!unknown:localhost", mallory.user_id, VERSIONS)
    assert (refused.value.peer_status, refused.value.peer_errcode) == (404, "M_NOT_FOUND")
    room_id = await alice.create_room(preset="private_chat", room_version="11")
    with pytest.raises(RemoteError) as refused:
        await evil.remote.make_join(victim.name, room_id, mallory.user_id, ["1", "10"])
    assert refused.value.peer_errcode == "M_INCOMPATIBLE_ROOM_VERSION"
    assert refused.value.peer_body["room_version"] == "11"
    for call in (evil.remote.make_join, evil.remote.make_knock):
        with pytest.raises(RemoteError) as refused:
            await call(victim.name, room_id, mallory.user_id, VERSIONS)
        assert (refused.value.peer_status, refused.value.peer_errcode) == (403, "M_FORBIDDEN")


async def test_who_can_not_be_vouched_for_is_not_let_in(network: Network) -> None:
    """Into a restricted room a server lets only users of whom it knows that they qualify."""
    victim, evil, alice, mallory = await _pair(network)
    third = await network.server()
    carol = await third.user("carol")
    club = await carol.create_room(preset="public_chat")
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    restricted = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    room_id = await alice.create_room(preset="private_chat", room_version="11", initial_state=restricted)
    with pytest.raises(RemoteError) as refused:
        await evil.remote.make_join(victim.name, room_id, mallory.user_id, VERSIONS)
    assert (refused.value.peer_status, refused.value.peer_errcode) == (400, "M_UNABLE_TO_AUTHORISE_JOIN")
    # Naming an authorising user by oneself doesn't help: that user's server does not sign.
    leave = await _forged_join(victim, evil, room_id, mallory.user_id, alice.user_id)
    with pytest.raises(RemoteError) as refused:
        await evil.remote.send_join(victim.name, room_id, leave.event_id, leave.json)
    assert refused.value.peer_status in (400, 403)
    assert ("m.room.member", mallory.user_id) not in await state_ids(victim, room_id)


async def _forged_join(victim: Node, evil: Node, room_id: str, user_id: str, authorised_by: str) -> Event:
    """A join that names who authorised it, though nobody did."""
    return await forge(
        victim,
        room_id,
        sender=user_id,
        type="m.room.member",
        state_key=user_id,
        content={"membership": "join", "join_authorised_via_users_server": authorised_by},
        server_name=evil.name,
        signing_key=evil.services.signing_key,
    )


async def _invitation(evil: Node, mallory: Client, target: str, **fields: Any) -> tuple[Event, list[dict[str, Any]]]:
    """An invitation into a room of Mallory's, with what it shows of the room."""
    room_id = await mallory.create_room(preset="public_chat", room_version=fields.pop("room_version", "12"))
    event = await forge(
        evil,
        room_id,
        **(
            {
                "sender": mallory.user_id,
                "type": "m.room.member",
                "state_key": target,
                "content": {"membership": "invite"},
            }
            | fields
        ),
    )
    create = (await state_ids(evil, room_id))["m.room.create", ""]
    pdu = await evil.services.pool.fetchval("SELECT convert_from(json, 'UTF8') FROM events WHERE event_id = $1", create)
    return event, [orjson.loads(pdu)]


INVITES: dict[str, Callable[[Client, Client], dict[str, Any]]] = {
    "no member event": lambda alice, mallory: {"type": "m.room.message"},
    "power levels": lambda alice, mallory: {"type": "m.room.power_levels", "state_key": ""},
    "a join": lambda alice, mallory: {"content": {"membership": "join"}},
    "a leave": lambda alice, mallory: {"content": {"membership": "leave"}},
    "someone of nowhere": lambda alice, mallory: {"state_key": "@x:elsewhere.example"},
    "someone who is not here": lambda alice, mallory: {"state_key": alice.user_id.replace("alice", "nobody")},
    "in the name of another": lambda alice, mallory: {"sender": alice.user_id},
    "as if by e-mail": lambda alice, mallory: {
        "content": {"membership": "invite", "third_party_invite": {"signed": {}}},
        "server_name": "elsewhere.example",
    },
}


@pytest.mark.parametrize("altered", INVITES)
async def test_nothing_but_an_invitation_is_signed(network: Network, altered: str) -> None:
    """The endpoint for invitations signs invitations of its own users by a user of the asking server, nothing else."""
    victim, evil, alice, mallory = await _pair(network)
    event, shown = await _invitation(evil, mallory, alice.user_id, **INVITES[altered](alice, mallory))
    with pytest.raises(RemoteError) as refused:
        await evil.remote.invite(victim.name, event.room_id, event.event_id, "12", event.json, shown)
    assert refused.value.peer_status in (400, 403, 404)
    assert await victim.services.timeline.names.room(event.room_id) is None


async def test_an_invitation_must_show_the_room_that_its_id_names(network: Network) -> None:
    """From room version 12 on the create event has to be shown, and to be the one that the room id is made of."""
    victim, evil, alice, mallory = await _pair(network)
    event, shown = await _invitation(evil, mallory, alice.user_id)
    _, other = await _invitation(evil, mallory, alice.user_id)
    stripped = [{key: shown[0][key] for key in ("type", "state_key", "sender", "content")}]
    for wrong in ([], other, stripped):
        with pytest.raises(RemoteError) as refused:
            await evil.remote.invite(victim.name, event.room_id, event.event_id, "12", event.json, wrong)
        assert (refused.value.peer_status, refused.value.peer_errcode) == (400, "M_INVALID_PARAM")
    signed = await evil.remote.invite(victim.name, event.room_id, event.event_id, "12", event.json, shown)
    assert signed["signatures"].keys() == {evil.name, victim.name}
    assert {**signed, "signatures": event.json["signatures"]} == event.json
    # Sent again, it is signed again and told once.
    await evil.remote.invite(victim.name, event.room_id, event.event_id, "12", event.json, shown)
    await alice.sync_until(lambda: alice.room(event.room_id).membership == "invite", "to be invited")


async def test_a_room_version_that_is_unknown_is_refused(network: Network) -> None:
    """An invitation to a room of a version that this server doesn't know names the version in the error."""
    victim, evil, alice, mallory = await _pair(network)
    event, shown = await _invitation(evil, mallory, alice.user_id)
    with pytest.raises(RemoteError) as refused:
        await evil.remote.invite(victim.name, event.room_id, event.event_id, "org.example.99", event.json, shown)
    assert refused.value.peer_errcode == "M_INCOMPATIBLE_ROOM_VERSION"


async def test_malformed_stripped_state_does_not_break_sync(network: Network) -> None:
    """What an invitation shows of the room is passed on only as far as it is well-formed."""
    victim, evil, alice, mallory = await _pair(network)
    event, shown = await _invitation(evil, mallory, alice.user_id)
    hostile: list[Any] = [
        *shown,
        {"type": 1},
        {},
        {"type": "m.room.name", "state_key": "", "content": "x", "sender": 2},
    ]
    await evil.remote.invite(victim.name, event.room_id, event.event_id, "12", event.json, hostile)
    await alice.sync_until(lambda: alice.room(event.room_id).membership == "invite", "to be invited")
    assert alice.room(event.room_id).state.keys() == {("m.room.create", ""), ("m.room.member", alice.user_id)}


@pytest.mark.parametrize(
    "altered",
    [
        {"type": "m.room.power_levels", "state_key": ""},
        {"sender": "@someone:else.example"},
        {"state_key": "@someone:else.example"},
        {"content": {"membership": "join", "displayname": "not my name"}},
        {"room_id": "!other:else.example"},
        {"origin_server_ts": 1},
        {"unsigned": {"age": 1}, "redacts": "$x", "something": "else"},
    ],
    ids=str,
)
async def test_a_template_decides_nothing_but_the_place_in_the_room(
    network: Network, altered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a resident server puts into a template, our user's server signs a join of our user to that room."""
    resident, ours = await network.server(), await network.server()
    alice, bob = await resident.user("alice"), await ours.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version="10")
    sent: list[dict[str, Any]] = []
    make_join, send_join = ours.remote.make_join, ours.remote.send_join

    async def make(*args: Any) -> Template:
        template = await make_join(*args)
        return Template(template.room_version, template.event | altered)

    async def send(destination: str, room_id: str, event_id: str, pdu: dict[str, Any]) -> Any:
        sent.append(pdu)
        return await send_join(destination, room_id, event_id, pdu)

    monkeypatch.setattr(ours.remote, "make_join", make)
    monkeypatch.setattr(ours.remote, "send_join", send)
    await bob.join(room_id, via=resident.name)
    [pdu] = sent
    assert (pdu["type"], pdu["room_id"], pdu["sender"], pdu["state_key"]) == (
        "m.room.member",
        room_id,
        bob.user_id,
        bob.user_id,
    )
    assert pdu["content"]["membership"] == "join"
    assert pdu["content"].get("displayname") != "not my name"
    assert pdu.keys() <= {
        "type", "room_id", "sender", "state_key", "content", "depth", "prev_events", "auth_events",
        "origin_server_ts", "hashes", "signatures",
    }  # fmt: skip


async def test_a_room_whose_state_is_forged_is_not_joined(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resident server can't make up the state of the room: events that their senders didn't sign don't count."""
    resident, ours = await network.server(), await network.server()
    alice, bob = await resident.user("alice"), await ours.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    send_join = ours.remote.send_join

    async def send(*args: Any) -> Any:
        answer = await send_join(*args)
        for pdu in [*answer.state, *answer.auth_chain]:
            pdu["signatures"] = {}
        return answer

    monkeypatch.setattr(ours.remote, "send_join", send)
    with pytest.raises(RequestFailed):
        await bob.join(room_id, via=resident.name)
    assert await timeline_ids(ours, room_id) == set()
