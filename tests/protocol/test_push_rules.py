"""Push rules: what each predefined rule, condition and action does, and that sharing work changes no outcome.

# spec: client-server-api/#push-notifications
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.push_rule_defaults import DEFAULT_RULES, EVALUATION_ORDER, ME
from homeserver.protocol.push_rules import (
    NOTHING,
    Actions,
    EventForPush,
    PushUser,
    UserRules,
    compile_rules,
    evaluate,
    ordered_rules,
    resolve_actions,
    with_thread_subscriptions,
)
from homeserver.protocol.room_versions import ROOM_VERSIONS

ALICE, BOB = "@alice:example.org", "@bob:example.org"
NOTIFY = Actions(notify=True, highlight=False, sound=None)
SOUND = Actions(notify=True, highlight=False, sound="default", tweaks={"sound": "default"})
HIGHLIGHT = Actions(notify=True, highlight=True, sound=None, tweaks={"highlight": True})
LOUD = Actions(notify=True, highlight=True, sound="default", tweaks={"sound": "default", "highlight": True})


def levels(sender: int = 0, **notifications: int) -> PowerLevels:
    return PowerLevels(ROOM_VERSIONS["11"], {"users": {BOB: sender}, "notifications": notifications}, {})


def push_event(
    content: Any = None,
    *,
    type: str = "m.room.message",
    state_key: str | None = None,
    sender: str = BOB,
    member_count: int = 10,
    power_levels: PowerLevels | None = None,
    in_thread: bool = False,
) -> EventForPush:
    fields = {
        "type": type,
        "room_id": "!room:example.org",
        "sender": sender,
        "content": {} if content is None else content,
        "depth": 1,
        "origin_server_ts": 1,
        "prev_events": [],
        "auth_events": [],
        **({} if state_key is None else {"state_key": state_key}),
    }
    event = Event(fields, ROOM_VERSIONS["11"], "$event")
    return EventForPush(event, member_count=member_count, power_levels=power_levels or levels(), in_thread=in_thread)


def own(kind: str, *rules: Any) -> UserRules:
    return {kind: [{"default": False, "enabled": True, **rule} for rule in rules]}


def when(*conditions: Any) -> UserRules:
    """Rules of a user whose only override rule highlights under these conditions."""
    return own("override", {"rule_id": "r", "conditions": list(conditions), "actions": ["notify", HIGHLIGHT_ACTION]})


HIGHLIGHT_ACTION = {"set_tweak": "highlight"}


def outcome(event: EventForPush, rules: UserRules | None = None, user: PushUser | None = None) -> Actions:
    return evaluate(event, compile_rules(rules or {}), user or PushUser(ALICE, "Alice"))


def matches(event: EventForPush, *conditions: Any, user: PushUser | None = None) -> bool:
    return outcome(event, when(*conditions), user) == HIGHLIGHT


def test_every_predefined_rule_of_the_specification_is_there_in_its_order() -> None:
    """Ids and order of the rules that the specification defines, and after them those of proposals."""
    assert [rule["rule_id"] for rule in DEFAULT_RULES["override"]] == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
        ".org.matrix.msc3930.rule.poll_response",
    ]
    assert [rule["rule_id"] for rule in DEFAULT_RULES["underride"]] == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
        ".org.matrix.msc3930.rule.poll_start_one_to_one",
        ".org.matrix.msc3930.rule.poll_start",
        ".org.matrix.msc3930.rule.poll_end_one_to_one",
        ".org.matrix.msc3930.rule.poll_end",
    ]
    assert not any(DEFAULT_RULES[kind] for kind in ("content", "room", "sender"))


def test_master_silences_everything_when_enabled() -> None:
    """.m.rule.master is disabled by default and, unlike other predefined rules, stands above the user's own."""
    loud = when()
    assert outcome(push_event(), loud) == HIGHLIGHT
    silenced = {**loud, "defaults": {"override": {".m.rule.master": {"enabled": True}}}}
    assert outcome(push_event(), silenced) == NOTHING


