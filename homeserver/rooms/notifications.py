"""Whom an event notifies: push rules, evaluated once for all local members of its room, as part of the append.

Nearly everybody has the predefined rules, and to them an event does the same: one row says so for them all, and nobody
looks at who they are. A closer look is taken only at those whom the event addresses (mentions) and at those who have
rules of their own, subscribe to threads (MSC4306) or ignore someone. These are kept in memory as the room's `Audience`,
grouped by equal rules, where rules about other rooms don't count. Only where a member's outcome differs a row of the
member's own is written, and a member who has silenced the room altogether has a span instead of a row for each event.

# spec: client-server-api/#receiving-notifications
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import domain_of, is_event_id
from homeserver.protocol.invite_permissions import InviteDecision
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.push_rule_defaults import EVALUATION_ORDER
from homeserver.protocol.push_rules import (
    NOTHING,
    Actions,
    CompiledRules,
    ContainsDisplayName,
    EventForPush,
    PropertyContainsMe,
    PropertyIsMe,
    PushUser,
    Rule,
    ThreadSubscription,
    UserRules,
    compile_rules,
    evaluate,
    has_thread_subscriptions,
    with_thread_subscriptions,
)
from homeserver.rooms.head import RoomHead
from homeserver.rooms.invite_permissions import invite_decision
from homeserver.storage.events import ORD_SHIFT, NewEventRow, Status, relation_of
from homeserver.storage.members import MemberRow
from homeserver.storage.names import BoundedCache, Names, Room
from homeserver.storage.notifications import (
    ALL_THREADS,
    MAIN,
    MemberSettings,
    NotificationRows,
    OrdinaryRow,
    QuietChange,
    ReadMark,
    UserRow,
    joined_among,
    joined_by_id,
    joined_count,
    members_with_new_settings,
    members_with_settings,
    settings_of,
    write_notifications,
)
from homeserver.storage.push_rules import read_rules
from homeserver.storage.receipts import thread_of
from homeserver.storage.stream import Connection, Write
from homeserver.storage.thread_subscriptions import subscribed_among

DEFAULT = compile_rules()
_NOBODY = PushUser("\0")  # no event mentions this id
_PLAIN_TYPES = ("m.room.message", "m.room.encrypted")
_UNREAD_STATE = ("m.room.name", "m.room.topic", "m.room.avatar", "m.room.tombstone")


@dataclass(frozen=True, slots=True)
class Member:
    """A joined member who has rules of their own, subscribes to threads, or ignores someone."""

    user_nid: int
    user_id: str
    rules: CompiledRules
    ignored: frozenset[str]
    quiet: bool  # what is stored: ordinary events do not notify them


@dataclass(slots=True)
class Audience:
    """What is remembered of the members of a room. Good while `version` is that of the room's head.

    `settings_pos`: settings that were changed up to there have been read. `writer` is the transaction that this is
    part of, None once it is committed. Members in `unplaced` are yet to be found quiet or not.
    """

    version: int
    joined: int
    settings_pos: int
    writer: Write | None = None
    members: dict[int, Member] = field(default_factory=dict)
    groups: dict[tuple[CompiledRules, bool], dict[str, Member]] = field(default_factory=dict)
    ignoring: dict[str, set[int]] = field(default_factory=dict)
    unplaced: set[int] = field(default_factory=set)

    def enter(self, member: Member) -> None:
        """Adds a member, or puts new settings in the place of those before."""
        self.remove(member.user_nid)
        self.members[member.user_nid] = member
        self.groups.setdefault((member.rules, member.quiet), {})[member.user_id] = member
        for user_id in member.ignored:
            self.ignoring.setdefault(user_id, set()).add(member.user_nid)

    def remove(self, user_nid: int) -> None:
        member = self.members.pop(user_nid, None)
        if member is None:
            return
        self.unplaced.discard(user_nid)
        group = self.groups[member.rules, member.quiet]
        del group[member.user_id]
        if not group:
            del self.groups[member.rules, member.quiet]
        for user_id in member.ignored:
            self.ignoring[user_id].discard(user_nid)
            if not self.ignoring[user_id]:
                del self.ignoring[user_id]


class Notifications:
    """The notifications of one server's users, and what this process remembers for them."""

    def __init__(self, server_name: str) -> None:
        self.server_name = server_name
        self._audiences: BoundedCache[int, Audience] = BoundedCache(2_000)
        self._compiled: BoundedCache[bytes, CompiledRules] = BoundedCache(1_000)

    async def notify_members(
        self, write: Write, head: RoomHead, names: Names, events: Sequence[NewEventRow], members: Sequence[MemberRow]
    ) -> None:
        """Writes whom these events of a room notify, and takes note of its new memberships. Must run under the room's
        lock, when the events are written and the memberships and the head are not yet."""
        events = [row for row in events if row.live and row.status is Status.ACCEPTED]
        audience = self._known_audience(write, head)
        if not events and not members and audience is None:
            return
        if events:
            audience = await self._fresh_audience(write, head, audience)
        batch = _Batch(self, write.conn, head, names, audience)
        await batch.prepare(members)
        steps: list[tuple[int, int, NewEventRow | MemberRow]] = [(_pos(row), 0, row) for row in events]
        steps += [(row.pos, 1, row) for row in members]
        for _, _, row in sorted(steps, key=lambda step: step[:2]):
            if isinstance(row, NewEventRow):
                await batch.add_event(row)
            else:
                await batch.add_membership(row)
        await write_notifications(write.conn, head.room.nid, batch.rows)
        if audience is not None:
            self._remember(write, head, audience)

    def is_local(self, user_id: str) -> bool:
        return domain_of(user_id) == self.server_name

    def _known_audience(self, write: Write, head: RoomHead) -> Audience | None:
        audience = self._audiences.get(head.room.nid)
        if audience is None or audience.version != head.version or audience.writer not in (None, write):
            return None
        return audience

    async def _fresh_audience(self, write: Write, head: RoomHead, known: Audience | None) -> Audience:
        conn, room = write.conn, head.room
        pos = write.stream.position  # before reading: what is set meanwhile is read again
        if known is None:
            audience = Audience(head.version, await joined_count(conn, room.nid), pos)
            settings = await members_with_settings(conn, room.nid)
        else:
            audience = known
            settings = await members_with_new_settings(conn, room.nid, known.settings_pos)
            if settings:
                # What is changed here must not be seen if this transaction comes to nothing.
                self._audiences.discard(room.nid)
            audience.settings_pos = pos
        for each in settings:
            self.enter(audience, room.room_id, each)
        return audience

    def enter(self, audience: Audience, room_id: str, settings: MemberSettings) -> None:
        """Adds a member with these settings."""
        rules = self.compile(read_rules(settings.rules), room_id)
        member = Member(settings.user_nid, settings.user_id, rules, ignored_in(settings.ignored), settings.quiet)
        audience.enter(member)
        audience.unplaced.add(member.user_nid)

    def compile(self, rules: UserRules, room_id: str) -> CompiledRules:
        """The rules as far as they can matter in that room; the same object for equal rules, if it is remembered."""
        relevant = relevant_rules(rules, room_id)
        if not relevant:
            return DEFAULT
        digest = hashlib.sha256(orjson.dumps(relevant, option=orjson.OPT_SORT_KEYS)).digest()
        compiled = self._compiled.get(digest)
        if compiled is None:
            compiled = compile_rules(relevant)
            self._compiled.set(digest, compiled)
        return compiled

    async def outcome_of_invite(self, conn: Connection, push: EventForPush, settings: MemberSettings) -> Actions:
        """What an invite does to the user with these settings, whom it is for."""
        if await invite_decision(conn, push.event.sender, settings.user_id) is not InviteDecision.ALLOW:
            return NOTHING
        rules = self.compile(read_rules(settings.rules), push.event.room_id)
        return evaluate(push, rules, PushUser(settings.user_id))

    async def actions_for(
        self, conn: Connection, head: RoomHead, names: Names, event: Event, user_nid: int, *, highlight: bool
    ) -> Actions:
        """What an event that notified a user (`highlight`: as one) does to the user's devices, as the rules are now.

        Should they no longer say what they said then, what is known of it: that it notified.
        """
        [settings] = await settings_of(conn, head.room.nid, [user_nid])
        thread_id = await thread_in(conn, head.room.nid, event)
        push = EventForPush(
            event,
            member_count=await joined_count(conn, head.room.nid),
            power_levels=await power_levels(conn, head, names),
            in_thread=thread_id != MAIN,
        )
        name = await display_names(conn, head, names, [settings.user_id])
        subscribed = push.in_thread and bool(await subscribed_among(conn, head.room.nid, thread_id, [user_nid]))
        user = PushUser(settings.user_id, name.get(settings.user_id), subscribed)
        actions = evaluate(push, self.compile(read_rules(settings.rules), event.room_id), user)
        if actions.notify and actions.highlight is highlight:
            return actions
        return Actions(notify=True, highlight=highlight, sound=None, tweaks={"highlight": True} if highlight else {})

    async def notify_invited(self, write: Write, room: Room, event: Event, event_nid: int, pos: int) -> None:
        """Writes what an invite to a room that this server is not in does to the user of ours whom it is for."""
        assert event.state_key is not None
        user_nid: int = await write.conn.fetchval("SELECT user_nid FROM users WHERE user_id = $1", event.state_key)
        [settings] = await settings_of(write.conn, room.nid, [user_nid])
        push = EventForPush(event, member_count=0, power_levels=None)
        actions = await self.outcome_of_invite(write.conn, push, settings)
        if actions.notify:
            row = UserRow(
                user_nid, pos << ORD_SHIFT, event_nid, MAIN, True, actions.highlight, 1, int(actions.highlight), 0
            )
            await write_notifications(write.conn, room.nid, NotificationRows(users=[row]))

    def _remember(self, write: Write, head: RoomHead, audience: Audience) -> None:
        # Appended to, the room has the next version. Until the commit this is for the same transaction only.
        audience.version, audience.writer = head.version + 1, write
        self._audiences.set(head.room.nid, audience)

        def committed() -> None:
            if audience.writer is write:
                audience.writer = None

        write.after_commit(committed)


