"""Showing and changing push rules.  # spec: client-server-api/#push-rules-api"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.errors import BadJson, BadRequest, InvalidParam, MatrixError, MissingParam, NotFound
from homeserver.protocol.push_rule_defaults import KINDS
from homeserver.protocol.push_rule_edits import (
    MAX_RULES,
    delete_rule,
    get_rule,
    put_rule,
    ruleset_json,
    set_actions,
    set_enabled,
)
from homeserver.protocol.push_rules import UserRules, compile_rules, with_thread_subscriptions

ALICE = "@alice:example.org"
CAKE = {"pattern": "cake", "actions": ["notify"]}
MUTE: dict[str, Any] = {"actions": []}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["notify", "event_match", "2", "\0", "."]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["actions", "conditions", "pattern", "kind", "key", "value", "is", "set_tweak"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


def three_rules() -> UserRules:
    rules: UserRules = {}
    for rule_id in ("c", "b", "a"):
        rules = put_rule(rules, "content", rule_id, CAKE)
    return rules


def ids(rules: UserRules, kind: str = "content") -> list[str]:
    return [rule["rule_id"] for rule in rules[kind]]


def test_the_ruleset_of_a_new_user_names_that_user() -> None:
    """All kinds are there, and predefined rules have the user's id where they speak of the user."""
    shown = ruleset_json({}, ALICE)
    assert list(shown) == list(KINDS)
    invite = get_rule({}, ALICE, "override", ".m.rule.invite_for_me")
    assert invite["conditions"][2] == {"kind": "event_match", "key": "state_key", "pattern": ALICE}
    mention = get_rule({}, ALICE, "override", ".m.rule.is_user_mention")
    assert mention["conditions"][0]["value"] == ALICE
    assert "\0" not in repr(shown)


def test_own_rules_stand_between_the_master_and_the_other_predefined_rules() -> None:
    """Predefined rules have a lower priority than the user's own, except for .m.rule.master."""
    rules = put_rule({}, "override", "mine", {"conditions": [], "actions": ["notify"]})
    shown = [rule["rule_id"] for rule in ruleset_json(rules, ALICE)["override"]]
    assert shown[:3] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]


def test_a_new_rule_is_enabled_and_the_most_important_of_its_kind() -> None:
    """Without before or after a created rule is added first, enabled, and not as a default rule."""
    rules = three_rules()
    assert ids(rules) == ["a", "b", "c"]
    shown = {"rule_id": "a", "default": False, "enabled": True, "pattern": "cake", "actions": ["notify"]}
    assert get_rule(rules, ALICE, "content", "a") == shown


@pytest.mark.parametrize(
    ("place", "order"),
    [
        ({"before": "b"}, ["a", "new", "b", "c"]),
        ({"after": "b"}, ["a", "b", "new", "c"]),
        ({"after": "c"}, ["a", "b", "c", "new"]),
        ({"before": "c", "after": "a"}, ["a", "b", "new", "c"]),
    ],
)
def test_before_and_after_place_a_rule(place: dict[str, str], order: list[str]) -> None:
    """`before` makes it next-most important to the named rule, `after` next-less; with both, `before` counts."""
    assert ids(put_rule(three_rules(), "content", "new", CAKE, **place)) == order


def test_an_update_changes_parameters_and_keeps_place_and_state() -> None:
    """A rule that there is keeps its place unless it is given one, and stays disabled."""
    rules = set_enabled(three_rules(), "content", "b", False)
    updated = put_rule(rules, "content", "b", {"pattern": "pie", "actions": []})
    assert ids(updated) == ["a", "b", "c"]
    assert get_rule(updated, ALICE, "content", "b")["pattern"] == "pie"
    assert get_rule(updated, ALICE, "content", "b")["enabled"] is False
    assert ids(put_rule(rules, "content", "c", CAKE, before="a")) == ["c", "a", "b"]
    assert ids(put_rule(rules, "content", "a", CAKE, after="c")) == ["b", "c", "a"]


@pytest.mark.parametrize("beside", ["absent", ".m.rule.message", "new"])
def test_a_rule_is_placed_beside_own_rules_only(beside: str) -> None:
    """It is not possible to add a rule relative to a predefined one, to itself, or to one that isn't there."""
    for place in ("before", "after"):
        with pytest.raises(BadRequest, match="before/after rule not found") as caught:
            put_rule({}, "underride", "new", MUTE, **{place: beside})
        assert caught.value.errcode == "M_UNKNOWN"


