"""The few steps between fork and exec of a PostgreSQL program; run as a script of its own, by its path.

    python -I -S postgres_child.py PARENT UID GID PROGRAM ARGUMENT…

Becomes the unprivileged user (UID -1: stays who it is), asks the kernel to send SIGQUIT (immediate shutdown) when the
server dies, however it dies, and turns into the program. Immediate, because a fast shutdown that comes while PostgreSQL
recovers from a crash of its own can hang for ever (seen with 18.6); its next start recovers, and nothing is lost.

A script instead of a `preexec_fn`, because that would run Python between fork and exec of a process with threads. It
imports nothing of the project: it must start in a few milliseconds, and the project may be unreadable for whoever it
becomes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replaces this process by the program; returns only by raising."""
    parent, uid, gid = (int(one) for one in arguments[:3])
    command = arguments[3:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if sys.platform == "linux":
        # After setuid, which clears it. Other systems have none: there the next start stops what is left over.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:
            raise SystemExit("the server is gone already")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
