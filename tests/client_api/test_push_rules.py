"""The endpoints of push rules and of notifications, as clients call them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.api import Api

NOTIFY: dict[str, Any] = {"actions": ["notify"]}
HIGHLIGHT: list[Any] = ["notify", {"set_tweak": "highlight"}]


async def content_rules(api: Api) -> list[str]:
    answer = await api.get("/pushrules/global/")
    return [rule["rule_id"] for rule in answer.body["content"]]


async def synced_rules(api: Api, **query: str) -> Any:
    answer = await api.get("/sync", query=query)
    events = answer.body["account_data"]["events"]
    found = [event["content"]["global"] for event in events if event["type"] == "m.push_rules"]
    return answer.body["next_batch"], found


async def room_of(alice: Api, bob: Api) -> str:
    """A room of both."""
    created = await alice.post("/createRoom", {"preset": "private_chat", "invite": [bob.user_id]})
    room_id: str = created.body["room_id"]
    assert (await bob.post(f"/join/{quote(room_id)}", {})).status == 200
    return room_id


async def say(api: Api, room_id: str, txn_id: str, **content: Any) -> str:
    body = {"msgtype": "m.text", "body": "hello", **content}
    answer = await api.put(f"/rooms/{quote(room_id)}/send/m.room.message/{txn_id}", body)
    assert answer.status == 200, answer
    event_id: str = answer.body["event_id"]
    return event_id


@pytest.mark.parametrize("version", ["v3", "r0"])
async def test_everyone_has_the_predefined_rules(alice: Api, version: str) -> None:
    """All of them are there, with or without a slash at the end, before anything was changed."""
    prefix = f"/_matrix/client/{version}"
    whole = (await alice.get(f"{prefix}/pushrules/")).body["global"]
    for path in ("/pushrules", "/pushrules/global", "/pushrules/global/"):
        body = (await alice.get(prefix + path)).body
        assert body.get("global", body) == whole
    assert whole["override"][0]["rule_id"] == ".m.rule.master"
    mention = next(rule for rule in whole["override"] if rule["rule_id"] == ".m.rule.is_user_mention")
    assert mention["conditions"][0]["value"] == alice.user_id
    rule = await alice.get(f"{prefix}/pushrules/global/underride/.m.rule.message")
    assert rule.body == next(rule for rule in whole["underride"] if rule["rule_id"] == ".m.rule.message")


async def test_own_rules_are_made_ordered_changed_and_deleted(alice: Api) -> None:
    """A new rule is first; before and after place it; enabled and actions change it; deleted it is gone."""
    for word in ("one", "two"):
        assert (await alice.put(f"/pushrules/global/content/{word}", {**NOTIFY, "pattern": word})).body == {}
    body = {**NOTIFY, "pattern": "three"}
    await alice.put("/pushrules/global/content/three", body, query={"after": "two"})
    assert await content_rules(alice) == ["two", "three", "one"]
    await alice.put("/pushrules/global/content/one", {**NOTIFY, "pattern": "one"}, query={"before": "two"})
    assert await content_rules(alice) == ["one", "two", "three"]
    path = "/pushrules/global/content/two"
    assert (await alice.put(f"{path}/enabled", {"enabled": False})).status == 200
    assert (await alice.put(f"{path}/actions", {"actions": HIGHLIGHT})).status == 200
    assert (await alice.get(f"{path}/enabled")).body == {"enabled": False}
    assert (await alice.get(f"{path}/actions")).body == {"actions": HIGHLIGHT}
    expected = {"rule_id": "two", "default": False, "enabled": False, "pattern": "two", "actions": HIGHLIGHT}
    assert (await alice.get(path)).body == expected
    assert (await alice.delete(path)).body == {}
    assert await content_rules(alice) == ["one", "three"]
    assert (await alice.delete(path)).errcode == "M_NOT_FOUND"


async def test_rules_of_rooms_have_ids_to_be_decoded(alice: Api) -> None:
    """A rule id comes percent-encoded in the path."""
    room_id = "!room:test.example"
    path = f"/pushrules/global/room/{quote(room_id, safe='')}"
    assert (await alice.put(path, {"actions": []})).status == 200
    assert (await alice.get(path)).body["rule_id"] == room_id


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "errcode"),
    [
        ("GET", "/pushrules/global/override/nothing", None, 404, "M_NOT_FOUND"),
        ("GET", "/pushrules/global/nonsense/nothing", None, 400, "M_INVALID_PARAM"),
        ("GET", "/pushrules/elsewhere/override/.m.rule.master", None, 404, "M_UNRECOGNIZED"),
        ("GET", "/pushrules/global/override/nothing/enabled", None, 404, "M_NOT_FOUND"),
        ("PUT", "/pushrules/global/override/nothing/enabled", {"enabled": True}, 404, "M_NOT_FOUND"),
        ("PUT", "/pushrules/global/override/.m.rule.master/enabled", {}, 400, "M_MISSING_PARAM"),
        ("PUT", "/pushrules/global/override/.m.rule.master/enabled", {"enabled": "yes"}, 400, "M_BAD_JSON"),
        ("PUT", "/pushrules/global/override/.m.rule.master/actions", {}, 400, "M_MISSING_PARAM"),
        ("PUT", "/pushrules/global/override/.m.rule.master/actions", {"actions": ["x"]}, 400, "M_INVALID_PARAM"),
        ("PUT", "/pushrules/global/override/.mine", NOTIFY, 400, "M_INVALID_PARAM"),
        ("PUT", "/pushrules/global/override/mine", {}, 400, "M_MISSING_PARAM"),
        ("PUT", "/pushrules/global/content/mine", NOTIFY, 400, "M_MISSING_PARAM"),
        ("PUT", "/pushrules/global/override/mine", {"actions": {}}, 400, "M_BAD_JSON"),
        ("PUT", "/pushrules/global/override/mine", [], 400, "M_BAD_JSON"),
        ("PUT", "/pushrules/global/override/mine?before=none", NOTIFY, 400, "M_UNKNOWN"),
        ("PUT", "/pushrules/global/postcontent/mine", NOTIFY, 400, "M_INVALID_PARAM"),
        ("DELETE", "/pushrules/global/override/.m.rule.master", None, 400, "M_INVALID_PARAM"),
        ("DELETE", "/pushrules/global/override/mine", None, 404, "M_NOT_FOUND"),
    ],
)
async def test_refusals_change_nothing(
    alice: Api, method: str, path: str, body: Any, status: int, errcode: str
) -> None:
    """What can't be as asked is refused with the errcode that says why."""
    before = await alice.get("/pushrules/")
    answer = await alice.request(method, path, body)
    assert (answer.status, answer.errcode) == (status, errcode)
    assert (await alice.get("/pushrules/")).body == before.body


