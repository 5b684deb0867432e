"""Who may see an event.  # spec: client-server-api/#room-history-visibility"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from homeserver.protocol.history_visibility import VISIBILITIES, may_see, may_see_change, server_may_see, visibility_of

MEMBERSHIPS = ("join", "invite", "leave", "knock", "ban")
CHANGES = list(product(sorted(VISIBILITIES), repeat=2))


@pytest.mark.parametrize("visibility", sorted(VISIBILITIES))
def test_a_known_visibility_is_taken(visibility: str) -> None:
    """The four values of the specification are understood."""
    assert visibility_of({"history_visibility": visibility}) == visibility


@pytest.mark.parametrize("content", [None, {}, [], "joined", {"history_visibility": "all"}, {"history_visibility": []}])
def test_anything_else_is_shared(content: Any) -> None:
    """If no visibility is set, or the value is not understood, it is assumed to be shared."""
    assert visibility_of(content) == "shared"


@pytest.mark.parametrize(
    ("visibility", "seen_by"),
    [
        ("world_readable", set(MEMBERSHIPS)),
        ("shared", {"join"}),
        ("invited", {"join", "invite"}),
        ("joined", {"join"}),
    ],
)
def test_membership_at_the_event_decides_for_those_who_never_joined_after(visibility: str, seen_by: set[str]) -> None:
    """World-readable history is for everyone, members see all, and the invited what is visible to the invited."""
    seen = {m for m in MEMBERSHIPS if may_see(visibility_at=visibility, membership_at=m, joined_after=False)}
    assert seen == seen_by


@pytest.mark.parametrize("membership", MEMBERSHIPS)
def test_joining_later_opens_shared_history_only(membership: str) -> None:
    """Shared events are seen by whoever joined at any point after; invited and joined ones are not."""
    assert may_see(visibility_at="shared", membership_at=membership, joined_after=True)
    for visibility in ("invited", "joined"):
        later = may_see(visibility_at=visibility, membership_at=membership, joined_after=True)
        assert later is may_see(visibility_at=visibility, membership_at=membership, joined_after=False)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_visibility_is_seen_if_before_or_after_allows_it(change: tuple[str, str]) -> None:
    """A user outside the room sees the change from or to world_readable, whatever the other value is."""
    seen = may_see_change(visibility=change, membership=("leave", "leave"), joined_after=False)
    assert seen is ("world_readable" in change)


@pytest.mark.parametrize("visibility", sorted(VISIBILITIES))
@pytest.mark.parametrize("other", MEMBERSHIPS)
def test_own_joins_and_leaves_are_always_seen(visibility: str, other: str) -> None:
    """A user sees the member event that makes them join, and the one that ends their membership."""
    for membership in (("join", other), (other, "join")):
        assert may_see_change(visibility=(visibility, visibility), membership=membership, joined_after=False)


def test_own_invite_is_seen_where_the_invited_see_history() -> None:
    """The invite itself is visible under `invited`, and not under `joined`."""
    change = ("leave", "invite")
    assert may_see_change(visibility=("invited", "invited"), membership=change, joined_after=False)
    assert not may_see_change(visibility=("joined", "joined"), membership=change, joined_after=False)


def test_a_server_sees_what_any_of_its_users_sees() -> None:
    """One user who may see the event suffices; a server without users sees what the world may read."""
    assert server_may_see("joined", ["leave", "join"], joined_after=False)
    assert not server_may_see("joined", ["leave", "invite"], joined_after=True)
    assert server_may_see("invited", ["invite"], joined_after=False)
    assert server_may_see("shared", [], joined_after=True)
    assert not server_may_see("shared", [], joined_after=False)
    assert server_may_see("world_readable", [], joined_after=False)
