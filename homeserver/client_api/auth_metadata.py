"""Where clients find out that, and how, they can sign people in by OAuth 2.0.

# spec: client-server-api/#get_matrixclientv1auth_metadata
"""

from __future__ import annotations

from homeserver.accounts.oauth2.metadata import issuer_of, metadata
from homeserver.http import ApiRequest, Auth, Response, Route, client_routes, json_response
from homeserver.http.own_address import own_address
from homeserver.protocol.errors import MatrixError
from homeserver.services import Services

_KEPT_SECONDS = 600


def oauth2_address(services: Services, request: ApiRequest) -> str:
    """The address of this server as an OAuth 2.0 server, without a `/` at its end.

    :raises MatrixError: 404 M_UNRECOGNIZED where there is no OAuth 2.0 API
    """
    if not services.config.oauth2.enabled:
        raise MatrixError("There is no OAuth 2.0 API here", errcode="M_UNRECOGNIZED", status=404)
    address = own_address(services.config, request)
    if address is None:
        raise MatrixError(
            "There is no OAuth 2.0 API here until public_baseurl is configured", errcode="M_UNRECOGNIZED", status=404
        )
    return address


async def get_auth_metadata(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixclientv1auth_metadata"""
    response = json_response(metadata(services.config, oauth2_address(services, request)))
    response.headers["Cache-Control"] = f"public, max-age={_KEPT_SECONDS}"
    return response


async def get_auth_issuer(services: Services, request: ApiRequest) -> Response:
    """# spec: msc/2965 (its earlier form, which clients of 2024 ask)"""
    return json_response({"issuer": issuer_of(oauth2_address(services, request))})


ROUTES = [
    *client_routes(
        "GET", "/auth_metadata", get_auth_metadata, Auth.NONE, versions=("v1",), unstable=("org.matrix.msc2965",)
    ),
    *client_routes("GET", "/auth_issuer", get_auth_issuer, Auth.NONE, versions=(), unstable=("org.matrix.msc2965",)),
    # RFC 8414, and OpenID Connect Discovery for clients that know the issuer only.
    Route("GET", "/.well-known/oauth-authorization-server", get_auth_metadata, Auth.NONE),
    Route("GET", "/.well-known/openid-configuration", get_auth_metadata, Auth.NONE),
]
