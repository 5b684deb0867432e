"""Requests as the specification's schemas describe them, and requests that are wrong in one place.

Both are Hypothesis strategies. What a schema says about form alone would only ever be refused ("no such room"), so ids,
tokens and names are drawn by the name of their field from what there is (`Known`), now and then from what there is not.

Wrong requests are right ones with one value replaced by a hostile one, or with a body that is no JSON object at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from tests.contract.answers import is_valid
from tests.contract.specification import Operation, Parameter, Schema

Known: TypeAlias = Mapping[str, Sequence[Any]]
Values: TypeAlias = st.SearchStrategy[Any]

WHOLE = "(the whole body)"  # in `Known`: bodies instead of generated ones
_MOST_LEVELS = 6
_LETTERS = "abcXYZ019 ._-é漢😀/#:"
_TEXTS = st.text(_LETTERS, max_size=12)
_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), _TEXTS),
    lambda below: st.one_of(st.lists(below, max_size=2), st.dictionaries(_TEXTS, below, max_size=2)),
    max_leaves=4,
)
_BY_START = {"^@": "userid", "^!": "roomid", "^#": "roomalias", "^\\$": "eventid", "^mxc://": "mxc"}


def _nested(levels: int, leaf: Any = 1) -> Any:
    value = leaf
    for _ in range(levels):
        value = {"a": value}
    return value


HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**53, 2**63, 2**64, -(2**70), 10**400, 1.5, -0.0, 1e300),
    *("", "\0", "a\0b", "\ud800", "x" * 100_000, "😀" * 300, "é" * 2_000, "\u202e\u2066", "../..", "%00"),
    *("@\0:test.example", "@a:b", "!x:y", "$e", "#a:test.example", "999999999999999999999999", "1e9999", "-1"),
    *([], [[]], [None, 1, "\0", {}], ["\0"], ["x"] * 20_000, {}, {"\0": "\0"}, {"\ud800": 1}, {"": None}),
    *({"a": {"b": [1, {"c": None}]}}, {"type": 5}, {"user_id": []}, _nested(150), _nested(220), [_nested(100)] * 3),
)
_HOSTILE_TEXTS = [str(one)[:5_000] for one in HOSTILE if "ud800" not in ascii(one)]
_INTEGER = re.compile(r"-?[0-9]+")
RAW: tuple[bytes, ...] = (
    *(b"", b"\xff\xfe", b"{", b"null", b"[]", b'"text"', b"1e999", b"{}\0", b"\xef\xbb\xbf{}", b"{}{}"),
    *(b'{"a": 1e999}', b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"\\ud800": 1}', b'{"a": "\xed\xa0\x80"}'),
    *(b"[" * 5_000, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"a":' + b"9" * 5_000 + b"}", b"a=1&b=2"),
)
SEGMENTS: tuple[str, ...] = (
    *("%00", "%FF", "%ED%A0%80", "%", "%zz", "%2F", "..", "@a:b", "%40nobody%3Atest.example", "!x:y", "-1", "$"),
    *("!" + "a" * 43, "$" + "a" * 43, "%F0%9F%98%80" * 100, "a" * 5_000, "99999999999999999999", "m.room.member", "é"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `body` is sent as it is; `wrong` says what is wrong with it, None if nothing is."""

    operation: Operation
    path: str  # percent-encoded, without the query
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    raw: bytes | None = None
    wrong: str | None = None
    must_fail: bool = False

    @property
    def target(self) -> str:
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    @property
    def bytes(self) -> bytes | None:
        """The body as it goes over the wire."""
        if self.raw is not None or self.body is None:
            return self.raw
        # The library's encoder, because it writes integers of any size and lone surrogates (as escapes).
        return json.dumps(self.body).encode()

    def __str__(self) -> str:
        body = (self.bytes or b"")[:400].decode("utf-8", "backslashreplace")
        return f"{self.operation.method} {self.target[:400]} {body}" + (f"  [{self.wrong}]" if self.wrong else "")


def right(operation: Operation, known: Known) -> st.SearchStrategy[Call]:
    """Requests of this endpoint as its schemas have them."""
    in_path = {one.name: _parameter(one, known) for one in operation.parameters if one.place == "path"}
    in_query = [(one, _parameter(one, known)) for one in operation.parameters if one.place == "query"]
    bodies: Values = st.just({} if operation.method in ("POST", "PUT") else None)
    if WHOLE in known:
        bodies = st.sampled_from(known[WHOLE])
    elif operation.body is not None:
        bodies = values(operation.body, known)

    @st.composite
    def calls(draw: st.DrawFn) -> Call:
        path = operation.path
        for name, strategy in in_path.items():
            path = path.replace(f"{{{name}}}", quote(str(draw(strategy)) or "x", safe=""))
        query: list[tuple[str, str]] = []
        for parameter, strategy in in_query:
            if parameter.required or draw(st.booleans()):
                value = draw(strategy)
                query += [(parameter.name, _as_text(one)) for one in (value if isinstance(value, list) else [value])]
        return Call(operation, path, tuple(query), draw(bodies))

    return calls()


