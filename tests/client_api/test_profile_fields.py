"""Profile fields beyond name and picture."""

from __future__ import annotations

import pytest

from tests.support.api import Api


def _path(user: Api, field: str = "") -> str:
    return f"/profile/{user.user_id}" + (f"/{field}" if field else "")


@pytest.mark.parametrize("value", ["Europe/Lisbon", 3, 1.5, None, True, [], {"deep": [{"er": "\0"}]}])
async def test_any_json_is_kept_as_it_came(api: Api, alice: Api, value: object) -> None:
    """A custom field takes any JSON value, null too; anyone reads it alone and in the profile."""
    field = "org.example.field"
    assert (await alice.put(_path(alice, field), {field: value})).body == {}
    assert (await api.get(_path(alice, field))).body == {field: value}
    assert (await api.get(_path(alice))).body == {field: value}
    assert (await alice.delete(_path(alice, field))).body == {}
    assert (await api.get(_path(alice, field))).errcode == "M_NOT_FOUND"
    assert (await alice.delete(_path(alice, field))).status == 200


async def test_the_time_zone_is_text(alice: Api) -> None:
    """m.tz is a string, on the stable and the unstable path."""
    assert (await alice.put(_path(alice, "m.tz"), {"m.tz": 5})).errcode == "M_BAD_JSON"
    unstable = f"/_matrix/client/unstable/uk.tcpip.msc4133{_path(alice, 'm.tz')}"
    assert (await alice.put(unstable, {"m.tz": "Europe/Lisbon"})).status == 200
    assert (await alice.get(_path(alice, "m.tz"))).body == {"m.tz": "Europe/Lisbon"}
    assert (await alice.get(unstable)).body == {"m.tz": "Europe/Lisbon"}


async def test_sizes_are_limited(alice: Api) -> None:
    """A name has at most 255 bytes, and the whole profile less than 64 KiB; what is refused changes nothing."""
    long_name = "a." + "b" * 254
    assert (await alice.put(_path(alice, long_name), {long_name: 1})).errcode == "M_KEY_TOO_LARGE"
    for field in ("a.one", "a.two"):
        assert (await alice.put(_path(alice, field), {field: "x" * 30_000})).status == 200
    refused = await alice.put(_path(alice, "a.three"), {"a.three": "x" * 6_000})
    assert (refused.status, refused.errcode) == (400, "M_PROFILE_TOO_LARGE")
    assert (await alice.put(_path(alice, "a.one"), {"a.one": "x" * 30_001})).status == 200
    assert (await alice.get(_path(alice))).body.keys() == {"a.one", "a.two"}


async def test_only_ones_own_profile_and_only_good_names(api: Api, alice: Api) -> None:
    """Nobody changes the profile of another; names follow the grammar; the body names the field."""
    bob = await api.register("bob")
    assert (await bob.put(_path(alice, "a.b"), {"a.b": 1})).errcode == "M_FORBIDDEN"
    assert (await bob.delete(_path(alice, "a.b"))).errcode == "M_FORBIDDEN"
    assert (await alice.put(_path(alice, "Bad"), {"Bad": 1})).errcode == "M_INVALID_PARAM"
    assert (await alice.put(_path(alice, "a.b"), {"a.c": 1})).errcode == "M_MISSING_PARAM"
    assert (await alice.get("/capabilities")).body["capabilities"]["m.profile_fields"] == {"enabled": True}
