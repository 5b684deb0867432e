"""Writes the models out as a commented YAML file, so that the documentation of the configuration can't go stale.

Sentences start with `# `, settings with `#` alone: a setting stays a comment until the operator changes it, so that an
installation follows the defaults as they improve. Sections themselves are not comments, so that uncommenting one line
is enough.
"""

from __future__ import annotations

import inspect
import ipaddress
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from homeserver.config.base import secret_fields
from homeserver.config.sections import Config

_WIDTH = 110
_HEAD = """\
Configuration of Talk pAI. Every setting is optional; a line such as `#name: value` shows the default or an example.

Each can also be set by an environment variable: server_name by TALKPAI_SERVER_NAME, database.url by
TALKPAI_DATABASE__URL, lists as JSON. Whatever has a variant ending in _file can be read from that file.
"""


def describe(values: Mapping[str, Any] | None = None) -> str:
    """The text of config.yaml.example; the top-level settings in `values` are set instead of commented out."""
    lines = [f"# {line}".rstrip() for line in _HEAD.splitlines()]
    lines += _section(Config, "", values or {})
    return "\n".join(lines) + "\n"


def _section(section: type[BaseModel], indent: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if not indent:
            yield ""
        yield from _comment(field, indent)
        inner = _inner_section(field)
        if inner is not None:
            yield f"{indent}{name}:"
            yield from _section(inner, indent + "  ", {})
            continue
        if name in values:
            yield from _setting(name, values[name], indent)
        else:
            yield from _setting(name, _shown(field), indent + "#")
        if name in secret_fields(section):
            yield f"{indent}#{name}_file: /run/secrets/{name}"


def _comment(field: FieldInfo, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(field.description or "", _WIDTH - len(indent)):
        yield f"{indent}# {line}"
    item = _item(field)
    if item is not None:
        yield f"{indent}# Each has:"
        for name, part in item.model_fields.items():
            for line in textwrap.wrap(f"{name}: {part.description}", _WIDTH - len(indent) - 2, subsequent_indent="  "):
                yield f"{indent}#   {line}"


def _inner_section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that this field always is; one that may also be null is written as a value."""
    annotation = field.annotation
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def _item(field: FieldInfo) -> type[BaseModel] | None:
    if get_origin(field.annotation) is not tuple:
        return None
    item = get_args(field.annotation)[0]
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def _shown(field: FieldInfo) -> Any:
    if field.examples:
        return field.examples[0]
    assert field.default is not PydanticUndefined, "a computed default needs an example"
    return _plain(field.default)


def _setting(name: str, value: Any, prefix: str) -> Iterator[str]:
    # Mappings stand on one line, lists of mappings and long lists on a line for each.
    flat = not isinstance(value, list) or (len(value) < 8 and not any(isinstance(one, dict) for one in value))
    if flat:
        yield f"{prefix}{name}: {_flow(value)}"
        return
    yield f"{prefix}{name}:"
    for one in value:
        first = True
        for line in [f"{k}: {_flow(v)}" for k, v in one.items()] if isinstance(one, dict) else [_flow(one)]:
            yield f"{prefix}{'- ' if first else '  '}{line}"
            first = False


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _plain(value: Any) -> Any:
    """`value` as YAML writes it; keys that are null are left out of mappings."""
    if isinstance(value, BaseModel):
        shown = {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        return {name: one for name, one in shown.items() if one is not None}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, PurePath | ipaddress.IPv4Network | ipaddress.IPv6Network):
        return str(value)
    assert not isinstance(value, SecretStr), "no secret has a default"
    return value