async def test_rules_are_account_data_that_only_these_endpoints_set(alice: Api) -> None:
    """m.push_rules is in the first sync and after each change, can be read, and can't be written."""
    since, [first] = await synced_rules(alice)
    assert first["content"] == []
    await alice.put("/pushrules/global/content/tea", {**NOTIFY, "pattern": "tea"})
    since, [second] = await synced_rules(alice, since=since)
    assert [rule["rule_id"] for rule in second["content"]] == ["tea"]
    await alice.put("/pushrules/global/content/tea", {**NOTIFY, "pattern": "tea"})
    assert (await synced_rules(alice, since=since))[1] == []
    path = f"/user/{quote(alice.user_id)}/account_data/m.push_rules"
    assert (await alice.get(path)).body == {"global": second}
    assert (await alice.put(path, {})).status == 405


async def test_notifications_are_listed_newest_first(api: Api, alice: Api) -> None:
    """Pages follow each other without gap; each entry says what it did, and whether it was read."""
    bob = await api.register("bob")
    room_id = await room_of(alice, bob)
    sent = [await say(alice, room_id, str(number)) for number in range(3)]
    mention = await say(alice, room_id, "mention", **{"m.mentions": {"user_ids": [bob.user_id]}})
    await say(bob, room_id, "own")
    later = await say(alice, room_id, "later")
    await bob.post(f"/rooms/{quote(room_id)}/receipt/m.read/{quote(sent[1])}", {})
    first = (await bob.get("/notifications", query={"limit": "2"})).body
    second = (await bob.get("/notifications", query={"limit": "2", "from": first["next_token"]})).body
    third = (await bob.get("/notifications", query={"limit": "2", "from": second["next_token"]})).body
    listed = [*first["notifications"], *second["notifications"], *third["notifications"]]
    messages = [entry for entry in listed if entry["event"]["type"] == "m.room.message"]
    assert [entry["event"]["event_id"] for entry in messages] == [later, mention, *reversed(sent)]
    assert [entry["read"] for entry in messages] == [False, True, True, True, True]  # by what bob said
    assert {entry["room_id"] for entry in listed} == {room_id}
    assert messages[0]["actions"] == ["notify", {"set_tweak": "sound", "value": "default"}]
    assert {"set_tweak": "highlight", "value": True} in messages[1]["actions"]
    assert messages[0]["ts"] == messages[0]["event"]["origin_server_ts"]
    assert [entry["event"]["type"] for entry in listed[5:]] == ["m.room.member"]  # the invite
    assert "next_token" not in third
    highlights = (await bob.get("/notifications", query={"only": "highlight"})).body["notifications"]
    assert [entry["event"]["event_id"] for entry in highlights] == [mention]


async def test_silenced_redacted_and_others_notifications_are_not_listed(api: Api, alice: Api) -> None:
    """What did not notify, what is gone, and what is in rooms that the user has left does not appear."""
    bob = await api.register("bob")
    room_id, left = await room_of(alice, bob), await room_of(alice, bob)
    gone = await say(alice, room_id, "gone")
    await alice.put(f"/rooms/{quote(room_id)}/redact/{quote(gone)}/1", {})
    kept = await say(alice, room_id, "kept")
    await say(alice, left, "left")
    await bob.post(f"/rooms/{quote(left)}/leave", {})
    await bob.put(f"/pushrules/global/room/{quote(room_id, safe='')}", {"actions": []})
    await say(alice, room_id, "silenced")
    listed = (await bob.get("/notifications")).body["notifications"]
    messages = [entry["event"]["event_id"] for entry in listed if entry["event"]["type"] == "m.room.message"]
    assert messages == [kept]
    assert listed[0]["actions"] == ["notify"]  # the rules would say nothing of it now
    assert (await alice.get("/notifications")).body == {"notifications": []}


@pytest.mark.parametrize("query", [{"from": "x"}, {"from": "n-1"}, {"from": "n" + "9" * 19}, {"limit": "0"}])
async def test_bad_parameters_of_notifications(alice: Api, query: dict[str, str]) -> None:
    """Tokens that are not of this endpoint and limits that are none are refused."""
    answer = await alice.get("/notifications", query=query)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
