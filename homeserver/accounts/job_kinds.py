"""Every kind of work that is done in the background by `jobs`, and the function that does it."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.accounts.auto_join import AUTO_JOIN, auto_join
from homeserver.accounts.deactivate import DEACTIVATE, finish_deactivation
from homeserver.accounts.end_sessions import ANNOUNCE_DEVICES, announce_devices
from homeserver.accounts.jobs import Handler
from homeserver.accounts.redact_user import REDACT_USER, redact_user

JOB_KINDS: Mapping[str, Handler] = {
    AUTO_JOIN: auto_join,
    ANNOUNCE_DEVICES: announce_devices,
    DEACTIVATE: finish_deactivation,
    REDACT_USER: redact_user,
}
