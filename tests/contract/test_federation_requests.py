"""Every endpoint of the server-server API that is routed, called by a peer as its schemas say and otherwise.

# spec: server-server-api/#request-authentication
"""

from __future__ import annotations

from collections import defaultdict
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.peers import Federation
from federation.routes import federation_routes
from homeserver.client_api.routes import CLIENT_ROUTES
from homeserver.http import Router
from tests.contract import requests
from tests.contract.federation_world import FederationWorld
from tests.contract.specification import Operation, Specification, specification
from tests.contract.world import bounded, strategy

_granted: dict[str, bool] = defaultdict(bool)  # by endpoint, for the endpoints that have had their turn
_NEVER_GRANTED = {
    "sendInviteV1": "only for rooms of the first two versions",
    "getWellKnown": "there is nothing to delegate to",
    "exchangeThirdPartyInvite": "there is no identity server",
    "exchangeOpenIdToken": "nobody has asked for a token",
}


def _routed() -> dict[str, Operation]:
    spec = specification()
    # The handlers need the server when they are called, and the table does not call them.
    router = Router([*CLIENT_ROUTES, *federation_routes(cast(Federation, None))])
    found = [one for one in spec.operations if one.api == "server-server"] if spec is not None else []
    return {one.name: one for one in found if router.find(one.method, one.path)[0] is not None}


_OPERATIONS = _routed()
each_endpoint = pytest.mark.parametrize("name", _OPERATIONS or ["(the specification is not there)"])


@pytest.mark.asyncio(loop_scope="module")
@each_endpoint
@bounded(15)
@given(data=st.data())
async def test_right_requests(matrix: Specification, peers: FederationWorld, name: str, data: st.DataObject) -> None:
    """A request as the specification describes it is answered as the specification describes it."""
    call = data.draw(strategy(requests.right, _OPERATIONS[name], await peers.known(name)))
    answer = await peers.call(call)
    _granted[name] |= answer.status == 200


@pytest.mark.asyncio(loop_scope="module")
@each_endpoint
@bounded(60)
@given(data=st.data())
async def test_wrong_requests(matrix: Specification, peers: FederationWorld, name: str, data: st.DataObject) -> None:
    """A request that is wrong in one place makes no 500, and changes nothing if it is refused."""
    call = data.draw(strategy(requests.wrong, _OPERATIONS[name], await peers.known(name)))
    await peers.call(call, watch=True)


def test_every_endpoint_has_granted_something() -> None:
    """Of the right requests to each endpoint some were granted: the others were not refused for what they all lack."""
    lacking = {name for name, granted in _granted.items() if not granted} - _NEVER_GRANTED.keys()
    assert not lacking, (
        f"{sorted(lacking)} need hints in tests/contract/federation_world.py of what makes a good request"
    )
