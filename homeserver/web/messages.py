"""Errors of actions -> sentences for people, in their language."""

from __future__ import annotations

import math

from homeserver.protocol.errors import LimitExceeded, MatrixError
from homeserver.translations import mark, plural_translator
from homeserver.web.visits import Visit

_SENTENCES = {
    "M_WEAK_PASSWORD": mark("This password is too easy to guess, or breaks a rule for passwords. Choose another."),
    "M_USER_IN_USE": mark("This user name is taken. Choose another."),
    "M_EXCLUSIVE": mark("This user name is reserved. Choose another."),
    "M_INVALID_USERNAME": mark("A user name has small letters a-z, digits and . _ = - / only."),
    "M_USER_DEACTIVATED": mark("This account has been deactivated."),
    "M_USER_LOCKED": mark("This account is locked. Ask the administrator of the server."),
}


def sentence(visit: Visit, error: MatrixError, otherwise: str) -> str:
    """What to tell the visitor. `otherwise` is marked, and said where the error has no sentence of its own."""
    if isinstance(error, LimitExceeded):
        return too_often(visit.language, error)
    return visit.translate(_SENTENCES.get(error.errcode, otherwise))


def too_often(language: str, error: LimitExceeded) -> str:
    """That there were too many tries, and when there may be another."""
    ngettext = plural_translator(language)
    seconds = math.ceil(error.retry_after_ms / 1000)
    text = ngettext(
        "That was too often. Try again in %(num)d second.", "That was too often. Try again in %(num)d seconds.", seconds
    )
    return text % {"num": seconds}
