"""A Web Push service that belongs to a test, and a browser's subscription at it, which reads what it is sent."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Json = dict[str, Any]


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def decrypt(body: bytes, private: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """The text of a message of one record (RFC 8188, RFC 8291), as its receiver reads it."""
    salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
    sender, text = body[21 : 21 + length], body[21 + length :]
    assert len(text) <= size
    receiver = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))

    def derive(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, salt, info).derive(secret)

    secret = derive(auth, shared, b"WebPush: info\0" + receiver + sender, 32)
    key = derive(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = derive(salt, secret, b"Content-Encoding: nonce\0", 12)
    padded = AESGCM(key).decrypt(nonce, text, None).rstrip(b"\0")
    assert padded[-1:] == b"\x02"
    return padded[:-1]


class PushService:
    """`messages` holds what came, read; `headers` what it came with. `status` is what it answers."""

    def __init__(self, vapid: str) -> None:
        self.origin = ""
        self.status = 201
        self.messages: list[Json] = []
        self.headers: list[Any] = []
        self.sizes: list[int] = []
        self.auth = b"0123456789abcdef"
        self.private = ec.generate_private_key(ec.SECP256R1())
        self._vapid = vapid
        self._came = asyncio.Condition()

    def pusher(self, **fields: Any) -> Json:
        """The body of a request for a pusher that sends here."""
        public = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {
            "kind": "webpush",
            "app_id": "org.example.web",
            "pushkey": base64url(public),
            "app_display_name": "App",
            "device_display_name": "Browser",
            "lang": "en",
            "data": {"url": f"{self.origin}/send/abc?d=e", "auth": base64url(self.auth)},
            **fields,
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Refuses what no real service would take: another's signature, or too long a message."""
        kind, _, parameters = request.headers["Authorization"].partition(" ")
        given = dict(one.strip().split("=", 1) for one in parameters.split(","))
        assert (kind, given["k"]) == ("vapid", self._vapid)
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unbase64url(given["k"]))
        claims = jwt.decode(given["t"], point, ["ES256"], audience=self.origin)
        assert claims["sub"].startswith(("https://", "mailto:"))
        assert request.headers["Content-Encoding"] == "aes128gcm"
        body = await request.read()
        async with self._came:
            self.sizes.append(len(body))
            self.headers.append(request.headers)
            self.messages.append(json.loads(decrypt(body, self.private, self.auth)))
            self._came.notify_all()
        return web.Response(status=self.status)

    async def count(self, number: int, seconds: float = 30.0) -> list[Json]:
        """Returns the messages once there are so many."""
        return await self.wait_for(lambda: len(self.messages) >= number, seconds)

    async def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> list[Json]:
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(condition)
        return self.messages


@asynccontextmanager
async def push_service(vapid: str) -> AsyncIterator[PushService]:
    """A push service for subscriptions that were made with that key of a server."""
    service = PushService(vapid)
    app = web.Application()
    app.router.add_post("/send/abc", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        service.origin = f"http://{host}:{port}"
        yield service
    finally:
        await runner.cleanup()
