"""What the user keeps on the server, for all rooms and for single ones.

# spec: client-server-api/#client-config
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import orjson

from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rule_edits import ruleset_json
from homeserver.storage.account_data import DELETED, GLOBAL
from homeserver.storage.push_rules import find_push_rules, push_rules_changed
from homeserver.storage.sync_reads import account_data_since
from homeserver.sync.view import View


@dataclass(slots=True)
class AccountData:
    """Events of account data: those for all rooms, and by room_nid those for one."""

    everywhere: list[JsonObject] = field(default_factory=list)
    by_room: dict[int, list[JsonObject]] = field(default_factory=dict)


async def complete(view: View, room_nids: Collection[int] | None = None) -> AccountData:
    """All there is; with `room_nids`, of no rooms but these."""
    data = await _read(view, -1, (), room_nids)
    await _add_push_rules(view, data)
    return data


async def incremental(view: View, new_rooms: Collection[int], since: int) -> AccountData:
    """What was set since, and all there is in `new_rooms`."""
    standing = view.standing.account if view.standing is not None else None
    data = AccountData()
    if standing is None or standing.account_data_pos > since or new_rooms:
        data = await _read(view, since, new_rooms)
    if standing is None:
        new_rules = await push_rules_changed(view.conn, view.reader.user_nid, since, view.until)
    else:
        new_rules = since < standing.push_rules_pos <= view.until
    if new_rules:
        await _add_push_rules(view, data)
    return data


async def _add_push_rules(view: View, data: AccountData) -> None:
    """Adds the user's push rules, which are kept in a table of their own and which everybody has.

    # spec: client-server-api/#mpush_rules
    """
    filter = view.filter.account_data
    if filter.matches(type="m.push_rules", sender=view.reader.user_id, contains_url=bool(filter.contains_url)):
        rules = await find_push_rules(view.conn, view.reader.user_nid)
        content = {"global": ruleset_json(rules, view.reader.user_id)}
        data.everywhere.append({"type": "m.push_rules", "content": content})


async def _read(view: View, since: int, new_rooms: Collection[int], only: Collection[int] | None = None) -> AccountData:
    data = AccountData()
    # Nothing was set after `until`, so that what is asked for by room is all that comes.
    after, rooms = (since, new_rooms) if only is None else (view.until, {GLOBAL, *only})
    for row in await account_data_since(view.conn, view.reader.user_nid, after, view.until, rooms):
        if since < 0 and row.content == DELETED:
            continue
        filter = view.filter.room_account_data if row.room_nid else view.filter.account_data
        if not filter.matches(type=row.type, sender=view.reader.user_id, contains_url=bool(filter.contains_url)):
            continue
        # Kept as JSON, it goes out as it is.
        event: JsonObject = {"type": row.type, "content": orjson.Fragment(row.content)}
        if not row.room_nid:
            data.everywhere.append(event)
        elif (room := view.rooms.get(row.room_nid)) is not None and filter.includes_room(room.room_id):
            data.by_room.setdefault(row.room_nid, []).append(event)
    return data
