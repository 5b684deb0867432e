"""What clients find out about signing in here by OAuth 2.0.

# spec: client-server-api/#get_matrixclientv1auth_metadata
"""

from __future__ import annotations

from homeserver.accounts.oauth2.clients import AUTH_METHODS, GRANT_TYPES
from homeserver.accounts.oauth2.scope import API
from homeserver.config import Config
from homeserver.protocol.events import JsonObject

AUTHORIZE_PATH = "/oauth2/authorize"
DEVICE_PATH = "/oauth2/device"
ACCOUNT_PATH = "/account"

# spec: client-server-api/#account-management-url-actions
_ACTIONS = ("profile", "devices_list", "device_view", "device_delete", "account_deactivate", "cross_signing_reset")


def issuer_of(address: str) -> str:
    """The name of this server as an issuer. `address` is where it is reached, without a `/` at its end."""
    return f"{address}/"


def metadata(config: Config, address: str) -> JsonObject:
    """The metadata of the authorization server (RFC 8414) that is reached at `address`."""
    fields: JsonObject = {
        "issuer": issuer_of(address),
        "authorization_endpoint": f"{address}{AUTHORIZE_PATH}",
        "token_endpoint": f"{address}/oauth2/token",
        "revocation_endpoint": f"{address}/oauth2/revoke",
        "registration_endpoint": f"{address}/oauth2/register",  # said even where it refuses: clients insist on it
        "introspection_endpoint": f"{address}/oauth2/introspect",
        "device_authorization_endpoint": f"{address}/oauth2/device_authorization",
        "jwks_uri": f"{address}/oauth2/keys.json",
        "scopes_supported": [API[0]],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["create"] if config.registration.mode != "off" else [],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "introspection_endpoint_auth_methods_supported": list(AUTH_METHODS[1:]),
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        # spec: client-server-api/#account-management-url-actions
        "account_management_uri": f"{address}{ACCOUNT_PATH}",
        "account_management_actions_supported": [f"org.matrix.{action}" for action in _ACTIONS],
    }
    return fields


def account_management_url(address: str, action: str) -> str:
    """The page where a person does `action`, such as org.matrix.cross_signing_reset."""
    return f"{address}{ACCOUNT_PATH}?action={action}"
