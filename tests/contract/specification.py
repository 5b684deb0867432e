"""The OpenAPI files of the Matrix specification, read into plain values: every endpoint with its parameters, body and
answers.

References are put in place of what they name, across files, when a file is read; no schema refers to itself, so what
comes out is a tree, which a validator walks without looking anything up and a generator takes apart without knowing
of files. Everything that is there for people (descriptions, titles) is dropped on the way; examples stay.

The files lie in the folder that MATRIX_SPEC_DIR names, else in `shared/spec` beside the checkout. Where they are
not, `specification` gives None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import yaml

Schema: TypeAlias = dict[str, Any]
APIS = ("client-server", "server-server")
VARIABLE = "MATRIX_SPEC_DIR"

_METHODS = ("get", "put", "post", "delete", "patch")
_FOR_PEOPLE = frozenset({"description", "title", "summary", "externalDocs", "deprecated"})
_BESIDE = Path(__file__).resolve().parents[3] / "shared/spec"
_MOST_LEVELS = 200


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path, a query or a header."""

    name: str
    place: str  # path, query, header
    required: bool
    schema: Schema


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """One endpoint. `answers` holds, by status and content type, the schema of the body, None where there is none."""

    api: str
    name: str
    method: str
    path: str  # with the base path, parameters as {name}
    parameters: tuple[Parameter, ...]
    body: Schema | None  # of application/json
    body_required: bool
    answers: dict[str, dict[str, Schema | None]]
    authenticated: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Specification:
    """All endpoints of the client-server and the server-server API."""

    def __init__(self, operations: tuple[Operation, ...]) -> None:
        self.operations = operations
        self._by_length: dict[tuple[str, int], list[tuple[tuple[str | None, ...], Operation]]] = {}
        for operation in operations:
            template = tuple(None if segment.startswith("{") else segment for segment in _segments(operation.path))
            self._by_length.setdefault((operation.method, len(template)), []).append((template, operation))

    def operation(self, method: str, path: str) -> Operation | None:
        """The endpoint that a percent-encoded path belongs to, whichever of its old version prefixes it has."""
        # spec: client-server-api/#api-versions: r0 was the name of v3 before v1.1
        segments = _segments(path.replace("/_matrix/client/r0/", "/_matrix/client/v3/"))
        if segments[-1] == "" and (found := self._find(method, segments[:-1])):
            return found
        return self._find(method, segments)

    def _find(self, method: str, segments: list[str]) -> Operation | None:
        fits = [
            (template.count(None), operation)
            for template, operation in self._by_length.get((method, len(segments)), ())
            if all(wanted in (None, segment) for wanted, segment in zip(template, segments, strict=True))
        ]
        return min(fits, key=lambda fit: fit[0])[1] if fits else None


def _segments(path: str) -> list[str]:
    return path[1:].split("/")


@cache
def specification() -> Specification | None:
    """The specification, read once; None where its folder is absent."""
    folder = Path(os.environ.get(VARIABLE) or _BESIDE)
    if not (folder / "data/api").is_dir():
        return None
    files = _Files()
    return Specification(
        tuple(
            operation
            for api in APIS
            for path in sorted((folder / "data/api" / api).glob("*.yaml"))
            for operation in _operations(api, files.read(path), files)
        )
    )


class _Files:
    """Files, each read and resolved once."""

    def __init__(self) -> None:
        self._raw: dict[Path, Any] = {}

    def read(self, path: Path) -> _Node:
        if path not in self._raw:
            # The C loader reads JSON too, and in a tenth of the time.
            self._raw[path] = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        return _Node(self._raw[path], path)

    def named(self, reference: str, beside: Path) -> _Node:
        file, _, pointer = reference.partition("#")
        node = self.read((beside.parent / file).resolve() if file else beside)
        value = node.value
        for part in pointer.split("/")[1:]:
            value = value[unquote(part).replace("~1", "/").replace("~0", "~")]
        return _Node(value, node.path)

    def resolved(self, node: _Node, levels: int = 0) -> Any:
        """The value with everything that it refers to in it."""
        if levels > _MOST_LEVELS:
            raise ValueError(f"{node.path} refers to itself")
        if isinstance(node.value, list):
            return [self.resolved(_Node(item, node.path), levels + 1) for item in node.value]
        if not isinstance(node.value, dict):
            return node.value
        value = dict(node.value)
        reference = value.pop("$ref", None)
        rest = {
            str(key): self.resolved(_Node(item, node.path), levels + 1)
            for key, item in value.items()
            if not (key in _FOR_PEOPLE and isinstance(item, str | bool)) and not str(key).startswith(("x-", "$schema"))
        }
        if not isinstance(reference, str):  # a property may be called $ref
            return rest
        target = self.resolved(self.named(reference, node.path), levels + 1)
        return target | rest if isinstance(target, dict) else target


@dataclass(frozen=True, slots=True)
class _Node:
    value: Any
    path: Path


def _operations(api: str, document: _Node, files: _Files) -> Iterator[Operation]:
    variables = [server.get("variables", {}) for server in document.value.get("servers", [])]
    base = next((one["basePath"]["default"] for one in variables if "basePath" in one), "")
    for path, item in document.value["paths"].items():
        shared = item.get("parameters", [])
        for method in _METHODS:
            if method not in item:
                continue
            operation = files.resolved(_Node({**item[method], "shared": shared}, document.path))
            body = operation.get("requestBody", {})
            yield Operation(
                api=api,
                name=operation["operationId"],
                method=method.upper(),
                # Two paths of the specification differ by a space alone.
                path=re.sub(r"(?<=.)/$", "", (base + path).strip()),
                parameters=tuple(map(_parameter, [*operation["shared"], *operation.get("parameters", [])])),
                body=body.get("content", {}).get("application/json", {}).get("schema"),
                body_required=bool(body.get("required")),
                answers={
                    str(status): {kind: media.get("schema") for kind, media in answer.get("content", {}).items()}
                    for status, answer in operation["responses"].items()
                },
                authenticated=bool(operation.get("security")),
            )


def _parameter(given: dict[str, Any]) -> Parameter:
    schema = dict(given.get("schema", {}))
    if "example" in given:
        schema.setdefault("example", given["example"])
    return Parameter(given["name"], given["in"], bool(given.get("required")), schema)
