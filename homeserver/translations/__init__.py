"""What people read in pages and mails, in their language.

English is the source: a text is marked where it stands, `_("Sign in")`, and looked up in the language of the reader.
The translations are gettext catalogues, `LANGUAGE/DOMAIN.po`, a domain for each part of the server (web, mail), so that
any editor for translations can work on them. They are read once, when this is imported; nothing has to be compiled or
installed. A test holds every marked text against having a translation with the same placeholders.

In templates `_` and `ngettext` mark and translate. In code a text that is written at one place and shown at another is
marked with `mark`.
"""

from __future__ import annotations

import gettext
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

Translator: TypeAlias = Callable[[str], str]
PluralTranslator: TypeAlias = Callable[[str, str, int], str]

SOURCE = "en"
LANGUAGES = {"en": "English", "uk": "Українська"}
"""Language code -> what it calls itself. The first is the source."""

_FOLDER = Path(__file__).parent
_MAX_HEADER = 1000  # characters of Accept-Language that are looked at


def mark(text: str) -> str:
    """Returns `text` as it is. It is marked for translation, and translated where it is shown."""
    return text


def translator(language: str) -> Translator:
    """What turns an English text into `language`. A language that is not known is English.

    Placeholders are `%(name)s`; the caller fills them in afterwards.
    """
    return _CATALOGUES.get(language, _ENGLISH).gettext


def plural_translator(language: str) -> PluralTranslator:
    """The same for a text that counts: (one, many, n) -> the text for n. `%(num)d` is filled in after."""
    return _CATALOGUES.get(language, _ENGLISH).ngettext


def best_language(accept_language: str) -> str:
    """The language of ours that the reader likes best, by the header Accept-Language; English if there is none.

    A region counts as its language (`uk-UA` as `uk`). Anything malformed is passed over.
    """
    best, weight = SOURCE, 0.0
    for entry in accept_language[:_MAX_HEADER].split(","):
        name, _, parameter = entry.strip().partition(";")
        language = name.strip().lower().partition("-")[0]
        quality = _quality(parameter)
        if language in LANGUAGES and quality > weight:
            best, weight = language, quality
    return best


def _quality(parameter: str) -> float:
    key, _, value = parameter.strip().partition("=")
    if not key:
        return 1.0
    try:
        quality = float(value) if key.strip().lower() == "q" else 0.0
    except ValueError:
        return 0.0
    return quality if 0.0 < quality <= 1.0 else 0.0


def read_catalogue(language: str) -> Catalog:
    """All domains of a language as one catalogue."""
    whole = Catalog(locale=language)
    for path in sorted((_FOLDER / language).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id:
                    whole[message.id] = message
    return whole


def _compiled(language: str) -> gettext.GNUTranslations:
    file = io.BytesIO()
    write_mo(file, read_catalogue(language))
    file.seek(0)
    return gettext.GNUTranslations(file)


_ENGLISH = gettext.NullTranslations()
_CATALOGUES = {language: _compiled(language) for language in LANGUAGES if language != SOURCE}
