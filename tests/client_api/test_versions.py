"""What a client learns before it logs in."""

from __future__ import annotations

from tests.support.api import Api


async def test_every_version_is_named(api: Api) -> None:
    """Clients look for one version that they know, so every one up to the newest is announced."""
    answer = await api.get("/_matrix/client/versions")
    assert answer.status == 200
    assert {"r0.0.1", "r0.6.1", "v1.1", "v1.11", "v1.19"} <= set(answer.body["versions"])
    assert "v1.20" not in answer.body["versions"]
