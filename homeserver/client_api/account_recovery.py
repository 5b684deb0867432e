"""Asking for a mail or a text message that proves an address, and setting another password with that proof.

# spec: client-server-api/#password-management
# spec: client-server-api/#adding-account-administrative-contact-information
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from homeserver.accounts.email_validation import (
    EMAIL_STAGE,
    MSISDN_STAGE,
    SUBMIT_PATH,
    Purpose,
    Threepid,
    TokenRequest,
    allowed_next_link,
    check_validation,
    checked_client_secret,
    credentials_of,
    email_stage,
    msisdn_stage,
    recorded_threepid,
    request_token,
    submit_token,
)
from homeserver.accounts.interactive_auth import Challenge
from homeserver.accounts.notices import notify_password_changed
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.threepids import find_user
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import boolean, integer, string
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import localpart_of
from homeserver.protocol.threepids import EMAIL, MSISDN, canonical_email, number_as_dialled
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage.stream import Connection
from homeserver.storage.users import find_user_id
from homeserver.translations import best_language

_MAX_ATTEMPT = 2**31
_MAX_TEXT = 255


def language_of(request: ApiRequest) -> str:
    """The language of ours that whoever asks likes best."""
    return best_language(request.headers.get("Accept-Language", ""))


def _requesting(purpose: Purpose, medium: str) -> Callable[[Services, ApiRequest], Awaitable[JsonObject]]:
    async def post_request_token(services: Services, request: ApiRequest) -> JsonObject:
        body = await request.json()
        services.mail.check_configured(medium)
        if purpose == "register" and services.config.registration.mode == "off":
            raise Forbidden("Registration is disabled")
        if medium == EMAIL:
            address = canonical_email(string(body, "email", required=True, max_length=_MAX_TEXT))
        else:
            country = string(body, "country", required=True, max_length=2)
            address = number_as_dialled(country, string(body, "phone_number", required=True, max_length=_MAX_TEXT))
        asked = TokenRequest(
            purpose=purpose,
            medium=medium,
            address=address,
            client_secret=checked_client_secret(string(body, "client_secret", required=True)),
            send_attempt=integer(body, "send_attempt", required=True, minimum=0, maximum=_MAX_ATTEMPT),
            next_link=allowed_next_link(services.config, string(body, "next_link")),
            language=language_of(request),
        )
        # Each of them could be used to fill somebody's mailbox. Whether the address is known makes no difference.
        await services.login_attempts.use("recovery", address_key(request.client_address))
        await services.login_attempts.use("recovery", address)
        async with services.pool.acquire() as conn, conn.transaction():
            sid = await request_token(conn, asked)
        services.mail.wake()
        answer: JsonObject = {"sid": sid}
        if medium == MSISDN:
            # A code has to be typed, and the client needs to know where to send it.
            answer["submit_url"] = (services.config.public_baseurl or "") + SUBMIT_PATH
        return answer

    return post_request_token


async def post_submit_token(services: Services, request: ApiRequest) -> JsonObject:
    """As the identity service's `POST /validate/email/submitToken`, without an access token.

    # spec: client-server-api/#post_matrixclientv3registeremailrequesttoken
    """
    body = await request.json()
    await submit_token(
        services.pool,
        checked_client_secret(string(body, "sid", required=True)),
        string(body, "token", required=True, max_length=_MAX_TEXT),
        client_secret=checked_client_secret(string(body, "client_secret", required=True)),
    )
    return {"success": True}


async def reset_password(services: Services, request: ApiRequest) -> JsonObject:
    """Sets another password for whoever proves with a confirmed address, and not with a token, who they are.

    # spec: client-server-api/#post_matrixclientv3accountpassword
    """
    body = await request.json()
    new_password = string(body, "new_password", required=True)
    logout_devices = boolean(body, "logout_devices", default=True)
    stages = {
        EMAIL_STAGE: email_stage(services.pool, "password"),
        MSISDN_STAGE: msisdn_stage(services.pool, "password"),
    }
    flows = [(EMAIL_STAGE,)] if services.config.phone.gateway_url is None else [(EMAIL_STAGE,), (MSISDN_STAGE,)]
    proof = await Challenge(services.uia, "POST /account/password", flows, stages).answer(body)
    async with services.pool.acquire() as conn:
        user_nid, user_id = await _owner(conn, await check_validation(conn, *credentials_of(body["auth"]), "password"))
    # What is wrong with the password is said after the proof, because it depends on the user, and does not use it up.
    password_hash = await hash_new_password(new_password, services.config.passwords, localpart_of(user_id))
    async with services.stream.write() as write:
        completed = await proof.use(write.conn)
        threepid = recorded_threepid(completed.get(EMAIL_STAGE) or completed.get(MSISDN_STAGE))
        if threepid is None or await _owner(write.conn, threepid) != (user_nid, user_id):
            raise Forbidden("This address belongs to another account now")
        gone = await set_password(
            write.conn, user_id=user_id, password_hash=password_hash, logout_devices=logout_devices
        )
        await notify_password_changed(write.conn, services.config, user_nid, language=language_of(request))
        if gone:
            await mark_changed(write, user_nid, gone)
    request.sessions_changed(user_nid)
    services.mail.wake()
    return {}


async def _owner(conn: Connection, threepid: Threepid) -> tuple[int, str]:
    user_nid = await find_user(conn, threepid.medium, threepid.address)
    user_id = await find_user_id(conn, user_nid) if user_nid is not None else None
    if user_nid is None or user_id is None:
        raise Forbidden("This address belongs to no account any more")
    return user_nid, user_id


ROUTES = [
    *client_routes("POST", "/register/email/requestToken", _requesting("register", EMAIL), Auth.NONE),
    *client_routes("POST", "/register/msisdn/requestToken", _requesting("register", MSISDN), Auth.NONE),
    *client_routes("POST", "/account/password/email/requestToken", _requesting("password", EMAIL), Auth.NONE),
    *client_routes("POST", "/account/password/msisdn/requestToken", _requesting("password", MSISDN), Auth.NONE),
    *client_routes("POST", "/account/3pid/email/requestToken", _requesting("add", EMAIL), Auth.NONE),
    *client_routes("POST", "/account/3pid/msisdn/requestToken", _requesting("add", MSISDN), Auth.NONE),
    Route("POST", SUBMIT_PATH, post_submit_token, Auth.NONE),
]