@pytest.mark.parametrize("rule_id", ["", ".m.rule.mine", "a/b", "a\\b", "x" * 256, "\0"])
def test_rule_ids_that_are_reserved_or_impossible_are_refused(rule_id: str) -> None:
    """A leading dot is reserved for predefined rules; slashes and backslashes are not allowed."""
    with pytest.raises(InvalidParam):
        put_rule({}, "content", rule_id, CAKE)


@pytest.mark.parametrize("kind", ["postcontent", "device", "", "defaults"])
def test_rules_of_other_kinds_can_not_be_made(kind: str) -> None:
    """Only the five kinds of the specification take rules of a user's own."""
    with pytest.raises(InvalidParam):
        put_rule({}, kind, "x", CAKE)
    with pytest.raises(InvalidParam):
        delete_rule({}, kind, "x")


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        ("room", [], BadJson),
        ("room", {}, MissingParam),
        ("room", {"actions": "notify"}, BadJson),
        ("room", {"actions": [1]}, BadJson),
        ("room", {"actions": [{"value": 1}]}, BadJson),
        ("room", {"actions": ["shout"]}, InvalidParam),
        ("room", {"actions": ["notify"] * 21}, InvalidParam),
        ("room", {"actions": [{"set_tweak": "sound", "value": "x" * 5000}]}, InvalidParam),
        ("room", {"actions": [{"set_tweak": "sound", "value": "\0"}]}, InvalidParam),
        ("content", {"actions": []}, MissingParam),
        ("content", {"actions": [], "pattern": 1}, BadJson),
        ("content", {"actions": [], "pattern": "x" * 513}, InvalidParam),
        ("override", {"actions": [], "conditions": {}}, BadJson),
        ("override", {"actions": [], "conditions": ["event_match"]}, BadJson),
        ("override", {"actions": [], "conditions": [{}]}, MissingParam),
        ("override", {"actions": [], "conditions": [{"kind": "contains_display_name"}] * 21}, InvalidParam),
        ("override", {"actions": [], "conditions": [{"kind": "event_match", "key": "type"}]}, MissingParam),
        ("override", {"actions": [], "conditions": [{"kind": "event_match", "pattern": "*"}]}, MissingParam),
        ("override", {"actions": [], "conditions": [{"kind": "room_member_count", "is": "few"}]}, InvalidParam),
        ("override", {"actions": [], "conditions": [{"kind": "event_property_is", "key": "type"}]}, MissingParam),
        (
            "underride",
            {"actions": [], "conditions": [{"kind": "event_property_contains", "key": "a", "value": []}]},
            InvalidParam,
        ),
        ("underride", {"actions": [], "conditions": [{"kind": "x", "y": "\0me"}]}, InvalidParam),
    ],
)
def test_rules_that_can_not_be_are_refused(kind: str, body: Any, error: type[MatrixError]) -> None:
    """A malformed or oversized rule is a clear error."""
    with pytest.raises(error):
        put_rule({}, kind, "r", body)


def test_unknown_conditions_are_kept() -> None:
    """A client may make rules with conditions that this server doesn't know yet; they never match."""
    condition = {"kind": "org.example.moon_phase", "phase": "full"}
    rules = put_rule({}, "override", "r", {"actions": ["notify"], "conditions": [condition]})
    assert get_rule(rules, ALICE, "override", "r")["conditions"] == [condition]


def test_historical_actions_are_stripped() -> None:
    """A rule with `dont_notify` is a rule without actions."""
    rules = put_rule({}, "room", "!r", {"actions": ["dont_notify", "coalesce"]})
    assert get_rule(rules, ALICE, "room", "!r")["actions"] == []


def test_the_number_of_rules_is_bounded() -> None:
    """A user can't have rules without end, but can still change those there are."""
    full = {"room": [{"rule_id": f"!{n}", "default": False, "enabled": True, **MUTE} for n in range(MAX_RULES)]}
    with pytest.raises(InvalidParam):
        put_rule(full, "room", "!new", MUTE)
    assert len(put_rule(full, "room", "!5", MUTE)["room"]) == MAX_RULES