@pytest.mark.parametrize(
    ("rule", "event", "actions"),
    [
        (".m.rule.suppress_notices", push_event({"msgtype": "m.notice", "body": "hi"}), NOTHING),
        (
            ".m.rule.invite_for_me",
            push_event({"membership": "invite"}, type="m.room.member", state_key=ALICE),
            SOUND,
        ),
        (".m.rule.member_event", push_event({"membership": "invite"}, type="m.room.member", state_key="@c:d"), NOTHING),
        (".m.rule.is_user_mention", push_event({"m.mentions": {"user_ids": ["@c:d", ALICE]}}), LOUD),
        (".m.rule.is_room_mention", push_event({"m.mentions": {"room": True}}, power_levels=levels(50)), HIGHLIGHT),
        (".m.rule.tombstone", push_event(type="m.room.tombstone", state_key=""), HIGHLIGHT),
        (".m.rule.reaction", push_event(type="m.reaction"), NOTHING),
        (".m.rule.room.server_acl", push_event(type="m.room.server_acl", state_key=""), NOTHING),
        (
            ".m.rule.suppress_edits",
            push_event({"m.relates_to": {"rel_type": "m.replace", "event_id": "$e"}}),
            NOTHING,
        ),
        (".org.matrix.msc3930.rule.poll_response", push_event(type="org.matrix.msc3381.poll.response"), NOTHING),
        (
            ".m.rule.call",
            push_event(type="m.call.invite"),
            Actions(notify=True, highlight=False, sound="ring", tweaks={"sound": "ring"}),
        ),
        (".m.rule.encrypted_room_one_to_one", push_event(type="m.room.encrypted", member_count=2), SOUND),
        (".m.rule.room_one_to_one", push_event(member_count=2), SOUND),
        (".m.rule.message", push_event(), NOTIFY),
        (".m.rule.encrypted", push_event(type="m.room.encrypted"), NOTIFY),
        (
            ".org.matrix.msc3930.rule.poll_start_one_to_one",
            push_event(type="org.matrix.msc3381.poll.start", member_count=2),
            SOUND,
        ),
        (".org.matrix.msc3930.rule.poll_start", push_event(type="org.matrix.msc3381.poll.start"), NOTIFY),
        (
            ".org.matrix.msc3930.rule.poll_end_one_to_one",
            push_event(type="org.matrix.msc3381.poll.end", member_count=2),
            SOUND,
        ),
        (".org.matrix.msc3930.rule.poll_end", push_event(type="org.matrix.msc3381.poll.end"), NOTIFY),
    ],
)
def test_each_predefined_rule_does_what_it_says(rule: str, event: EventForPush, actions: Actions) -> None:
    """The event that a rule is about gets that rule's actions, and it is that rule that gives them."""
    assert outcome(event) == actions
    kind = next(kind for kind, rules in DEFAULT_RULES.items() if any(r["rule_id"] == rule for r in rules))
    beep = ["notify", {"set_tweak": "sound", "value": "beep"}]
    changed = {"defaults": {kind: {rule: {"actions": beep}}}}
    assert outcome(event, changed).sound == "beep"


def test_what_no_rule_matches_does_not_notify() -> None:
    """If no rules match an event, nobody is notified."""
    assert outcome(push_event(type="m.room.topic", state_key="")) == NOTHING


def test_a_room_mention_needs_the_power_to_make_it() -> None:
    """@room from a sender below the room's notification level is an ordinary message."""
    mention = {"m.mentions": {"room": True}}
    assert outcome(push_event(mention, power_levels=levels(49))) == NOTIFY
    assert outcome(push_event(mention, power_levels=levels(10, room=10))) == HIGHLIGHT
    assert outcome(push_event({"m.mentions": {"room": "true"}}, power_levels=levels(100))) == NOTIFY


def test_nobody_is_notified_of_their_own_events() -> None:
    """Homeservers MUST NOT notify the Push Gateway for events that the user has sent themselves."""
    assert outcome(push_event(sender=ALICE), when()) == NOTHING


def test_thread_subscriptions_decide_between_keywords_and_room_rules() -> None:
    """MSC4306: events of subscribed threads notify, those of others don't, whatever room rules say; mentions do."""
    muted = own("room", {"rule_id": "!room:example.org", "actions": []})
    rules = compile_rules(with_thread_subscriptions(muted))
    subscriber, other = PushUser(ALICE, None, subscribed_to_thread=True), PushUser(ALICE)
    assert evaluate(push_event(in_thread=True), rules, subscriber) == SOUND
    assert evaluate(push_event(in_thread=True), rules, other) == NOTHING
    assert evaluate(push_event(), rules, subscriber) == NOTHING
    mention = push_event({"m.mentions": {"user_ids": [ALICE]}}, in_thread=True)
    assert evaluate(mention, rules, other) == LOUD
    unmuted = compile_rules(with_thread_subscriptions({}))
    assert evaluate(push_event(in_thread=True), unmuted, other) == NOTHING
    assert evaluate(push_event(), unmuted, other) == NOTIFY


