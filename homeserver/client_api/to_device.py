"""Messages from device to device.

# spec: client-server-api/#send-to-device-messaging
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.devices import to_device
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import checked_text, json_object
from homeserver.protocol.errors import BadJson, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_user_id

if TYPE_CHECKING:
    from homeserver.services import Services

_MAX_ID = 255


async def put_send_to_device(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid"""
    requester, body = request.requester, await request.json()
    type = checked_text("eventType", request.params["eventType"], _MAX_ID)
    txn_id = checked_text("txnId", request.params["txnId"], _MAX_ID)
    messages = json_object(body, "messages", required=True)
    _check_messages(messages)
    if requester.shadow_banned:
        messages = {user_id: found for user_id, found in messages.items() if user_id == requester.user_id}
    federation = services.config.federation
    await to_device.send(
        services.stream,
        to_device.Sender(requester.user_id, requester.user_nid, requester.device_id or ""),
        type,
        txn_id,
        messages,
        server_name=services.server_name,
        may_talk_with=federation.may_talk_with if federation.enabled else lambda _: False,
    )
    return {}


def _check_messages(messages: JsonObject) -> None:
    for user_id, by_device in messages.items():
        if not is_user_id(user_id) or "\0" in user_id:
            raise InvalidParam("messages has a key that is no user id")
        if not isinstance(by_device, dict):
            raise BadJson("messages must have an object for each user")
        for device_id, content in by_device.items():
            checked_text("The id of a device", device_id, _MAX_ID)
            if not isinstance(content, dict):
                raise BadJson("The content of a message must be an object")


ROUTES: list[Route] = client_routes("PUT", "/sendToDevice/{eventType}/{txnId}", put_send_to_device, Auth.GUEST)
