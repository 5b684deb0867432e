"""Reads the Matrix specification's sources and lists what can be cited: documents, and the anchors in each.

The specification is not part of this repository, so what it offers to cite is written down once, in spec_index.txt:

    python -m tests.architecture.spec_index PATH_TO_SPEC > tests/architecture/spec_index.txt

PATH_TO_SPEC holds `content/` and `data/` of the specification's repository, `endpoints.tsv` (API, method and path of
every endpoint, tab-separated) and proposals as `msc/NUMBER-title.md`. A document takes one line, its name, and one
indented line for each anchor in it. Names and anchors are those of the published site: `client-server-api/` has
`get_matrixclientv3sync` (an endpoint), `mroommember` (an event), `definition-encryptedfile` and its headings.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

_SHORTCODE = re.compile(r"\{\{[%<] (?P<name>[\w/-]+) (?P<arguments>[^%>]*)[%>]\}\}")
_ARGUMENT = re.compile(r'(\w+)="([^"]*)"')
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: *\{#(?P<anchor>[\w-]+)\})? *$")
_API_OF_DOCUMENT = {
    "client-server-api/": "client-server",
    "server-server-api/": "server-server",
    "application-service-api/": "application-service",
    "push-gateway-api/": "push-gateway",
}


def anchor_of(heading: str) -> str:
    """The anchor that the site gives a heading: lower case, spaces to hyphens, other punctuation dropped."""
    heading = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def read_index(spec: Path) -> dict[str, set[str]]:
    """Every document of the specification in `spec` and its anchors."""
    sources = {
        "client-server-api/": spec / "content/client-server-api/_index.md",
        **{f"{name}/": spec / f"content/{name}.md" for name in ("server-server-api", "application-service-api")},
        **{f"{name}/": spec / f"content/{name}.md" for name in ("push-gateway-api", "appendices", "proposals")},
        **{f"rooms/{path.stem}": path for path in (spec / "content/rooms").glob("v*.md")},
        **{f"msc/{path.stem.split('-')[0]}": path for path in (spec / "msc").glob("*.md")},
    }
    index = {document: set(_anchors(spec, source)) for document, source in sources.items()}
    for line in (spec / "endpoints.tsv").read_text(encoding="utf-8").splitlines():
        api, method, path = line.split("\t")[:3]
        for document, its_api in _API_OF_DOCUMENT.items():
            if api == its_api:
                index[document].add(method.lower() + anchor_of(path))
    return index


def _anchors(spec: Path, source: Path) -> Iterator[str]:
    """Anchors of one document with what its shortcodes bring in; a heading met again gets -1, -2 … as on the site."""
    seen: Counter[str] = Counter()
    for anchor in _headings(spec, source):
        yield anchor if not seen[anchor] else f"{anchor}-{seen[anchor]}"
        seen[anchor] += 1


def _headings(spec: Path, source: Path) -> Iterator[str]:
    fenced = False
    for line in source.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and (heading := _HEADING.match(line)):
            yield heading["anchor"] or anchor_of(heading[1])
        for shortcode in _SHORTCODE.finditer(line):
            yield from _brought_in(spec, shortcode["name"], dict(_ARGUMENT.findall(shortcode["arguments"])))


def _brought_in(spec: Path, shortcode: str, arguments: dict[str, str]) -> Iterator[str]:
    match shortcode:
        case "rver-fragment":
            yield from _headings(spec, spec / f"content/rooms/fragments/{arguments['name']}.md")
        case "cs-module":
            yield anchor_of(arguments["name"])
            yield from _headings(spec, spec / f"content/client-server-api/modules/{arguments['filename']}.md")
        case "event":
            yield anchor_of(arguments["event"])
        case "event-group":
            for path in sorted((spec / "data/event-schemas/schema").glob(arguments["group_name"] + ".*")):
                yield anchor_of(path.stem.rpartition("$")[2])
        case "definition":
            definition = yaml.safe_load((spec / f"data/{arguments['path']}.yaml").read_text(encoding="utf-8"))
            yield "definition-" + anchor_of(definition.get("title", arguments["path"].rpartition("/")[2]))


if __name__ == "__main__":
    for document, anchors in sorted(read_index(Path(sys.argv[1])).items()):
        print(document, *sorted(anchors), sep="\n ")
