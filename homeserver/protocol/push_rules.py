"""Push rules: which events notify whom, and how loudly.

One event is held against the rules of every local member of its room, thousands of them, so the work is divided by what
it depends on. `EventForPush` is one event: paths into it are resolved, texts folded and conditions answered once,
whoever asks. A condition is one object however many users have it (`condition` interns), so an answer is found by
identity. `CompiledRules` is one user's ruleset without its disabled and impossible rules; users who changed nothing
share one, and with it the short list of rules that this event leaves open. Only the few conditions that speak of "me"
ask for the `PushUser`. Rules that can only match in one room or for one sender are indexed by it, because users mute
rooms by the hundred.

# spec: client-server-api/#push-rules
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

from homeserver.protocol.client_event import client_event
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.filters import split_path
from homeserver.protocol.globs import Glob, Positions, folded_glob
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.push_rule_defaults import (
    DEFAULT_RULES,
    EVALUATION_ORDER,
    MASTER,
    ME,
    THREAD_SUBSCRIPTION_RULES,
    DefaultRules,
)

UserRules: TypeAlias = Mapping[str, Any]
"""What a user has changed, as it is stored. For each kind a list of the user's own rules as the API shows them, most
important first; under "defaults", for each kind, what is changed of predefined rules: rule_id → enabled, actions. With
"thread_subscriptions" the predefined rules are those for users whose clients subscribe to threads (MSC4306)."""

NO_USER_RULES: UserRules = {}

_MEMBER_COUNT = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})\Z")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Actions:
    """What a rule does. `tweaks` are all tweaks that it sets, as they go to the push gateway.

    # spec: client-server-api/#actions
    """

    notify: bool
    highlight: bool
    sound: str | None
    tweaks: JsonObject = field(default_factory=dict, hash=False)


NOTHING = Actions(notify=False, highlight=False, sound=None)


class PushUser(NamedTuple):
    """The user for whom rules are evaluated. `display_name` is the one in the event's room.

    `subscribed_to_thread` is whether they are subscribed to the thread that the event belongs to, if it does to one.
    """

    user_id: str
    display_name: str | None = None
    subscribed_to_thread: bool = False


class EventForPush:
    """One event, and everything about it that rules ask and that is the same for every user."""

    __slots__ = (
        "_known",
        "_open",
        "_positions",
        "_strings",
        "_values",
        "event",
        "in_thread",
        "json",
        "member_count",
        "power_levels",
    )

    def __init__(
        self, event: Event, *, member_count: int, power_levels: PowerLevels | None, in_thread: bool = False
    ) -> None:
        """`member_count` is the number of joined members; `power_levels` None is for who isn't in the room (invites).

        `in_thread` says whether the event belongs to a thread, over however many relations.
        """
        self.event = event
        self.json = client_event(event)
        self.member_count = member_count
        self.power_levels = power_levels
        self.in_thread = in_thread
        self._values: dict[str, Any] = {}
        self._positions: dict[str, Positions | None] = {}
        self._strings: dict[str, frozenset[str]] = {}
        self._known: dict[Condition, bool] = {}
        self._open: dict[CompiledRules, tuple[Rule, ...]] = {}

    def value(self, key: str) -> Any:
        """The value at that dot-separated path; `_ABSENT` if there is none.

        # spec: appendices/#dot-separated-property-paths
        """
        if key not in self._values:
            value: Any = self.json
            for name in split_path(key):
                value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
            self._values[key] = value
        return self._values[key]

    def text(self, key: str) -> Positions | None:
        """The folded text at that path, None if there is no string."""
        if key not in self._positions:
            value = self.value(key)
            self._positions[key] = Positions(value.casefold()) if isinstance(value, str) else None
        return self._positions[key]

    def strings(self, key: str) -> frozenset[str]:
        """The strings in the list at that path, none if there is no list."""
        if key not in self._strings:
            values = self.value(key)
            texts = [value for value in values if isinstance(value, str)] if isinstance(values, list) else ()
            self._strings[key] = frozenset(texts)
        return self._strings[key]

    def holds(self, condition: Condition) -> bool:
        """Whether a condition that is the same for every user holds."""
        known = self._known.get(condition)
        if known is None:
            known = self._known[condition] = condition.holds(self)
        return known

    def open_rules(self, rules: CompiledRules) -> tuple[Rule, ...]:
        """The rules that may still match, most important first; the last is the only one that may match anybody."""
        found = self._open.get(rules)
        if found is None:
            found = self._open[rules] = tuple(self._filter(rules))
        return found

    def _filter(self, rules: CompiledRules) -> Iterable[Rule]:
        holds = self.holds
        for rule in rules.candidates(self.event.room_id, self.event.sender):
            for one in rule.shared:
                if not holds(one):
                    break
            else:
                yield rule
                if not rule.personal:
                    return


class Condition(Protocol):
    """A condition that is the same for every user. Compared and hashed by identity."""

    def holds(self, event: EventForPush) -> bool: ...


class PersonalCondition(Protocol):
    """A condition that asks who the user is."""

    def holds_for(self, event: EventForPush, user: PushUser) -> bool: ...


class EventMatch:
    """# spec: client-server-api/#conditions-1 event_match"""

    def __init__(self, key: str, pattern: str) -> None:
        self.key = key
        self.glob = folded_glob(pattern)

    def holds(self, event: EventForPush) -> bool:
        text = event.text(self.key)
        if text is None:
            return False
        if self.key == "content.body":
            return self.glob.matches_words(text)
        return self.glob.matches(text.text, text)


