"""Whether a user wants an invitation, as their account data says.

Three kinds of account data have a say, in this order: the list of ignored users, the configuration that lets nobody
invite (`m.invite_permission_config`), and the one with lists of users and servers (a proposal, MSC4155). What is
malformed says nothing.

# spec: client-server-api/#invite-permission
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from homeserver.protocol.globs import GlobSet
from homeserver.protocol.identifiers import domain_of

IGNORED_USERS = "m.ignored_user_list"
PERMISSION = "m.invite_permission_config"
PERMISSION_UNSTABLE = "org.matrix.msc4380.invite_permission_config"
FILTERS = "org.matrix.msc4155.invite_permission_config"

ACCOUNT_DATA_TYPES = (IGNORED_USERS, PERMISSION, PERMISSION_UNSTABLE, FILTERS)
"""The types of global account data that `decide_invite` looks at."""

_PORT = re.compile(r":[0-9]*\Z")


class InviteDecision(Enum):
    """What becomes of an invitation."""

    ALLOW = auto()
    IGNORE = auto()  # the inviter takes it for delivered, the invited never hear of it
    BLOCK = auto()  # the inviter is told M_INVITE_BLOCKED


def decide_invite(inviter: str, account_data: Mapping[str, Any]) -> InviteDecision:
    """What becomes of an invitation by `inviter`.

    :param account_data: type -> content, of the invited user's global account data of `ACCOUNT_DATA_TYPES`
    # spec: client-server-api/#invite-permission  client-server-api/#ignoring-users
    """
    ignored = _field(account_data.get(IGNORED_USERS), "ignored_users")
    if isinstance(ignored, dict) and inviter in ignored:
        return InviteDecision.IGNORE
    for type in (PERMISSION, PERMISSION_UNSTABLE):
        if _field(account_data.get(type), "default_action") == "block":
            return InviteDecision.BLOCK
    return _filtered(inviter, account_data.get(FILTERS))


def _field(content: Any, name: str) -> Any:
    return content.get(name) if isinstance(content, dict) else None


def _filtered(inviter: str, content: Any) -> InviteDecision:
    if not isinstance(content, dict) or content.get("enabled") is False:
        return InviteDecision.ALLOW
    host = _PORT.sub("", domain_of(inviter)).casefold()
    steps = (
        ("allowed_users", inviter, InviteDecision.ALLOW),
        ("ignored_users", inviter, InviteDecision.IGNORE),
        ("blocked_users", inviter, InviteDecision.BLOCK),
        ("allowed_servers", host, InviteDecision.ALLOW),
        ("ignored_servers", host, InviteDecision.IGNORE),
        ("blocked_servers", host, InviteDecision.BLOCK),
    )
    lists = [content.get(name, []) for name, _, _ in steps]
    # One malformed list makes all of it invalid.
    if not all(isinstance(patterns, list) and all(isinstance(one, str) for one in patterns) for patterns in lists):
        return InviteDecision.ALLOW
    for (_, subject, decision), patterns in zip(steps, lists, strict=True):
        # As in server ACLs the case of server names does not matter; that of user ids does.
        folded = patterns if subject is inviter else [pattern.casefold() for pattern in patterns]
        if GlobSet(folded).matches(subject):
            return decision
    return InviteDecision.ALLOW
