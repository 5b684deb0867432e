"""Server ACLs.  # spec: client-server-api/#mroomserver_acl"""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.server_acls import EVERYONE, parse_server_acl

NAMES = st.text(alphabet="abAB.-", min_size=1, max_size=8)
PATTERNS = st.text(alphabet="abAB.*?", max_size=6)
LISTS = st.lists(PATTERNS, max_size=4)


def test_without_an_event_everyone_takes_part() -> None:
    """1. If there is no m.room.server_acl event in the room state, allow."""
    assert parse_server_acl(None) is EVERYONE
    assert EVERYONE.allows("example.org")
    assert EVERYONE.allows("1.2.3.4")


IP_LITERALS = ["1.2.3.4", "1.2.3.4:8448", "001.2.3.4", "[::1]", "[::1]:8448", "[1234:5678::abcd]", "::1"]


@pytest.mark.parametrize("name", IP_LITERALS)
def test_ip_literals_are_denied_if_the_event_says_so(name: str) -> None:
    """2. An IP address literal is denied only if `allow_ip_literals` is present and false."""
    assert not parse_server_acl({"allow": ["*"], "allow_ip_literals": False}).allows(name)
    values: tuple[object, ...] = (True, None, 0, "false", [])
    for value in values:
        assert parse_server_acl({"allow": ["*"], "allow_ip_literals": value}).allows(name)
    assert parse_server_acl({"allow": ["*"]}).allows(name)


@pytest.mark.parametrize("name", ["example.org", "1.2.3.4.example.org", "1.2.3", "1.2.3.256", "1.2.3.4.5", "1-2-3-4"])
def test_names_are_no_ip_literals(name: str) -> None:
    """Names that only resemble an address are judged by the lists."""
    assert parse_server_acl({"allow": ["*"], "allow_ip_literals": False}).allows(name)


def test_denial_wins_over_allowance() -> None:
    """3., 4. A server in both lists is denied; one in `allow` alone is allowed."""
    acl = parse_server_acl({"allow": ["*"], "deny": ["*.evil.com", "evil.com"]})
    assert not acl.allows("evil.com")
    assert not acl.allows("matrix.evil.com")
    assert acl.allows("notevil.com")


@pytest.mark.parametrize(
    "content", [{}, {"deny": []}, {"allow": []}, {"allow": "*"}, {"allow": [1, None, ["*"]]}, [], "*"]
)
def test_without_a_usable_allow_list_nobody_is_allowed(content: Any) -> None:
    """5. Otherwise, deny: `allow` defaults to an empty list, and malformed entries match nothing."""
    assert not parse_server_acl(content).allows("example.org")


def test_malformed_entries_do_not_spoil_the_others() -> None:
    """Entries that are no strings are passed over, a `deny` that is no list is empty."""
    acl = parse_server_acl({"allow": [None, "a.org", 3], "deny": {"a.org": True}})
    assert acl.allows("a.org")


@pytest.mark.parametrize("name", ["evil.com", "evil.com:8448", "evil.com:1234", "EVIL.com", "eViL.CoM:8448"])
def test_ports_and_case_change_nothing(name: str) -> None:
    """The port is not considered, and case neither, in the name as in the pattern."""
    assert not parse_server_acl({"allow": ["*"], "deny": ["evil.com"]}).allows(name)
    assert not parse_server_acl({"allow": ["*"], "deny": ["Evil.COM"]}).allows(name)


def test_patterns_with_a_port_match_nothing() -> None:
    """Patterns are held against the name without its port, so one that has a port can't match."""
    assert parse_server_acl({"allow": ["*"], "deny": ["evil.com:8448"]}).allows("evil.com:8448")


def test_wildcards_stand_for_any_characters() -> None:
    """`*` is any run of characters, dots included; `?` is exactly one."""
    acl = parse_server_acl({"allow": ["*.example.org", "a?.net", "*mid*dle*"]})
    allowed = ["x.example.org", "x.y.example.org", "ab.net", "amidxdleb"]
    assert [n for n in [*allowed, "example.org", "a.net", "abc.net", "dlemid"] if acl.allows(n)] == allowed


@given(LISTS, LISTS, NAMES)
def test_case_never_matters(allow: list[str], deny: list[str], name: str) -> None:
    """Upper and lower case of the patterns and of the name give the same answer."""
    as_is = parse_server_acl({"allow": allow, "deny": deny}).allows(name)
    upper = {"allow": [p.upper() for p in allow], "deny": [p.upper() for p in deny]}
    assert parse_server_acl(upper).allows(name.lower()) == as_is
    assert parse_server_acl({"allow": allow, "deny": deny}).allows(name.swapcase()) == as_is


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda j: st.lists(j, max_size=3)))
def test_no_content_makes_it_fail(value: Any) -> None:
    """Whatever the event holds, there is an answer."""
    acl = parse_server_acl({"allow": value, "deny": value, "allow_ip_literals": value})
    assert acl.allows("example.org") in (True, False)


def test_the_largest_hostile_list_stays_cheap() -> None:
    """A list that fills an event, of patterns made to be slow, is answered in time for every PDU."""
    acl = parse_server_acl({"allow": ["*a?*a?" * 40 + "b"] * 1 + [f"*?a*a?*{n}" for n in range(6000)]})
    started = time.process_time()
    assert not acl.allows("a" * 230)
    assert time.process_time() - started < 1
