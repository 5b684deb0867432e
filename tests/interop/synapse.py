"""A real Synapse, configured for loopback: the peer that our server has to get along with.

It lives in a virtual environment of its own, made by `make test`. Its database is SQLite: one file that goes with the
test's directory. Its configuration is written here whole, since the generated one is meant to be edited by people.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, Homeserver, ServerProcess, free_port
from tests.support.tls import Authority

PYTHON_VARIABLE = "TALKPAI_SYNAPSE_PYTHON"
_NO_LIMIT = {"per_second": 10_000, "burst_count": 10_000}
_PLAIN_LIMITS = ("message", "registration", "admin_redaction", "third_party_invite")
_SPLIT_LIMITS = {
    "login": ("address", "account", "failed_attempts"),
    "joins": ("local", "remote"),
    "invites": ("per_room", "per_user", "per_issuer"),
}


def synapse_python() -> Path | None:
    """The Python that has Synapse: what TALKPAI_SYNAPSE_PYTHON names, else that of `make test`. None: there is none."""
    named = os.environ.get(PYTHON_VARIABLE)
    python = Path(named) if named else ROOT / ".cache/synapse/bin/python"
    return python if python.exists() else None


def synapse(python: Path, directory: Path, authority: Authority) -> Homeserver:
    """A Synapse with everything it keeps in `directory`, not yet started; it trusts the servers of `authority`."""
    directory.mkdir(parents=True, exist_ok=True)
    client_port, federation_port = free_port(), free_port()
    server_name = f"localhost:{federation_port}"
    url = f"http://127.0.0.1:{client_port}"
    signing_key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    (directory / "signing.key").write_text(f"ed25519 a_test {signing_key}\n")
    (directory / "log.yaml").write_text(json.dumps(_logging()))
    config = _config(directory, authority, server_name, client_port, federation_port)
    config_file = directory / "homeserver.yaml"
    config_file.write_text(json.dumps(config, indent=2))  # JSON is YAML
    command = [str(python), "-m", "synapse.app.homeserver", "--config-path", str(config_file)]
    process = ServerProcess(command, directory, f"{url}/_matrix/client/versions")
    return Homeserver("Synapse", server_name, url, process)


def _config(
    directory: Path, authority: Authority, server_name: str, client_port: int, federation_port: int
) -> dict[str, Any]:
    issued = authority.issue(["localhost", "127.0.0.1"])
    return {
        "server_name": server_name,
        "public_baseurl": f"http://127.0.0.1:{client_port}/",
        "report_stats": False,
        "pid_file": str(directory / "synapse.pid"),
        "log_config": str(directory / "log.yaml"),
        "media_store_path": str(directory / "media"),
        "signing_key_path": str(directory / "signing.key"),
        "macaroon_secret_key": secrets.token_hex(),
        "form_secret": secrets.token_hex(),
        "registration_shared_secret": secrets.token_hex(),
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "bcrypt_rounds": 4,
        "presence": {"enabled": False},
        "database": {
            "name": "sqlite3",
            "args": {"database": str(directory / "homeserver.db")},
        },
        "listeners": [
            _listener(client_port, ["client"]),
            _listener(federation_port, ["federation"], tls=True),
        ],
        "tls_certificate_path": str(issued.certificate),
        "tls_private_key_path": str(issued.private_key),
        "federation_custom_ca_list": [str(authority.ca_file)],
        # Whatever it knows of a server it asks that server itself.
        "trusted_key_servers": [],
        # By default it refuses to reach loopback and private addresses.
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
        # It learns within a second that a server is back, instead of within ten minutes.
        "federation": {
            "destination_min_retry_interval": 200,
            "destination_max_retry_interval": "1s",
            "destination_retry_multiplier": 2,
            "max_short_retries": 1,
            "max_long_retry_delay": "1s",
            "client_timeout": "20s",
        },
        **_rate_limits(),
    }


def _listener(port: int, names: list[str], tls: bool = False) -> dict[str, Any]:
    resources = [{"names": names, "compress": False}]
    return {"bind_addresses": ["127.0.0.1"], "port": port, "type": "http", "tls": tls, "resources": resources}


def _rate_limits() -> dict[str, Any]:
    return {
        **{f"rc_{name}": _NO_LIMIT for name in _PLAIN_LIMITS},
        **{f"rc_{name}": dict.fromkeys(parts, _NO_LIMIT) for name, parts in _SPLIT_LIMITS.items()},
        "rc_joins_per_room": _NO_LIMIT,
        "rc_federation": {"window_size": 1000, "sleep_limit": 100_000, "reject_limit": 100_000, "concurrent": 100},
    }


def _logging() -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"line": {"format": "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s"}},
        "filters": {"context": {"()": "synapse.logging.context.LoggingContextFilter", "request": ""}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["context"]}},
        "root": {"level": "INFO", "handlers": ["console"]},
        "disable_existing_loggers": False,
    }
