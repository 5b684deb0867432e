"""Texts in the language of the reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

import homeserver
from homeserver.translations import (
    LANGUAGES,
    SOURCE,
    best_language,
    mark,
    plural_translator,
    read_catalogue,
    translator,
)

_ROOT = Path(homeserver.__file__).parent
_TRANSLATED = [language for language in LANGUAGES if language != SOURCE]
_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "mark": None}
_TEMPLATES = (".html", ".txt")
_PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]")


def _marked() -> Iterator[tuple[str | tuple[str, ...], str]]:
    """Every marked text (a pair, where it counts) with where it stands."""
    for path in sorted(_ROOT.rglob("*")):
        if path.suffix == ".py":
            method: str = "python"
        elif path.suffix in _TEMPLATES and "templates" in path.parts:
            method = "jinja2.ext:babel_extract"
        else:
            continue
        for line, message, _, _ in extract_from_file(method, path, keywords=_KEYWORDS):
            yield message, f"{path.relative_to(_ROOT)}:{line}"


@pytest.mark.parametrize("language", _TRANSLATED)
def test_every_marked_text_is_translated(language: str) -> None:
    """Whatever is marked in templates and code has a translation."""
    catalogue = read_catalogue(language)
    missing = []
    for message, place in _marked():
        found = catalogue.get(message)
        forms = (found.string if isinstance(found.string, tuple) else (found.string,)) if found is not None else ("",)
        if not all(forms) or (found is not None and found.fuzzy):
            missing.append(f"{place}: {message!r}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("language", _TRANSLATED)
def test_every_translation_is_used(language: str) -> None:
    """A catalogue has no text that nobody shows any more."""
    marked = {message if isinstance(message, str) else message[0] for message, _ in _marked()}
    known = {message.id if isinstance(message.id, str) else message.id[0] for message in read_catalogue(language)}
    assert sorted(known - marked - {""}) == []


@pytest.mark.parametrize("language", _TRANSLATED)
def test_placeholders_are_the_same(language: str) -> None:
    """A translation has the placeholders of its source, and no other."""
    for message in read_catalogue(language):
        if not message.id:
            continue
        ids = [message.id] if isinstance(message.id, str) else message.id
        forms = [message.string] if isinstance(message.string, str) else message.string or ()
        expected = set(_PLACEHOLDER.findall(ids[-1]))
        for form in forms:
            assert set(_PLACEHOLDER.findall(form)) == expected, message.id


@pytest.mark.parametrize("language", _TRANSLATED)
def test_domains_agree(language: str) -> None:
    """The same English text has the same translation in all domains."""
    translations: dict[object, object] = {}
    for path in sorted((_ROOT / "translations" / language).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id:
                    assert translations.setdefault(message.id, message.string) == message.string


def test_translates() -> None:
    """A text comes out in the language that was asked for, and in English where there is none such."""
    assert translator("uk")(mark("Sign in")) == "Увійти"
    assert translator("en")("Sign in") == "Sign in"
    assert translator("tlh")("Sign in") == "Sign in"
    assert translator("uk")("a text that nobody has marked") == "a text that nobody has marked"


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 секунду"), (3, "3 секунди"), (5, "5 секунд"), (11, "11 секунд"), (21, "21 секунду")]
)
def test_counts_by_the_rules_of_the_language(number: int, text: str) -> None:
    """A number has the form of the noun that the language wants."""
    ngettext = plural_translator("uk")
    one, many = "That was too often. Try again in %(num)d second.", "That was too often. Try again in %(num)d seconds."
    assert (ngettext(one, many, number) % {"num": number}).endswith(f"через {text}.")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("uk", "uk"),
        ("uk-UA,uk;q=0.9,en-US;q=0.8,en;q=0.7", "uk"),
        ("en-GB,uk;q=0.5", "en"),
        ("de,uk;q=0.4", "uk"),
        ("de-DE", "en"),
        ("en;q=0,uk;q=0.1", "uk"),
        ("uk;q=nan,uk;q=inf,uk;q=x", "en"),
        ("*", "en"),
        (",;=,;q", "en"),
        ("x" * 100_000 + ",uk", "en"),
    ],
)
def test_language_that_the_reader_likes_best(header: str, language: str) -> None:
    """Of the languages that a browser names, the best one that we have is taken; nonsense is English."""
    assert best_language(header) == language