def test_the_size_of_all_rules_together_is_bounded() -> None:
    """Rules that are each allowed can't add up to what would make every event expensive."""
    condition = {"kind": "event_match", "key": "content.body", "pattern": "a?" * 200}
    rule = {"rule_id": "r", "default": False, "enabled": True, "actions": [], "conditions": [condition] * 9}
    nearly: UserRules = {"override": [{**rule, "rule_id": f"r{number}"} for number in range(49)]}
    with pytest.raises(InvalidParam, match="together"):
        put_rule(nearly, "override", "one more", {"actions": [], "conditions": [condition] * 9})
    with pytest.raises(InvalidParam, match="together"):
        set_actions(nearly, "override", "r1", [{"set_tweak": "x", "value": "y" * 4000}])
    assert put_rule(nearly, "override", "r1", MUTE) != nearly


def test_rules_can_be_deleted_once() -> None:
    """Deleting removes the rule; a rule that isn't there is not found, a predefined one stays."""
    rules = delete_rule(three_rules(), "content", "b")
    assert ids(rules) == ["a", "c"]
    with pytest.raises(NotFound):
        delete_rule(rules, "content", "b")
    with pytest.raises(InvalidParam):
        delete_rule(rules, "override", ".m.rule.master")


def test_predefined_rules_can_be_disabled_and_given_other_actions() -> None:
    """Both changes hold at once, are shown, and leave the rule in its place."""
    rules = set_enabled({}, "underride", ".m.rule.message", False)
    rules = set_actions(rules, "underride", ".m.rule.message", ["notify", {"set_tweak": "highlight"}])
    rules = set_enabled(rules, "override", ".m.rule.master", True)
    shown = get_rule(rules, ALICE, "underride", ".m.rule.message")
    assert (shown["enabled"], shown["actions"]) == (False, ["notify", {"set_tweak": "highlight"}])
    assert shown["default"] is True
    assert get_rule(rules, ALICE, "override", ".m.rule.master")["enabled"] is True
    order = [rule["rule_id"] for rule in ruleset_json({}, ALICE)["underride"]]
    assert [rule["rule_id"] for rule in ruleset_json(rules, ALICE)["underride"]] == order


def test_rules_that_are_not_there_are_not_found() -> None:
    """Reading or changing an unknown rule is a 404, whatever it looks like."""
    for rule_id in ("x", ".m.rule.contains_display_name"):
        with pytest.raises(NotFound):
            get_rule({}, ALICE, "override", rule_id)
        with pytest.raises(NotFound):
            set_enabled({}, "override", rule_id, True)
        with pytest.raises(NotFound):
            set_actions({}, "override", rule_id, [])
    with pytest.raises(InvalidParam):
        get_rule({}, ALICE, "device", "x")
    with pytest.raises(BadJson):
        set_enabled({}, "override", ".m.rule.master", "true")


def test_thread_subscription_rules_are_shown_and_changed_where_they_are_on() -> None:
    """The kind that they add appears in its place, and only then."""
    shown = ruleset_json(with_thread_subscriptions({}), ALICE)
    assert list(shown) == ["override", "content", "postcontent", "room", "sender", "underride"]
    rule_id = ".io.element.msc4306.rule.unsubscribed_thread"
    rules = set_enabled(with_thread_subscriptions({}), "postcontent", rule_id, False)
    assert not get_rule(rules, ALICE, "postcontent", rule_id)["enabled"]
    with pytest.raises(NotFound):
        set_enabled({}, "postcontent", rule_id, False)


@given(st.sampled_from(KINDS), JSON)
def test_arbitrary_rules_are_stored_or_refused_clearly(kind: str, body: Any) -> None:
    """No body makes an edit fail in any other way than with a MatrixError; what is stored can be compiled and shown."""
    before = three_rules()
    untouched = deepcopy(before)
    with suppress(MatrixError):
        rules = put_rule(before, kind, "r", body)
        compile_rules(rules)
        assert get_rule(rules, ALICE, kind, "r")["rule_id"] == "r"
    with suppress(MatrixError):
        set_actions(before, "content", "a", body)
    assert before == untouched, "edits return new values"