class EventPropertyIs:
    """# spec: client-server-api/#conditions-1 event_property_is"""

    def __init__(self, key: str, value: Any) -> None:
        self.key = key
        self.expected = value

    def holds(self, event: EventForPush) -> bool:
        return _same(event.value(self.key), self.expected)


class EventPropertyContains:
    """# spec: client-server-api/#conditions-1 event_property_contains"""

    def __init__(self, key: str, value: Any) -> None:
        self.key = key
        self.expected = value

    def holds(self, event: EventForPush) -> bool:
        values = event.value(self.key)
        return isinstance(values, list) and any(_same(value, self.expected) for value in values)


class RoomMemberCount:
    """# spec: client-server-api/#conditions-1 room_member_count"""

    def __init__(self, comparison: str, number: int) -> None:
        self.comparison = comparison
        self.number = number

    def holds(self, event: EventForPush) -> bool:
        count, number = event.member_count, self.number
        match self.comparison:
            case "<":
                return count < number
            case ">":
                return count > number
            case "<=":
                return count <= number
            case ">=":
                return count >= number
            case _:
                return count == number


class SenderNotificationPermission:
    """# spec: client-server-api/#conditions-1 sender_notification_permission"""

    def __init__(self, key: str) -> None:
        self.key = key

    def holds(self, event: EventForPush) -> bool:
        levels = event.power_levels
        return levels is not None and levels.user(event.event.sender) >= levels.notification(self.key)


class RoomIs:
    """What a room rule asks: it is about the room that its rule_id names."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id

    def holds(self, event: EventForPush) -> bool:
        return event.event.room_id == self.room_id


class SenderIs:
    """What a sender rule asks: it is about the user that its rule_id names."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id

    def holds(self, event: EventForPush) -> bool:
        return event.event.sender == self.user_id


class PropertyIsMe:
    """`event_match` of the predefined rules with the user's id as its pattern."""

    def __init__(self, key: str) -> None:
        self.key = key

    def holds_for(self, event: EventForPush, user: PushUser) -> bool:
        return bool(event.value(self.key) == user.user_id)


class PropertyContainsMe:
    """`event_property_contains` of the predefined rules with the user's id as its value."""

    def __init__(self, key: str) -> None:
        self.key = key

    def holds_for(self, event: EventForPush, user: PushUser) -> bool:
        return user.user_id in event.strings(self.key)


class ContainsDisplayName:
    """# spec: client-server-api/#conditions-1 contains_display_name"""

    def holds_for(self, event: EventForPush, user: PushUser) -> bool:
        text = event.text("content.body")
        if text is None or not user.display_name:
            return False
        # A name is no pattern: a `*` in it is an asterisk.
        return Glob(user.display_name.casefold(), wildcards="").matches_words(text)


class ThreadSubscription:
    """MSC4306: the event is part of a thread, and the user is subscribed to it, or is not."""

    def __init__(self, subscribed: bool) -> None:
        self.subscribed = subscribed

    def holds_for(self, event: EventForPush, user: PushUser) -> bool:
        return event.in_thread and user.subscribed_to_thread is self.subscribed


class Rule(NamedTuple):
    """An enabled rule. It matches if all its conditions hold."""

    shared: tuple[Condition, ...]
    personal: tuple[PersonalCondition, ...]
    actions: Actions


