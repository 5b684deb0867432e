"""Secrets: made once, strong, and never readable by anyone else."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from homeserver.secrets import (
    SecretsError,
    load_or_create_secrets,
    load_or_create_signing_key,
    loose_permissions,
    write_secret,
)


def test_the_signing_key_is_made_once(tmp_path: Path) -> None:
    """The first start makes the key, the next ones read it; only its owner may."""
    path = tmp_path / "data" / "signing.key"
    key = load_or_create_signing_key(path)
    assert load_or_create_signing_key(path).seed_base64 == key.seed_base64
    assert load_or_create_signing_key(tmp_path / "other.key").seed_base64 != key.seed_base64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["signing.key"]


def test_starts_at_once_agree_on_one_key(tmp_path: Path) -> None:
    """However many make the key at the same moment, all end up with the same."""
    path = tmp_path / "signing.key"
    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(lambda _: load_or_create_signing_key(path).seed_base64, range(16)))
    assert len(set(keys)) == 1


def test_secrets_are_kept(tmp_path: Path) -> None:
    """The secrets are random, private, and the same at the next start."""
    made = load_or_create_secrets(tmp_path)
    assert load_or_create_secrets(tmp_path) == made
    assert len({made.token, made.form, made.media}) == 3
    assert len(made.token) >= 43
    assert made.token not in repr(made)
    assert loose_permissions(tmp_path / "secrets.json") is None


def test_a_new_kind_of_secret_is_added(tmp_path: Path) -> None:
    """A file of an older version keeps its secrets and gets the ones it lacks."""
    (tmp_path / "secrets.json").write_text(json.dumps({"token": "t" * 40, "other": 1}))
    made = load_or_create_secrets(tmp_path)
    assert made.token == "t" * 40
    assert load_or_create_secrets(tmp_path) == made


@pytest.mark.parametrize("text", ["", "[]", "{", '{"token": 1}', '{"token": "short"}', "\x00"])
def test_damaged_secrets_are_refused(tmp_path: Path, text: str) -> None:
    """What can't be right is an error that names the file, and it is left as it is."""
    path = tmp_path / "secrets.json"
    path.write_text(text)
    with pytest.raises(SecretsError, match=r"secrets\.json"):
        load_or_create_secrets(tmp_path)
    assert path.read_text() == text


@pytest.mark.parametrize("content", [b"", b"not a key", b"ed25519 a_x dG9vIHNob3J0", b"\xff"])
def test_a_damaged_signing_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """A damaged key is never replaced by a new one: other servers would take us for an impostor."""
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    with pytest.raises(SecretsError, match="from a backup"):
        load_or_create_signing_key(path)
    assert path.read_bytes() == content


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """Only with `replace` is a secret overwritten, and then it is private again."""
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert path.read_text() == "old"
    assert loose_permissions(path) == "0644"
    write_secret(path, "new", replace=True)
    assert path.read_text() == "new"
    assert loose_permissions(path) is None
    assert os.listdir(tmp_path) == ["secret"]
