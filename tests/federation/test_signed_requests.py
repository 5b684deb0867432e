"""The X-Matrix header: what is signed, and how leniently but boundedly it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json

from federation.signed_requests import XMatrix, check_request, parse_authorization, sign_request
from homeserver.protocol.errors import InvalidSignature, Unauthorized
from homeserver.protocol.hashing import decode_base64
from homeserver.protocol.signing import SigningKey

KEY = SigningKey("key1", bytes(range(32)))
FULL = XMatrix("origin.test:8448", "[::1]:80", "ed25519:key1", "AB/+c")

server_names = st.sampled_from(["a.test", "a.test:8448", "[2001:db8::1]", "[::1]:443", "1.2.3.4:1"])
contents = st.none() | st.dictionaries(st.text(), st.integers(-(2**53) + 1, 2**53 - 1) | st.text(), max_size=4)


@given(server_names, server_names, contents)
def test_what_is_signed_here_is_accepted_there(
    origin: str, destination: str, content: dict[str, object] | None
) -> None:
    """A signed request passes the check of the server that it was meant for."""
    header = sign_request("PUT", "/_matrix/x?a=%20", origin, destination, KEY, content)
    auth = parse_authorization(header)
    assert (auth.origin, auth.destination, auth.key_id) == (origin, destination, KEY.key_id)
    check_request("PUT", "/_matrix/x?a=%20", auth, destination, KEY.verify_key, content)


def test_the_signature_is_that_of_the_reference_library() -> None:
    """The signed object is the one that the specification describes, as signedjson verifies it."""
    auth = parse_authorization(sign_request("POST", "/target", "a.test", "b.test", KEY, {"x": 1}))
    signed = {
        "method": "POST",
        "uri": "/target",
        "origin": "a.test",
        "destination": "b.test",
        "content": {"x": 1},
        "signatures": {"a.test": {auth.key_id: auth.signature}},
    }
    key = decode_verify_key_bytes("ed25519:key1", decode_base64(KEY.verify_key_base64))
    verify_signed_json(signed, "a.test", key)


def test_the_header_has_the_form_that_old_servers_read() -> None:
    """One space, lower-case names, quotes, no spaces around commas, no backslashes."""
    header = sign_request("GET", "/", "a.test", "b.test:1", KEY)
    assert header.startswith('X-Matrix origin="a.test",destination="b.test:1",key="ed25519:key1",sig="')
    assert "\\" not in header
    assert header.count(" ") == 1


@pytest.mark.parametrize("changed", ["method", "uri", "content", "no content", "origin", "key", "signature"])
def test_any_change_breaks_the_signature(changed: str) -> None:
    """Method, target, body, sender and key are all covered."""
    content: dict[str, object] | None = {"a": 2 if changed == "content" else 1}
    auth = parse_authorization(sign_request("PUT", "/x", "a.test", "b.test", KEY, {"a": 1}))
    if changed == "origin":
        auth = XMatrix("c.test", auth.destination, auth.key_id, auth.signature)
    if changed == "signature":
        auth = XMatrix(auth.origin, auth.destination, auth.key_id, "A" * 86)
    with pytest.raises(InvalidSignature):
        check_request(
            "POST" if changed == "method" else "PUT",
            "/y" if changed == "uri" else "/x",
            auth,
            "b.test",
            SigningKey("key1", bytes(32)).verify_key if changed == "key" else KEY.verify_key,
            None if changed == "no content" else content,
        )


def test_requests_for_another_server_are_refused_with_401() -> None:
    """A destination that isn't this server's name is an Unauthorized."""
    auth = parse_authorization(sign_request("GET", "/", "a.test", "b.test", KEY))
    with pytest.raises(Unauthorized) as refusal:
        check_request("GET", "/", auth, "c.test", KEY.verify_key)
    assert refusal.value.status == 401


def test_an_absent_destination_is_taken_for_ours() -> None:
    """Older servers sign the destination without naming it in the header."""
    signature = parse_authorization(sign_request("GET", "/", "a.test", "b.test", KEY)).signature
    auth = parse_authorization(f"X-Matrix origin=a.test,key=ed25519:key1,sig={signature}")
    assert auth.destination is None
    check_request("GET", "/", auth, "b.test", KEY.verify_key)


@pytest.mark.parametrize(
    "header",
    [
        'X-Matrix origin="origin.test:8448",destination="[::1]:80",key="ed25519:key1",sig="AB/+c"',
        "X-Matrix origin=origin.test:8448,destination=[::1]:80,key=ed25519:key1,sig=AB/+c",
        'x-mATRIX   ORIGIN="origin.test:8448" \t,\tSig="AB/+c" , kEy="ed25519:key1",Destination="[::1]:80"  ',
        'X-Matrix origin="ori\\gin.test:8448",destination="\\[::1]:80",key="ed25519\\:key1",sig="AB\\/+c"',
        'X-Matrix ,,origin="origin.test:8448",,destination="[::1]:80",next="a,b=\\"c",key="ed25519:key1",sig="AB/+c",',
        'X-Matrix origin = "origin.test:8448",destination= "[::1]:80",key ="ed25519:key1",signature="AB/+c"',
    ],
)
def test_every_allowed_way_to_write_it(header: str) -> None:
    """Quotes, escapes, case, order, spaces, unknown parameters and bare colons don't matter."""
    assert parse_authorization(header) == FULL


