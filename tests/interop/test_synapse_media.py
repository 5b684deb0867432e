"""Files between our server and a real Synapse, both ways."""

from __future__ import annotations

import pytest

from tests.support.api import open_api
from tests.support.media import picture, upload
from tests.support.processes import Homeserver

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("synapse"), pytest.mark.timeout(180)]

_V1 = "/_matrix/client/v1/media"


@pytest.mark.parametrize("uploader", ["ours", "theirs"])
async def test_files_go_both_ways(uploader: str, ours: Homeserver, theirs: Homeserver) -> None:
    """What is uploaded on one side is downloaded on the other as it was, and is made smaller there."""
    here, there = (ours, theirs) if uploader == "ours" else (theirs, ours)
    async with open_api(here.url) as api, open_api(there.url) as other:
        alice = await api.register(f"alicemedia{uploader}")
        bob = await other.register(f"bobmedia{uploader}")
        body = picture((700, 500))
        place = await upload(alice, body, "image/png", "boat.png")
        file = await bob.get(f"{_V1}/download/{place}")
        assert (file.status, file.body, file.headers["Content-Type"]) == (200, body, "image/png")
        assert "boat.png" in file.headers["Content-Disposition"]
        sizes = {"width": "300", "height": "200", "method": "scale"}
        small = await bob.get(f"{_V1}/thumbnail/{place}", query=sizes)
        assert small.status == 200
        assert small.headers["Content-Type"].startswith("image/")
        assert small.body != body
        assert (await bob.get(f"{_V1}/download/{place}nothing")).status == 404
