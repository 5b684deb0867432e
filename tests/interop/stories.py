"""What happens between people on two homeservers, told step by step: each story is a test, and a part of the demo.

A story is given the people who live through it and says what they do; which of the two servers is ours is no matter to
it. It raises where something does not come out as it should.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tests.support.client import Client, eventually
from tests.support.processes import Homeserver

Tell: TypeAlias = Callable[[str], None]
_rooms, _sayings = itertools.count(1), itertools.count(1)


@dataclass(frozen=True)
class Person:
    """Somebody with an account, and the homeserver that it is on."""

    name: str
    client: Client
    home: Homeserver

    @property
    def id(self) -> str:
        """The user id."""
        return self.client.user_id


@dataclass(frozen=True)
class Cast:
    """The people of a story: `creator` makes the room, `guest` on the other server joins it. `tell` hears each step."""

    creator: Person
    guest: Person
    tell: Tell

    @property
    def both(self) -> tuple[Person, Person]:
        """The creator, then the guest."""
        return self.creator, self.guest

    @property
    def pairs(self) -> tuple[tuple[Person, Person], tuple[Person, Person]]:
        """Who speaks and who listens, both ways."""
        return (self.creator, self.guest), (self.guest, self.creator)


async def join_by_alias(cast: Cast, version: str | None = None) -> str:
    """The creator makes a public room with an alias; the guest looks the alias up and joins. Returns the room's id."""
    creator, guest = cast.both
    settings = {"room_version": version} if version else {}
    alias_name = f"tea-with-{guest.name}-{next(_rooms)}".lower()
    room_id = await creator.client.create_room(preset="public_chat", room_alias_name=alias_name, **settings)
    alias = f"#{alias_name}:{creator.home.server_name}"
    cast.tell(
        f"{creator.name} on {creator.home.name} creates {alias}" + (f" in room version {version}" * bool(version))
    )
    assert await guest.client.join(alias, via=creator.home.server_name) == room_id
    cast.tell(f"{guest.name} on {guest.home.name} joins it by its alias")
    await _both_see_the_guest(cast, room_id)
    return room_id


async def join_by_invite(cast: Cast, version: str | None = None) -> str:
    """The creator makes a private room and invites the guest, who sees it and accepts. Returns the room's id."""
    creator, guest = cast.both
    settings = {"room_version": version} if version else {}
    room_id = await creator.client.create_room(preset="private_chat", name="Tea for two", **settings)
    await creator.client.membership(room_id, "invite", guest.id)
    cast.tell(f"{creator.name} on {creator.home.name} creates a private room and invites {guest.id}")
    await guest.client.sync_until(lambda: guest.client.room(room_id).membership == "invite", "to be invited")
    stripped = guest.client.room(room_id).state
    assert stripped["m.room.name", ""]["content"]["name"] == "Tea for two"
    assert stripped["m.room.member", guest.id]["sender"] == creator.id
    await guest.client.join(room_id)
    cast.tell(f"{guest.name} on {guest.home.name} reads the room's name in the invitation and accepts it")
    await _both_see_the_guest(cast, room_id)
    return room_id


async def _both_see_the_guest(cast: Cast, room_id: str) -> None:
    for person in cast.both:
        await person.client.sees_member(room_id, cast.guest.id, "join")


async def decline_an_invite(cast: Cast) -> None:
    """The guest, invited, says no; the creator sees it."""
    creator, guest = cast.both
    room_id = await creator.client.create_room(preset="private_chat")
    await creator.client.membership(room_id, "invite", guest.id)
    await guest.client.sync_until(lambda: guest.client.room(room_id).membership == "invite", "to be invited")
    await guest.client.membership(room_id, "leave")
    await creator.client.sees_member(room_id, guest.id, "leave")
    cast.tell(f"{guest.name} declines an invitation of {creator.name}, who sees it")


async def talk(cast: Cast, room_id: str, count: int = 2) -> None:
    """Each sends messages, and the other sees every one, once and in order."""
    for speaker, listener in cast.pairs:
        texts = [f"{speaker.name} says {next(_sayings)}" for _ in range(count)]
        for text in texts:
            await speaker.client.send(room_id, text)
            cast.tell(f"{speaker.name}: {text}")
        await listener.client.sees(room_id, *texts)
        seen = [body for body in listener.client.room(room_id).bodies() if body in texts]
        assert seen == texts, f"{listener.name} saw {seen}"
        cast.tell(f"{listener.name} sees {'it' if count == 1 else f'all {count}, once and in order'}")


async def edit(cast: Cast, room_id: str) -> None:
    """Each corrects a message, and the other sees which message the correction replaces, and by what."""
    for speaker, listener in cast.pairs:
        text, corrected = f"{speaker.name} likes te", f"{speaker.name} likes tea"
        original = await speaker.client.send(room_id, text)
        await speaker.client.edit(room_id, original, corrected)
        await listener.client.sees(room_id, text, f"* {corrected}")
        last = listener.client.room(room_id).timeline[-1]["content"]
        assert last["m.relates_to"] == {"rel_type": "m.replace", "event_id": original}
        assert last["m.new_content"]["body"] == corrected
        cast.tell(f"{speaker.name} corrects {text!r} to {corrected!r}; {listener.name} sees it")


