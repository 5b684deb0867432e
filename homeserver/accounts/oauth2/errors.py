"""What OAuth 2.0 clients are told when something can't be done: the codes of RFC 6749, 7009, 7591, 8628."""

from __future__ import annotations

from homeserver.protocol.events import JsonObject


class OAuth2Error(Exception):
    """An answer to the client itself. `error` is the code, `description` is for whoever writes the client.

    `ended` is the user of whom a session has ended because of what the client did.
    """

    def __init__(self, error: str, description: str, *, status: int = 400, ended: int | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.ended = ended
        self.error = error
        self.description = description
        self.status = status

    def body(self) -> JsonObject:
        """The JSON object to answer with."""
        return {"error": self.error, "error_description": self.description}


class AuthorizationError(Exception):
    """An authorization request that can't go on.

    `redirect` is where the browser is sent with it; None if it must not be sent anywhere, because who asks or where it
    came from can't be believed: then the person is told `description`.
    """

    def __init__(self, error: str, description: str, *, redirect: str | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.redirect = redirect


def invalid_request(description: str) -> OAuth2Error:
    return OAuth2Error("invalid_request", description)


def invalid_grant(description: str, *, ended: int | None = None) -> OAuth2Error:
    return OAuth2Error("invalid_grant", description, ended=ended)


def invalid_client(description: str) -> OAuth2Error:
    return OAuth2Error("invalid_client", description, status=401)
