"""Holds what a server answers against the schemas of the specification.

`check_answer` is called by the clients that all tests share, for every answer that they get, so that whatever a test is
about also proves the form of the answers. Where the specification is absent it does nothing; `test_specification.py`
says so.

# spec: client-server-api/#standard-error-response
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from tests.contract.specification import Operation, Schema, specification

_ERROR = {
    "type": "object",
    "properties": {"errcode": {"type": "string", "pattern": r"^[A-Z][A-Z0-9_.]+$"}, "error": {"type": "string"}},
    "required": ["errcode", "error"],
}
_NOT_FOR_PROGRAMS = frozenset({"example", "examples", "default"})


class Lenience(NamedTuple):
    """Where an answer may differ from the schema: in which operations, what the complaint looks like, and why."""

    operations: str  # names with `|` between them, or *
    complaint: str  # a regular expression
    why: str

    def allows(self, operation: Operation, message: str) -> bool:
        here = self.operations == "*" or operation.name in self.operations.split("|")
        return here and re.search(self.complaint, message, re.DOTALL) is not None


LENIENT = (
    Lenience("getRoomStateWithKey", "valid under each of", "One of the two forms is any object, so both always fit."),
    Lenience("*", "'flows' is a required property", "A 401 may also be about the access token."),
    Lenience("sendMessage|setRoomStateWithKey", "'event_id' is a required property", "MSC4140: the event comes later."),
    Lenience(
        "sendInviteV1|sendInviteV2|makeJoin|makeLeave|makeKnock",
        "'origin' is a required property",
        "No format of events has this key any more.",
    ),
    Lenience("sendInviteV1|sendInviteV2", r"^\$(\[1\])?\.event\.", "The event is the caller's own."),
    Lenience("getTurnServer", "required property", "Where there are no relays clients expect an empty object."),
)


def check_answer(method: str, path: str, status: int, content_type: str, body: Any) -> None:
    """Raises AssertionError if an answer is not as the specification has it.

    :param path: percent-encoded; paths that the specification does not have are only held to its form of errors
    :param body: decoded JSON, anything where the answer is none
    """
    spec = specification()
    if spec is None or not path.startswith("/_matrix/"):
        return
    operation = spec.operation(method, path)
    wrong = list(complaints(operation, status, content_type, body, method))
    assert not wrong, f"{method} {path}: {status}\n" + "\n".join(wrong)


def complaints(
    operation: Operation | None, status: int, content_type: str, body: Any, method: str = "GET"
) -> Iterator[str]:
    """What is wrong with an answer."""
    if method in ("HEAD", "OPTIONS"):
        return
    if status >= 400 and not _asks_for_proof(status, body):
        yield from (_told(error) for error in _validator_of_errors().iter_errors(body))
    if operation is None:
        return
    schemas = operation.answers.get(str(status))
    files = operation.answers.get("200", {})
    if any(kind in files for kind in ("application/octet-stream", "image/png")) and status < 400:
        return  # a file is of its own type, and may be asked for in part or not again
    if schemas is None:
        if status < 300:
            yield f"the specification has no answer {status}"
        return
    # An error may come from something in between and is JSON in any case; what succeeds has the type that is named.
    schema = schemas.get(content_type)
    if schema is None:
        if status < 300 and content_type not in schemas and schemas:
            yield f"an answer of type {content_type or 'none'} instead of {', '.join(schemas)}"
        return
    for error in _validator(operation, str(status), content_type).iter_errors(body):
        if not any(one.allows(operation, f"{error.json_path}: {error.message}") for one in LENIENT):
            yield _told(error)


def _asks_for_proof(status: int, body: Any) -> bool:
    """Whether this is an answer of user-interactive authentication, which is no error."""
    return status == 401 and isinstance(body, dict) and "flows" in body


def _told(error: ValidationError) -> str:
    value = repr(error.instance)
    return f"{error.json_path}: {error.message[:300]} ({value[:200]})"


def _integer(_: Any, value: Any) -> bool:
    # JSON Schema takes 1.0 for an integer. Matrix does not, and many clients can't read it as one.
    return isinstance(value, int) and not isinstance(value, bool)


_FORMATS = FormatChecker(())
_Validator: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _integer)
)


def _format(name: str, pattern: str) -> None:
    compiled = re.compile(pattern, re.DOTALL)
    _FORMATS.checks(name)(lambda value: not isinstance(value, str) or compiled.fullmatch(value) is not None)


# spec: appendices/#identifier-grammar: old user and room ids have next to no grammar, and room ids of v12 no server
_format("mx-user-id", r"@.*:[^:]+(:\d+)?|@.*:\[[0-9a-fA-F:.]+\](:\d+)?")
_format("mx-event-id", r"\$.+")
_format("mx-room-id", r"!.+")
_format("mx-room-alias", r"#.*:.+")
_format("mx-server-name", r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:\d+)?")
_format("mx-mxc-uri", r"mxc://.*")
_format("mx-unpadded-base64", r"[A-Za-z0-9+/]*")
_format("mx-urlsafe-unpadded-base64", r"[A-Za-z0-9_-]*")


def is_valid(schema: Schema, value: Any) -> bool:
    """Whether the schema allows the value."""
    return bool(_Validator(schema, format_checker=_FORMATS).is_valid(value))


@cache
def _validator(operation: Operation, status: str, content_type: str) -> Any:
    schema = operation.answers[status][content_type]
    assert schema is not None
    return _Validator(_bare(schema), format_checker=_FORMATS)


@cache
def _validator_of_errors() -> Any:
    return _Validator(_ERROR)


def _bare(schema: Schema) -> Any:
    """The schema without what says nothing about what is allowed, so that it is not walked over at every answer."""
    bare: Schema = {}
    for key, value in schema.items():
        match key, value:
            case (("properties" | "patternProperties"), dict()):
                bare[key] = {name: _bare(below) for name, below in value.items()}
            case _, dict() if key not in _NOT_FOR_PROGRAMS:
                bare[key] = _bare(value)
            case (("allOf" | "oneOf" | "anyOf"), list()):
                bare[key] = [_bare(below) for below in value]
            case _ if key not in _NOT_FOR_PROGRAMS:
                bare[key] = value
    return bare


def required_here() -> bool:
    """Whether the specification must be there: where continuous integration runs."""
    return bool(os.environ.get("CI"))
