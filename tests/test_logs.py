"""Logging: a request id in every record, one line or object each, and never a secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.logs import JsonFormatter, TextFormatter, redact, request_id, setup_logging

log = logging.getLogger("homeserver.somewhere")


@dataclass
class Settings:
    level: str = "info"
    format: str = "json"


@pytest.fixture
def output() -> Iterator[Callable[..., io.StringIO]]:
    """Sets logging up to write into what it returns; afterwards the process logs as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(**settings: str) -> io.StringIO:
        stream = io.StringIO()
        setup_logging(Settings(**settings), stream)
        return stream

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_json_is_one_object_a_line(output: Callable[..., io.StringIO]) -> None:
    """Each record is one line of JSON with time, level, logger, message and what was given as extra."""
    stream = output(format="json")
    log.info("stored %d\nevents", 3, extra={"room": "!r:x", "seconds": 0.5})
    log.debug("not shown")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "info",
        "logger": "homeserver.somewhere",
        "message": "stored 3\nevents",
        "room": "!r:x",
        "seconds": 0.5,
    }


def test_text_is_one_line_whatever_the_message_holds(output: Callable[..., io.StringIO]) -> None:
    """A stranger's text in a message can't begin a line of its own or control the terminal."""
    stream = output(format="text")
    log.warning("from %s", "a\nERROR forged \x1b[31m\u2028x", extra={"n": 1})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r"WARNING homeserver.somewhere from a\nERROR forged \x1b[31m\u2028x n=1")


def test_without_a_terminal_auto_means_json(output: Callable[..., io.StringIO]) -> None:
    """`auto` writes for people only where people look."""
    stream = output(format="auto")
    log.info("hello")
    assert json.loads(stream.getvalue())["message"] == "hello"


def test_setting_up_again_replaces(output: Callable[..., io.StringIO]) -> None:
    """A second setup takes over; nothing is written twice."""
    first, second = output(), output(level="error")
    log.error("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


@pytest.mark.parametrize("kind", ["json", "text"])
async def test_records_carry_the_request_they_belong_to(output: Callable[..., io.StringIO], kind: str) -> None:
    """Two requests at once each log with their own id, in their tasks too, and outside of them there is none."""
    stream = output(format=kind)

    async def request(name: str) -> None:
        request_id.set(name)
        log.info("begin")
        await asyncio.create_task(inner())

    async def inner() -> None:
        log.info("inner")

    await asyncio.gather(asyncio.create_task(request("r1")), asyncio.create_task(request("r2")))
    log.info("outside")
    lines = stream.getvalue().splitlines()
    assert sum("r1" in line for line in lines) == 2
    assert sum("r2" in line for line in lines) == 2
    assert "r1" not in lines[-1]
    assert "r2" not in lines[-1]


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_exceptions_are_shown_without_their_secrets(formatter: logging.Formatter) -> None:
    """A traceback goes with its record, and what it quotes is redacted like the message."""
    try:
        raise ValueError("GET /sync?access_token=s3cret&timeout=0")
    except ValueError as error:
        record = log.makeRecord("n", logging.ERROR, "f", 1, "failed", (), (ValueError, error, error.__traceback__))
    text = formatter.format(record)
    assert "Traceback" in text
    assert "timeout=0" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "text",
    [
        "GET /_matrix/client/v3/sync?access_token=s3cret",
        "GET /x?filter=1&access_token=s3cret&since=2",
        "GET /login?loginToken=s3cret",
        "Authorization: Bearer s3cret",
        "{'Authorization': 'Bearer s3cret'}",
        "authorization: basic s3cret==",
        '{"type": "m.login.password", "password": "s3cret", "user": "a"}',
        "{'password': 's3cret', 'x': 1}",
        '{"password": "a\\"s3cret"}',
        "postgresql://talkpai:s3cret@db/talkpai",
        "PUT /transactions/1?hs_token=s3cret",
        "client_secret=s3cret",
        "GET /callback?state=1&code=s3cret",
        "code_verifier=s3cret&device_code=s3cret",
        "Cookie: __Host-talkpai_session=s3cret; other=s3cret",
        "{'Set-Cookie': 'talkpai_session=s3cret; Path=/', 'X': 1}",
    ],
)
def test_credentials_are_redacted(text: str) -> None:
    """Wherever a credential stands, in addresses, headers or JSON, it is blotted out."""
    assert "s3cret" not in redact(text)
    assert "<redacted>" in redact(text)


def test_the_rest_stays() -> None:
    """What is around a credential and what only resembles one can still be read."""
    assert redact("GET /sync?access_token=abc&since=s72_9") == "GET /sync?access_token=<redacted>&since=s72_9"
    for text in (
        "token expired",
        "exit code=1",
        "cookies are set",
        "https://example.org:8448/path",
        "@a:b.c in !r:d",
        'since="s1"',
    ):
        assert redact(text) == text


@given(st.text(), st.dictionaries(st.text(min_size=1), st.one_of(st.integers(), st.text(), st.none())))
def test_nothing_breaks_a_line(message: str, extra: dict[str, object]) -> None:
    """Whatever is logged becomes exactly one line, as text and as JSON that can be read back."""
    record = log.makeRecord("n", logging.INFO, "f", 1, "%s", (message,), None)
    record.given = extra
    assert len(TextFormatter().format(record).splitlines()) == 1
    assert json.loads(JsonFormatter().format(record))["logger"] in ("n", "'n'")
