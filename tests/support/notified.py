"""A world whose users have push rules, receipts and counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rule_edits import put_rule, set_enabled
from homeserver.protocol.push_rules import UserRules, has_thread_subscriptions, with_thread_subscriptions
from homeserver.rooms.receipts import Receipt, Receipts
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room
from homeserver.storage.push_rules import lock_push_rules, put_push_rules
from homeserver.storage.thread_subscriptions import ThreadSubscription, lock_subscriptions, write_subscription
from homeserver.sync.notification_counts import UnreadCounts, unread_counts
from tests.sync.world import World, user_id

Edit = Callable[[UserRules], UserRules]


class Notified:
    """What the tests of notifications do in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.timeline = world.timeline
        self._receipts = Receipts(world.stream, world.timeline.names)

    async def user_nid(self, name: str) -> int:
        return await self.timeline.names.user_nid(user_id(name))

    async def room_with(self, *names: str, version: str = "11") -> Room:
        """A room of the first, with the others in it."""
        room = await self.world.create_room(names[0], version=version)
        for name in names[1:]:
            await self.world.join(room, name)
        return room

    async def send(self, room: Room, name: str, type: str = "m.room.message", /, **content: Any) -> str:
        """Sends an event of that type; of a message only what is not as in every other has to be given."""
        body = {"msgtype": "m.text", "body": "something"} if type == "m.room.message" else {}
        return await self.timeline.send_event(room, NewEvent(type, user_id(name), body | content))

    async def change_rules(self, name: str, edit: Edit) -> None:
        async with self.world.stream.write() as write:
            user_nid = await self.user_nid(name)
            rules = edit(await lock_push_rules(write.conn, user_nid))
            await put_push_rules(write.conn, user_nid, rules, await write.next_position())
            write.changed(users=[user_nid])

    async def ignore(self, name: str, *ignored: str) -> None:
        content: JsonObject = {"ignored_users": {user_id(each): {} for each in ignored}}
        await self.world.set_account_data(name, "m.ignored_user_list", content)

    async def subscribe(self, room: Room, name: str, root: str, *, subscribed: bool = True) -> None:
        """What a client says of a thread."""
        async with self.world.stream.write() as write:
            user_nid = await self.user_nid(name)
            await lock_subscriptions(write.conn, user_nid)
            pos = await write.next_position()
            await write_subscription(
                write.conn, user_nid, ThreadSubscription(room.nid, root, subscribed, automatic=False, pos=pos)
            )
            write.changed(users=[user_nid])

    async def read(
        self, room: Room, name: str, event_id: str, thread_id: str | None = None, kind: str = "m.read"
    ) -> None:
        await self._receipts.set_local(Receipt(room, kind, user_id(name), event_id, thread_id, 1))

    async def unread(self, room: Room, name: str, *, by_thread: bool = False) -> UnreadCounts:
        async with self.world.stream.pool.acquire() as conn:
            user_nid, until = await self.user_nid(name), self.world.stream.position
            return (await unread_counts(conn, user_nid, [room.nid], until, by_thread=by_thread))[room.nid]

    async def counts(self, room: Room, name: str) -> tuple[int, int]:
        """(notifications, highlights) of the room with all its threads."""
        unread = (await self.unread(room, name)).room
        return unread.notify, unread.highlight

    async def rows_of(self, table: str, room: Room) -> int:
        count: int = await self.world.stream.pool.fetchval(
            f"SELECT count(*) FROM {table} WHERE room_nid = $1",
            room.nid,
        )
        return count


def in_thread(root: str) -> JsonObject:
    """Content that puts an event into the thread of that root."""
    return {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}


def mention(*names: str) -> JsonObject:
    return {"m.mentions": {"user_ids": [user_id(name) for name in names]}}


def mute(room: Room) -> Edit:
    """An override that silences the room: clients' "off"."""
    condition = {"kind": "event_match", "key": "room_id", "pattern": room.room_id}
    return lambda rules: put_rule(rules, "override", room.room_id, {"actions": [], "conditions": [condition]})


def mentions_only(room: Room) -> Edit:
    """A room rule that silences what no override lets through."""
    return lambda rules: put_rule(rules, "room", room.room_id, {"actions": []})


def keyword(word: str) -> Edit:
    actions = ["notify", {"set_tweak": "highlight"}]
    return lambda rules: put_rule(rules, "content", word, {"pattern": word, "actions": actions})


def silence(name: str) -> Edit:
    """A rule that silences one sender."""
    return lambda rules: put_rule(rules, "sender", user_id(name), {"actions": []})


def master(*, on: bool) -> Edit:
    return lambda rules: set_enabled(rules, "override", ".m.rule.master", on)


def nothing_changed(rules: UserRules) -> UserRules:
    """Takes back all that the user has changed."""
    return with_thread_subscriptions({}) if has_thread_subscriptions(rules) else {}
