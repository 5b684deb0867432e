"""The rules of docs/CONTRIBUTING.md that a program can check."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
from importlib.metadata import packages_distributions

from tests.architecture.sources import PACKAGES, ROOT, files, functions, place, syntax_tree

_TOP_LEVEL = {
    *PACKAGES,
    "docs",
    "tests",
    "config.yaml.example",
    "setup.cfg",
    "setup.py",
    "Makefile",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
}
_MADE_BY_TOOLS = {"build", "dist", "site", "data", "config.yaml", "talk_pai.egg-info", "__pycache__"}


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _distribution(requirement: str) -> str:
    """`aiohttp >=3.14, <4` → `aiohttp`, spelled as package indexes compare names."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_the_top_level_holds_only_what_belongs_there() -> None:
    """Whoever opens the repository sees the packages, the documentation and a handful of files, and no heap."""
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    strays = {name for name in names - _TOP_LEVEL - _MADE_BY_TOOLS if not re.fullmatch(r"requirements.*\.lock", name)}
    assert strays == set()


def test_every_test_opens_with_the_rule_that_it_proves() -> None:
    """A test function has a docstring, so that a failure says what no longer holds."""
    bare = [
        f"{place(path, function.lineno)} {function.name}"
        for path in files(("tests",), ".py")
        if path.name.startswith("test_")
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert bare == []


def test_every_module_opens_with_what_it_holds() -> None:
    """A module or package has a docstring that says what it holds and why it is shaped so."""
    bare = [place(path) for path in files((*PACKAGES, "tests"), ".py") if not ast.get_docstring(syntax_tree(path))]
    assert bare == []


def test_every_part_of_the_homeserver_has_its_layer() -> None:
    """Each module directly below `homeserver` stands in the layers of setup.cfg: one that does not goes unchecked."""
    layers = _setup()["importlinter:contract:layers"]["layers"]
    named = set(re.findall(r"homeserver\.(\w+)", layers))
    present = {path.stem for path in (ROOT / "homeserver").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert present - named - {"__init__", "__main__", "__pycache__"} == set()


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    """The packages import only distributions that setup.cfg declares, and it declares none that they don't use."""
    declared = {
        _distribution(line) for line in _setup()["options"]["install_requires"].split("\n") if line[:1].isalpha()
    }
    distributions = packages_distributions()
    imported: dict[str, str] = {}
    for path in files(PACKAGES, ".py"):
        for node in ast.walk(syntax_tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES):
                imported[_distribution(distributions.get(name, [name])[0])] = place(path, node.lineno)
    assert {name: where for name, where in imported.items() if name not in declared} == {}
    assert declared - imported.keys() == set()


def test_lock_files_record_no_place_to_download_from() -> None:
    """Locked packages are known by version and hash; where they come from is for whoever installs to choose."""
    for lock in ROOT.glob("*.lock"):
        assert "://" not in lock.read_text(encoding="utf-8"), lock.name
    for lock in files(("tests", "homeserver"), ".json"):
        if lock.name == "package-lock.json":
            packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
            assert [name for name, package in packages.items() if "resolved" in package] == [], place(lock)
