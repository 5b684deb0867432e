"""Every endpoint of the client-server API that is routed, called as its schemas say and in ways that are wrong.

What each answer looks like is checked by the API that the tests call through; here it is that nothing makes a 500, that
what is wrong is refused, and that what is refused changes nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.client_api.routes import CLIENT_ROUTES
from homeserver.http import Router
from tests.contract import requests
from tests.contract.specification import Operation, Specification, specification
from tests.contract.world import World, bounded, strategy

_ROUTER = Router(CLIENT_ROUTES)


def _routed() -> list[Operation]:
    spec = specification()
    if spec is None:
        return []
    operations = [operation for operation in spec.operations if operation.api == "client-server"]
    return [operation for operation in operations if _ROUTER.find(operation.method, operation.path)[0] is not None]


_granted: dict[str, bool] = defaultdict(bool)  # by endpoint, for the endpoints that have had their turn
_MEDIA = ("Email", "MSISDN")
_NEVER_GRANTED = {
    "updateAppserviceRoomDirectoryVisibility": "for application services",
    "getProtocolMetadata": "there is no application service with a protocol",
    "inviteBy3PID": "there is no identity server",
    "add3PID": "no mail is sent, so no address is proved",
    **dict.fromkeys(("bind3PID", "post3PIDs"), "there is no identity server"),
    **dict.fromkeys(
        (f"requestToken{purpose}{medium}" for purpose in ("ToRegister", "ToResetPassword") for medium in _MEDIA),
        "no mail and no text message is sent",
    ),
    **dict.fromkeys(("requestTokenTo3PIDEmail", "requestTokenTo3PIDMSISDN"), "no mail and no text message is sent"),
    **dict.fromkeys(
        ("getAdminLockUser", "setAdminLockUser", "getAdminSuspendUser", "setAdminSuspendUser"),
        "for administrators, of whom none is on stage: tests/client_api/test_account_moderation.py calls them",
    ),
    **dict.fromkeys(
        ("getContent", "getContentOverrideName", "getContentThumbnail"),
        "without a token only files of former times are given",
    ),
    "uploadCrossSigningKeys": "the keys must be real ones that sign one another",
}
# Fields that this server does not look at, so that anything can stand in them; each with the endpoint's name before it.
_UNREAD = (
    r"register refresh_token .*",  # guests get none, nor does anyone who does not want to be logged in
    r"login (address|medium|token|user) .*",  # of other ways to log in than the one that is asked for
    r"register (password|username|device_id|inhibit_login|auth\b).*",  # of guests nothing is read
    r"setPushRule (conditions|pattern)\b.*",  # of other kinds of rules
    r"postPusher (data|lang|append|profile_tag|\w+_display_name)\b.*",  # where a pusher is to be deleted
    r"\w+ id_server .*",  # identity servers are not asked anything
)
_OPERATIONS = {operation.name: operation for operation in _routed()}
each_endpoint = pytest.mark.parametrize("name", _OPERATIONS or ["(the specification is not there)"])


@pytest.mark.asyncio(loop_scope="module")
@each_endpoint
@bounded(15)
@given(data=st.data())
async def test_right_requests(matrix: Specification, world: World, name: str, data: st.DataObject) -> None:
    """A request as the specification describes it is answered as the specification describes it."""
    who, known = await world.caller(name)
    call = data.draw(strategy(requests.right, _OPERATIONS[name], known))
    answer = await world.call(who, call)
    _granted[name] |= answer.status == 200


@pytest.mark.asyncio(loop_scope="module")
@each_endpoint
@bounded(40)
@given(data=st.data())
async def test_wrong_requests(matrix: Specification, world: World, name: str, data: st.DataObject) -> None:
    """A request that is wrong in one place is refused with an error that says so, and changes nothing."""
    who, known = await world.caller(name)
    call = data.draw(strategy(requests.wrong, _OPERATIONS[name], known))
    answer = await world.call(who, call, watch=True)
    if call.must_fail and not any(re.fullmatch(unread, f"{name} {call.wrong}") for unread in _UNREAD):
        assert answer.status >= 400, f"{answer.status} for {call}"


def test_every_endpoint_has_granted_something() -> None:
    """Of the right requests to each endpoint some were granted: the others were not refused for what they all lack."""
    lacking = {name for name, granted in _granted.items() if not granted} - _NEVER_GRANTED.keys()
    assert not lacking, f"{sorted(lacking)} need hints in tests/contract/stage.py of what makes a good request"
