"""Servers as processes of their own, started, watched, stopped and killed by a test.

Everything here is synchronous, so that fixtures of any scope can use it; a test calls `asyncio.to_thread` where its own
event loop must go on meanwhile. A server runs in a directory of its own, and that is how whatever it leaves behind is
found: each process that works in that directory belongs to it, be it a child, a grandchild or an orphan.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tls import Authority

ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.05
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A TCP port on loopback that nobody uses, and that no other test process is given as long as this one lives.

    A server that is named by its port needs the same one after a restart. So the port lies below those that the system
    hands out for connections, and the UDP socket of the same number, held until the end, tells other test processes.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: else connections of a predecessor that are still closing would keep the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _reserved.append(claim)
        return port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Returns once `condition` holds. Raises TimeoutError, naming `what`, if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(_POLL_SECONDS)


class ServerProcess:
    """A program that serves HTTP from a directory of its own. May be started again after it has ended.

    `ready_url` answers 200 once it serves. Its output goes to `server.log` in the directory. It is given the variables
    in `environment` and those of the test, except settings of a server of ours: a test alone says how its servers are.
    """

    def __init__(
        self, command: Sequence[str], directory: Path, ready_url: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._ready_url = ready_url
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TALKPAI_")}
        self._environment = inherited | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = directory.resolve()
        self.log_file = self.directory / "server.log"

    @property
    def pid(self) -> int:
        """The process id. Only while it runs."""
        assert self._process is not None, "is not running"
        return self._process.pid

    def start(self, seconds: float = 60.0) -> None:
        """Starts it and returns once it is ready. Raises AssertionError with the end of its log if it ends instead."""
        assert self._process is None, "runs already"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._is_ready, f"{self._ready_url} to answer", seconds)
        except BaseException as error:
            self.kill()
            error.add_note(self.log_tail())
            raise

    def stop(self, seconds: float = 60.0) -> None:
        """Ends it by SIGTERM. Raises AssertionError unless it ends with status 0 and leaves nothing running."""
        process = self._process
        assert process is not None, "is not running"
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"Did not stop within {seconds:g} s of SIGTERM\n{self.log_tail()}") from None
        self._process = None
        assert status == 0, f"Stopped with status {status}\n{self.log_tail()}"
        assert self.processes() == {}, "left something running"

    def kill(self) -> None:
        """Ends it by SIGKILL, as a crash would, and waits for whatever ends with it. Does nothing if it is not running.

        Raises TimeoutError if something that it had started goes on.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        wait_until(lambda: not self.processes(), "the processes of a killed server to end")

    def processes(self) -> dict[int, str]:
        """What runs in its directory: process id -> command line. Only Linux can tell; elsewhere always empty."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                where = Path(os.readlink(entry / "cwd"))
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            except OSError:  # it has ended, or is another user's
                continue
            if where.is_relative_to(self.directory) and command:
                found[int(entry.name)] = command
        return found

    def log_tail(self, lines: int = 40) -> str:
        """The end of what it has written."""
        return "\n".join(self.log_file.read_text("utf-8", "replace").splitlines()[-lines:])

    def _is_ready(self) -> bool:
        assert self._process is not None, "has just been started"
        status = self._process.poll()
        assert status is None, f"Ended with status {status} instead of serving"
        try:
            with urllib.request.urlopen(self._ready_url, timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError, http.client.HTTPException):
            return False


@dataclass(frozen=True)
class Homeserver:
    """A homeserver on loopback: ours, or another.

    `url` is where clients reach it, in plain HTTP; other servers reach it over TLS at the port in `server_name`.
    """

    name: str
    server_name: str
    url: str
    process: ServerProcess


def talk_pai(
    directory: Path, authority: Authority | None = None, *, settings: Mapping[str, Any] | None = None
) -> Homeserver:
    """Our server with everything it keeps below `directory`, not yet started; with its own PostgreSQL unless told.

    It trusts the servers of `authority`, and talks with none without it. `settings` replace top-level settings of its
    configuration.
    """
    directory.mkdir(parents=True, exist_ok=True)
    client_port = free_port()
    url = f"http://127.0.0.1:{client_port}"
    config: dict[str, Any] = {
        "server_name": "localhost",
        "public_baseurl": url,
        "data_dir": str(directory / "data"),
        "listeners": [{"bind": "127.0.0.1", "port": client_port, "serves": ["client", "admin", "metrics"]}],
        "federation": {"enabled": False},
        "registration": {"mode": "open"},
        "passwords": {"bcrypt_cost": 4},
        "rate_limits": {"enabled": False},
        "logging": {"level": "info", "format": "text"},
    }
    if authority is not None:
        federation_port = free_port()
        issued = authority.issue(["localhost", "127.0.0.1"])
        tls = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
        config["server_name"] = f"localhost:{federation_port}"
        config["listeners"].append(
            {"bind": "127.0.0.1", "port": federation_port, "tls": tls, "serves": ["client", "federation"]}
        )
        config["federation"] = {
            "ca_file": str(authority.ca_file),
            "allow_addresses": ["127.0.0.0/8", "::1"],
            "timeout_seconds": 20,
        }
    config_file = directory / "config.yaml"
    # JSON is YAML.
    config_file.write_text(json.dumps(config | dict(settings or {}), indent=2))
    command = [sys.executable, "-m", "homeserver.cli", "start", "--config", str(config_file)]
    process = ServerProcess(command, directory, f"{url}/ready", {"PYTHONPATH": str(ROOT)})
    return Homeserver("Talk pAI", config["server_name"], url, process)