class CompiledRules:
    """A user's ruleset, ready to be evaluated. Hashed by identity; keep it as long as the user changes nothing."""

    __slots__ = ("_by_room", "_by_sender", "_general")

    def __init__(self, rules: Iterable[Rule]) -> None:
        """`rules` are in the order of their importance."""
        self._general: list[tuple[int, Rule]] = []
        self._by_room: dict[str, list[tuple[int, Rule]]] = {}
        self._by_sender: dict[str, list[tuple[int, Rule]]] = {}
        for place in enumerate(rules):
            room, sender = _only_room(place[1]), _only_sender(place[1])
            if room is not None:
                self._by_room.setdefault(room, []).append(place)
            elif sender is not None:
                self._by_sender.setdefault(sender, []).append(place)
            else:
                self._general.append(place)

    def candidates(self, room_id: str, sender: str) -> Iterable[Rule]:
        """The rules that are not tied to another room or sender, in order. All their conditions remain to be asked."""
        places = self._general
        here = self._by_room and self._by_room.get(room_id.casefold())
        theirs = self._by_sender and self._by_sender.get(sender.casefold())
        if here or theirs:
            # Places are unique, so rules themselves are never compared.
            places = sorted([*places, *(here or ()), *(theirs or ())], key=_place)
        return [rule for _, rule in places]


def evaluate(event: EventForPush, rules: CompiledRules, user: PushUser) -> Actions:
    """What the first matching rule does, NOTHING if none matches or if the event is the user's own.

    # spec: client-server-api/#push-rules
    """
    if event.event.sender == user.user_id:
        return NOTHING
    for rule in event.open_rules(rules):
        for condition in rule.personal:
            if not condition.holds_for(event, user):
                break
        else:
            return rule.actions
    return NOTHING


def with_thread_subscriptions(user_rules: UserRules) -> UserRules:
    """The rules of a user who subscribes to threads (MSC4306): no others are to notify them."""
    return {**user_rules, "thread_subscriptions": True}


def has_thread_subscriptions(user_rules: UserRules) -> bool:
    """Whether the rules are of a user who subscribes to threads."""
    return user_rules.get("thread_subscriptions") is True


def default_rules(user_rules: UserRules) -> DefaultRules:
    """The predefined rules that this user has, unchanged."""
    return THREAD_SUBSCRIPTION_RULES if has_thread_subscriptions(user_rules) else DEFAULT_RULES


def compile_rules(user_rules: UserRules = NO_USER_RULES) -> CompiledRules:
    """The user's own rules laid over the predefined ones. Without any change one object for all who have the same of
    these.

    # spec: client-server-api/#predefined-rules
    """
    if not user_rules.get("defaults") and not any(user_rules.get(kind) for kind in EVALUATION_ORDER):
        return _UNCHANGED[has_thread_subscriptions(user_rules)]
    return CompiledRules(_rules(user_rules))


def ordered_rules(user_rules: UserRules, kind: str) -> list[JsonObject]:
    """All rules of a kind as the API shows them (but for `ME`), most important first, with the user's changes.

    # spec: client-server-api/#predefined-rules
    """
    changed = user_rules.get("defaults", {}).get(kind, {})
    predefined = [{**rule, **changed.get(rule["rule_id"], {})} for rule in default_rules(user_rules).get(kind, ())]
    own = user_rules.get(kind, ())
    # The master rule alone stands above what users make.
    return [
        *(rule for rule in predefined if rule["rule_id"] == MASTER),
        *own,
        *(rule for rule in predefined if rule["rule_id"] != MASTER),
    ]


def resolve_actions(actions: Iterable[Any]) -> Actions:
    """What a list of actions comes to. Unknown and historical ones (`dont_notify`, `coalesce`) do nothing.

    # spec: client-server-api/#actions
    """
    notify = False
    tweaks: JsonObject = {}
    for action in actions:
        if action == "notify":
            notify = True
        elif isinstance(action, dict) and isinstance(name := action.get("set_tweak"), str):
            if name == "highlight":
                tweaks[name] = action.get("value", True)
            elif "value" in action:
                tweaks[name] = action["value"]
    if not notify:
        return NOTHING
    sound = tweaks.get("sound")
    return Actions(
        notify=True,
        highlight=tweaks.get("highlight") is True,
        sound=sound if isinstance(sound, str) else None,
        tweaks=tweaks,
    )


