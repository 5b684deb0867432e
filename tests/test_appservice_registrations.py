"""Registration files of application services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from homeserver.appservice_registrations import Appservices, load_appservices
from homeserver.config import ConfigError
from homeserver.storage.access_tokens import hash_token

_BRIDGE: dict[str, Any] = {
    "id": "bridge",
    "url": "http://127.0.0.1:1234/",
    "as_token": "as-secret",
    "hs_token": "hs-secret",
    "sender_localpart": "_bridge",
    "namespaces": {
        "users": [{"exclusive": True, "regex": "@_irc_.*"}, {"exclusive": False, "regex": "@helper:"}],
        "aliases": [{"exclusive": True, "regex": "#irc_.*"}],
        "rooms": [],
    },
}


def _load(directory: Path, *registrations: Any) -> Appservices:
    paths = []
    for number, registration in enumerate(registrations):
        path = directory / f"{number}.yaml"
        path.write_text(registration if isinstance(registration, str) else yaml.safe_dump(registration))
        paths.append(path)
    return load_appservices(paths, "test.example")


def test_a_registration_is_read(tmp_path: Path) -> None:
    """Tokens, sender, namespaces and defaults are as the file and the specification say."""
    appservices = _load(tmp_path, _BRIDGE)
    bridge = appservices.by_token_hash(hash_token("as-secret"))
    assert bridge is not None
    assert bridge is appservices.by_id("bridge")
    assert (bridge.sender, bridge.url, bridge.rate_limited) == ("@_bridge:test.example", "http://127.0.0.1:1234", True)
    assert appservices.by_token_hash(hash_token("hs-secret")) is None


def test_namespaces(tmp_path: Path) -> None:
    """A service may act as whom its namespaces match; exclusive ones keep everyone else out."""
    appservices = _load(tmp_path, _BRIDGE)
    bridge = appservices.all[0]
    for user, covered, excluded in (
        ("@_irc_bob:test.example", True, True),
        ("@_bridge:test.example", True, True),
        ("@helper:test.example", True, False),
        ("@alice:test.example", False, False),
        ("x@_irc_bob:test.example", False, False),
    ):
        assert bridge.covers_user(user) is covered
        assert appservices.excluding_user(user) is excluded
        assert appservices.excluding_user(user, other_than="bridge") is False
    assert appservices.excluding_alias("#irc_x:test.example")
    assert not appservices.excluding_alias("#x:test.example")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": None}, "id"),
        ({"as_token": ""}, "as_token"),
        ({"hs_token": 5}, "hs_token"),
        ({"url": 5}, "url"),
        ({"sender_localpart": ["x"]}, "sender_localpart"),
        ({"sender_localpart": "Not A Name"}, "sender_localpart"),
        ({"namespaces": None}, "namespaces"),
        ({"namespaces": {"users": "x"}}, "namespaces.users"),
        ({"namespaces": {"users": [{"regex": "x"}]}}, "namespaces.users[0]"),
        ({"namespaces": {"users": [{"exclusive": True, "regex": "("}]}}, "namespaces.users[0].regex"),
        ({"rate_limited": "no"}, "rate_limited"),
        ({"protocols": "irc"}, "protocols"),
    ],
)
def test_a_registration_that_is_wrong(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    """The one line of the error names the file and the key."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, {**_BRIDGE, **change})
    assert f"0.yaml: {named}:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", ": :", "\x00", "a: [" * 1000])
def test_a_file_that_is_no_registration(tmp_path: Path, text: str) -> None:
    """Whatever else a file holds, the error is one line."""
    with pytest.raises(ConfigError):
        _load(tmp_path, text)
    with pytest.raises(ConfigError, match=r"can't be read"):
        load_appservices([tmp_path / "missing.yaml"], "test.example")


def test_two_services_with_the_same_name_or_token(tmp_path: Path) -> None:
    """`id`, `as_token` and sender tell services apart, so each has its own."""
    for same in ("id", "as_token", "sender_localpart"):
        other = {**_BRIDGE, "id": "b", "as_token": "b", "sender_localpart": "b", same: _BRIDGE[same]}
        with pytest.raises(ConfigError, match="same"):
            _load(tmp_path, _BRIDGE, other)