def test_kinds_are_checked_in_the_order_of_the_specification() -> None:
    """override, content, room, sender, underride: the first kind with a matching rule decides."""
    rules: dict[str, Any] = {}
    event = push_event({"body": "cake"})
    named = {"content": "r", "room": "!room:example.org", "sender": BOB}
    for kind in ("underride", "sender", "room", "content", "override"):
        sound = {"set_tweak": "sound", "value": kind}
        rule = {"rule_id": named.get(kind, "r"), "pattern": "cake", "conditions": [], "actions": ["notify", sound]}
        rules |= own(kind, rule)
        assert outcome(event, rules).sound == kind


def test_the_more_important_of_two_matching_rules_decides() -> None:
    """Only the actions of the highest priority rule count, and disabled rules never match."""
    tea = {"rule_id": "tea", "pattern": "tea", "actions": ["notify", HIGHLIGHT_ACTION]}
    time_ = {"rule_id": "time", "pattern": "time", "actions": []}
    event = push_event({"body": "It's time for tea"})
    assert outcome(event, own("content", tea, time_)) == HIGHLIGHT
    assert outcome(event, own("content", time_, tea)) == NOTHING
    assert outcome(event, own("content", {**time_, "enabled": False}, tea)) == HIGHLIGHT


def test_room_and_sender_rules_are_about_the_one_in_their_id() -> None:
    """A room rule affects its room, a sender rule its sender, and neither another."""
    for kind, mine, other in (("room", "!room:example.org", "!x:example.org"), ("sender", BOB, "@x:example.org")):
        assert outcome(push_event(), own(kind, {"rule_id": mine, "actions": []})) == NOTHING
        assert outcome(push_event(), own(kind, {"rule_id": other, "actions": []})) == NOTIFY


def test_users_who_change_nothing_share_one_compiled_ruleset() -> None:
    """The usual case costs nothing per user."""
    assert compile_rules({}) is compile_rules({"override": [], "defaults": {}})
    assert compile_rules(with_thread_subscriptions({})) is compile_rules(with_thread_subscriptions({"override": []}))
    assert compile_rules(with_thread_subscriptions({})) is not compile_rules({})


@pytest.mark.parametrize(
    ("topic", "holds"),
    [("Lunch plans", True), ("LUNCH", True), (" lunch", False), ("lunc", False), (None, False), (["lunch"], False)],
)
def test_event_match_takes_the_whole_value_whatever_its_case(topic: Any, holds: bool) -> None:
    """The specification's example: `lunc?*` against content.topic."""
    condition = {"kind": "event_match", "key": "content.topic", "pattern": "lunc?*"}
    event = push_event({"topic": topic}, type="m.room.topic", state_key="")
    assert matches(event, condition) is holds


def test_event_match_needs_the_property() -> None:
    """An absent property doesn't match even `*`; an empty string matches an empty pattern."""
    assert not matches(push_event({}), {"kind": "event_match", "key": "content.topic", "pattern": "*"})
    assert matches(push_event({"topic": ""}), {"kind": "event_match", "key": "content.topic", "pattern": ""})


@pytest.mark.parametrize(
    ("pattern", "body", "holds"),
    [
        ("ex*ple", "An example event.", True),
        ("ex*ple", "exple", True),
        ("ex*ple", "An exciting triple-whammy", True),
        ("cake", "cakes", False),
        ("cake", "pan_cake", False),
        ("cake", "CAKE!", True),
        ("cake", "(cake)", True),
        ("cake", "ücake", True),
        ("c?ke", "a coke", True),
        ("ca*", "my cakes", True),
        ("*ke", "cakes", False),
    ],
)
def test_event_match_of_the_body_finds_words(pattern: str, body: str, holds: bool) -> None:
    """In content.body some part between word boundaries must match; letters beyond A-Z are boundaries."""
    assert (
        matches(push_event({"body": body}), {"kind": "event_match", "key": "content.body", "pattern": pattern}) is holds
    )
    rule = {"rule_id": "r", "pattern": pattern, "actions": ["notify", HIGHLIGHT_ACTION]}
    assert (outcome(push_event({"body": body}), own("content", rule)) == HIGHLIGHT) is holds


