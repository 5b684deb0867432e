"""What every section of the configuration shares.

A section is frozen (nobody changes the configuration of a running server by accident) and refuses keys that it does not
know (a misspelt key would otherwise be a setting silently not made). Whatever a validator here raises becomes the text
that the operator reads, so messages say what is allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationInfo, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(Exception):
    """A configuration that can't be used. Its text is one line: the file or environment variable, the key, the rule."""


@dataclass(frozen=True)
class FromFile:
    """Marks a field `foo` whose value may also stand in a file that the key `foo_file` names.

    With `lines`, each line that is not empty and does not start with `#` is one value of a list.
    """

    lines: bool = False


class Section(BaseModel):
    """A part of the configuration. An empty section in the file (`federation:`) means its defaults."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, data: Any, info: ValidationInfo) -> Any:
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            return data
        values = dict(data)
        for name, mark in secret_fields(cls).items():
            key = f"{name}_file"
            if values.get(key) is None:
                values.pop(key, None)
                continue
            path = values.pop(key)
            if values.get(name) is not None:
                raise _key_error(key, f"give either {name} or {key}, not both")
            values[name] = _read_secret(key, path, mark, info)
        return values


def secret_fields(section: type[BaseModel]) -> dict[str, FromFile]:
    """The fields of `section` that may be given as `<name>_file`."""
    return {
        name: mark
        for name, field in section.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, FromFile)
    }


def base_directory(info: ValidationInfo) -> Path:
    """What relative paths are relative to: the configuration file's directory, or without one the working directory."""
    context = info.context or {}
    return Path(context.get("base_directory") or Path.cwd())


def _key_error(key: str, message: str) -> PydanticCustomError:
    # `key` in the context tells load.py which key of the section to name.
    return PydanticCustomError("key_error", "{message}", {"message": message, "key": key})


def _read_secret(key: str, path: Any, mark: FromFile, info: ValidationInfo) -> str | list[str]:
    if not isinstance(path, str):
        raise _key_error(key, "must be the path of a file")
    try:
        text = _absolute(Path(path), info).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _key_error(key, f"must be the path of a readable file; {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _key_error(key, f"must be the path of a file of UTF-8 text; {path} is not") from None
    if not text:
        raise _key_error(key, f"must be the path of a file with a value in it; {path} is empty")
    if mark.lines:
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    return text


def _absolute(path: Path, info: ValidationInfo) -> Path:
    return Path(base_directory(info), path.expanduser())


def _network(value: Any) -> IpNetwork:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        if not isinstance(value, str):
            raise TypeError
        return ipaddress.ip_network(value, strict=False)
    except (ValueError, TypeError):
        raise ValueError("must be an address or a range such as 192.0.2.7, 10.0.0.0/8 or fd00::/8") from None


def _numeric_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Network: TypeAlias = Annotated[IpNetwork, BeforeValidator(_network)]
"""An IP address range (CIDR) or a single address."""

AbsolutePath: TypeAlias = Annotated[Path, AfterValidator(_absolute)]
"""A path, made absolute; `~` is the home directory of the user that the server runs as."""

Secret: TypeAlias = Annotated[SecretStr, FromFile()]

NumericText = BeforeValidator(_numeric_text)
"""For choices such as "12", which YAML reads as a number where the quotes are left out."""