async def redact(cast: Cast, room_id: str) -> None:
    """Each takes a message back, and after that the other's server no longer gives its text."""
    for speaker, listener in cast.pairs:
        text = f"{speaker.name} wishes this unsaid"
        said = await speaker.client.send(room_id, text)
        await listener.client.sees(room_id, text)
        redaction = await speaker.client.redact(room_id, said)
        await listener.client.sees_event(room_id, redaction)
        event = await listener.client.request("GET", f"/rooms/{room_id}/event/{said}")
        assert event["content"] == {}
        assert event["unsigned"]["redacted_because"]["event_id"] == redaction
        cast.tell(f"{speaker.name} takes {text!r} back; {listener.home.name} no longer gives its text")


async def leave(cast: Cast, room_id: str) -> None:
    """The guest leaves; the creator sees it, and what is said after that no longer reaches the guest."""
    creator, guest = cast.both
    await guest.client.membership(room_id, "leave")
    await creator.client.sees_member(room_id, guest.id, "leave")
    await creator.client.send(room_id, "Gone, then")
    await guest.client.sync_until(lambda: guest.client.room(room_id).membership == "leave", "to have left")
    assert "Gone, then" not in guest.client.room(room_id).bodies()
    cast.tell(f"{guest.name} leaves; {creator.name} sees it")


async def ban(cast: Cast, room_id: str) -> None:
    """The creator kicks the guest, takes the guest back, and bans the guest, who sees it."""
    creator, guest = cast.both
    await creator.client.membership(room_id, "kick", guest.id)
    await guest.client.sync_until(lambda: guest.client.room(room_id).membership == "leave", "to be kicked")
    await creator.client.membership(room_id, "invite", guest.id)
    await guest.client.sync_until(lambda: guest.client.room(room_id).membership == "invite", "to be invited again")
    await guest.client.join(room_id)
    await creator.client.sees_member(room_id, guest.id, "join")
    await creator.client.membership(room_id, "ban", guest.id)
    await guest.client.sees_member(room_id, guest.id, "ban")
    cast.tell(f"{creator.name} kicks {guest.name}, takes {guest.name} back and bans {guest.name}, who sees it all")


async def change_state_at_once(cast: Cast, room_id: str) -> None:
    """Both change the same and different state at the same time; both servers come to the same state."""
    creator, guest = cast.both
    levels = await creator.client.request("GET", f"/rooms/{room_id}/state/m.room.power_levels")
    levels["users"] = {**levels.get("users", {}), guest.id: 50}
    granted = await creator.client.set_state(room_id, "m.room.power_levels", levels)
    await guest.client.sees_event(room_id, granted)
    for topic in ("Tea", "Cake", "Milk"):
        await asyncio.gather(
            *(p.client.set_state(room_id, "m.room.topic", {"topic": f"{topic}, says {p.name}"}) for p in cast.both),
            *(p.client.set_state(room_id, "org.example.mood", {"mood": topic}, p.id) for p in cast.both),
        )
    # A message from each joins what had forked.
    await talk(cast, room_id, 1)

    async def agree() -> bool:
        states = await asyncio.gather(*(person.client.state_ids(room_id) for person in cast.both))
        return states[0] == states[1]

    await eventually(agree, "both servers to have the same state")
    topic = (await creator.client.request("GET", f"/rooms/{room_id}/state/m.room.topic"))["topic"]
    cast.tell(f"Both set the topic at once, three times; both servers settle on {topic!r} and agree on all state")


async def catch_up(cast: Cast, room_id: str, absent: Person, present: Person, count: int = 200) -> None:
    """The server of `absent` is down while `present` sends `count` messages. Back, it gives every one, in order."""
    await talk(cast, room_id, 1)
    await asyncio.to_thread(absent.home.process.stop)
    cast.tell(f"{absent.home.name} is stopped")
    texts = [f"{present.name}, message {number} while {absent.home.name} is down" for number in range(1, count + 1)]
    for text in texts:
        await present.client.send(room_id, text)
    cast.tell(f"{present.name} sends {count} messages meanwhile")
    await asyncio.to_thread(absent.home.process.start)
    cast.tell(f"{absent.home.name} is started again")
    await absent.client.send(room_id, f"{absent.name} is back")
    await present.client.sees(room_id, f"{absent.name} is back")
    await present.client.send(room_id, f"Welcome back, {absent.name}")
    await absent.client.sees(room_id, f"Welcome back, {absent.name}", seconds=60)

    async def has_all() -> bool:
        return set(texts) <= set(_texts(await absent.client.history(room_id)))

    await eventually(has_all, f"{absent.home.name} to have all {count} messages", seconds=60)
    seen = [text for text in _texts(await absent.client.history(room_id)) if text in set(texts)]
    assert seen == texts
    cast.tell(f"{absent.name} reads all {count}, once and in order")


def _texts(events: Sequence[dict[str, object]]) -> list[str]:
    contents = [event["content"] for event in events]
    return [str(content["body"]) for content in contents if isinstance(content, dict) and "body" in content]
