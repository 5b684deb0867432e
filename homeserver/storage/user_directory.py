"""The user directory: users by name and id, and who among them somebody may find.

Names are brought up to date when somebody searches, from the list of users whose memberships or profiles have changed
since; what changes them does not wait for it.

# spec: client-server-api/#user-directory
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from homeserver.storage.search_terms import SearchWord, searchable
from homeserver.storage.stream import Connection, Pool

_REFRESHED_AT_ONCE = 1_000
_MOST_ROUNDS = 50
_MOST_CANDIDATES = 5_000  # users whose name fits, of whom it is asked whether they may be found


class _Entry(NamedTuple):
    user_nid: int
    user_id: str
    displayname: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A user as the directory knows them."""

    user_id: str
    displayname: str | None
    avatar_url: str | None


async def refresh_directory(pool: Pool) -> None:
    """Brings the directory up to date, or most of the way if very much has changed."""
    for _ in range(_MOST_ROUNDS):
        async with pool.acquire() as conn, conn.transaction():
            # A row that another search is at work on is skipped, so nobody waits; it is done a moment later.
            rows = await conn.fetch(
                "DELETE FROM user_directory_stale WHERE ctid = ANY(ARRAY(SELECT ctid FROM user_directory_stale "
                "LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING user_nid",
                _REFRESHED_AT_ONCE,
            )
            # In order, so that two who refresh do not wait for each other in a circle.
            await _refresh_users(conn, sorted({row["user_nid"] for row in rows}))
        if len(rows) < _REFRESHED_AT_ONCE:
            return


async def _refresh_users(conn: Connection, user_nids: Sequence[int]) -> None:
    if not user_nids:
        return
    entries = [*await _accounts(conn, user_nids), *await _remote_members(conn, user_nids)]
    texts = [searchable(f"{entry.displayname or ''}\n{entry.user_id}") for entry in entries]
    await conn.execute(
        """
        INSERT INTO user_directory (user_nid, displayname, avatar_url, text, terms)
        SELECT n.nid, n.name, n.avatar, n.text, n.pieces::tsvector
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
            AS n (nid, name, avatar, text, pieces)
         ORDER BY n.nid
        ON CONFLICT (user_nid) DO UPDATE
           SET displayname = excluded.displayname, avatar_url = excluded.avatar_url, text = excluded.text,
               terms = excluded.terms
         WHERE (user_directory.text, user_directory.displayname, user_directory.avatar_url)
               IS DISTINCT FROM (excluded.text, excluded.displayname, excluded.avatar_url)
        """,
        [entry.user_nid for entry in entries],
        [entry.displayname for entry in entries],
        [entry.avatar_url for entry in entries],
        [text.text for text in texts],
        [text.pieces for text in texts],
    )
    gone = set(user_nids) - {entry.user_nid for entry in entries}
    if gone:
        await conn.execute("DELETE FROM user_directory WHERE user_nid = ANY($1)", sorted(gone))


async def _accounts(conn: Connection, user_nids: Iterable[int]) -> list[_Entry]:
    rows = await conn.fetch(
        "SELECT a.user_nid, u.user_id, a.displayname, a.avatar_url FROM accounts a JOIN users u USING (user_nid) "
        "WHERE a.user_nid = ANY($1) AND NOT a.deactivated",
        list(user_nids),
    )
    return [_Entry(*row) for row in rows]


async def _remote_members(conn: Connection, user_nids: Iterable[int]) -> list[_Entry]:
    """Users of other servers who are in a room here, as their newest member event describes them.

    One in a room that everyone may look into counts more: a name for a private room is not told elsewhere, if it can be
    helped.
    """
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (m.user_nid) m.user_nid, u.user_id, e.json
          FROM room_members m JOIN users u USING (user_nid) JOIN events e ON e.event_nid = m.event_nid
          LEFT JOIN room_summaries r ON r.room_nid = m.room_nid
         WHERE m.user_nid = ANY($1) AND m.membership = 'join'
           AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.user_nid = m.user_nid)
         ORDER BY m.user_nid, COALESCE(r.join_rule = 'public' OR r.world_readable, false) DESC, m.pos DESC
        """,
        list(user_nids),
    )
    found: list[_Entry] = []
    for row in rows:
        content: Any = orjson.loads(row["json"])["content"]
        found.append(
            _Entry(row["user_nid"], row["user_id"], _text(content, "displayname"), _text(content, "avatar_url"))
        )
    return found


def _text(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value.replace("\0", " ") if isinstance(value, str) and value else None


async def find_users(
    conn: Connection, reader_nid: int, words: Sequence[SearchWord], count: int, *, local_server: str | None
) -> list[FoundUser]:
    """At most `count` users whose name or id has all of these words, or parts of them; not the reader.

    Only those who share a room with the reader or are in a room that everyone may join or read, and, if given, those of
    `local_server`. First come those whose name or id the words are, then those whose name or id begins with them, then
    those who have them further inside; among these, users with a name and a picture.
    # spec: client-server-api/#post_matrixclientv3user_directorysearch
    """
    if not words:
        return []
    rows = await conn.fetch(
        r"""
        WITH candidates AS (
            SELECT d.user_nid, d.displayname, d.avatar_url, u.user_id, u.server,
                   CASE WHEN d.text LIKE $3 OR d.text LIKE $3 || ' @%' OR d.text LIKE '%@' || $3 || ':%'
                             OR d.text LIKE '% ' || $3 THEN 3
                        WHEN d.text LIKE $3 || '%' OR d.text LIKE '%@' || $3 || '%' THEN 2
                        WHEN d.text LIKE '% ' || $3 || '%' THEN 1 ELSE 0 END AS rank
              FROM user_directory d JOIN users u USING (user_nid)
             WHERE d.terms @@ $1::tsquery AND d.text LIKE ALL($2::text[]) AND d.user_nid <> $4
             ORDER BY rank DESC, d.displayname IS NULL, d.avatar_url IS NULL, u.user_id
             LIMIT $7
        )
        SELECT c.user_id, c.displayname, c.avatar_url FROM candidates c
         WHERE c.server = $5 OR EXISTS (
            SELECT 1 FROM room_members m LEFT JOIN room_summaries r ON r.room_nid = m.room_nid
             WHERE m.user_nid = c.user_nid AND m.membership = 'join' AND (
                r.join_rule = 'public' OR r.world_readable OR EXISTS (
                    SELECT 1 FROM room_members o
                     WHERE o.room_nid = m.room_nid AND o.user_nid = $4 AND o.membership = 'join')))
         ORDER BY c.rank DESC, c.displayname IS NULL, c.avatar_url IS NULL, c.user_id
         LIMIT $6
        """,
        " & ".join(f"({word.pieces})" for word in words),
        [word.pattern for word in words],
        " ".join(word.pattern[1:-1] for word in words),
        reader_nid,
        local_server,
        count,
        _MOST_CANDIDATES,
    )
    return [FoundUser(*row) for row in rows]
