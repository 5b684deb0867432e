"""Logging: the standard library's, with a request id in every record and no secret in any.

A line for people on a terminal, one JSON object a line for programs. Everything else uses `logging.getLogger(__name__)`
and knows nothing of this. What ends up in a message may have been chosen by a stranger, so control characters are
written as escapes (a message can't pretend to be two), and what looks like a credential is blotted out, whoever logged
it.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

import orjson

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered. Set once per request; tasks that it starts inherit it."""

_NAMES = (
    r"access_token|refresh_token|login_?token|as_token|hs_token|registration_token|open_?id_token|id_token"
    r"|client_secret|shared_secret|password|new_password|mac|token|code_verifier|device_code|user_code|form_token"
)
_REDACTIONS = (
    # ?access_token=…, as in addresses and forms
    (re.compile(rf"(?i)\b({_NAMES})=[^&\s\"'<>;,)]+"), r"\1=<redacted>"),
    # "access_token": "…", as in JSON and in Python's way of showing it
    (re.compile(rf"""(?i)(["'](?:{_NAMES})["']\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""), r'\1"<redacted>"'),
    (re.compile(r"(?i)\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+"), r"\1 <redacted>"),
    # ?code=… of OAuth 2.0 and of OpenID Connect; elsewhere a code is anything
    (re.compile(r"([?&]code)=[^&\s\"'<>;,)]+"), r"\1=<redacted>"),
    (re.compile(r"(?i)\b((?:Set-)?Cookie[\"']?\s*:\s*[\"']?)[^\"'\r\n]+"), r"\1<redacted>"),
    # scheme://user:password@host
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), r"\1:<redacted>@"),
)
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id", "taskName"}
_NOISY = ("aiohttp", "asyncio", "asyncpg", "charset_normalizer")


class LoggingSettings(Protocol):
    """What is needed of the configuration's section `logging`."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...


def setup_logging(settings: LoggingSettings, stream: TextIO | None = None) -> None:
    """Sends all logging of the process to `stream` (standard error) as configured. May be called again.

    `settings.level` is debug, info, warning or error; `settings.format` is text, json, or auto: text on a terminal.
    """
    stream = stream or sys.stderr
    as_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.addFilter(_add_request_id)
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one.formatter, TextFormatter | JsonFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.INFO if settings.level == "debug" else logging.WARNING)
    logging.captureWarnings(True)


def redact(text: str) -> str:
    """`text` with access tokens, passwords and the like replaced by `<redacted>`."""
    for pattern, replacement in _REDACTIONS:
        text = pattern.sub(replacement, text)
    return text


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 INFO    homeserver.main [4f1c] message key=value`, an exception in lines below."""

    def format(self, record: logging.LogRecord) -> str:
        where = getattr(record, "request_id", None)
        extra = "".join(f" {name}={value}" for name, value in _extra(record).items())
        message = redact(record.getMessage() + extra).translate(_CONTROLS)
        line = f"{_time(record)} {record.levelname:<7} {record.name} {f'[{where}] ' if where else ''}{message}"
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message, request_id, exception, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if where := getattr(record, "request_id", None):
            entry["request_id"] = where
        for name, value in _extra(record).items():
            simple = value is None or isinstance(value, bool | int | float)
            entry.setdefault(name, value if simple else redact(str(value)))
        if trace := _trace(self, record):
            entry["exception"] = trace
        try:
            return orjson.dumps(entry).decode()
        except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits
            return orjson.dumps({name: ascii(value) for name, value in entry.items()}).decode()


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return redact("\n".join(parts))
