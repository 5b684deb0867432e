"""What a provider is, whatever its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from homeserver.config.single_sign_on import ProviderConfig
from homeserver.protocol.errors import MatrixError
from homeserver.translations import mark


class SingleSignOnFailed(MatrixError):
    """The provider could not be asked, or what came from it proves nothing. The message is for the visitor."""

    status = 400
    errcode = "M_UNKNOWN"


class ProviderUnavailable(SingleSignOnFailed):
    """The provider does not answer as it should. The log says why."""

    status = 502

    def __init__(self) -> None:
        super().__init__(mark("The sign-in service does not answer as it should. Try again later."))


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody at a provider. `subject` never changes and never changes hands.

    `email` is an address that the provider has checked to be theirs. `session_id` is that of the session there.
    """

    subject: str
    localpart: str | None = None
    display_name: str | None = None
    email: str | None = None
    session_id: str | None = None

    def json(self) -> dict[str, Any]:
        """For the database, to be read back by `Identity(**json)`."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def shown_as(self) -> str:
        """How people recognise it."""
        return self.email or self.localpart or self.display_name or self.subject


@dataclass(frozen=True, slots=True)
class Login:
    """What one sign-in is known by. `redirect_uri` is where people come back to."""

    state: str
    nonce: str
    code_verifier: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Logout:
    """What a provider says has ended: all of somebody's sessions there, or one of them."""

    subject: str | None
    session_id: str | None
    token: str
    expires_ts: int


class Provider(Protocol):
    """Vouches for people."""

    @property
    def config(self) -> ProviderConfig: ...

    async def address(self, login: Login, *, again: bool) -> str:
        """Where to send somebody to sign in; with `again` even if they are signed in there.

        :raises SingleSignOnFailed: if it can't be said
        """

    async def identify(self, login: Login, answer: Mapping[str, str]) -> Identity:
        """Who has come back.

        :param answer: the query or form that they came back with
        :raises SingleSignOnFailed: if it proves nothing
        """

    async def ended(self, logout_token: str) -> Logout:
        """What a logout token says.

        :raises SingleSignOnFailed: if it proves nothing
        """
