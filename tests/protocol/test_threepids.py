"""One form for each e-mail address and telephone number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.threepids import canonical_email, canonical_msisdn, number_as_dialled


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alice@example.org", "alice@example.org"),
        ("  Alice@Example.ORG ", "alice@example.org"),
        ("Strauß@Example.com", "strauss@example.com"),
        ("a.b+c_d-e@sub.example.org", "a.b+c_d-e@sub.example.org"),
        ("alice@Bücher.example", "alice@xn--bcher-kva.example"),
        ("ALICE@BÜCHER.EXAMPLE", "alice@xn--bcher-kva.example"),
    ],
)
def test_email(text: str, address: str) -> None:
    """Case is folded, and an international domain has its ASCII form."""
    assert canonical_email(text) == address
    assert canonical_email(address) == address


@given(st.text(max_size=40))
def test_whatever_passes_is_one_plain_address(text: str) -> None:
    """Nothing gets through that a mail program could read in another way, and folding again changes nothing."""
    for given_text in (text, f"{text}@example.org", f"alice@{text}.example"):
        try:
            address = canonical_email(given_text)
        except InvalidParam:
            continue
        assert address.isascii()
        assert address.isprintable()
        assert not set(address) & set(' ,;:<>()[]"\\')
        assert address.count("@") == 1
        assert canonical_email(address) == address


@pytest.mark.parametrize(
    ("country", "number", "digits"),
    [
        ("UA", "044 123 45 67", "380441234567"),
        ("ua", "0 (44) 123-45-67", "380441234567"),
        ("GB", "07700 900001", "447700900001"),
        ("GB", "+380441234567", "380441234567"),
        ("DE", "00380441234567", "380441234567"),
        ("US", "011 380 44 1234567", "380441234567"),
        ("US", "1 (202) 555-0123", "12025550123"),
        ("US", "202-555-0123", "12025550123"),
        ("IT", "06 1234 5678", "390612345678"),
        ("HU", "06 20 123 4567", "36201234567"),
        ("KZ", "8 701 234 5678", "77012345678"),
        ("PL", "601 234 567", "48601234567"),
        ("JP", "03-1234-5678", "81312345678"),
    ],
)
def test_numbers_as_dialled(country: str, number: str, digits: str) -> None:
    """A number means what somebody in that country reaches with it."""
    assert number_as_dialled(country, number) == digits
    assert canonical_msisdn(f"+{digits}") == digits


@pytest.mark.parametrize(("country", "number"), [("UA", ""), ("UA", "12a4567"), ("U", "123"), ("ÄÖ", "1"), ("QQ", "1")])
def test_what_is_no_number(country: str, number: str) -> None:
    """What is no number, or of no country, is refused."""
    with pytest.raises(InvalidParam):
        number_as_dialled(country, number)
