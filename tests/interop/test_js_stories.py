"""matrix-js-sdk as a client of our server, with all that it makes of rooms: the stories of js/stories."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.js_stories import STORIES, tell
from tests.support.processes import Homeserver

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", STORIES)
async def test_stories(name: str, ours: Homeserver, node: Path, tmp_path: Path) -> None:
    """Each story of a file comes out as its rule says."""
    told = await tell(node, ours.url, name, tmp_path / "js-sdk.log")
    failed = [f"{rule}\n{error}" for rule, error in told.items() if error is not None]
    assert not failed, "\n\n".join(failed)
