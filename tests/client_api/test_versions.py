"""What a client learns before it logs in."""

from __future__ import annotations

from tests.support.api import Api


async def test_every_version_is_named(api: Api) -> None:
    """Clients look for one version that they know, so every one up to the newest is announced."""
    answer = await api.get("/_matrix/client/versions")
    assert answer.status == 200
    assert {"r0.0.1", "r0.6.1", "v1.1", "v1.11", "v1.19"} <= set(answer.body["versions"])
    assert "v1.20" not in answer.body["versions"]


_ANSWERED = {
    "org.matrix.simplified_msc3575": ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"),
    "org.matrix.msc3391": (
        "DELETE",
        "/_matrix/client/unstable/org.matrix.msc3391/user/@alice:test.example/account_data/x",
    ),
    "org.matrix.msc4140": ("GET", "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"),
    "org.matrix.msc4306": (
        "GET",
        "/_matrix/client/unstable/io.element.msc4306/rooms/!x:y/thread/$z/subscription",
    ),
    "org.matrix.msc3030": ("GET", "/_matrix/client/unstable/org.matrix.msc3030/rooms/!x:y/timestamp_to_event"),
    "org.matrix.msc3856": ("GET", "/_matrix/client/unstable/org.matrix.msc3856/rooms/!x:y/threads"),
    "org.matrix.msc4151": ("POST", "/_matrix/client/unstable/org.matrix.msc4151/rooms/!x:y/report"),
    "org.matrix.msc4260": ("POST", "/_matrix/client/unstable/org.matrix.msc4260/users/@x:y/report"),
    "uk.half-shot.msc2666.query_mutual_rooms": (
        "GET",
        "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
    ),
    "uk.tcpip.msc4133": ("GET", "/_matrix/client/unstable/uk.tcpip.msc4133/profile/@alice:test.example/m.tz"),
}


async def test_what_is_announced_is_there(alice: Api) -> None:
    """A feature that has endpoints of its own answers at them under the name by which clients look for it."""
    features = (await alice.get("/_matrix/client/versions")).body["unstable_features"]
    for feature, (method, path) in _ANSWERED.items():
        assert features[feature] is True
        assert (await alice.request(method, path, {} if method == "POST" else None)).errcode != "M_UNRECOGNIZED", path
    # These are about what other endpoints take and give, and proven where those are tested.
    for feature in ("org.matrix.msc4222", "org.matrix.msc4155", "org.matrix.msc4380", "org.matrix.msc3440.stable"):
        assert features[feature] is True