@pytest.mark.parametrize(
    ("value", "expected", "holds"),
    [
        (True, True, True),
        ("true", True, False),
        (1, True, False),
        (True, 1, False),
        (1, 1, True),
        (1.0, 1, False),
        (None, None, True),
        ("x", "X", False),
        ([], None, False),
    ],
)
def test_event_property_is_exact(value: Any, expected: Any, holds: bool) -> None:
    """Values are equal only if their types are; dots in a name are escaped."""
    condition = {"kind": "event_property_is", "key": r"content.m\.federate", "value": expected}
    assert matches(push_event({"m.federate": value}), condition) is holds
    assert not matches(push_event({}), condition)
    assert not matches(push_event({"m": {"federate": value}}), condition)


@pytest.mark.parametrize(
    ("values", "expected", "holds"),
    [
        (["#a:x", "#b:x"], "#b:x", True),
        (["#a:x"], ":x", False),
        ("#a:x", "#a:x", False),
        ([1, {}, [], None], None, True),
        ([True], 1, False),
        ([], "", False),
    ],
)
def test_event_property_contains_an_exact_value(values: Any, expected: Any, holds: bool) -> None:
    """An array matches if one of its values is exactly the one sought; what is no array doesn't."""
    condition = {"kind": "event_property_contains", "key": "content.list", "value": expected}
    assert matches(push_event({"list": values}), condition) is holds


@pytest.mark.parametrize(
    ("name", "body", "holds"),
    [
        ("Alice", "hello alice!", True),
        ("Alice", "malice", False),
        ("A*e", "apple", False),
        ("A*e", "say a*e", True),
        ("", "hello", False),
        (None, "hello", False),
        ("Alice", None, False),
    ],
)
def test_contains_display_name_looks_for_the_name_as_it_is(name: str | None, body: Any, holds: bool) -> None:
    """The owner's display name is found between word boundaries; it is no pattern, and none is never found."""
    event = push_event({"body": body})
    assert matches(event, {"kind": "contains_display_name"}, user=PushUser(ALICE, name)) is holds


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("2", {2}),
        ("==2", {2}),
        ("<2", {1}),
        ("<=2", {1, 2}),
        (">2", {3}),
        (">=2", {2, 3}),
        ("", set()),
        ("two", set()),
        ("=2", set()),
        ("-2", set()),
        (2, set()),
    ],
)
def test_room_member_count_compares(text: Any, counts: set[int]) -> None:
    """A decimal integer with an optional comparison; anything else never holds."""
    condition = {"kind": "room_member_count", "is": text}
    assert {count for count in (1, 2, 3) if matches(push_event(member_count=count), condition)} == counts


def test_sender_notification_permission_asks_for_the_level_of_its_key() -> None:
    """The sender needs the level under `notifications`, 50 where there is none."""
    condition = {"kind": "sender_notification_permission", "key": "org.example.alarm"}
    assert not matches(push_event(power_levels=levels(49)), condition)
    assert matches(push_event(power_levels=levels(50)), condition)
    assert matches(push_event(power_levels=levels(5, **{"org.example.alarm": 5})), condition)


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "org.example.moon_phase"},
        {},
        [],
        None,
        {"kind": "event_match", "key": "type"},
        {"kind": "event_match", "key": 1, "pattern": "*"},
        {"kind": "event_property_is", "key": "type"},
        {"kind": "event_property_is", "key": "content", "value": {}},
        {"kind": "event_property_is", "key": "content.x", "value": 2**53},
        {"kind": "sender_notification_permission"},
        {"kind": ["event_match"], "key": "type", "pattern": "*"},
    ],
)
def test_unrecognised_conditions_match_nothing(condition: Any) -> None:
    """Unrecognised and malformed conditions disable their rule."""
    assert not matches(push_event({"x": 2**53}), condition)


@pytest.mark.parametrize(
    ("actions", "resolved"),
    [
        (["notify"], NOTIFY),
        ([], NOTHING),
        (["dont_notify"], NOTHING),
        (["coalesce", "notify"], NOTIFY),
        (["notify", {"set_tweak": "highlight"}], HIGHLIGHT),
        (["notify", {"set_tweak": "highlight", "value": True}], HIGHLIGHT),
        ([{"set_tweak": "highlight"}], NOTHING),
        (["notify", {"set_tweak": "sound", "value": "default"}], SOUND),
        (["notify", {"set_tweak": "sound"}], NOTIFY),
        (["notify", {"unknown": 1}, 5], NOTIFY),
    ],
)
def test_actions_resolve(actions: list[Any], resolved: Actions) -> None:
    """`highlight` without a value is true, historical and unknown actions are ignored."""
    assert resolve_actions(actions) == resolved