class _Batch:
    """The events and memberships of one append, in their order."""

    def __init__(
        self, notifications: Notifications, conn: Connection, head: RoomHead, names: Names, audience: Audience | None
    ) -> None:
        self.notifications = notifications
        self.conn = conn
        self.head = head
        self.names = names
        self.audience = audience
        self.rows = NotificationRows()
        self._joined: set[int] = set()  # of those whose memberships the batch changes, who are joined just now
        self._settings: dict[int, MemberSettings] = {}
        self._came: dict[str, int] = {}
        self._went: set[int] = set()

    async def prepare(self, members: Sequence[MemberRow]) -> None:
        """Reads how those stand to the room whose memberships are about to change."""
        if not members:
            return
        local = {row.user_nid for row in members if row.server == self.notifications.server_name}
        # Without an audience nobody counts the others.
        concerned = local if self.audience is None else {row.user_nid for row in members}
        self._joined = await joined_among(self.conn, self.head.room.nid, concerned)
        coming = {row.user_nid for row in members if row.membership == "join"} & local - self._joined
        if coming and self.audience is not None:
            found = await settings_of(self.conn, self.head.room.nid, coming)
            self._settings = {
                each.user_nid: each for each in found if each.rules is not None or each.ignored is not None
            }

    async def add_membership(self, row: MemberRow) -> None:
        """Enters that someone has joined or is gone."""
        joins = row.membership == "join"
        is_local = row.server == self.notifications.server_name
        if (row.user_nid in self._joined) is joins or not (is_local or self.audience is not None):
            return
        (self._joined.add if joins else self._joined.remove)(row.user_nid)
        if self.audience is not None:
            self.audience.joined += 1 if joins else -1
        if not is_local:
            return
        if joins:
            # What was before is not unread for someone who was not there.
            self.rows.marks.append(ReadMark(row.user_nid, ALL_THREADS, row.pos << ORD_SHIFT))
        if self.audience is not None:
            user_id = (await self.names.user_ids([row.user_nid]))[row.user_nid]
            if joins:
                self._came[user_id] = row.user_nid
                self._went.discard(row.user_nid)
                if row.user_nid in self._settings:
                    self.notifications.enter(self.audience, self.head.room.room_id, self._settings[row.user_nid])
            else:
                self._came.pop(user_id, None)
                self._went.add(row.user_nid)
                self.audience.remove(row.user_nid)

    async def add_event(self, row: NewEventRow) -> None:
        """Enters what an event does to the members."""
        event, audience = row.event, self.audience
        assert audience is not None
        assert row.ord is not None
        thread_id = await thread_in(self.conn, self.head.room.nid, event)
        push = EventForPush(
            event,
            member_count=audience.joined,
            power_levels=await power_levels(self.conn, self.head, self.names),
            in_thread=thread_id != MAIN,
        )
        ordinary, unread = evaluate(push, DEFAULT, _NOBODY), counts_as_unread(event)
        if ordinary.notify or unread:
            self.rows.ordinary.append(
                OrdinaryRow(row.ord, row.nid, thread_id, ordinary.notify, ordinary.highlight, unread)
            )
        if ordinary.notify and event.type in _PLAIN_TYPES:
            self._place_members(event, row.ord)
        outcomes = await self._outcomes(push, ordinary, thread_id)
        nothing_new = set(audience.ignoring.get(event.sender, ()))
        is_own = self.notifications.is_local(event.sender)
        if is_own and event.is_state:
            nothing_new.add(row.sender_nid)
        elif is_own:
            # spec: client-server-api/#marking-notifications-as-read: "or by sending an event". A change of state may be
            # a new picture, shown to every room at once, so that is none.
            self.rows.marks.append(ReadMark(row.sender_nid, thread_id, row.ord))
            outcomes.pop(row.sender_nid, None)
        outcomes.update(dict.fromkeys(nothing_new, NOTHING))
        for user_nid, actions in outcomes.items():
            told = self._told(ordinary, audience.members.get(user_nid))
            diffs = (
                int(actions.notify) - int(told.notify),
                int(actions.highlight) - int(told.highlight),
                -1 if unread and user_nid in nothing_new else 0,
            )
            if any(diffs):
                self.rows.users.append(
                    UserRow(user_nid, row.ord, row.nid, thread_id, actions.notify, actions.highlight, *diffs)
                )

    @staticmethod
    def _told(ordinary: Actions, member: Member | None) -> Actions:
        """What someone is told without a row of their own."""
        return ordinary if ordinary.notify and not (member is not None and member.quiet) else NOTHING

    def _place_members(self, event: Event, ord: int) -> None:
        """Finds out of members with new rules whether ordinary messages notify them, from this event on.

        Nothing hangs on it but the number of rows: what a span says wrongly of an event a row puts right.
        """
        audience = self.audience
        assert audience is not None
        plain = EventForPush(_plain_message(event), member_count=audience.joined, power_levels=None)
        for user_nid in sorted(audience.unplaced):
            member = audience.members[user_nid]
            quiet = not evaluate(plain, member.rules, _NOBODY).notify
            if quiet is not member.quiet:
                self.rows.quiet.append(QuietChange(user_nid, ord, quiet))
                audience.enter(Member(user_nid, member.user_id, member.rules, member.ignored, quiet))
        audience.unplaced.clear()

    async def _outcomes(self, push: EventForPush, ordinary: Actions, thread_id: str) -> dict[int, Actions]:
        """user_nid -> what the event does, for everyone to whom it may do something else than to others."""
        audience = self.audience
        assert audience is not None
        outcomes: dict[int, Actions] = {}
        addressed = _addressed(push.open_rules(DEFAULT)) or _Addressed()
        for user_id, user_nid in (await self._members(addressed.user_ids(push))).items():
            if user_nid not in audience.members:
                outcomes[user_nid] = evaluate(push, DEFAULT, PushUser(user_id))
        subscribed = await self._subscribed(push, thread_id)
        for (rules, quiet), members in audience.groups.items():
            told = NOTHING if quiet or not ordinary.notify else ordinary
            addressed = _addressed(push.open_rules(rules)) or _Addressed()
            common = evaluate(push, rules, _NOBODY)
            if (common.notify, common.highlight) != (told.notify, told.highlight):
                outcomes.update((member.user_nid, common) for member in members.values())
            names: dict[str, str] = {}
            chosen: Iterable[str] = members
            if addressed.by_name:
                names = await display_names(self.conn, self.head, self.names, members)
            else:
                chosen = (addressed.user_ids(push) | subscribed) & members.keys()
            for user_id in chosen:
                user = PushUser(user_id, names.get(user_id), user_id in subscribed)
                outcomes[members[user_id].user_nid] = evaluate(push, rules, user)
        outcomes.update(await self._of_invited(push))
        return outcomes

    async def _subscribed(self, push: EventForPush, thread_id: str) -> set[str]:
        """Those members with settings who are subscribed to the event's thread, if any rules ask for it."""
        audience = self.audience
        assert audience is not None
        asked = [
            member
            for (rules, _), members in audience.groups.items()
            if push.in_thread and _asks_for_subscription(push.open_rules(rules))
            for member in members.values()
        ]
        if not asked:
            return set()
        nids = [member.user_nid for member in asked]
        found = await subscribed_among(self.conn, self.head.room.nid, thread_id, nids)
        return {member.user_id for member in asked if member.user_nid in found}

    async def _members(self, user_ids: Iterable[str]) -> dict[str, int]:
        """Those of the users who are ours and joined."""
        local = [user_id for user_id in user_ids if user_id.endswith(":" + self.notifications.server_name)]
        if not local:
            return {}
        found = await joined_by_id(self.conn, self.head.room.nid, local)
        present = {user_id: nid for user_id, nid in found.items() if nid not in self._went}
        return present | {user_id: self._came[user_id] for user_id in local if user_id in self._came}

    async def _of_invited(self, push: EventForPush) -> dict[int, Actions]:
        """What an invite does to the user of ours whom it is for, who is no member."""
        event = push.event
        target = event.state_key
        if event.type != "m.room.member" or event.membership != "invite" or target is None:
            return {}
        if not self.notifications.is_local(target):
            return {}
        target_nid = await self.names.user_nid(target)
        [settings] = await settings_of(self.conn, self.head.room.nid, [target_nid])
        return {target_nid: await self.notifications.outcome_of_invite(self.conn, push, settings)}


