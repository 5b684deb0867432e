"""What the schema asks of a database."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import asyncpg

from homeserver.storage.migrate import migrate


async def test_the_owner_of_a_database_needs_no_other_privilege(postgres_url: str) -> None:
    """The schema is made by a role that is no superuser, only owner of the database, and asks for no extension."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("CREATE ROLE plain_owner NOSUPERUSER")
    await admin.execute("CREATE DATABASE plain OWNER plain_owner TEMPLATE template0")
    conn = await asyncpg.connect(urlunsplit(urlsplit(postgres_url)._replace(path="/plain")))
    try:
        await conn.execute("SET ROLE plain_owner")
        await migrate(conn)
        assert await conn.fetchval("SELECT array_agg(extname::text) FROM pg_extension") == ["plpgsql"]
    finally:
        await conn.close()
        await admin.execute("DROP DATABASE plain")
        await admin.execute("DROP ROLE plain_owner")
        await admin.close()
