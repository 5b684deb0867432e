"""The secrets that the server makes for itself at its first start and keeps in the data directory.

    signing.key    proves to other servers who this one is (its place can be configured)
    secrets.json   what only this server needs to know: keys of tokens and forms
    vapid.key      proves to Web Push services that a message is from where its reader has subscribed

They are readable by the owner alone from the moment the file exists, and a file is whole or not there: it is written
aside, synced and renamed. What exists is never overwritten, so two starts at once end up with the same secrets.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from homeserver.protocol.signing import SigningKey, format_signing_key, generate_signing_key, parse_signing_key


class SecretsError(Exception):
    """A secret that can't be read or used. The text names the file and says what to do."""


def _fresh() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, repr=False)
class Secrets:
    """256 random bits each, as text.

    `token` keys what the server signs and later gets back (login and refresh tokens, pagination), `form` keys its own
    web forms, `media` keys the names of files in the media store, `storage` keys what is encrypted in the database.
    """

    token: str = field(default_factory=_fresh)
    form: str = field(default_factory=_fresh)
    media: str = field(default_factory=_fresh)
    storage: str = field(default_factory=_fresh)


@dataclass(frozen=True, repr=False)
class VapidKey:
    """The key of this server for Web Push (RFC 8292). `public` is as browsers want it: the point in base64url."""

    private: ec.EllipticCurvePrivateKey
    public: str


@cache
def load_or_create_vapid_key(data_dir: Path) -> VapidKey:
    """The key of data_dir/vapid.key; makes it if there is none. Read once. With another, subscriptions are void.

    :raises SecretsError: if it can't be read or written
    """
    path = data_dir / "vapid.key"
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        write_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    try:
        key = load_pem_private_key(_read_secret(path).encode(), None)
    except (ValueError, TypeError) as error:
        raise SecretsError(f"{path} can't be used ({error}): restore it from a backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SecretsError(f"{path} is no key of P-256: restore it from a backup")
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return VapidKey(key, base64.urlsafe_b64encode(point).rstrip(b"=").decode())


def load_or_create_signing_key(path: Path) -> SigningKey:
    """The signing key in that file; makes both if there is none. Raises SecretsError."""
    if not path.exists():
        write_secret(path, format_signing_key(generate_signing_key()))
    return load_signing_key(path)


def load_signing_key(path: Path) -> SigningKey:
    """The signing key in that file. Raises SecretsError."""
    try:
        return parse_signing_key(_read_secret(path))
    except ValueError as error:
        raise SecretsError(f"{path} is no signing key ({error}): put the right one back from a backup") from None


def load_or_create_secrets(data_dir: Path) -> Secrets:
    """The secrets of data_dir/secrets.json; makes the file, or what a newer version adds to it. Raises SecretsError."""
    path = data_dir / "secrets.json"
    if not path.exists():
        write_secret(path, _formatted(Secrets()))
    known = load_secrets(data_dir)
    result = Secrets(**known)
    if len(known) < len(Secrets.__dataclass_fields__):
        write_secret(path, _formatted(result), replace=True)
    return result


def load_secrets(data_dir: Path) -> dict[str, str]:
    """The secrets that data_dir/secrets.json has, by their names. Raises SecretsError."""
    path = data_dir / "secrets.json"
    known: dict[str, str] = {}
    for name, value in _parsed(path).items():
        if name in Secrets.__dataclass_fields__:
            if not isinstance(value, str) or len(value) < 32:
                raise SecretsError(f"{path}: {name} must be a text of at least 32 characters: restore it from a backup")
            known[name] = value
    return known


def write_secret(path: Path, text: str, *, replace: bool = False) -> None:
    """Writes a file that only its owner can read, whole or not at all; an existing one only with `replace`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(file, "w", encoding="utf-8") as output:
            output.write(text)
            output.flush()
            os.fsync(file)
        if replace:
            os.replace(scratch, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(scratch, path)  # as a rename, but never over a file that another start has just made
    except OSError as error:
        raise SecretsError(f"{path} can't be written: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def loose_permissions(path: Path) -> str | None:
    """The mode of the file, such as "0644", if anyone but its owner can do anything with it; None if all is well."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & 0o077 else None


def _read_secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SecretsError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretsError(f"{path} is not text: put the right file back from a backup") from None


def _parsed(path: Path) -> dict[str, object]:
    try:
        data = json.loads(_read_secret(path))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise SecretsError(f"{path} is no JSON object: restore it from a backup, or delete it to make new secrets")
    return data


def _formatted(values: Secrets) -> str:
    return json.dumps(asdict(values), indent=2) + "\n"
