"""matrix-nio as a client of our server: threads, edits, spaces, scrolling, receipts, moderation, profiles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from nio import (
    AsyncClient,
    DirectRoomsResponse,
    ErrorResponse,
    JoinError,
    MessageDirection,
    ReactionEvent,
    ReceiptEvent,
    RoomContextResponse,
    RoomGetEventResponse,
    RoomMessagesResponse,
    RoomPreset,
    RoomResolveAliasError,
    RoomResolveAliasResponse,
    RoomVisibility,
    SpaceGetHierarchyResponse,
    SyncResponse,
    TypingNoticeEvent,
)
from nio.api import ReceiptType, RelationshipType, ThreadInclusion

from tests.interop.conftest import Register
from tests.interop.nio_client import NioClient, logged_in
from tests.support.processes import Homeserver

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

Json = dict[str, Any]
Pair = tuple[NioClient, NioClient]


@pytest.fixture
async def pair(
    ours: Homeserver, register: Register, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    """Two clients of new accounts, Olga and Paul, which sync."""
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("olga", "paul"):
            account = await register(ours, f"{name}-{request.node.name.removeprefix('test_').replace('_', '-')}")
            store = tmp_path / name
            store.mkdir()
            client, _ = await stack.enter_async_context(logged_in(ours.url, account.user_id, store))
            clients.append(client)
        yield clients[0], clients[1]
        for client in clients:  # both now, so that one doesn't wait for the last sync of the other
            client.nio.stop_sync_forever()


async def _room(creator: NioClient, *guests: NioClient, **settings: Any) -> str:
    answer = _good(
        await creator.nio.room_create(
            preset=RoomPreset.private_chat, invite=[guest.nio.user_id for guest in guests], **settings
        )
    )
    for guest in guests:
        await guest.accept(answer.room_id)
    await creator.knows(answer.room_id)
    return str(answer.room_id)


def _good(answer: Any) -> Any:
    """The answer, unless it is an error."""
    assert not isinstance(answer, ErrorResponse), answer
    return answer


async def _say(client: NioClient, room_id: str, body: str, **more: Any) -> str:
    content = {"msgtype": "m.text", "body": body, **more}
    return str(_good(await client.nio.room_send(room_id, "m.room.message", content)).event_id)


async def _event(client: AsyncClient, room_id: str, event_id: str) -> Json:
    answer = await client.room_get_event(room_id, event_id)
    assert isinstance(answer, RoomGetEventResponse), answer
    return dict(answer.event.source)


def _bodies(events: list[Any]) -> list[str]:
    return [event.source["content"]["body"] for event in events if "body" in event.source["content"]]


async def test_threads(pair: Pair) -> None:
    """The threads of a room are listed, all or those one took part in; each gives its replies."""
    olga, paul = pair
    room_id = await _room(olga, paul)
    roots = [await _say(olga, room_id, f"topic {number}") for number in range(7)]
    for number, root in enumerate(roots):
        speaker = paul if number in (2, 5) else olga
        relation = {"rel_type": "m.thread", "event_id": root}
        for each in range(3):
            await _say(speaker, room_id, f"reply {each}", **{"m.relates_to": relation})
    threads = [event async for event in paul.nio.room_get_threads(room_id, limit=3)]
    assert [event.event_id for event in threads] == roots[::-1]
    bundle = threads[0].source["unsigned"]["m.relations"]["m.thread"]
    assert (bundle["count"], bundle["latest_event"]["content"]["body"]) == (3, "reply 2")
    his = [event.event_id async for event in paul.nio.room_get_threads(room_id, ThreadInclusion.participated)]
    assert his == [roots[5], roots[2]]
    for direction, order in ((MessageDirection.back, -1), (MessageDirection.front, 1)):
        replies = [
            event
            async for event in olga.nio.room_get_event_relations(
                room_id, roots[2], RelationshipType.thread, "m.room.message", direction, limit=2
            )
        ]
        assert _bodies(replies) == ["reply 0", "reply 1", "reply 2"][::order]


async def test_edits_and_reactions(pair: Pair) -> None:
    """An edit is bundled with what it replaces; reactions are counted, refused twice and taken back."""
    olga, paul = pair
    room_id = await _room(olga, paul)
    said = await _say(olga, room_id, "Hlelo")
    new = {"msgtype": "m.text", "body": "Hello"}
    relation = {"rel_type": "m.replace", "event_id": said}
    await _say(olga, room_id, "* Hello", **{"m.new_content": new, "m.relates_to": relation})
    await paul.sees(room_id, "* Hello")
    event = await _event(paul.nio, room_id, said)
    assert event["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"] == new
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "👍"}}
    reactions = [_good(await each.nio.room_send(room_id, "m.reaction", reaction)) for each in (olga, paul)]
    assert isinstance(await paul.nio.room_send(room_id, "m.reaction", reaction), ErrorResponse)
    await olga.until(lambda: _types(olga, room_id).count("m.reaction") == 2, "to see both reactions")
    _good(await paul.nio.room_redact(room_id, reactions[1].event_id, "changed my mind"))
    await olga.until(lambda: "m.room.redaction" in _types(olga, room_id), "to see the redaction")
    left = [event async for event in olga.nio.room_get_event_relations(room_id, said, RelationshipType.annotation)]
    assert [(event.sender, event.key) for event in left if isinstance(event, ReactionEvent)] == [
        (olga.nio.user_id, "👍")
    ]
    assert (await _event(olga.nio, room_id, reactions[1].event_id))["content"] == {}


def _types(client: NioClient, room_id: str) -> list[str]:
    return [event["type"] for event in client.events.get(room_id, [])]


async def test_spaces(pair: Pair) -> None:
    """A space shows its rooms, a page at a time, to those who may see them."""
    olga, paul = pair
    space = str(_good(await olga.nio.room_create(preset=RoomPreset.public_chat, name="House", space=True)).room_id)
    await olga.knows(space)
    names = ["Attic", "Hall", "Kitchen"]
    for name in names:
        room = _good(await olga.nio.room_create(preset=RoomPreset.public_chat, name=name, topic=f"The {name}"))
        child = {"via": [olga.nio.user_id.split(":", 1)[1]], "order": name, "suggested": name == "Hall"}
        _good(await olga.nio.room_put_state(space, "m.space.child", child, room.room_id))
    hidden = await _room(olga, name="Safe")
    _good(await olga.nio.room_put_state(space, "m.space.child", {"via": ["localhost"]}, hidden))
    _good(await paul.nio.join(space))
    await paul.knows(space)
    listed: list[str] = []
    page: str | None = None
    while True:
        answer = await paul.nio.space_get_hierarchy(space, page, limit=2)
        assert isinstance(answer, SpaceGetHierarchyResponse), answer
        assert len(answer.rooms) <= 2
        listed += [room["name"] for room in answer.rooms]
        if not answer.next_batch:
            break
        page = answer.next_batch
    assert listed == ["House", *names]
    own = await olga.nio.space_get_hierarchy(space, max_depth=1)
    assert [room["name"] for room in own.rooms] == ["House", *names, "Safe"]
    assert paul.nio.rooms[space].room_type == "m.space"


async def test_scrolling(pair: Pair) -> None:
    """Pages join without a gap or an overlap both ways; what stands around an event is found."""
    olga, paul = pair
    room_id = await _room(olga, paul)
    said = [await _say(olga, room_id, f"line {number}") for number in range(35)]
    await paul.sees(room_id, "line 34")
    back = await _pages(paul.nio, room_id, MessageDirection.back)
    assert _bodies(back)[::-1] == [f"line {number}" for number in range(35)]
    assert back[-1].source["type"] == "m.room.create"
    front = await _pages(paul.nio, room_id, MessageDirection.front)
    assert [event.event_id for event in front] == [event.event_id for event in back[::-1]]
    context = await paul.nio.room_context(room_id, said[10], limit=6)
    assert isinstance(context, RoomContextResponse), context
    assert _bodies(context.events_before) == ["line 9", "line 8", "line 7"]
    assert _bodies(context.events_after) == ["line 11", "line 12", "line 13"]
    assert {event.source["type"] for event in context.state} >= {"m.room.create", "m.room.member"}
    older = await paul.nio.room_messages(room_id, context.start, limit=2)
    newer = await paul.nio.room_messages(room_id, context.end, direction=MessageDirection.front, limit=2)
    assert _bodies(older.chunk) == ["line 6", "line 5"]
    assert _bodies(newer.chunk) == ["line 14", "line 15"]
    only = {"types": ["m.room.member"], "not_senders": [olga.nio.user_id]}
    filtered = await paul.nio.room_messages(room_id, limit=50, message_filter=only)
    assert [event.source["state_key"] for event in filtered.chunk] == [paul.nio.user_id]


async def _pages(client: AsyncClient, room_id: str, direction: MessageDirection) -> list[Any]:
    events: list[Any] = []
    start: str | None = None
    while True:
        page = await client.room_messages(room_id, start, direction=direction, limit=8)
        assert isinstance(page, RoomMessagesResponse), page
        events += page.chunk
        if page.end is None or not page.chunk:
            return events
        start = page.end


async def test_receipts_typing_and_markers(pair: Pair) -> None:
    """Who types, who has read how far, publicly, privately or in a thread."""
    olga, paul = pair
    heard: list[Any] = []
    olga.nio.add_ephemeral_callback(lambda _, event: heard.append(event), (ReceiptEvent, TypingNoticeEvent))
    room_id = await _room(olga, paul)
    first, second = [await _say(olga, room_id, text) for text in ("one", "two")]
    await paul.sees(room_id, "two")
    room = paul.nio.rooms[room_id]
    await paul.until(lambda: room.unread_notifications == 2, "to have two unread messages")
    _good(await paul.nio.room_typing(room_id, True, 20_000))
    await olga.until(lambda: olga.nio.rooms[room_id].typing_users == [paul.nio.user_id], "to see Paul type")
    _good(await paul.nio.room_typing(room_id, False))
    await olga.until(lambda: olga.nio.rooms[room_id].typing_users == [], "to see Paul no longer type")
    _good(await paul.nio.update_receipt_marker(room_id, first, ReceiptType.read_private))
    await paul.until(lambda: room.unread_notifications == 1, "to have one unread message")
    _good(await paul.nio.room_read_markers(room_id, second, second))
    await paul.until(lambda: room.unread_notifications == 0, "to have read all")
    await paul.until(lambda: room.fully_read_marker == second, "to have its marker")
    receipts = olga.nio.rooms[room_id].read_receipts
    await olga.until(lambda: paul.nio.user_id in receipts, "to see that Paul has read")
    assert receipts[paul.nio.user_id].event_id == second
    assert first not in {each.event_id for event in heard if isinstance(event, ReceiptEvent) for each in event.receipts}


async def test_moderation_and_aliases(pair: Pair) -> None:
    """Aliases come and go; who is kicked may come back, who is banned may not; a room that is knocked at opens."""
    olga, paul = pair
    left: list[str] = []
    paul.nio.add_response_callback(lambda answer: left.extend(answer.rooms.leave), SyncResponse)
    server_name = olga.nio.user_id.split(":", 1)[1]
    alias = f"#{olga.nio.user_id[1:].split(':')[0]}:{server_name}"
    answer = _good(await olga.nio.room_create(visibility=RoomVisibility.public, preset=RoomPreset.public_chat))
    room_id = str(answer.room_id)
    await olga.knows(room_id)
    _good(await olga.nio.room_put_alias(alias, room_id))
    _good(await olga.nio.room_update_aliases(room_id, alias))
    found = await paul.nio.room_resolve_alias(alias)
    assert isinstance(found, RoomResolveAliasResponse), found
    assert (found.room_id, found.servers) == (room_id, [server_name])
    assert (await paul.nio.room_get_visibility(room_id)).visibility == "public"
    _good(await paul.nio.join(alias))
    await paul.knows(room_id)
    assert paul.nio.rooms[room_id].canonical_alias == alias
    assert {member.user_id for member in (await olga.nio.joined_members(room_id)).members} == {
        olga.nio.user_id,
        paul.nio.user_id,
    }
    _good(await olga.nio.room_kick(room_id, paul.nio.user_id, "Out"))
    await paul.until(lambda: left == [room_id], "to be out of the room")
    _good(await paul.nio.join(room_id))
    _good(await olga.nio.room_ban(room_id, paul.nio.user_id, "For good"))
    await paul.until(lambda: left == [room_id, room_id], "to be out of the room again")
    refused = await paul.nio.join(room_id)
    assert isinstance(refused, JoinError)
    assert refused.status_code == "M_FORBIDDEN"
    _good(await olga.nio.room_unban(room_id, paul.nio.user_id))
    _good(await olga.nio.room_enable_knocking(room_id))
    assert isinstance(await paul.nio.join(room_id), JoinError)
    _good(await paul.nio.room_knock(room_id, "Please"))
    _good(await olga.nio.room_invite(room_id, paul.nio.user_id))
    await paul.accept(room_id)
    left.clear()
    _good(await paul.nio.room_leave(room_id))
    await paul.until(lambda: left == [room_id], "to have left")
    _good(await paul.nio.room_forget(room_id))
    _good(await olga.nio.room_delete_alias(alias))
    assert isinstance(await paul.nio.room_resolve_alias(alias), RoomResolveAliasError)


async def test_profiles_and_presence(pair: Pair) -> None:
    """A new name and picture reach the members of one's rooms, as does what one says of oneself."""
    olga, paul = pair
    room_id = await _room(olga, paul, is_direct=True, name="Two")
    _good(await paul.nio.set_displayname("Paul P."))
    _good(await paul.nio.set_avatar("mxc://example.org/paul"))
    member = olga.nio.rooms[room_id].users[paul.nio.user_id]
    await olga.until(lambda: member.display_name == "Paul P.", "to see the new name")
    await olga.until(lambda: member.avatar_url == "mxc://example.org/paul", "to see the new picture")
    profile = _good(await olga.nio.get_profile(paul.nio.user_id))
    assert (profile.displayname, profile.avatar_url) == ("Paul P.", "mxc://example.org/paul")
    _good(await paul.nio.set_presence("online", "Here"))
    await olga.until(lambda: member.status_msg == "Here", "to see Paul's status")
    assert (await olga.nio.get_presence(paul.nio.user_id)).presence == "online"
    assert isinstance(await olga.nio.list_direct_rooms(), DirectRoomsResponse | ErrorResponse)


async def test_upgrades(pair: Pair) -> None:
    """A room that matrix-nio upgrades has a tombstone, and its successor says where it comes from."""
    olga, paul = pair
    room_id = await _room(olga, paul, name="Old", room_version="10")
    _good(await olga.nio.room_put_state(room_id, "m.room.join_rules", {"join_rule": "public"}))
    _good(await olga.nio.room_upgrade(room_id, "11"))
    await paul.until(lambda: "m.room.tombstone" in _types(paul, room_id), "to see the tombstone")
    tombstone = next(event for event in paul.events[room_id] if event["type"] == "m.room.tombstone")
    successor = tombstone["content"]["replacement_room"]
    _good(await paul.nio.join(successor))
    await paul.knows(successor)
    create = _good(await paul.nio.room_get_state_event(successor, "m.room.create")).content
    assert create["predecessor"]["room_id"] == room_id
    assert (create["room_version"], paul.nio.rooms[successor].name) == ("11", "Old")
