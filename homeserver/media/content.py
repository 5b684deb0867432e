"""Content types and file names, as they may be repeated to a browser: whoever uploaded the file chose them."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

from homeserver.protocol.errors import NotFound

OCTET_STREAM = "application/octet-stream"

# spec: client-server-api/#serving-inline-content
_INLINE = frozenset(
    {
        *("text/css", "text/plain", "text/csv", "application/json", "application/ld+json"),
        *("image/jpeg", "image/gif", "image/png", "image/apng", "image/webp", "image/avif"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
        *("audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave", "audio/wav"),
        *("audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac"),
    }
)
_WORD = r"[a-z0-9!#$&^_.+-]{1,127}"
_TYPE = re.compile(rf"({_WORD}/{_WORD})\s*(?:;(.*))?", re.ASCII | re.DOTALL)
_CHARSET = re.compile(r"(?:^|;)\s*charset\s*=\s*\"?([a-z0-9._-]{1,40})\"?\s*(?:;|$)", re.ASCII)
_MEDIA_ID = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_MAX_NAME = 255  # characters
# spec: client-server-api/#content-repository
_POLICY = (
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; "
    "object-src 'self';"
)


def normal_content_type(declared: str | None) -> str:
    """What was declared, in lower case and with no parameter but a charset; of what is no type, that of mere bytes."""
    match = _TYPE.fullmatch((declared or "").strip().lower())
    if match is None:
        return OCTET_STREAM
    charset = _CHARSET.search(match[2]) if match[2] else None
    return f"{match[1]}; charset={charset[1]}" if charset is not None else match[1]


def safe_name(name: str | None) -> str | None:
    """A file name without what could mislead a person or a file system; None if nothing is left of it."""
    if name is None:
        return None
    shown = "".join(
        "_" if char in '/\\:*?"<>|' else char
        for char in unicodedata.normalize("NFC", name)
        if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    )
    # A leading dot would hide the file, or be the directory.
    return shown.strip().lstrip(".")[:_MAX_NAME].strip() or None


def content_disposition(content_type: str, name: str | None) -> str:
    """Shown in place only if a browser can't be made to run it.  # spec: client-server-api/#serving-inline-content"""
    kind = "inline" if content_type.partition(";")[0].strip() in _INLINE else "attachment"
    if name is None:
        return kind
    if name.isascii():
        plain = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename*=utf-8''{quote(name, safe='')}"


def name_from_disposition(disposition: str | None) -> str | None:
    """The file name in another server's Content-Disposition."""
    if disposition is None or len(disposition) > 4096:
        return None
    extended = re.search(r"filename\*\s*=\s*utf-8''([^;\s]+)", disposition, re.IGNORECASE)
    if extended is not None:
        return safe_name(unquote(extended[1], errors="replace"))
    plain = re.search(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))', disposition, re.IGNORECASE)
    if plain is None:
        return None
    return safe_name(re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2])


def served_headers(content_type: str, name: str | None) -> dict[str, str]:
    """What a file is sent with so that no browser takes it for more than it is.

    # spec: client-server-api/#content-repository
    """
    return {
        "Content-Type": content_type,
        "Content-Disposition": content_disposition(content_type, name),
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex, nofollow, noarchive, noimageindex",
        "Referrer-Policy": "no-referrer",
    }


def check_media_id(media_id: str) -> None:
    """:raises NotFound: for what can't be one  # spec: client-server-api/#content-repository"""
    if not _MEDIA_ID.fullmatch(media_id):
        raise NotFound("There is no such file")
