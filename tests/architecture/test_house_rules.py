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
    assert not bare, "\n".join(bare)


def test_every_module_opens_with_what_it_holds() -> None:
    """A module or package has a docstring that says what it holds and why it is shaped so."""
    bare = [place(path) for path in files((*PACKAGES, "tests"), ".py") if not ast.get_docstring(syntax_tree(path))]
    assert not bare, "\n".join(bare)


def test_every_part_of_the_homeserver_has_its_layer() -> None:
    """Each module directly below `homeserver` stands in the layers of setup.cfg: one that does not goes unchecked."""
    layers = _setup()["importlinter:contract:layers"]["layers"]
    named = set(re.findall(r"homeserver\.(\w+)", layers))
    present = {path.stem for path in (ROOT / "homeserver").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert present - named - {"__init__", "__main__", "__pycache__"} == set()


def _imported(folders: tuple[str, ...]) -> dict[str, str]:
    """Distributions of others whose modules the Python files in these folders name, and one place for each."""
    distributions = packages_distributions()
    ours = {*PACKAGES, "tests", *sys.stdlib_module_names}
    found: dict[str, str] = {}
    for path in files(folders, ".py"):
        for node in ast.walk(syntax_tree(path)):
            match node:
                case ast.Import(names=aliases):
                    modules = [alias.name for alias in aliases]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case ast.Call(func=ast.Attribute(attr="find_spec"), args=[ast.Constant(value=str(module))]):
                    modules = [module]
                case _:
                    continue
            for module in {module.partition(".")[0] for module in modules} - ours:
                found[_distribution(distributions.get(module, [module])[0])] = place(path, node.lineno)
    return found


def _declared(section: str, key: str) -> set[str]:
    return {_distribution(line) for line in _setup()[section][key].split("\n") if line[:1].isalpha()}


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    """The packages import only distributions that setup.cfg declares, and it declares none that they don't use."""
    declared = _declared("options", "install_requires")
    imported = _imported(PACKAGES)
    assert {name: where for name, where in imported.items() if name not in declared} == {}
    assert declared - imported.keys() == set()


def test_what_the_tests_import_is_declared() -> None:
    """The tests import only distributions that setup.cfg declares for the packages or under the extra `test`."""
    declared = _declared("options", "install_requires") | _declared("options.extras_require", "test")
    assert {name: where for name, where in _imported(("tests",)).items() if name not in declared} == {}


def test_lock_files_record_no_place_to_download_from() -> None:
    """Locked packages are known by version and hash; where they come from is for whoever installs to choose."""
    for lock in ROOT.glob("*.lock"):
        assert "://" not in lock.read_text(encoding="utf-8"), lock.name
    for lock in files(("tests", "homeserver"), ".json"):
        if lock.name == "package-lock.json":
            packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
            assert [name for name, package in packages.items() if "resolved" in package] == [], place(lock)
