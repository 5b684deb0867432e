"""Filters, account data, push rules, capabilities: what the server keeps and says for one user."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.api import Api


async def test_a_filter_comes_back_as_it_was_given(alice: Api) -> None:
    """A stored filter is known by a number; the same one again by the same."""
    path = f"/user/{alice.user_id}/filter"
    filter = {"room": {"timeline": {"limit": 5}}, "org.example.unknown": {"kept": True}}
    filter_id = (await alice.post(path, filter)).body["filter_id"]
    assert (await alice.get(f"{path}/{filter_id}")).body == filter
    assert (await alice.post(path, filter)).body["filter_id"] == filter_id
    assert (await alice.post(path, {})).body["filter_id"] != filter_id


@pytest.mark.parametrize("filter_id", ["99", "x", "-1", "9" * 30, "%C2%B2"])
async def test_a_filter_that_is_not_there(alice: Api, filter_id: str) -> None:
    """Any other id is not found."""
    assert (await alice.get(f"/user/{alice.user_id}/filter/{filter_id}")).errcode == "M_NOT_FOUND"


async def test_a_filter_that_can_not_be(alice: Api) -> None:
    """A filter is checked when it is stored, not when it is used; its size is bounded."""
    path = f"/user/{alice.user_id}/filter"
    assert (await alice.post(path, {"room": {"timeline": {"limit": "x"}}})).errcode == "M_BAD_JSON"
    assert (await alice.post(path, {"x": "y" * 70_000})).status == 413


async def test_filters_are_ones_own(alice: Api) -> None:
    """The user in the path must be the one who asks."""
    bob = await alice.as_token(None).register("bob")
    assert (await bob.post(f"/user/{alice.user_id}/filter", {})).errcode == "M_FORBIDDEN"
    assert (await bob.get(f"/user/{alice.user_id}/filter/0")).errcode == "M_FORBIDDEN"


async def test_account_data_is_kept(alice: Api) -> None:
    """Global account data and that of a room are apart; the last one written counts."""
    room_id = (await alice.post("/createRoom", {})).body["room_id"]
    everywhere = f"/user/{alice.user_id}/account_data/org.example.x"
    here = f"/user/{alice.user_id}/rooms/{quote(room_id)}/account_data/org.example.x"
    assert (await alice.get(everywhere)).errcode == "M_NOT_FOUND"
    assert (await alice.put(everywhere, {"n": 1, "nul": "\0"})).body == {}
    assert (await alice.put(here, {"n": 2})).body == {}
    assert (await alice.get(everywhere)).body == {"n": 1, "nul": "\0"}
    assert (await alice.get(here)).body == {"n": 2}
    await alice.put(everywhere, {"n": 3})
    assert (await alice.get(everywhere)).body == {"n": 3}


async def test_account_data_reaches_sync(alice: Api) -> None:
    """What is written is in the next sync of the user, and in nobody else's."""
    bob = await alice.as_token(None).register("bob")
    before = (await alice.get("/sync")).body["next_batch"]
    bobs = (await bob.get("/sync")).body["next_batch"]
    await alice.put(f"/user/{alice.user_id}/account_data/org.example.x", {"n": 1})
    events = (await alice.get(f"/sync?since={before}")).body["account_data"]["events"]
    assert events == [{"type": "org.example.x", "content": {"n": 1}}]
    assert not (await bob.get(f"/sync?since={bobs}")).body.get("account_data", {}).get("events")


@pytest.mark.parametrize("type", ["m.fully_read", "m.push_rules"])
async def test_the_servers_own_types_are_not_set_this_way(alice: Api, type: str) -> None:
    """Types that the server manages itself are answered with 405."""
    answer = await alice.put(f"/user/{alice.user_id}/account_data/{type}", {})
    assert (answer.status, answer.errcode) == (405, "M_BAD_JSON")


async def test_account_data_that_can_not_be_kept(alice: Api) -> None:
    """Another user's, another type of body, an unknown room, too much."""
    path = f"/user/{alice.user_id}/account_data/org.example.x"
    assert (await alice.put("/user/@bob:test.example/account_data/x", {})).errcode == "M_FORBIDDEN"
    assert (await alice.put(path, [])).errcode == "M_BAD_JSON"
    assert (await alice.put(path, body=b"{")).errcode == "M_NOT_JSON"
    assert (await alice.put(path, {"x": "y" * 1_100_000})).errcode == "M_TOO_LARGE"
    assert (await alice.put(f"/user/{alice.user_id}/account_data/{'x' * 300}", {})).errcode == "M_INVALID_PARAM"
    assert (await alice.put(f"/user/{alice.user_id}/rooms/nonsense/account_data/x", {})).errcode == "M_INVALID_PARAM"
    assert (await alice.put(f"/user/{alice.user_id}/rooms/!x:y/account_data/x", {})).errcode == "M_NOT_FOUND"


async def test_everyone_has_the_predefined_push_rules(alice: Api) -> None:
    """The default rules are there, about the user who asks, with and without a slash at the end."""
    rules = (await alice.get("/pushrules/")).body
    assert rules == (await alice.get("/pushrules")).body
    assert rules["global"] == (await alice.get("/pushrules/global/")).body
    assert {rule["rule_id"] for rule in rules["global"]["override"]} >= {".m.rule.master", ".m.rule.invite_for_me"}
    assert (await alice.get(f"/user/{alice.user_id}/account_data/m.push_rules")).body == rules
    path = "/pushrules/global/override/.m.rule.master"
    assert (await alice.get(path)).body["default"] is True
    assert (await alice.get(f"{path}/enabled")).body == {"enabled": False}
    assert (await alice.get(f"{path}/actions")).body == {"actions": []}
    assert (await alice.get("/pushrules/global/override/none")).errcode == "M_NOT_FOUND"


async def test_capabilities_name_the_room_versions(alice: Api) -> None:
    """Clients learn the default room version and all others from the capabilities."""
    capabilities = (await alice.get("/capabilities")).body["capabilities"]
    assert capabilities["m.room_versions"]["default"] == "12"
    assert set(capabilities["m.room_versions"]["available"]) == {str(number) for number in range(1, 13)}
    assert capabilities["m.change_password"] == {"enabled": True}