@pytest.mark.parametrize(
    "header",
    [
        "",
        "X-Matrix",
        "X-Matrix ",
        "Bearer abc",
        "X-Matrixorigin=a.test,key=ed25519:1,sig=x",
        "X-Matrix origin=a.test,key=ed25519:1",
        "X-Matrix origin=a.test,sig=x",
        "X-Matrix key=ed25519:1,sig=x",
        "X-Matrix origin=a.test,origin=a.test,key=ed25519:1,sig=x",
        "X-Matrix origin=a.test,Origin=b.test,key=ed25519:1,sig=x",
        'X-Matrix origin="a.test,key=ed25519:1,sig=x',
        'X-Matrix origin="a.test\\',
        'X-Matrix origin="a.test"x,key=ed25519:1,sig=x',
        "X-Matrix origin=a.test key=ed25519:1 sig=x",
        "X-Matrix origin=,key=ed25519:1,sig=x",
        "X-Matrix origin,key=ed25519:1,sig=x",
        "X-Matrix =a.test,key=ed25519:1,sig=x",
        'X-Matrix origin="a/b",key=ed25519:1,sig=x',
        'X-Matrix origin="",key=ed25519:1,sig=x',
        'X-Matrix origin=a.test,destination="é",key=ed25519:1,sig=x',
        "X-Matrix origin=a.test,key=1,sig=x",
        'X-Matrix origin=a.test,key="ed25519:\x00",sig=x',
        "X-Matrix origin=a.test,key=ed25519:1,sig=" + "x" * 200,
        "X-Matrix origin=a.test,key=ed25519:1,sig=x," + "y=z," * 2000,
    ],
)
def test_malformed_headers_are_refused_with_401(header: str) -> None:
    """Whatever can't be read as one origin, key and signature is Unauthorized."""
    with pytest.raises(Unauthorized) as refusal:
        parse_authorization(header)
    assert (refusal.value.status, refusal.value.errcode) == (401, "M_UNAUTHORIZED")


@given(st.text(alphabet=st.characters(codec="latin-1")) | st.text(alphabet='X-Matrix origin=,"\\ \tkeysig:a.'))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is either parsed or refused."""
    for header in (text, "X-Matrix " + text):
        try:
            parse_authorization(header)
        except Unauthorized:
            continue


def _quoted(value: str, escape: list[bool]) -> str:
    return '"' + "".join("\\" + c if e or c in '"\\' else c for c, e in zip(value, escape, strict=False)) + '"'


@given(
    st.permutations(["origin", "destination", "key", "sig", "other"]),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.lists(st.text(" \t", max_size=3), min_size=5, max_size=5),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
)
def test_any_order_escape_and_space_gives_the_same(
    order: list[str], escape: list[bool], spaces: list[str], other: str
) -> None:
    """Parsing undoes every way of writing the same values."""
    values = {
        "origin": FULL.origin,
        "destination": FULL.destination or "",
        "key": FULL.key_id,
        "sig": FULL.signature,
        "other": other,
    }
    parts = [f"{space}{name}={_quoted(values[name], escape)}{space}" for name, space in zip(order, spaces, strict=True)]
    assert parse_authorization("X-Matrix " + ",".join(parts)) == FULL
