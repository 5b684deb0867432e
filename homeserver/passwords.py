"""Hashing and checking of passwords with bcrypt.

The scheme is the one that Synapse's accounts have, so that they can be brought along with their passwords: the password
in Unicode's NFKC form, followed by an optional pepper, in UTF-8, of which bcrypt looks at the first 72 bytes. Because
of that limit a new password that is longer is refused: silently ignoring its end would accept any other end too.

bcrypt takes a good part of a second by design, so the async variants work in threads of their own (bcrypt lets go of
Python's lock meanwhile). There is one fewer than there are cores, and where the system can do that they get a core only
when nobody else wants it: whoever floods the login waits for themselves, and nobody else does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import bcrypt

LONGEST_BYTES = 72

T = TypeVar("T")
_LOWEST_COST = 4  # that bcrypt has

_NICENESS = 10


def _stand_back() -> None:
    """Has this thread give way to others. Linux alone has a niceness for each thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


_threads = ThreadPoolExecutor(
    max_workers=max(1, min(8, (os.cpu_count() or 1) - 1)), thread_name_prefix="bcrypt", initializer=_stand_back
)


MOST_WAITING = 300  # of checks and hashes at once: who comes later would wait for minutes
_waiting = 0


class TooBusy(Exception):
    """So many passwords wait to be checked that one more would wait too long."""


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
    """`hash_password` without holding up the event loop. Raises UnusablePassword, TooBusy."""
    return await _in_thread(partial(hash_password, password, cost, pepper))


async def check_password_async(password: str, password_hash: str | None, cost: int, pepper: str = "") -> bool:
    """`check_password` without holding up the event loop.

    Without a hash (no such account, no password) it works as long as with one and says False, so that the time of an
    answer does not tell which accounts exist. `cost` is that of the hashes being made now; a wrong password takes as
    much work with a hash that was cheaper.

    :raises TooBusy: if too many wait already
    """
    return await _in_thread(partial(_check_evenly, password, password_hash, cost, pepper))


def needs_rehash(password_hash: str, cost: int) -> bool:
    """Whether the hash was made with less work than `cost`, so that it is renewed when the password is known."""
    made_with = _cost_of(password_hash)
    return made_with is None or made_with < cost


async def _in_thread(work: Callable[[], T]) -> T:
    global _waiting
    if _waiting >= MOST_WAITING:
        raise TooBusy
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, work)
    finally:
        _waiting -= 1


def _check_evenly(password: str, password_hash: str | None, cost: int, pepper: str) -> bool:
    made_with = _cost_of(password_hash) if password_hash is not None else None
    if password_hash is None or made_with is None:
        check_password(password, _decoy(cost), pepper)
        return False
    if check_password(password, password_hash, pepper):
        return True
    # What the hash was cheaper: 2^c, and 2^c + 2^(c+1) + … + 2^(n-1) more, are 2^n.
    for missing in range(max(made_with, _LOWEST_COST), cost):
        check_password(password, _decoy(missing), pepper)
    return False


def _cost_of(password_hash: str) -> int | None:
    parts = password_hash.split("$")
    return int(parts[2]) if len(parts) == 4 and parts[2].isascii() and parts[2].isdigit() else None


def _prepared(password: str, pepper: str) -> bytes:
    # A lone surrogate, which JSON can carry, has no UTF-8: it is kept apart from any other text rather than refused.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass") + pepper.encode()


def _decoy(cost: int) -> str:
    """A well-formed hash of that cost that no password has."""
    return f"$2b${cost:02}${'.' * 53}"