def test_tweaks_pass_through() -> None:
    """Clients and gateways may agree on tweaks that this server doesn't know."""
    actions = resolve_actions(["notify", {"set_tweak": "org.example.led", "value": "blue"}])
    assert actions.tweaks == {"org.example.led": "blue"}
    quiet = resolve_actions(["notify", {"set_tweak": "highlight", "value": False}])
    assert not quiet.highlight


WORDS = st.sampled_from(["tea", "time", "Alice", "t?a", "*", "ti*", "", "a*e"])
KEYS = st.sampled_from(["content.body", "content.msgtype", "type", "room_id", "sender", r"content.a\.b", "content.n"])
SCALARS = st.sampled_from([True, 1, None, "tea", "m.text", 0, False])
CONDITIONS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("event_match"), "key": KEYS, "pattern": WORDS}),
    st.fixed_dictionaries(
        {
            "kind": st.just("event_match"),
            "key": st.just("room_id"),
            "pattern": st.sampled_from(["!ROOM:example.org", "!x"]),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("event_property_is"), "key": KEYS, "value": SCALARS}),
    st.fixed_dictionaries({"kind": st.just("event_property_contains"), "key": KEYS, "value": SCALARS}),
    st.fixed_dictionaries({"kind": st.just("room_member_count"), "is": st.sampled_from(["2", ">2", "<=3", "x"])}),
    st.just({"kind": "contains_display_name"}),
    st.just({"kind": "sender_notification_permission", "key": "room"}),
    st.just({"kind": "org.example.unknown"}),
)
ACTIONS = st.sampled_from(
    [[], ["notify"], ["notify", HIGHLIGHT_ACTION], ["notify", {"set_tweak": "sound", "value": "beep"}]]
)
NAMES = {"room": ["!room:example.org", "!x"], "sender": [BOB, "@x:y"]}


def rule_of(kind: str) -> st.SearchStrategy[Any]:
    fields: dict[str, Any] = {
        "rule_id": st.sampled_from(NAMES.get(kind, ["a", "b", "c"])),
        "default": st.just(False),
        "enabled": st.booleans(),
        "actions": ACTIONS,
    }
    if kind == "content":
        fields["pattern"] = WORDS
    elif kind not in NAMES:
        fields["conditions"] = st.lists(CONDITIONS, max_size=2)
    return st.fixed_dictionaries(fields)


CHANGES = st.dictionaries(
    st.sampled_from([rule["rule_id"] for rule in DEFAULT_RULES["underride"]]),
    st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "actions": ACTIONS}),
    max_size=2,
)
USER_RULES = st.fixed_dictionaries(
    {
        **{
            kind: st.lists(rule_of(kind), max_size=3) for kind in ("override", "content", "room", "sender", "underride")
        },
        "defaults": st.fixed_dictionaries({"underride": CHANGES}),
    }
)
EVENTS = st.builds(
    push_event,
    st.fixed_dictionaries(
        {},
        optional={
            "body": st.sampled_from(["tea time", "Alice", "steady", "", 5]),
            "msgtype": st.sampled_from(["m.text", "m.notice"]),
            "a.b": SCALARS,
            "n": st.lists(SCALARS, max_size=3),
            "m.mentions": st.sampled_from([{"user_ids": [ALICE]}, {"room": True}, 1]),
        },
    ),
    type=st.sampled_from(["m.room.message", "m.room.encrypted", "m.reaction"]),
    sender=st.sampled_from([BOB, "@x:y", ALICE]),
    member_count=st.integers(1, 4),
    power_levels=st.sampled_from([levels(0), levels(50)]),
    in_thread=st.booleans(),
)


def naive_glob(pattern: str, text: str, words: bool) -> bool:
    middle = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    edge = r"(?:\A|\Z|(?<![A-Za-z0-9_])|(?![A-Za-z0-9_]))"
    found = re.search(f"{edge}(?:{middle}){edge}" if words else rf"\A{middle}\Z", text, re.IGNORECASE | re.DOTALL)
    return found is not None


