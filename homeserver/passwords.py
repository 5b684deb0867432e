"""Hashing and checking of passwords with bcrypt.

The scheme is the one that Synapse's accounts have, so that they can be brought along with their passwords: the password
in Unicode's NFKC form, followed by an optional pepper, in UTF-8, of which bcrypt looks at the first 72 bytes. Because
of that limit a new password that is longer is refused: silently ignoring its end would accept any other end too.

bcrypt takes a good part of a second by design, so the async variants work in threads of their own, as many as there are
cores: more would only make everything else wait, and whoever floods the login waits for themselves.
"""

from __future__ import annotations

import asyncio
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import bcrypt

LONGEST_BYTES = 72

_threads = ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1)), thread_name_prefix="bcrypt")


class UnusablePassword(ValueError):
    """A password that bcrypt would not tell from another. Its text can be shown to the user."""


def hash_password(password: str, cost: int, pepper: str = "") -> str:
    """The hash to store, in the usual form "$2b$…". `cost` doubles the work with each step; 12 is usual.

    Raises UnusablePassword if password and pepper are over 72 bytes or there is a NUL in them, at which bcrypt begins
    the password anew.
    """
    data = _prepared(password, pepper)
    if b"\0" in data:
        raise UnusablePassword("The password has a character in it that can't be used (NUL)")
    if len(data) > LONGEST_BYTES:
        longest = LONGEST_BYTES - len(pepper.encode())
        raise UnusablePassword(f"The password is too long: it may have at most {longest} bytes")
    return bcrypt.hashpw(data, bcrypt.gensalt(cost)).decode("ascii")


def check_password(password: str, password_hash: str, pepper: str = "") -> bool:
    """Whether the password is the one that was hashed. False also for what is no bcrypt hash at all."""
    data = _prepared(password, pepper)[:LONGEST_BYTES]
    try:
        return bcrypt.checkpw(data, password_hash.encode()) and b"\0" not in data
    except ValueError:
        return False


async def hash_password_async(password: str, cost: int, pepper: str = "") -> str:
    """`hash_password` without holding up the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_threads, hash_password, password, cost, pepper)


async def check_password_async(password: str, password_hash: str | None, cost: int, pepper: str = "") -> bool:
    """`check_password` without holding up the event loop.

    Without a hash (no such account, no password) it works as long as with one and says False, so that the time of an
    answer does not tell which accounts exist. `cost` is that of the hashes being made now.
    """
    loop = asyncio.get_running_loop()
    if password_hash is None:
        await loop.run_in_executor(_threads, check_password, password, _decoy(cost), pepper)
        return False
    return await loop.run_in_executor(_threads, check_password, password, password_hash, pepper)


def needs_rehash(password_hash: str, cost: int) -> bool:
    """Whether the hash was made with less work than `cost`, so that it is renewed when the password is known."""
    parts = password_hash.split("$")
    return len(parts) < 4 or not parts[2].isdigit() or int(parts[2]) < cost


def _prepared(password: str, pepper: str) -> bytes:
    # A lone surrogate, which JSON can carry, has no UTF-8: it is kept apart from any other text rather than refused.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass") + pepper.encode()


def _decoy(cost: int) -> str:
    """A well-formed hash of that cost that no password has."""
    return f"$2b${cost:02}${'.' * 53}"
