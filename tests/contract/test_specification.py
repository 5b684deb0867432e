"""The specification is there, whole, and answers are held against it."""

from __future__ import annotations

import pytest

from tests.contract.answers import check_answer, complaints
from tests.contract.specification import Specification


def test_every_endpoint_is_read(matrix: Specification) -> None:
    """Both APIs are there with all their endpoints, and each is found by its own path."""
    assert len([operation for operation in matrix.operations if operation.api == "client-server"]) > 150
    assert len([operation for operation in matrix.operations if operation.api == "server-server"]) > 30
    found = [matrix.operation(operation.method, operation.path) for operation in matrix.operations]
    assert list(map(str, found)) == list(map(str, matrix.operations))


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/_matrix/client/r0/sync", "/_matrix/client/v3/sync"),
        ("/_matrix/client/v3/pushrules/", "/_matrix/client/v3/pushrules"),
        ("/_matrix/client/v3/rooms/!a/state/m.x/", "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}"),
        ("/_matrix/client/v3/rooms/a%2Fb/state/m.x", None),
        ("/_matrix/client/v3/rooms/a%2Fb/state", "/_matrix/client/v3/rooms/{roomId}/state"),
        ("/_matrix/client/v3/no/such/thing", None),
    ],
)
def test_a_path_finds_its_endpoint(matrix: Specification, path: str, template: str | None) -> None:
    """Old version prefixes, final slashes and encoded slashes make no difference to which endpoint it is."""
    found = matrix.operation("GET", path)
    assert (found and found.path) == template


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (200, {"user_id": "@a:b"}, None),
        (200, {"user_id": "@a:b", "more": 1}, None),
        (200, {}, "'user_id' is a required property"),
        (200, {"user_id": "a"}, "does not match '^@'"),
        (200, {"user_id": "@a"}, "is not a 'mx-user-id'"),
        (200, {"user_id": "@a:b", "is_guest": 1}, "is not of type 'boolean'"),
        (204, {}, "the specification has no answer 204"),
        (401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Who?"}, None),
        (404, {"errcode": "M_UNRECOGNIZED", "error": "What?"}, None),
        (404, {"errcode": "M_UNRECOGNIZED"}, "'error' is a required property"),
        (500, {"error": "Oh"}, "'errcode' is a required property"),
    ],
)
def test_answers_are_held_against_their_schema(
    matrix: Specification, status: int, body: object, complaint: str | None
) -> None:
    """What an answer lacks, has of another type or of another form is told; what it has besides is its own affair."""
    whoami = matrix.operation("GET", "/_matrix/client/v3/account/whoami")
    found = list(complaints(whoami, status, "application/json", body))
    assert found == [] if complaint is None else complaint in "".join(found)


def test_every_test_client_complains(matrix: Specification) -> None:
    """A wrong answer fails the test that got it, and says which answer it was."""
    with pytest.raises(AssertionError, match=r"GET /_matrix/client/v3/account/whoami: 200"):
        check_answer("GET", "/_matrix/client/v3/account/whoami", 200, "application/json", {})
    with pytest.raises(AssertionError, match="instead of application/json"):
        check_answer("GET", "/_matrix/client/v3/account/whoami", 200, "text/html", b"")


def test_integers_have_no_fraction(matrix: Specification) -> None:
    """1.0 is no integer, although JSON Schema alone would take it for one."""
    config = matrix.operation("GET", "/_matrix/client/v1/media/config")
    assert list(complaints(config, 200, "application/json", {"m.upload.size": 1})) == []
    assert list(complaints(config, 200, "application/json", {"m.upload.size": 1.0})) != []
