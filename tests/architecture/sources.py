"""The repository's source files, as the tests of this package look at them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("homeserver", "federation", "appservices", "schema")
_GENERATED = {"dist", "node_modules", "__pycache__"}


def files(folders: tuple[str, ...], *suffixes: str) -> Iterator[Path]:
    """Files below these folders of the repository that end so; nothing that was built or installed."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and not _GENERATED.intersection(path.parts):
                yield path


@cache
def syntax_tree(path: Path) -> ast.Module:
    """The parsed Python file, parsed once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a Python file, at whatever depth."""
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def place(path: Path, line: int | None = None) -> str:
    """`path` as a person wants to read it, relative to the repository."""
    name = path.relative_to(ROOT).as_posix()
    return name if line is None else f"{name}:{line}"
