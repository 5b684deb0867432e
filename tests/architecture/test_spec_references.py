"""Comments of the form `spec: DOCUMENT#ANCHOR` lead somewhere.

A reader follows them as https://spec.matrix.org/latest/DOCUMENT#ANCHOR. What exists is listed in spec_index.txt, which
spec_index.py writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import PACKAGES, files, place

_INDEX = Path(__file__).with_name("spec_index.txt")
_COMMENT = re.compile(r"(?<![\w-])spec: +(.*)")
_REFERENCE = re.compile(r"^(?P<document>[a-z][\w/-]*?)/?(?:#(?P<anchor>[\w-]+))?[.,;:)]*$")
_PART_OF_ENDPOINT = re.compile(r"_(request|response)(-|_|$).*")


def _load_index(text: str) -> dict[str, set[str]]:
    index: dict[str, set[str]] = {}
    anchors: set[str] = set()
    for line in text.splitlines():
        if line.startswith(" "):
            anchors.add(_one_spelling(line.strip()))
        else:
            anchors = index[line.rstrip("/")] = set()
    return index


def _one_spelling(anchor: str) -> str:
    """The specification writes both authorization and authorisation; a citation may write either."""
    return anchor.replace("isation", "ization").replace("ised", "ized")


def _fault(reference: str, index: dict[str, set[str]]) -> str | None:
    parts = _REFERENCE.match(reference)
    if parts is None:
        return "is not of the form DOCUMENT#ANCHOR"
    if parts["document"] not in index:
        return "names no document of the specification"
    if parts["anchor"] is None:
        return None
    anchor = _one_spelling(_PART_OF_ENDPOINT.sub("", parts["anchor"]))
    return None if anchor in index[parts["document"]] else "names no anchor of that document"


def _references(comment: str) -> Iterator[str]:
    """The citations in what follows `spec:`; the first word is one, later words only if they look like one."""
    for position, word in enumerate(comment.split()):
        if position == 0 or re.match(r"[a-z][\w/-]+#[\w-]", word):
            yield word.strip("`\"'")


def test_every_reference_to_the_specification_exists() -> None:
    """Whoever follows a reference from the code to the specification arrives at the clause."""
    index = _load_index(_INDEX.read_text(encoding="utf-8"))
    faults = [
        f"{place(path, number)}: {reference} {fault}"
        for path in files((*PACKAGES, "tests"), ".py", ".sql")
        if path.parent != _INDEX.parent
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for comment in _COMMENT.findall(line)
        for reference in _references(comment)
        if (fault := _fault(reference, index)) is not None
    ]
    assert not faults, "\n".join(faults)


def test_a_wrong_reference_is_found() -> None:
    """The check tells an existing clause from a document or an anchor that does not exist."""
    index = _load_index("rooms/v11\n authorisation-rules\nclient-server-api/\n get_matrixclientv3sync\n")
    assert _fault("rooms/v11#authorization-rules", index) is None
    assert _fault("client-server-api/#get_matrixclientv3sync_response-200", index) is None
    assert _fault("rooms/v11", index) is None
    assert _fault("rooms/v99#authorization-rules", index) == "names no document of the specification"
    assert _fault("client-server-api/#get_matrixclientv3sink", index) == "names no anchor of that document"
    assert _fault("§4.3", index) == "is not of the form DOCUMENT#ANCHOR"
