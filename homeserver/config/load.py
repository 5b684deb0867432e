"""Reads the configuration: defaults, then the YAML file, then the environment.

Whatever is wrong becomes a ConfigError of one line, because it is read in a terminal or in the log of a service manager
by someone who wants to know which file or variable to open, at which key, and what to write there.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ByteSize, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from homeserver.config.base import ConfigError, secret_fields
from homeserver.config.sections import Config

PREFIX = "TALKPAI_"
CONFIG_VARIABLE = "TALKPAI_CONFIG"  # names the file; read by the command line, not a key

KeyPath: TypeAlias = tuple[str | int, ...]


def load_config(path: Path | None, env: Mapping[str, str]) -> Config:
    """The configuration from `path` (None: no file) with the overrides in `env`, normally `os.environ`.

    `TALKPAI_SERVER_NAME` sets `server_name`, `TALKPAI_DATABASE__URL` sets `database.url`; lists and mappings are
    written as JSON or YAML. A variable that is set to nothing counts as not set. Relative paths are relative to the
    directory of the file, without one to the working directory. Raises ConfigError.
    """
    data = _read_file(path) if path is not None else {}
    origins = _apply_environment(data, env)
    base = path.resolve().parent if path is not None else Path.cwd()
    try:
        return Config.model_validate(data, context={"base_directory": base})
    except ValidationError as error:
        raise ConfigError(_one_line(error, data, path, origins)) from None


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the plain loader silently drops one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:int":
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: must be UTF-8 text") from None
    try:
        data = _parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_problem(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines, the keys being {_listed(Config.model_fields)}")
    return data


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with one more check
    except (ValueError, RecursionError) as error:
        # The loader's own way of saying that a date does not exist, a number has thousands of digits and the like.
        raise yaml.YAMLError(str(error)) from None


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}must be YAML: {problem}"


def _apply_environment(data: dict[str, Any], env: Mapping[str, str]) -> dict[KeyPath, str]:
    """Writes the overrides into `data`; returns which variable set which key."""
    origins: dict[KeyPath, str] = {}
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or env[variable] == "":
            continue
        keys = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        value = _environment_value(variable, keys, env[variable])
        _set(data, keys, value)
        origins[keys] = variable
    return origins


def _environment_value(variable: str, keys: tuple[str, ...], text: str) -> Any:
    section: type[BaseModel] = Config
    annotation: Any = Config
    for index, key in enumerate(keys):
        if key.endswith("_file") and key.removesuffix("_file") in secret_fields(section):
            annotation = str
        elif key in section.model_fields:
            annotation = section.model_fields[key].annotation
        else:
            name = ".".join(keys[: index + 1])
            raise ConfigError(f"{variable}: {name} is not a setting; allowed here: {_known(section, key)}")
        if index == len(keys) - 1:
            break
        model = _model_of(annotation)
        if model is None:
            raise ConfigError(f"{variable}: {'.'.join(keys[: index + 1])} has no settings of its own below it")
        section = model
    if _is_text(annotation):
        return text
    try:
        return _parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{variable}: {'.'.join(keys)}: {_yaml_problem(error)}") from None


def _choices(annotation: Any) -> list[Any]:
    """The alternatives of a union without None; the annotation alone where it is none."""
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [choice for arg in get_args(annotation) if arg is not types.NoneType for choice in _choices(arg)]
    return [annotation]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for choice in _choices(annotation):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


def _is_text(annotation: Any) -> bool:
    return all(
        choice in (str, Path, SecretStr, ByteSize) or get_origin(choice) is Literal for choice in _choices(annotation)
    )


def _set(data: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    *sections, last = keys
    here = data
    for section in sections:
        inner = here.get(section)
        if not isinstance(inner, dict):
            inner = here[section] = {}
        here = inner
    # A secret given both ways is refused, but a variable is meant to override the file whichever way that gave it.
    for twin in (f"{last}_file", last.removesuffix("_file")):
        if twin != last:
            here.pop(twin, None)
    here[last] = value


def _one_line(error: ValidationError, data: Any, path: Path | None, origins: Mapping[KeyPath, str]) -> str:
    # A default that could not be computed is only the consequence of another error.
    details = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    # A misspelt key explains a missing one, so it goes first.
    first = min(details, key=lambda one: one["type"] != "extra_forbidden")
    keys = _key_path(first)
    source = next((name for at, name in origins.items() if keys[: len(at)] == at), None)
    if source is None and path is None:
        source = next((name for at, name in origins.items() if at[: len(keys)] == keys), None)
    return " ".join(f"{source or path or 'configuration'}: {_dotted(keys)}: {_message(first, data, keys)}".split())


def _key_path(detail: ErrorDetails) -> KeyPath:
    key = (detail.get("ctx") or {}).get("key") if detail["type"] == "key_error" else None
    return (*detail["loc"], key) if key is not None else detail["loc"]


def _dotted(keys: KeyPath) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text or "the file"


def _message(detail: ErrorDetails, data: Any, keys: KeyPath) -> str:
    section = _section_at(keys[:-1])
    if detail["type"] == "extra_forbidden":
        return f"is not a setting; allowed here: {_known(section, str(keys[-1]))}"
    if detail["type"] == "missing":
        return f"is missing; it is needed here: {_known(section, '')}"
    if detail["type"] in ("value_error", "key_error"):
        message = detail["msg"].removeprefix("Value error, ")
    elif detail["type"] in ("model_type", "dict_type"):
        message = f"must be a section with the keys {_listed(_section_at(keys).model_fields)}"
    elif detail["type"] in _TYPE_MESSAGES:
        message = _TYPE_MESSAGES[detail["type"]]
    elif detail["type"].split("_")[0] in ("int", "float", "greater", "less"):
        message = _number_message(section.model_fields[str(keys[-1])])
    else:
        message = detail["msg"].replace("Input should be", "must be", 1).replace("'", "")
    return message + _given(data, keys, section)


_TYPE_MESSAGES = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "byte_size": "must be a number of bytes, or one with a unit such as 50MiB",
    "byte_size_unit": "must be a number of bytes, or one with a unit such as 50MiB",
    "path_type": "must be a path",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}


def _number_message(field: FieldInfo) -> str:
    kind = "a number" if float in _choices(field.annotation) else "a whole number"
    bounds = [
        f"{word} {getattr(mark, name)}"
        for mark in field.metadata
        for name, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
        if hasattr(mark, name)
    ]
    return f"must be {kind} {', '.join(bounds)}".rstrip()


def _given(data: Any, keys: KeyPath, section: type[BaseModel]) -> str:
    """`, not 70000`: the refused value, where it is short and no secret."""
    for index, key in enumerate(keys):
        if key in secret_fields(_section_at(keys[:index])):
            return ""
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(data, dict | list) or not keys or str(keys[-1]).endswith("_file"):
        return ""
    return (
        f", not {str(data)[:80]!r}"
        if isinstance(data, str)
        else f", not {'null' if data is None else str(data).lower()}"
    )


def _section_at(keys: KeyPath) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for key in keys:
        if isinstance(key, int):
            continue
        field = section.model_fields.get(key)
        annotation = field.annotation if field is not None else None
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        section = _model_of(annotation) or section
    return section


def _known(section: type[BaseModel], key: str) -> str:
    names = [*section.model_fields, *(f"{name}_file" for name in secret_fields(section))]
    close = difflib.get_close_matches(key, names, n=1)
    return f"{_listed(names)}; did you mean {close[0]}?" if close else _listed(names)


def _listed(names: Any) -> str:
    return ", ".join(names)