def naive_holds(condition: Any, event: EventForPush, user: PushUser) -> bool:
    at: Any = event.json
    for name in re.split(r"(?<!\\)\.", condition.get("key", "")):
        at = at[name.replace("\\.", ".")] if isinstance(at, dict) and name.replace("\\.", ".") in at else ...

    def exactly(value: Any, wanted: Any) -> bool:
        return json.dumps(value) == json.dumps(wanted)

    match condition["kind"]:
        case "event_match":
            pattern = condition["pattern"].replace(ME, user.user_id)
            return isinstance(at, str) and naive_glob(pattern, at, condition["key"] == "content.body")
        case "event_property_is":
            return at is not ... and exactly(at, condition["value"])
        case "event_property_contains":
            wanted = user.user_id if condition["value"] == ME else condition["value"]
            return isinstance(at, list) and any(exactly(value, wanted) for value in at)
        case "room_member_count":
            text = condition["is"]
            comparison = "==" if text.isdigit() else ""
            return text != "x" and bool(eval(f"{event.member_count}{comparison}{text}"))
        case "contains_display_name":
            body = event.json["content"].get("body")
            return isinstance(body, str) and naive_glob(user.display_name or "?", body, words=True)
        case "sender_notification_permission":
            assert event.power_levels is not None
            return event.power_levels.user(event.event.sender) >= 50
        case "io.element.msc4306.thread_subscription":
            return event.in_thread and user.subscribed_to_thread == condition["subscribed"]
    return False


def naive_evaluate(event: EventForPush, rules: UserRules, user: PushUser) -> Actions:
    if event.event.sender == user.user_id:
        return NOTHING
    for kind in EVALUATION_ORDER:
        for rule in ordered_rules(rules, kind):
            conditions: Iterable[Any] = rule.get("conditions", ())
            if kind == "content":
                conditions = [{"kind": "event_match", "key": "content.body", "pattern": rule["pattern"]}]
            about = {"room": event.event.room_id, "sender": event.event.sender}.get(kind, rule["rule_id"])
            if rule["enabled"] and rule["rule_id"] == about and all(naive_holds(c, event, user) for c in conditions):
                return resolve_actions(rule["actions"])
    return NOTHING


@settings(deadline=None)  # it holds up to 24 rulesets and users against each other
@given(EVENTS, st.lists(USER_RULES, min_size=1, max_size=3))
def test_shared_evaluation_equals_one_by_one(event: EventForPush, rulesets: list[UserRules]) -> None:
    """One event evaluated for several users gives each what evaluating it for them alone, rule by rule, gives."""
    for rules in [*rulesets, {}, *map(with_thread_subscriptions, [*rulesets, {}])]:
        for user in (PushUser(ALICE, "Alice"), PushUser("@carol:example.org", "time"), PushUser(ALICE, None, True)):
            compiled = compile_rules(rules)
            expected = naive_evaluate(event, rules, user)
            assert evaluate(event, compiled, user) == expected
            assert evaluate(event, compiled, user) == expected, "evaluating changes nothing"


def test_thousands_of_members_are_evaluated_cheaply() -> None:
    """Five thousand members, every tenth with hundreds of muted rooms and keywords of their own, in under a second."""

    def mute(n: int) -> Any:
        condition = {"kind": "event_match", "key": "room_id", "pattern": f"!muted{n}:example.org"}
        return {"rule_id": f"!muted{n}", "conditions": [condition], "actions": []}

    busy = [
        compile_rules(
            {
                **own("override", *[mute(n) for n in range(300)]),
                **own("content", *[{"rule_id": f"{m}-{n}", "pattern": f"word{m}{n}", "actions": []} for n in range(5)]),
            }
        )
        for m in range(50)
    ]
    event = push_event({"body": "hello everyone, it is time for tea " * 5, "m.mentions": {"user_ids": [ALICE]}})
    started = time.process_time()
    for number in range(5000):
        rules = busy[number // 10 % 50] if number % 10 == 0 else compile_rules({})
        assert evaluate(event, rules, PushUser(f"@user{number}:example.org", f"User {number}")) == NOTIFY
    assert evaluate(event, compile_rules({}), PushUser(ALICE)) == LOUD
    assert time.process_time() - started < 1


def test_hostile_keywords_against_a_hostile_body_end() -> None:
    """The longest patterns against the longest body cost a bounded time."""
    patterns = ["a?" * 100 + str(n) for n in range(50)] + ["*".join(["a" * 20] * 10) + str(n) for n in range(50)]
    rules = own("content", *[{"rule_id": p[-3:] + str(i), "pattern": p, "actions": []} for i, p in enumerate(patterns)])
    compiled = compile_rules(rules)
    started = time.process_time()
    assert evaluate(push_event({"body": "a" * 60_000}), compiled, PushUser(ALICE)) == NOTIFY
    assert time.process_time() - started < 2