@dataclass(frozen=True, slots=True)
class _Addressed:
    """How the rules that are still open ask who the user is: by ids in the event, or by the user's name."""

    lists: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    by_name: bool = False

    def user_ids(self, push: EventForPush) -> set[str]:
        """The ids that the event has in these places."""
        found = {value for key in self.values if isinstance(value := push.value(key), str)}
        return found.union(*(push.strings(key) for key in self.lists))


def _asks_for_subscription(rules: Sequence[Rule]) -> bool:
    return any(isinstance(one, ThreadSubscription) for rule in rules for one in rule.personal)


def _addressed(rules: Sequence[Rule]) -> _Addressed | None:
    conditions = [one for rule in rules for one in rule.personal]
    if not conditions:
        return None
    return _Addressed(
        lists=tuple(one.key for one in conditions if isinstance(one, PropertyContainsMe)),
        values=tuple(one.key for one in conditions if isinstance(one, PropertyIsMe)),
        by_name=any(isinstance(one, ContainsDisplayName) for one in conditions),
    )


async def thread_in(conn: Connection, room_nid: int, event: Event) -> str:
    """The thread that an event of the room is in.  # spec: client-server-api/#threaded-read-receipts"""
    relation = relation_of(event.content)
    if relation is None:
        return MAIN
    root: str | None = relation[0]
    if relation[1] != "m.thread":
        root = await thread_of(conn, room_nid, event.event_id)
    return root if is_event_id(root) else MAIN


