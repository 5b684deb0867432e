"""Puzzles that tell people from programs, by any service that checks answers as reCAPTCHA does.

# spec: client-server-api/#google-recaptcha
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from homeserver.accounts.login_attempts import LoginAttempts
from homeserver.config.registration import CaptchaConfig
from homeserver.outbound import OutboundClient, RequestFailed
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import Forbidden, MatrixError, NotJson
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key

log = logging.getLogger(__name__)

_TIMEOUT = 10.0  # seconds
_MAX_ANSWER = 64 * 1024
_MAX_RESPONSE = 8192  # characters: reCAPTCHA's have some 2,000


def captcha_check(
    outbound: OutboundClient, config: CaptchaConfig, attempts: LoginAttempts, address: str
) -> Callable[[JsonObject], Awaitable[None]]:
    """The check of the stage m.login.recaptcha.

    :param address: of the client, by which tries are counted: each costs a request to the service
    """

    async def check(auth: JsonObject) -> None:
        response = auth.get("response")
        if not isinstance(response, str) or not response or len(response) > _MAX_RESPONSE:
            raise Forbidden("The answer to the captcha is missing")
        async with attempts.guess("code", address_key(address)):
            if not await _is_right(outbound, config, response):
                raise Forbidden("The captcha was not solved")

    return check


async def _is_right(outbound: OutboundClient, config: CaptchaConfig, response: str) -> bool:
    assert config.secret_key is not None, "nothing is asked without it"
    form = {"secret": config.secret_key.get_secret_value(), "response": response}
    try:
        answer = await outbound.request(
            "POST",
            config.verify_url,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form, errors="replace").encode(),
            timeout=_TIMEOUT,
            max_bytes=_MAX_ANSWER,
        )
        result = decode_json(answer.body)
    except (RequestFailed, NotJson) as error:
        log.warning("The captcha service at %s did not answer: %s", config.verify_url, error)
        raise MatrixError("The captcha can't be checked at the moment; try again", status=503) from None
    if not isinstance(result, dict):
        return False
    if result.get("success") is not True:
        log.info("The captcha service refused an answer: %s", str(result.get("error-codes"))[:200])
        return False
    return True