def condition(json: Any) -> Condition | PersonalCondition | None:
    """The condition that this JSON describes; the same object for the same condition. None if it can't ever hold.

    # spec: client-server-api/#conditions-1
    """
    if not isinstance(json, dict):
        return None
    kind, key = json.get("kind"), json.get("key")
    if kind == "contains_display_name":
        return _CONTAINS_DISPLAY_NAME
    if kind == "room_member_count":
        parsed = parse_member_count(json.get("is"))
        return None if parsed is None else _interned(RoomMemberCount, *parsed)
    if kind == "io.element.msc4306.thread_subscription":
        subscribed = json.get("subscribed")
        return _interned(ThreadSubscription, subscribed) if isinstance(subscribed, bool) else None
    if not isinstance(key, str):
        return None
    if kind == "sender_notification_permission":
        return _interned(SenderNotificationPermission, key)
    if kind == "event_match" and isinstance(pattern := json.get("pattern"), str):
        return _interned(PropertyIsMe, key) if pattern == ME else _interned(EventMatch, key, pattern)
    value = json.get("value", _ABSENT)
    if kind == "event_property_is" and is_scalar(value):
        return _interned(EventPropertyIs, key, value)
    if kind == "event_property_contains" and is_scalar(value):
        return _interned(PropertyContainsMe, key) if value == ME else _interned(EventPropertyContains, key, value)
    return None


_CONTAINS_DISPLAY_NAME = ContainsDisplayName()
_PERSONAL = (PropertyIsMe, PropertyContainsMe, ContainsDisplayName, ThreadSubscription)


def parse_member_count(value: Any) -> tuple[str, int] | None:
    """The comparison and the number of a room_member_count's `is`, None if it is malformed."""
    match = _MEMBER_COUNT.match(value) if isinstance(value, str) else None
    return (match[1] or "==", int(match[2])) if match else None


def is_scalar(value: Any) -> bool:
    """Whether it is a non-compound canonical JSON value.  # spec: appendices/#canonical-json"""
    if value is None or isinstance(value, str | bool):
        return True
    return isinstance(value, int) and abs(value) < 2**53


def _rules(user_rules: UserRules) -> Iterable[Rule]:
    for kind in EVALUATION_ORDER:
        for json in ordered_rules(user_rules, kind):
            if json.get("enabled", True):
                conditions = _conditions(kind, json)
                if conditions is not None:
                    yield Rule(*conditions, resolve_actions(json["actions"]))


def _conditions(kind: str, json: JsonObject) -> tuple[tuple[Condition, ...], tuple[PersonalCondition, ...]] | None:
    match kind:
        case "content":
            all_of = [condition({"kind": "event_match", "key": "content.body", "pattern": json.get("pattern")})]
        case "room":
            all_of = [_interned(RoomIs, json["rule_id"])]
        case "sender":
            all_of = [_interned(SenderIs, json["rule_id"])]
        case _:
            all_of = [condition(part) for part in json.get("conditions") or ()]
    shared: list[Condition] = []
    personal: list[PersonalCondition] = []
    for one in all_of:
        if one is None:
            return None
        if isinstance(one, _PERSONAL):
            personal.append(one)
        else:
            shared.append(one)  # type: ignore[arg-type]  # every other class is a Condition
    return tuple(shared), tuple(personal)


def _same(value: Any, expected: Any) -> bool:
    # To Python, True == 1 == 1.0; to JSON they are three values.
    return type(value) is type(expected) and bool(value == expected)


def _only_room(rule: Rule) -> str | None:
    for one in rule.shared:
        if isinstance(one, RoomIs):
            return one.room_id.casefold()
        if isinstance(one, EventMatch) and one.key == "room_id" and one.glob.literal is not None:
            return one.glob.literal
    return None


def _only_sender(rule: Rule) -> str | None:
    for one in rule.shared:
        if isinstance(one, SenderIs):
            return one.user_id.casefold()
        if isinstance(one, EventMatch) and one.key == "sender" and one.glob.literal is not None:
            return one.glob.literal
    return None


def _place(placed: tuple[int, Rule]) -> int:
    return placed[0]


@lru_cache(maxsize=16384, typed=True)
def _interned(
    kind: Callable[..., Condition | PersonalCondition], *arguments: str | int | bool | None
) -> Condition | PersonalCondition:
    # A condition that has fallen out of the cache is made anew and answered once more; nothing else changes.
    return kind(*arguments)


_UNCHANGED = {
    has_thread_subscriptions(rules): CompiledRules(_rules(rules))
    for rules in (NO_USER_RULES, with_thread_subscriptions(NO_USER_RULES))
}