async def power_levels(conn: Connection, head: RoomHead, names: Names) -> PowerLevels | None:
    """The power levels of a room whose state may not be here: it is being joined, or others are in it alone."""
    if await head.state_event(conn, names, "m.room.create") is None:
        return None
    return await head.power_levels(conn, names)


async def display_names(conn: Connection, head: RoomHead, names: Names, user_ids: Iterable[str]) -> dict[str, str]:
    """The names that members have in a room, as far as they have any."""
    found: dict[str, str] = {}
    state = await head.state(conn, names, [("m.room.member", user_id) for user_id in user_ids])
    for (_, user_id), entry in state.items():
        name = entry.event.content.get("displayname")
        if isinstance(name, str):
            found[user_id] = name
    return found


def relevant_rules(rules: UserRules, room_id: str) -> dict[str, Any]:
    """Of a user's own rules those that can match in that room, without what doesn't bear on the outcome."""
    relevant: dict[str, Any] = dict(with_thread_subscriptions({})) if has_thread_subscriptions(rules) else {}
    for kind in EVALUATION_ORDER:
        own = [_essence(kind, rule, room_id) for rule in rules.get(kind, ())]
        if any(own):
            relevant[kind] = [rule for rule in own if rule is not None]
    changed = {kind: of_kind for kind, of_kind in rules.get("defaults", {}).items() if of_kind}
    if changed:
        relevant["defaults"] = changed
    return relevant


