"""Where people can prove in a browser who they are: at this server's own sign-in page, and wherever else is configured.

# spec: client-server-api/#definition-mloginsso-flow-schema
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.config import Config
from homeserver.protocol.events import JsonObject

OWN_PAGE = "talk-pai"
"""The id of this server's own sign-in page."""


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One place. `icon` is an mxc:// address, `brand` one of the names that clients have pictures for."""

    id: str
    name: str
    icon: str | None = None
    brand: str | None = None

    def fields(self) -> JsonObject:
        """What clients are told of it."""
        answer = {"id": self.id, "name": self.name, "icon": self.icon, "brand": self.brand}
        return {key: value for key, value in answer.items() if value is not None}


def identity_providers(config: Config) -> list[IdentityProvider]:
    """All places, this server's own page first."""
    return [
        IdentityProvider(OWN_PAGE, config.server_name),
        *(
            IdentityProvider(one.id, one.name, one.icon, one.kind if one.kind != "oidc" else None)
            for one in config.single_sign_on.providers
        ),
    ]


def sso_flow(config: Config) -> JsonObject:
    """What GET /login says of m.login.sso besides its type.

    Clients that know OAuth 2.0 are told to offer nothing else only if the operator wants that: others take it for the
    end of signing in with a password.

    # spec: client-server-api/#oauth-20-aware-clients
    """
    flow: JsonObject = {"identity_providers": [provider.fields() for provider in identity_providers(config)]}
    if config.web.prefer_sign_in_page:
        flow |= {"oauth_aware_preferred": True, "org.matrix.msc3824.delegated_oidc_compatibility": True}
    return flow
