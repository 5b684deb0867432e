"""ID tokens and logout tokens: what a provider of OpenID Connect signs, checked against its keys.

Only asymmetric signatures count: with a shared secret anybody who learns it could be anyone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from homeserver.accounts.single_sign_on.provider import SingleSignOnFailed
from homeserver.translations import mark

log = logging.getLogger(__name__)

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
_LEEWAY = 60  # seconds that our clock and theirs may differ
_MAX_TOKEN = 32 * 1024  # characters
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_NOT_PROVED = mark("The sign-in service has sent something that proves nothing. Try to sign in again.")

Keys = Callable[[bool], Awaitable[KeySet]]  # True: asked for anew, in case they have changed


def refused(why: str) -> SingleSignOnFailed:
    """The error for a token that proves nothing. Why stands in the log alone."""
    log.warning("A token of a sign-in service was refused: %s", why)
    return SingleSignOnFailed(_NOT_PROVED)


async def check_id_token(
    token: object, keys: Keys, *, issuer: str, client_id: str, nonce: str, access_token: object
) -> dict[str, Any]:
    """The claims of an ID token that was made for this sign-in.

    :param issuer: who must have made it; `{tenantid}` in it stands for the claim `tid`
    :raises SingleSignOnFailed: if it is not properly signed, not ours, not for this sign-in or expired
    """
    decoded = await _decoded(token, keys)
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        options={"iss": {"essential": True, "value": _issuer(issuer, decoded.claims)}, "aud": _audience(client_id)},
        params={
            "nonce": nonce,
            "client_id": client_id,
            "access_token": access_token if isinstance(access_token, str) else None,
        },
    )
    try:
        claims.validate(leeway=_LEEWAY)
    except (JoseError, TypeError, ValueError) as error:
        raise refused(f"{type(error).__name__}: {error}") from None
    _check_audience(claims, client_id)
    if not isinstance(claims.get("nonce"), str):
        raise refused("no nonce")
    return dict(claims)


async def check_logout_token(token: str, keys: Keys, *, issuer: str, client_id: str) -> dict[str, Any]:
    """The claims of a logout token.

    :raises SingleSignOnFailed: if it is not properly signed, not ours, expired or no logout token
    """
    decoded = await _decoded(token, keys)
    claims = decoded.claims
    registry = jwt.JWTClaimsRegistry(
        leeway=_LEEWAY,
        iss={"essential": True, "value": _issuer(issuer, claims)},
        aud=_audience(client_id),
        iat={"essential": True},
        exp={"essential": True},
    )
    try:
        registry.validate(claims)
    except (JoseError, TypeError, ValueError) as error:
        raise refused(f"{type(error).__name__}: {error}") from None
    _check_audience(claims, client_id)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
        raise refused("no logout event")
    # An ID token must not pass for a logout token.
    if "nonce" in claims or not (_is_text(claims.get("sub")) or _is_text(claims.get("sid"))):
        raise refused("not of the form of a logout token")
    return claims


async def _decoded(token: object, keys: Keys) -> jwt.Token:
    if not isinstance(token, str) or len(token) > _MAX_TOKEN:
        raise refused("no token")
    try:
        return _verified(token, await keys(False))
    except SingleSignOnFailed:
        # Perhaps signed with a key that we have not seen: providers change theirs.
        return _verified(token, await keys(True))


def _verified(token: str, keys: KeySet) -> jwt.Token:
    try:
        return jwt.decode(token, keys, algorithms=list(_ALGORITHMS))
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise refused(f"{type(error).__name__}: {error}") from None


def _issuer(issuer: str, claims: Mapping[str, Any]) -> str:
    tenant = claims.get("tid")
    if "{tenantid}" not in issuer:
        return issuer
    if not isinstance(tenant, str) or not tenant.replace("-", "").isalnum() or len(tenant) > 64:
        raise refused("no tenant")
    return issuer.replace("{tenantid}", tenant)


def _audience(client_id: str) -> Any:
    return {"essential": True, "value": client_id}


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    # One among several is accepted only if the token says that it was made for us; `azp` is checked with the claims.
    if audience != client_id and not (
        isinstance(audience, list) and client_id in audience and (len(audience) == 1 or claims.get("azp") == client_id)
    ):
        raise refused("made for another client")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000