def wrong(operation: Operation, known: Known) -> st.SearchStrategy[Call]:
    """Requests of this endpoint that are wrong, or at least strange, in one place."""
    fields = list(_fields(operation.body or {}))
    # Events are described by nothing but what is there.
    fields += [(path, {}, False) for body in known.get(WHOLE, ()) for path in _paths(body)]
    right_calls = right(operation, known)

    @st.composite
    def calls(draw: st.DrawFn) -> Call:
        call = draw(right_calls)
        ways = ["query"]
        if "{" in operation.path:
            ways.append("path")
        if operation.method in ("POST", "PUT", "DELETE"):
            ways += ["raw", "extra"]
        ways += ["field"] * min(len(fields), 6)
        match draw(st.sampled_from(ways)):
            case "query":
                return _with_query(draw, call)
            case "path":
                return _with_segment(draw, call)
            case "raw":
                raw = draw(st.sampled_from((*RAW, _twice(call.body))))
                return replace(call, raw=raw, wrong="body")
            case "extra":
                body = {**(call.body or {}), draw(_TEXTS): draw(st.sampled_from(HOSTILE))}
                return replace(call, body=body, wrong="an extra key")
            case _:
                path, schema, required = draw(st.sampled_from(fields))
                return _with_field(draw, call, path, schema, required)

    return calls()


def _with_field(draw: st.DrawFn, call: Call, path: tuple[str, ...], schema: Schema, required: bool) -> Call:
    told = ".".join(path)
    body = json.loads(json.dumps(call.body))
    if required and draw(st.integers(0, 4)) == 0:
        _put(body, path, None, remove=True)
        return replace(call, body=body, wrong=f"{told} is missing", must_fail=True)
    value = draw(st.sampled_from(HOSTILE))
    _put(body, path, value)
    # null counts as not there.
    must_fail = not is_valid(schema, value) and (value is not None or required)
    return replace(call, body=body, wrong=f"{told} is {str(value)[:60]!r}", must_fail=must_fail)


def _with_query(draw: st.DrawFn, call: Call) -> Call:
    schemas = {
        parameter.name: parameter.schema for parameter in call.operation.parameters if parameter.place == "query"
    }
    name = draw(st.sampled_from([*schemas, "x\0", "user_id"]))
    # A long time to wait is nothing wrong.
    value = draw(st.sampled_from([one for one in _HOSTILE_TEXTS if name != "timeout" or not one.isdecimal()]))
    query = (*(pair for pair in call.query if pair[0] != name), (name, value))
    schema = schemas.get(name, {})
    match schema.get("type"):
        case "integer":
            must_fail = _INTEGER.fullmatch(value) is None
        case "boolean":
            must_fail = value not in ("true", "false", "")
        case _:
            must_fail = bool(value) and "enum" in schema and value not in schema["enum"]
    return replace(call, query=query, wrong=f"?{name} is {value[:60]!r}", must_fail=must_fail)


def _with_segment(draw: st.DrawFn, call: Call) -> Call:
    segments, template = call.path.split("/"), call.operation.path.split("/")
    places = [index for index, segment in enumerate(template) if segment.startswith("{")]
    place = draw(st.sampled_from(places))
    segments[place] = draw(st.sampled_from(SEGMENTS))
    return replace(call, path="/".join(segments), wrong=template[place])


def _twice(body: Any) -> bytes:
    """The body with its first key twice."""
    text = json.dumps(body if isinstance(body, dict) and body else {"a": 1})
    name = next(iter(json.loads(text)))
    return f"{{{json.dumps(name)}: null, {text[1:]}".encode()


def _put(body: Any, path: tuple[str, ...], value: Any, *, remove: bool = False) -> None:
    """Sets, or removes, what lies at that path, making what leads there; `*` is any key or the first item."""
    at = body
    for index, name in enumerate(path):
        if isinstance(at, list):
            if not at:
                at.append({})
            key: Any = 0
        else:
            key = name if name != "*" else next(iter(at), "x")
        if index == len(path) - 1:
            if not remove:
                at[key] = value
            elif isinstance(at, dict):
                at.pop(key, None)
            return
        below = at[key] if isinstance(at, list) else at.get(key)
        if not isinstance(below, dict | list):
            at[key] = [] if path[index + 1] == "[]" else {}
        at = at[key]


