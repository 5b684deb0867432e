"""Showing and changing a user's push rules, as the endpoints under /pushrules do: values in, values out.

Each edit takes what is stored (`UserRules`) and returns what to store instead; the given value is left alone. What a
client sends is checked here, whole, before anything changes, and is bounded: rules are evaluated for every event.

# spec: client-server-api/#push-rules-api
"""

from __future__ import annotations

from typing import Any

from homeserver.protocol.errors import BadJson, BadRequest, InvalidParam, MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rule_defaults import EVALUATION_ORDER, KINDS, ME
from homeserver.protocol.push_rules import UserRules, default_rules, is_scalar, ordered_rules, parse_member_count

MAX_RULES = 1000
"""Rules of one kind that a user can have."""
MAX_CONDITIONS = 20
MAX_ACTIONS = 20
MAX_ID_LENGTH = 255
MAX_TEXT_LENGTH = 512
MAX_RULE_SIZE = 4096
"""Characters and values in the conditions, or in the actions, of one rule."""
MAX_SIZE = 200_000
"""The same of all that a user has changed. It bounds what one user's patterns cost for one event."""

_HISTORICAL_ACTIONS = ("dont_notify", "coalesce")


def ruleset_json(user_rules: UserRules, user_id: str) -> JsonObject:
    """The user's whole ruleset: the answer of `GET /pushrules/global/`, and `global` of m.push_rules.

    # spec: client-server-api/#get_matrixclientv3pushrulesglobal
    """
    kinds = [kind for kind in EVALUATION_ORDER if kind in KINDS or kind in default_rules(user_rules)]
    return {kind: [_shown(rule, user_id) for rule in ordered_rules(user_rules, kind)] for kind in kinds}


def get_rule(user_rules: UserRules, user_id: str, kind: str, rule_id: str) -> JsonObject:
    """One rule as the API shows it.

    :raises InvalidParam: for a kind that doesn't exist
    :raises NotFound: if there is no such rule
    # spec: client-server-api/#get_matrixclientv3pushrulesglobalkindruleid
    """
    return _shown(_existing(user_rules, kind, rule_id), user_id)


def put_rule(
    user_rules: UserRules,
    kind: str,
    rule_id: str,
    body: Any,
    *,
    before: str | None = None,
    after: str | None = None,
) -> UserRules:
    """A new rule, or new parameters and perhaps a new place for one that there is.

    A new rule is enabled and the most important of its kind, unless it is placed: `before` makes it next-most important
    to that rule, `after` next-less; with both, `before` counts. A rule that there is stays enabled or disabled.

    :raises BadRequest: M_UNKNOWN if the rule of `before` or `after` isn't one of the user's own
    :raises BadJson, InvalidParam, MissingParam: if the rule can't be as asked
    # spec: client-server-api/#put_matrixclientv3pushrulesglobalkindruleid
    """
    _check_kind(kind, KINDS)
    _check_rule_id(rule_id)
    rule: JsonObject = {"rule_id": rule_id, "default": False, "enabled": True, **_checked_body(kind, body)}
    rules = list(user_rules.get(kind, ()))
    place = _find(rules, rule_id)
    if place is not None:
        rule["enabled"] = rules.pop(place)["enabled"]
    elif len(rules) >= MAX_RULES:
        raise InvalidParam(f"A user can't have more than {MAX_RULES} push rules of a kind")
    beside = before if before is not None else after
    if beside is not None:
        found = _find(rules, beside)
        if found is None:
            raise BadRequest(f"before/after rule not found: {beside}")
        place = found if before is not None else found + 1
    rules.insert(0 if place is None else place, rule)
    return _bounded({**user_rules, kind: rules})


def delete_rule(user_rules: UserRules, kind: str, rule_id: str) -> UserRules:
    """Without one of the user's own rules.

    :raises InvalidParam: for a kind that doesn't exist, or a predefined rule
    :raises NotFound: if there is no such rule
    # spec: client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid
    """
    _check_kind(kind, KINDS)
    if rule_id.startswith("."):
        raise InvalidParam("Predefined push rules can't be deleted")
    rules = list(user_rules.get(kind, ()))
    place = _find(rules, rule_id)
    if place is None:
        raise _not_found()
    del rules[place]
    return {**user_rules, kind: rules}


def set_enabled(user_rules: UserRules, kind: str, rule_id: str, enabled: Any) -> UserRules:
    """With a rule enabled or disabled, predefined ones too.

    :raises BadJson: if `enabled` is no boolean
    :raises InvalidParam, NotFound: as `get_rule` does
    # spec: client-server-api/#put_matrixclientv3pushrulesglobalkindruleidenabled
    """
    if not isinstance(enabled, bool):
        raise BadJson("enabled must be a boolean")
    return _change(user_rules, kind, rule_id, enabled=enabled)


def set_actions(user_rules: UserRules, kind: str, rule_id: str, actions: Any) -> UserRules:
    """With other actions for a rule, predefined ones too.

    :raises BadJson, InvalidParam: if these can't be actions
    :raises InvalidParam, NotFound: as `get_rule` does
    # spec: client-server-api/#put_matrixclientv3pushrulesglobalkindruleidactions
    """
    return _change(user_rules, kind, rule_id, actions=check_actions(actions))


