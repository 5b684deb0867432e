"""Providers that speak OpenID Connect: the authorization code flow with PKCE, state, nonce and the issuer checked.

Where a provider's endpoints and keys are is read from its discovery document and remembered for an hour. What Google,
Microsoft and Apple do differently stands in this file too, each beside what it differs from:

- Microsoft signs with an issuer of each tenant, numbers people within a tenant, and lets administrators of tenants
  write into `email` whatever they like, so that such an address counts only with `xms_edov`.
- Apple wants a client secret that is a token signed anew, and the answer posted rather than in the query.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.discovery import get_well_known_url
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from homeserver.accounts.single_sign_on.id_tokens import check_id_token, check_logout_token, refused
from homeserver.accounts.single_sign_on.provider import (
    Identity,
    Login,
    Logout,
    ProviderUnavailable,
    SingleSignOnFailed,
)
from homeserver.config.single_sign_on import ProviderConfig
from homeserver.outbound import OutboundClient, RequestFailed
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.threepids import canonical_email
from homeserver.translations import mark

log = logging.getLogger(__name__)

_REMEMBER = 3600.0  # seconds
_KEYS_ANEW_AFTER = 60.0  # seconds between two questions for keys because of a signature that fits none
_TIMEOUT = 15.0  # seconds
_MAX_BYTES = 512 * 1024
_LONGEST_LOGOUT = 24 * 3600.0  # seconds that a logout token is remembered
_MAX_CLAIM = 255  # characters
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_DENIED = mark("You have not signed in there. You can try again.")


class OidcProvider:
    """One provider."""

    def __init__(self, config: ProviderConfig, outbound: OutboundClient) -> None:
        self.config = config
        self._outbound = outbound
        self._metadata: dict[str, Any] = {}
        self._metadata_until = 0.0
        self._keys: KeySet | None = None
        self._keys_at = 0.0
        self._asking = asyncio.Lock()

    async def address(self, login: Login, *, again: bool) -> str:
        """Where to send somebody to sign in. See `Provider`."""
        metadata = await self._discover()
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": login.redirect_uri,
            "scope": " ".join(self.config.scopes),
            "state": login.state,
            "nonce": login.nonce,
            "code_challenge": create_s256_code_challenge(login.code_verifier),
            "code_challenge_method": "S256",
        }
        if self.config.kind == "apple":
            query["response_mode"] = "form_post"
        if again:
            query["prompt"] = "login"
        address = str(metadata["authorization_endpoint"])
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    async def identify(self, login: Login, answer: Mapping[str, str]) -> Identity:
        """Who has come back. See `Provider`."""
        metadata = await self._discover()
        # An answer of another provider must not be taken for one of this: its code would go to the wrong place.
        if answer.get("iss", metadata["issuer"]) != metadata["issuer"]:
            raise refused("the answer is another provider's")
        if "iss" not in answer and metadata.get("authorization_response_iss_parameter_supported") is True:
            raise refused("the answer does not say whose it is")
        if "error" in answer:
            log.info("Signing in at %s ended with %.100r", self.config.id, answer["error"])
            raise SingleSignOnFailed(_DENIED)
        code = answer.get("code")
        if not code:
            raise refused("no code")
        tokens = await self._exchange(metadata, login, code)
        claims = await check_id_token(
            tokens.get("id_token"),
            self._key_set,
            issuer=metadata["issuer"],
            client_id=self.config.client_id,
            nonce=login.nonce,
            access_token=tokens.get("access_token"),
        )
        claims |= await self._user_info(metadata, tokens, claims)
        return self._identity(claims)

    async def ended(self, logout_token: str) -> Logout:
        """What a logout token says. See `Provider`."""
        issuer = (await self._discover())["issuer"]
        claims = await check_logout_token(logout_token, self._key_set, issuer=issuer, client_id=self.config.client_id)
        subject = _text(claims.get("sub"))
        return Logout(
            subject=None if subject is None else self._subject(claims),
            session_id=_text(claims.get("sid")),
            token=logout_token,
            expires_ts=int(min(claims["exp"], time.time() + _LONGEST_LOGOUT)) * 1000,
        )

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        names = self.config.claims
        return Identity(
            subject=self._subject(claims),
            localpart=_text(claims.get(names.localpart)),
            display_name=_text(claims.get(names.display_name)),
            email=_address(claims.get(names.email)) if self._is_checked(claims) else None,
            session_id=_text(claims.get("sid")),
        )

    def _subject(self, claims: Mapping[str, Any]) -> str:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_CLAIM or "\0" in subject:
            raise refused("no subject")
        return f"{claims['tid']}:{subject}" if self.config.kind == "microsoft" else subject

    def _is_checked(self, claims: Mapping[str, Any]) -> bool:
        """Whether the provider has checked the address, and not only written down what it was told."""
        claim = "xms_edov" if self.config.kind == "microsoft" else "email_verified"
        return claims.get(claim) in (True, "true", 1, "1")

    async def _exchange(self, metadata: Mapping[str, Any], login: Login, code: str) -> dict[str, Any]:
        """The tokens for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": login.redirect_uri,
            "code_verifier": login.code_verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        secret = self._secret()
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret is not None and self.config.kind != "apple" and "client_secret_basic" in methods:
            pair = f"{quote(self.config.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self.config.client_id
            if secret is not None:
                form["client_secret"] = secret
        return await self._ask("POST", metadata["token_endpoint"], headers=headers, body=urlencode(form).encode())

    def _secret(self) -> str | None:
        if self.config.kind != "apple":
            secret = self.config.client_secret
            return secret.get_secret_value() if secret is not None else None
        assert self.config.private_key is not None, "checked with the configuration"
        now = int(time.time())
        claims = {
            "iss": self.config.team_id,
            "sub": self.config.client_id,
            "aud": "https://appleid.apple.com",
            "iat": now,
            "exp": now + 300,
        }
        try:
            key = ECKey.import_key(self.config.private_key.get_secret_value())
            return jwt.encode({"alg": "ES256", "kid": self.config.key_id}, claims, key)
        except (JoseError, ValueError) as error:
            log.error("single_sign_on.providers: the private key of %s can't be used: %s", self.config.id, error)
            raise ProviderUnavailable from None

    async def _user_info(
        self, metadata: Mapping[str, Any], tokens: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the ID token leaves out of a person's claims. It must be about the same person."""
        names = self.config.claims
        wanted = {names.localpart, names.display_name, names.email}
        address, token = metadata.get("userinfo_endpoint"), tokens.get("access_token")
        if wanted <= claims.keys() or not isinstance(address, str) or not isinstance(token, str):
            return {}
        found = await self._ask("GET", address, headers={"Authorization": f"Bearer {token}"})
        if found.get("sub") != claims.get("sub"):
            raise refused("the claims are about somebody else")
        return {name: value for name, value in found.items() if name not in claims}

    async def _key_set(self, fresh: bool) -> KeySet:
        async with self._asking:
            now = time.monotonic()
            age = now - self._keys_at
            if self._keys is None or age > _REMEMBER or (fresh and age > _KEYS_ANEW_AFTER):
                metadata = await self._discovered()
                found = await self._ask("GET", metadata["jwks_uri"])
                try:
                    self._keys = KeySet.import_key_set(found)  # type: ignore[arg-type]
                except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
                    log.warning("The keys of %s can't be used: %s", self.config.id, error)
                    raise ProviderUnavailable from None
                self._keys_at = now
            return self._keys

    async def _discover(self) -> Mapping[str, Any]:
        """The discovery document."""
        async with self._asking:
            return await self._discovered()

    async def _discovered(self) -> Mapping[str, Any]:
        if time.monotonic() >= self._metadata_until:
            found = await self._ask("GET", get_well_known_url(self.config.issuer, external=True))
            self._check_metadata(found)
            self._metadata, self._metadata_until = found, time.monotonic() + _REMEMBER
        return self._metadata

    def _check_metadata(self, found: Mapping[str, Any]) -> None:
        issuer = found.get("issuer")
        # Microsoft's document for many tenants has a placeholder where theirs have an id.
        many = self.config.kind == "microsoft" and isinstance(issuer, str) and "{tenantid}" in issuer
        known = many or (isinstance(issuer, str) and issuer.rstrip("/") == self.config.issuer.rstrip("/"))
        if self.config.kind == "microsoft" and isinstance(issuer, str):
            known = urlsplit(issuer).netloc == urlsplit(self.config.issuer).netloc
        if not known or not all(_is_endpoint(found.get(name)) for name in _ENDPOINTS):
            log.warning(
                "single_sign_on.providers: the discovery document of %s is not one of %s", self.config.id, issuer
            )
            raise ProviderUnavailable

    async def _ask(
        self, method: str, address: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, Any]:
        sent = {"Accept": "application/json", **(headers or {})}
        try:
            response = await self._outbound.request(
                method, address, headers=sent, body=body, timeout=_TIMEOUT, max_bytes=_MAX_BYTES
            )
            found = orjson.loads(response.body) if response.status == 200 else None
        except (RequestFailed, orjson.JSONDecodeError) as error:
            log.warning("The sign-in service %s at %s: %s", self.config.id, urlsplit(address).netloc, error)
            raise ProviderUnavailable from None
        if not isinstance(found, dict):
            log.warning("The sign-in service %s answered %d at %s", self.config.id, response.status, address)
            # That is also how a code is refused which has been used or was made up.
            raise ProviderUnavailable
        return found


def _is_endpoint(value: object) -> bool:
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return (
        value.isascii()
        and value.isprintable()
        and bool(parts.hostname)
        and (parts.scheme == "https" or (parts.scheme == "http" and local))
    )


def _text(value: object) -> str | None:
    """A claim that is text of a length that a name has."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return None
    return value.strip()[:_MAX_CLAIM]


def _address(value: object) -> str | None:
    try:
        return canonical_email(value) if isinstance(value, str) else None
    except InvalidParam:
        return None
