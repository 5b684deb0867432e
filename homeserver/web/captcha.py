"""The puzzle of a captcha service on a page.

It is the one thing that a page may load from elsewhere: it can't be had otherwise. There is none unless the operator
has set one up.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from homeserver.config.registration import CaptchaConfig

# Host of `verify_url` -> script, further origins, class of the element, name of the field with the answer.
_SERVICES = {
    "www.google.com": (
        "https://www.google.com/recaptcha/api.js",
        ("https://www.gstatic.com",),
        "g-recaptcha",
        "g-recaptcha-response",
    ),
    "www.recaptcha.net": (
        "https://www.recaptcha.net/recaptcha/api.js",
        ("https://www.gstatic.com", "https://www.gstatic.cn"),
        "g-recaptcha",
        "g-recaptcha-response",
    ),
    "api.hcaptcha.com": (
        "https://js.hcaptcha.com/1/api.js",
        ("https://hcaptcha.com", "https://*.hcaptcha.com"),
        "h-captcha",
        "h-captcha-response",
    ),
    "challenges.cloudflare.com": (
        "https://challenges.cloudflare.com/turnstile/v0/api.js",
        (),
        "cf-turnstile",
        "cf-turnstile-response",
    ),
}


@dataclass(frozen=True, slots=True)
class Captcha:
    """A puzzle: the script that shows it, where it may load from, and the field that brings the answer."""

    script: str
    origins: tuple[str, ...]
    css_class: str
    field: str
    public_key: str


def captcha(config: CaptchaConfig) -> Captcha | None:
    """The puzzle of the configured service; None if there is none. One that is not known is taken for reCAPTCHA."""
    if config.public_key is None:
        return None
    service = _SERVICES.get(urlsplit(config.verify_url).hostname or "", _SERVICES["www.google.com"])
    script, others, css_class, field = service
    parts = urlsplit(script)
    return Captcha(script, (f"{parts.scheme}://{parts.netloc}", *others), css_class, field, config.public_key)
