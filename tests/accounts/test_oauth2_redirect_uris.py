"""Addresses that people are sent back to, over texts of all kinds."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from homeserver.accounts.oauth2.redirect_uris import client_host, is_below, matches, may_register, with_parameters
from homeserver.accounts.oauth2.scope import parse_scope

_PIECES = st.sampled_from(
    [
        *("https://", "http://", "//", "/", "\\", "@", ":", "#", "?", "%", ".", "..", " ", "\t", "\n", "[", "]", ";"),
        *("example.com", "evil.org", "EXAMPLE.com", "localhost", "127.0.0.1", "::1", "com.example", "443", "a", "é"),
    ]
)
# Most of these are right but for one place, which may be any.
_NEARLY_RIGHT = st.tuples(
    st.sampled_from(["https://", "http://", "com.example", "https:", "com.example.app:"]),
    _PIECES | st.just(""),
    st.sampled_from(["example.com", "app.example.com", "127.0.0.1", "localhost", "[::1]", ""]),
    _PIECES | st.just(""),
    st.sampled_from(["", "/", ":443/", ":8080/callback", "/callback?a=b", ":/", "?a"]),
).map("".join)
_ADDRESSES = _NEARLY_RIGHT | st.lists(_PIECES, max_size=12).map("".join) | st.text(max_size=40)


@given(uri=_ADDRESSES, application_type=st.sampled_from(["web", "native"]))
def test_what_may_be_registered_is_where_it_seems_to_be(uri: str, application_type: str) -> None:
    """Whatever text is let through leads to the client's host, the loopback interface or an app, as two parsers say."""
    if not may_register(uri, "example.com", application_type):
        return
    hosts = {urlsplit(uri).hostname, URL(uri).host}
    if uri.startswith("https://"):
        assert all(host == "example.com" or str(host).endswith(".example.com") for host in hosts), hosts
    elif uri.startswith("http://"):
        assert application_type == "native"
        assert hosts <= {"localhost", "127.0.0.1", "::1"}
    else:
        assert application_type == "native"
        assert uri.startswith(("com.example:", "com.example."))
        assert not urlsplit(uri).netloc
    assert "#" not in uri
    assert "@" not in urlsplit(uri).netloc


@given(requested=_ADDRESSES, registered=_ADDRESSES)
def test_another_address_matches_only_by_its_port(requested: str, registered: str) -> None:
    """What is not the same text can only be the same place on the loopback interface, at another port."""
    if requested != registered and matches(requested, registered):
        ours, theirs = urlsplit(registered), urlsplit(requested)
        assert ours.hostname == theirs.hostname
        assert ours.hostname in ("localhost", "127.0.0.1", "::1")
        assert (ours.scheme, ours.path, ours.query) == (theirs.scheme, theirs.path, theirs.query)
        assert ours.port is None


@given(text=st.text(max_size=60) | _ADDRESSES)
def test_anything_can_be_asked(text: str) -> None:
    """No text makes the checks fail otherwise than by saying no."""
    client_host(text)
    is_below(text, "example.com")
    matches(text, text)
    try:
        scope = parse_scope(text)
    except ValueError:
        return
    assert 0 < len(scope.device_id) <= 255


@pytest.mark.parametrize(
    ("uri", "fragment", "answer"),
    [
        ("https://a.example/cb", False, "https://a.example/cb?code=1%262&state=a+b"),
        ("https://a.example/cb", True, "https://a.example/cb#code=1%262&state=a+b"),
        ("https://a.example/cb?x=y", False, "https://a.example/cb?x=y&code=1%262&state=a+b"),
        ("https://a.example/cb?x=y", True, "https://a.example/cb?x=y#code=1%262&state=a+b"),
        ("https://a.example/cb?", False, "https://a.example/cb?code=1%262&state=a+b"),
        ("com.example:/cb", False, "com.example:/cb?code=1%262&state=a+b"),
    ],
)
def test_the_answer_is_added(uri: str, fragment: bool, answer: str) -> None:
    """What the address had stays, and what is added can't be taken for anything else."""
    assert with_parameters(uri, {"code": "1&2", "state": "a b"}, fragment=fragment) == answer