def _essence(kind: str, rule: JsonObject, room_id: str) -> JsonObject | None:
    if not rule["enabled"] or (kind == "room" and rule["rule_id"] != room_id):
        return None
    conditions = [one for one in rule.get("conditions", ()) if not _names_room(one, room_id)]
    if any(_names_room(one, None) for one in conditions):
        return None
    rule_id = rule["rule_id"] if kind in ("room", "sender") else ""
    return {**rule, "rule_id": rule_id, "conditions": conditions}


def _names_room(condition: JsonObject, room_id: str | None) -> bool:
    """Whether it asks for just that room (None: for any single one)."""
    pattern = condition.get("pattern")
    if condition.get("kind") != "event_match" or condition.get("key") != "room_id" or not isinstance(pattern, str):
        return False
    if "*" in pattern or "?" in pattern:
        return False
    return room_id is None or pattern.casefold() == room_id.casefold()


def ignored_in(content: bytes | None) -> frozenset[str]:
    """The users in the content of an m.ignored_user_list.  # spec: client-server-api/#mignored_user_list"""
    value: Any = orjson.loads(content) if content is not None else None
    users = value.get("ignored_users") if isinstance(value, dict) else None
    return frozenset(users) if isinstance(users, dict) else frozenset()


def counts_as_unread(event: Event) -> bool:
    """Whether there is something to read in it: what MSC2654 counts, whatever push rules say."""
    content: Mapping[str, Any] = event.content
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        return False
    if event.is_state:
        return event.type in _UNREAD_STATE
    if event.type == "m.room.message" and content.get("msgtype") == "m.notice":
        return False
    body = content.get("body")
    return event.type == "m.room.encrypted" or (isinstance(body, str) and body != "")


def _plain_message(event: Event) -> Event:
    """An event of the same type in the same room, without anything that rules could ask for besides."""
    json = {
        "room_id": event.room_id,
        "type": event.type,
        "sender": "@:",
        "content": {},
        "depth": 0,
        "origin_server_ts": 0,
        "prev_events": [],
        "auth_events": [],
    }
    return Event(json, event.room_version, "$")


def _pos(row: NewEventRow) -> int:
    assert row.ord is not None, "an event that is told has a place"
    return row.ord >> ORD_SHIFT
