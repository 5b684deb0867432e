"""Every error that a caller can be told, in one tree.

MatrixError                         has errcode, HTTP status and extra body fields
├── BadRequest (400)                M_UNKNOWN unless said otherwise
│   ├── InvalidParam                M_INVALID_PARAM
│   ├── MissingParam                M_MISSING_PARAM
│   ├── BadJson                     M_BAD_JSON
│   └── NotJson                     M_NOT_JSON
├── Unauthorized (401)              M_UNKNOWN_TOKEN, M_MISSING_TOKEN, M_UNAUTHORIZED
├── Forbidden (403)                 M_FORBIDDEN
│   └── AuthRuleError               an event that the room's authorization rules refuse; names the rule
├── NotFound (404)                  M_NOT_FOUND
├── UnsupportedRoomVersion (400)    M_UNSUPPORTED_ROOM_VERSION
├── IncompatibleRoomVersion (400)   M_INCOMPATIBLE_ROOM_VERSION
├── TooLarge (413)                  M_TOO_LARGE
├── LimitExceeded (429)             M_LIMIT_EXCEEDED, with Retry-After
└── Unavailable (502)               another server did not give what was needed

InvalidEvent and InvalidSignature say that bytes from elsewhere are not what they claim to be; they are ValueErrors
because no client is waiting for them, and whoever reads such bytes decides what to do.

# spec: client-server-api/#standard-error-response
"""

from __future__ import annotations

from typing import Any


class MatrixError(Exception):
    """A request that can't be answered as asked: `errcode`, `message`, HTTP `status`, and `extra` body fields."""

    status = 400
    errcode = "M_UNKNOWN"

    def __init__(self, message: str, *, errcode: str | None = None, status: int | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        if errcode is not None:
            self.errcode = errcode
        if status is not None:
            self.status = status
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The JSON object to answer with."""
        return {"errcode": self.errcode, "error": self.message, **self.extra}


class BadRequest(MatrixError):
    pass


class InvalidParam(BadRequest):
    errcode = "M_INVALID_PARAM"


class MissingParam(BadRequest):
    errcode = "M_MISSING_PARAM"


class BadJson(BadRequest):
    errcode = "M_BAD_JSON"


class NotJson(BadRequest):
    errcode = "M_NOT_JSON"


class Unauthorized(MatrixError):
    status = 401
    errcode = "M_UNKNOWN_TOKEN"


class Forbidden(MatrixError):
    status = 403
    errcode = "M_FORBIDDEN"


class AuthRuleError(Forbidden):
    """An event that the authorization rules of its room version refuse. `rule` is its number there, e.g. "5.3.4"."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class NotFound(MatrixError):
    status = 404
    errcode = "M_NOT_FOUND"


class UnsupportedRoomVersion(BadRequest):
    errcode = "M_UNSUPPORTED_ROOM_VERSION"


class IncompatibleRoomVersion(BadRequest):
    errcode = "M_INCOMPATIBLE_ROOM_VERSION"


class TooLarge(MatrixError):
    status = 413
    errcode = "M_TOO_LARGE"


class LimitExceeded(MatrixError):
    status = 429
    errcode = "M_LIMIT_EXCEEDED"

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.retry_after_ms = retry_after_ms


class Unavailable(MatrixError):
    status = 502
    errcode = "M_UNKNOWN"


class InvalidEvent(ValueError):
    """An event that breaks the format or the size limits of its room version."""


class InvalidSignature(ValueError):
    """A signature that is missing or does not verify."""