def _fields(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema, bool]]:
    """Every field of a body, with its schema, and whether what contains it is there only if it is."""
    whole = merged(schema)
    if len(path) >= _MOST_LEVELS:
        return
    for name, below in whole.get("properties", {}).items():
        yield (*path, name), below, name in whole.get("required", ())
        yield from _fields(below, (*path, name))
    for below in (*whole.get("patternProperties", {}).values(), whole.get("additionalProperties")):
        if isinstance(below, dict):
            yield (*path, "*"), below, False
            yield from _fields(below, (*path, "*"))
    if isinstance(whole.get("items"), dict):
        yield (*path, "[]"), whole["items"], False
        yield from _fields(whole["items"], (*path, "[]"))


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where something stands in a body, objects and arrays as well as what is in them."""
    if path:
        yield path
    if len(path) < _MOST_LEVELS and isinstance(value, dict):
        for name, below in value.items():
            yield from _paths(below, (*path, name))
    elif len(path) < _MOST_LEVELS and isinstance(value, list) and value:
        yield from _paths(value[0], (*path, "[]"))


def _parameter(parameter: Parameter, known: Known) -> Values:
    return values(parameter.schema, known, parameter.name)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else json.dumps(value)


def merged(schema: Schema) -> Schema:
    """The schema with the parts of its `allOf` in it."""
    if "allOf" not in schema:
        return schema
    whole: Schema = {}
    for part in (*schema["allOf"], {key: value for key, value in schema.items() if key != "allOf"}):
        for key, value in merged(part).items():
            match key:
                case "properties" | "patternProperties":
                    whole[key] = whole.get(key, {}) | value
                case "required":
                    whole[key] = [*whole.get(key, ()), *value]
                case _:
                    whole[key] = value
    return whole


def values(schema: Schema, known: Known, name: str = "", levels: int = 0) -> Values:
    """Values that the schema allows, for a field of that name."""
    whole = merged(schema)
    if there := known.get(name.replace("_", "").lower()):
        return st.sampled_from(there)
    if "enum" in whole:
        return st.sampled_from(whole["enum"])
    for choice in ("oneOf", "anyOf"):
        if choice in whole:
            return st.one_of(*(values(one, known, name, levels) for one in whole[choice]))
    kinds = whole.get("type", "object" if "properties" in whole else None)
    if isinstance(kinds, list):
        return st.one_of(*(_of_kind(kind, whole, known, name, levels) for kind in kinds))
    return _of_kind(kinds, whole, known, name, levels)


def _of_kind(kind: str | None, schema: Schema, known: Known, name: str, levels: int) -> Values:
    match kind:
        case "string":
            return _strings(schema, known)
        case "integer" | "number":
            return st.one_of(_example(schema, int), st.integers(0, 2**31))
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            items = values(schema.get("items", {}), known, name, levels + 1)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=schema.get("maxItems", 2))
        case "object":
            return _objects(schema, known, levels)
        case _:
            return _ANYTHING


def _strings(schema: Schema, known: Known) -> Values:
    start = next((name for start, name in _BY_START.items() if schema.get("pattern", "").startswith(start)), None)
    if start is not None and start in known:
        return st.sampled_from(known[start])
    if schema.get("format") == "mx-server-name" and "servername" in known:
        return st.sampled_from(known["servername"])
    return st.one_of(_example(schema, str), _TEXTS)


def _example(schema: Schema, kind: type) -> Values:
    example = schema.get("example")
    return st.just(example) if isinstance(example, kind) else st.nothing()


def _objects(schema: Schema, known: Known, levels: int) -> Values:
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    if levels > _MOST_LEVELS:
        properties = {name: below for name, below in properties.items() if name in required}
    named = st.fixed_dictionaries(
        {name: values(below, known, name, levels + 1) for name, below in properties.items() if name in required},
        optional={
            name: values(below, known, name, levels + 1) for name, below in properties.items() if name not in required
        },
    )
    more = [(pattern, below) for pattern, below in schema.get("patternProperties", {}).items()]
    if isinstance(schema.get("additionalProperties"), dict):
        more.append(("", schema["additionalProperties"]))
    if not properties and not more:
        objects = st.dictionaries(_TEXTS, _ANYTHING, max_size=2)
        return st.one_of(_example(schema, dict), objects)
    for pattern, below in more:
        keys = _strings({"type": "string", "pattern": pattern}, known)
        some = st.dictionaries(keys, values(below, known, "", levels + 1), max_size=2)
        named = st.builds(lambda one, other: {**other, **one}, named, some)
    return named
