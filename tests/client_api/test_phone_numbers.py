"""Telephone numbers of accounts: a code that the gateway is given, typed once, with few tries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Answer, Api
from tests.support.servers import server_config

_SUBMIT = "/_matrix/client/unstable/org.talkpai.threepid/submit_token"
_SECRET = "monkeys_are_GREAT"
_OWNER = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD}


@dataclass
class Gateway:
    """What would send text messages. `answers` are the next statuses; then all is well."""

    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization", ""))
        self.messages.append(await request.json())
        self.arrived.set()
        return web.Response()

    async def code(self, number: int = 1) -> str:
        """The code in that message."""
        async with asyncio.timeout(20):
            while len(self.messages) < number:
                self.arrived.clear()
                await self.arrived.wait()
        found = re.match(r"(\d{8}) is your code for test\.example\.", self.messages[number - 1]["text"])
        assert found is not None, self.messages
        return found[1]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    app = web.Application()
    app.router.add_post("/send", gateway.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}/send"
    yield gateway
    await runner.cleanup()


@pytest.fixture
async def server(database: str, tmp_path: Path, gateway: Gateway) -> AsyncIterator[Server]:
    config = server_config(
        database,
        tmp_path,
        phone={"gateway_url": gateway.url, "gateway_token": "gateway secret"},
        federation={"allow_addresses": ["127.0.0.0/8"]},
        public_baseurl="https://chat.test.example",
    )
    async with running_server(config) as server:
        yield server


async def _ask(api: Api, number: str, country: str = "UA", *, of: str = "account/3pid", **more: object) -> Answer:
    body = {"country": country, "phone_number": number, "client_secret": _SECRET, "send_attempt": 1, **more}
    return await api.post(f"/{of}/msisdn/requestToken", body)


async def _submit(api: Api, sid: str, code: str) -> Answer:
    return await api.post(_SUBMIT, {"sid": sid, "client_secret": _SECRET, "token": code})


async def test_a_number_is_added_and_used_to_log_in(alice: Api, gateway: Gateway) -> None:
    """The code goes to the number in international form; then the account has it, however it is written."""
    asked = await _ask(alice, "044 123-45-67")
    assert asked.body["submit_url"] == f"https://chat.test.example{_SUBMIT}"
    code = await gateway.code()
    assert gateway.messages[0]["to"] == "+380441234567"
    assert gateway.authorizations == ["Bearer gateway secret"]
    assert (await _submit(alice, asked.body["sid"], code)).body == {"success": True}
    body = {"sid": asked.body["sid"], "client_secret": _SECRET, "auth": _OWNER}
    assert (await alice.post("/account/3pid/add", body)).status == 200
    threepids = (await alice.get("/account/3pid")).body["threepids"]
    assert [(one["medium"], one["address"]) for one in threepids] == [("msisdn", "380441234567")]
    for identifier in (
        {"type": "m.id.phone", "country": "UA", "phone": "(044) 1234567"},
        {"type": "m.id.phone", "country": "GB", "phone": "+380 44 123 45 67"},
        {"type": "m.id.thirdparty", "medium": "msisdn", "address": "380441234567"},
    ):
        login = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
        assert (await alice.as_token(None).post("/login", login)).status == 200, identifier


async def test_a_code_can_not_be_guessed(alice: Api, gateway: Gateway) -> None:
    """After five wrong codes the right one is worth nothing; a new one has to be asked for."""
    sid = (await _ask(alice, "0441234567")).body["sid"]
    code = await gateway.code()
    wrong = [f"{(int(code) + n) % 10**8:08}" for n in range(1, 9)]
    answers = await asyncio.gather(*(_submit(alice, sid, one) for one in wrong))
    assert {(answer.status, answer.errcode) for answer in answers} == {(400, "M_TOKEN_INCORRECT")}
    assert (await _submit(alice, sid, code)).errcode == "M_TOKEN_INCORRECT"
    again = (await _ask(alice, "0441234567", send_attempt=2)).body["sid"]
    assert again != sid
    assert (await _submit(alice, again, await gateway.code(2))).status == 200
    stranger = {"sid": again, "client_secret": "guessed", "token": code}
    assert (await alice.post(_SUBMIT, stranger)).errcode == "M_SESSION_EXPIRED"


async def test_a_password_is_reset_by_text_message(alice: Api, gateway: Gateway) -> None:
    """m.login.msisdn is one of the ways; a number that is nobody's gets no message, and the same answer."""
    sid = (await _ask(alice, "0441234567")).body["sid"]
    await _submit(alice, sid, await gateway.code())
    await alice.post("/account/3pid/add", {"sid": sid, "client_secret": _SECRET, "auth": _OWNER})
    nobody = alice.as_token(None)
    unknown = await _ask(nobody, "0447654321", of="account/password")
    known = await _ask(nobody, "0441234567", of="account/password")
    assert unknown.body.keys() == known.body.keys() == {"sid", "submit_url"}
    await _submit(nobody, known.body["sid"], await gateway.code(2))
    assert [message["to"] for message in gateway.messages] == ["+380441234567"] * 2
    creds = {"sid": known.body["sid"], "client_secret": _SECRET}
    body = {
        "new_password": "another good password",
        "auth": {"type": "m.login.email.identity", "threepid_creds": creds},
    }
    assert (await nobody.post("/account/password", body)).status == 401
    body["auth"] = {"type": "m.login.msisdn", "threepid_creds": creds}
    assert (await nobody.post("/account/password", body)).status == 200
    await nobody.login("alice", "another good password")


@pytest.mark.parametrize("number", ["", "1", "abc", "+", "044 123 45 67 89 01 23 45", "+0441234567", "٠٤٤١٢٣٤٥٦٧"])
async def test_what_is_no_number_is_refused(alice: Api, gateway: Gateway, number: str) -> None:
    """Nothing that could not be dialled gets as far as the gateway."""
    answer = await _ask(alice, number)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    assert (await _ask(alice, "0441234567", "ZZ")).errcode == "M_INVALID_PARAM"


async def test_the_page_for_links_says_nothing_about_codes(alice: Api, gateway: Gateway) -> None:
    """Short codes can't be tried where tries are not counted, nor by who has not asked for them."""
    sid = (await _ask(alice, "0441234567")).body["sid"]
    code = await gateway.code()
    pages = []
    for token in (code, "00000000"):
        async with alice.session.get(f"{alice.url}/account/confirm-address?sid={sid}&token={token}") as response:
            text = (await response.text()).partition("<main")[2].partition("</main>")[0]
            pages.append((response.status, text))
    assert pages[0] == pages[1]
    assert pages[0][0] == 400
    assert (await _submit(alice, sid, code)).status == 200
