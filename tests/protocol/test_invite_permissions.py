"""Whether an invitation is wanted.  # spec: client-server-api/#invite-permission"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.invite_permissions import (
    ACCOUNT_DATA_TYPES,
    FILTERS,
    IGNORED_USERS,
    PERMISSION,
    PERMISSION_UNSTABLE,
    InviteDecision,
    decide_invite,
)

ALLOW, IGNORE, BLOCK = InviteDecision.ALLOW, InviteDecision.IGNORE, InviteDecision.BLOCK
BAD, GOOD = "@mallory:badguys.org", "@john:goodguys.org"


def filtered(inviter: str, **content: Any) -> InviteDecision:
    return decide_invite(inviter, {FILTERS: content})


def test_without_account_data_everyone_may_invite() -> None:
    """Who has set nothing gets invitations from everybody."""
    assert decide_invite(BAD, {}) is ALLOW


def test_invitations_of_ignored_users_are_hidden() -> None:
    """The list of ignored users counts first, and hides without telling the inviter."""
    data = {IGNORED_USERS: {"ignored_users": {BAD: {}}}, PERMISSION: {"default_action": "block"}}
    assert decide_invite(BAD, data) is IGNORE
    assert decide_invite(GOOD, data) is BLOCK


@pytest.mark.parametrize("type", [PERMISSION, PERMISSION_UNSTABLE])
def test_default_action_block_blocks_everyone(type: str) -> None:
    """`default_action: block` refuses all; any other value, or none, refuses nobody."""
    assert decide_invite(GOOD, {type: {"default_action": "block"}}) is BLOCK
    contents: list[Any] = [
        {},
        {"default_action": "allow"},
        {"default_action": True},
        {"default_action": None},
        [],
        None,
    ]
    for content in contents:
        assert decide_invite(GOOD, {type: content}) is ALLOW


def test_lists_are_asked_in_their_order() -> None:
    """allowed, ignored, blocked users; then allowed, ignored, blocked servers: the first that matches decides."""
    everyone = ["*"]
    assert filtered(BAD, allowed_users=everyone, ignored_users=everyone, blocked_users=everyone) is ALLOW
    assert filtered(BAD, ignored_users=everyone, blocked_users=everyone, allowed_servers=everyone) is IGNORE
    assert filtered(BAD, blocked_users=everyone, allowed_servers=everyone) is BLOCK
    assert filtered(BAD, allowed_servers=everyone, ignored_servers=everyone, blocked_servers=everyone) is ALLOW
    assert filtered(BAD, ignored_servers=everyone, blocked_servers=everyone) is IGNORE
    assert filtered(BAD, blocked_servers=everyone) is BLOCK
    assert filtered(BAD) is ALLOW


def test_the_configuration_can_be_switched_off() -> None:
    """`enabled: false` keeps the lists without applying them."""
    assert filtered(BAD, enabled=False, blocked_servers=["*"]) is ALLOW
    assert filtered(BAD, enabled=True, blocked_servers=["*"]) is BLOCK


def test_only_some_servers_and_users() -> None:
    """Allowing one server and blocking all others lets in that server alone, whatever its port or letter case."""
    only = {"allowed_servers": ["GoodGuys.org"], "blocked_servers": ["*"], "blocked_users": ["@notgood*:goodguys.org"]}
    assert filtered(GOOD, **only) is ALLOW
    assert filtered("@john:goodguys.org:8448", **only) is ALLOW
    assert filtered("@notgood1:goodguys.org", **only) is BLOCK
    assert filtered(BAD, **only) is BLOCK
    assert filtered("@x:[::1]:8448", blocked_servers=["[::1]"]) is BLOCK


@pytest.mark.parametrize("value", ["@*", {}, None, 7, ["a", 1]])
def test_one_malformed_list_voids_the_configuration(value: Any) -> None:
    """A list that is no array of strings makes the entire event invalid."""
    assert filtered(BAD, blocked_servers=["*"], allowed_users=value) is ALLOW


JSON = st.recursive(st.none() | st.booleans() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3))
CONTENT = st.dictionaries(st.sampled_from(["ignored_users", "default_action", "enabled", "blocked_users"]), JSON)


@given(st.dictionaries(st.sampled_from(ACCOUNT_DATA_TYPES), CONTENT | JSON))
def test_any_account_data_gives_an_answer(data: dict[str, Any]) -> None:
    """Users may store anything under these types."""
    assert decide_invite(GOOD, data) in InviteDecision
