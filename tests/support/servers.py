"""Configurations of servers that run inside the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homeserver.config import Config


def server_config(database_url: str, data_dir: Path, **settings: Any) -> Config:
    """A server on a free port of loopback, with open registration, quick passwords and without rate limits. It
    talks with no other server unless told with whom.

    :param settings: keys of the configuration; a section is merged with what stands here, not replaced
    """
    values: dict[str, Any] = {
        "server_name": "test.example",
        "data_dir": str(data_dir),
        "listeners": [{"port": 0}],
        "database": {"url": database_url, "pool_size": 8},
        "registration": {"mode": "open"},
        "passwords": {"bcrypt_cost": 4},
        "rate_limits": {"enabled": False},
        "federation": {"allow_domains": []},
    }
    for key, value in settings.items():
        given = values.get(key)
        values[key] = {**given, **value} if isinstance(given, dict) and isinstance(value, Mapping) else value
    return Config.model_validate(values)