def check_actions(actions: Any) -> list[Any]:
    """The actions without historical ones.

    :raises BadJson, InvalidParam: if these can't be actions
    # spec: client-server-api/#actions
    """
    if not isinstance(actions, list):
        raise BadJson("actions must be a list")
    if len(actions) > MAX_ACTIONS:
        raise InvalidParam(f"A push rule can't have more than {MAX_ACTIONS} actions")
    for action in actions:
        if isinstance(action, dict):
            if not isinstance(action.get("set_tweak"), str):
                raise BadJson("An action that is an object must have a string set_tweak")
        elif not isinstance(action, str):
            raise BadJson("An action must be a string or an object")
        elif action != "notify" and action not in _HISTORICAL_ACTIONS:
            raise InvalidParam("Unknown action")
    _check_size(actions, "The actions of a push rule", MAX_RULE_SIZE)
    return [action for action in actions if action not in _HISTORICAL_ACTIONS]


def check_conditions(conditions: Any) -> list[JsonObject]:
    """The conditions as they are. Those of an unknown kind are kept; they never hold.

    :raises BadJson, InvalidParam, MissingParam: if these can't be conditions
    # spec: client-server-api/#conditions-1
    """
    if not isinstance(conditions, list):
        raise BadJson("conditions must be a list")
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidParam(f"A push rule can't have more than {MAX_CONDITIONS} conditions")
    _check_size(conditions, "The conditions of a push rule", MAX_RULE_SIZE)
    for condition in conditions:
        if not isinstance(condition, dict):
            raise BadJson("A condition must be an object")
        _check_condition(condition)
    return conditions


def _check_condition(condition: JsonObject) -> None:
    kind = _text(condition, "kind")
    if kind in ("event_match", "event_property_is", "event_property_contains", "sender_notification_permission"):
        _text(condition, "key")
    if kind == "event_match":
        _text(condition, "pattern")
    elif kind == "room_member_count" and parse_member_count(_text(condition, "is")) is None:
        raise InvalidParam("is must be a decimal integer, perhaps after ==, <, >, <= or >=")
    elif kind in ("event_property_is", "event_property_contains"):
        if "value" not in condition:
            raise MissingParam("A condition lacks its value")
        if not is_scalar(condition["value"]):
            raise InvalidParam("value must be a string, an integer, a boolean or null")


def _checked_body(kind: str, body: Any) -> JsonObject:
    if not isinstance(body, dict):
        raise BadJson("A push rule must be an object")
    if "actions" not in body:
        raise MissingParam("A push rule must have actions")
    checked: JsonObject = {"actions": check_actions(body["actions"])}
    if kind in ("override", "underride"):
        checked["conditions"] = check_conditions(body.get("conditions", []))
    elif kind == "content":
        checked["pattern"] = _text(body, "pattern")
    return checked


def _text(json: JsonObject, key: str) -> str:
    if key not in json:
        raise MissingParam(f"{key} is missing")
    value = json[key]
    if not isinstance(value, str):
        raise BadJson(f"{key} must be a string")
    if len(value) > MAX_TEXT_LENGTH or "\0" in value:
        raise InvalidParam(f"{key} must have at most {MAX_TEXT_LENGTH} characters, none of them null")
    return value


def _check_size(value: Any, name: str, limit: int) -> None:
    size = 0
    pending = [value]
    while pending:
        item = pending.pop()
        size += 1
        if isinstance(item, str):
            size += len(item)
            if "\0" in item:  # PostgreSQL can't store it, and it marks what is not a user's own (`ME`)
                raise InvalidParam(f"{name} must not have null characters")
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        if size + len(pending) > limit:
            raise InvalidParam(f"{name} are too large")


def _check_kind(kind: str, kinds: tuple[str, ...]) -> None:
    # Clients must not make rules of the kind that thread subscriptions add; MSC4306 asks for this error.
    if kind not in kinds:
        raise InvalidParam("Unknown kind of push rules")


def _check_rule_id(rule_id: str) -> None:
    if not rule_id or len(rule_id) > MAX_ID_LENGTH or "\0" in rule_id:
        raise InvalidParam(f"A rule_id must have 1 to {MAX_ID_LENGTH} characters, none of them null")
    if rule_id.startswith("."):
        raise InvalidParam("A rule_id that starts with a dot is reserved for predefined push rules")
    if "/" in rule_id or "\\" in rule_id:
        raise InvalidParam("A rule_id can't have slashes or backslashes")


def _change(user_rules: UserRules, kind: str, rule_id: str, **fields: Any) -> UserRules:
    rule = _existing(user_rules, kind, rule_id)
    if not rule["default"]:
        rules = list(user_rules.get(kind, ()))
        place = _find(rules, rule_id)
        assert place is not None, "an own rule that was found among all"
        rules[place] = {**rules[place], **fields}
        return _bounded({**user_rules, kind: rules})
    changed = user_rules.get("defaults", {})
    of_kind = changed.get(kind, {})
    merged = {**of_kind, rule_id: {**of_kind.get(rule_id, {}), **fields}}
    return _bounded({**user_rules, "defaults": {**changed, kind: merged}})


def _bounded(user_rules: UserRules) -> UserRules:
    _check_size(user_rules, "All push rules together", MAX_SIZE)
    return user_rules


def _existing(user_rules: UserRules, kind: str, rule_id: str) -> JsonObject:
    _check_kind(kind, EVALUATION_ORDER)
    for rule in ordered_rules(user_rules, kind):
        if rule["rule_id"] == rule_id:
            return rule
    raise _not_found()


def _find(rules: list[JsonObject], rule_id: str) -> int | None:
    return next((place for place, rule in enumerate(rules) if rule["rule_id"] == rule_id), None)


def _shown(rule: JsonObject, user_id: str) -> JsonObject:
    if not rule["default"]:
        return rule
    conditions = [
        {name: user_id if value == ME else value for name, value in condition.items()}
        for condition in rule["conditions"]
    ]
    return {**rule, "conditions": conditions}


def _not_found() -> NotFound:
    return NotFound("The push rule was not found.")
