"""Registering with more to prove: documents to accept, captchas, tokens, several of them; guests who become users."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Answer, Api, open_api
from tests.support.servers import server_config

TERMS = [
    {
        "id": "privacy_policy",
        "version": "1.2",
        "texts": {
            "en": {"name": "Privacy policy", "url": "https://example.org/privacy-1.2-en.html"},
            "uk": {"name": "Політика приватності", "url": "https://example.org/privacy-1.2-uk.html"},
        },
    },
    {
        "id": "terms_of_service",
        "version": "3",
        "texts": {"en": {"name": "Terms", "url": "https://example.org/terms-3-en.html"}},
    },
]
_DUMMY = {"type": "m.login.dummy"}
_LOOPBACK = {"allow_domains": [], "allow_addresses": ["127.0.0.0/8"]}


@pytest.fixture
async def make(database: str, tmp_path: Path) -> Callable[..., Any]:
    """A function that gives a context: a server with this registration, and other settings, and its API."""

    @asynccontextmanager
    async def make(registration: dict[str, Any], **settings: Any) -> AsyncIterator[tuple[Server, Api]]:
        config = server_config(database, tmp_path, registration=registration, **settings)
        async with running_server(config) as server, open_api(server.url) as api:
            yield server, api

    return make


class _CaptchaService:
    """Checks answers as reCAPTCHA does: each is good once, and only with the secret."""

    def __init__(self) -> None:
        self.good = {"solved"}
        self.asked: list[dict[str, str]] = []
        self.broken: web.Response | None = None
        self.url = ""

    async def verify(self, request: web.Request) -> web.Response:
        form = {key: values[0] for key, values in parse_qs(await request.text()).items()}
        self.asked.append(form)
        if self.broken is not None:
            return self.broken
        right = form.get("secret") == "the secret key" and form.get("response") in self.good
        self.good.discard(form.get("response", ""))
        return web.json_response({"success": right} if right else {"success": False, "error-codes": ["bad"]})


@pytest.fixture
async def captcha() -> AsyncIterator[_CaptchaService]:
    service = _CaptchaService()
    app = web.Application()
    app.router.add_post("/siteverify", service.verify)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/siteverify"
    yield service
    await runner.cleanup()


def _captcha_config(service: _CaptchaService) -> dict[str, str]:
    return {"public_key": "the site key", "secret_key": "the secret key", "verify_url": service.url}


async def _go_on(api: Api, body: dict[str, Any], session: str, **auth: Any) -> Answer:
    return await api.post("/register", {**body, "auth": {**auth, "session": session}})


async def test_terms_are_shown_and_their_version_is_kept(make: Any) -> None:
    """Who registers is shown every document in every language, and what was accepted is kept with its version."""
    body = {"username": "alice", "password": PASSWORD}
    before = time.time() * 1000
    async with make({"mode": "open", "terms": TERMS}) as (server, api):
        asked = await api.post("/register", body)
        assert asked.body["flows"] == [{"stages": ["m.login.terms"]}]
        policies = asked.body["params"]["m.login.terms"]["policies"]
        assert policies["privacy_policy"] == {"version": "1.2", **TERMS[0]["texts"]}  # type: ignore[dict-item]
        assert policies["terms_of_service"]["version"] == "3"
        # The dummy of a careless client accepts nothing.
        assert (await _go_on(api, body, asked.body["session"], **_DUMMY)).status == 401
        assert (await _go_on(api, body, asked.body["session"], type="m.login.terms")).status == 200
        rows = await server.services.pool.fetch("SELECT policy, version, accepted_ts FROM accepted_terms ORDER BY 1")
        assert [tuple(row)[:2] for row in rows] == [("privacy_policy", "1.2"), ("terms_of_service", "3")]
        assert all(before - 1 <= row["accepted_ts"] <= time.time() * 1000 for row in rows)


async def test_a_solved_captcha_lets_register(make: Any, captcha: _CaptchaService) -> None:
    """The client is told the site key; its answer is checked by the service with the secret, and a right one counts."""
    config = {"mode": "open", "captcha": _captcha_config(captcha)}
    body = {"username": "alice", "password": PASSWORD}
    async with make(config, federation=_LOOPBACK) as (_, api):
        asked = await api.post("/register", body)
        assert asked.body["params"] == {"m.login.recaptcha": {"public_key": "the site key"}}
        assert "secret" not in str(asked.body)
        for response in ("wrong", "", None, 5, "x" * 9000, "a\0b", "\ud800"):
            told = await _go_on(api, body, asked.body["session"], type="m.login.recaptcha", response=response)
            assert told.status in (400, 401), response
            assert told.errcode
        answer = await _go_on(api, body, asked.body["session"], type="m.login.recaptcha", response="solved")
        assert answer.status == 200
        assert captcha.asked[-1] == {"secret": "the secret key", "response": "solved"}
        again = {"username": "bob", "password": PASSWORD, "auth": {"type": "m.login.recaptcha", "response": "solved"}}
        assert (await api.post("/register", again)).status == 401


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=500, text="oops"),
        lambda: web.Response(text="[" * 10_000),
        lambda: web.Response(text="x" * 100_000),
        lambda: web.json_response(["success"]),
        lambda: web.json_response({"success": "true"}),
        lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
    ],
)
async def test_a_captcha_service_that_fails_lets_nobody_in(
    make: Any, captcha: _CaptchaService, answer: Callable[[], web.Response]
) -> None:
    """Whatever the service answers instead of a plain yes, no account is made, and nothing breaks."""
    captcha.broken = answer()
    config = {"mode": "open", "captcha": _captcha_config(captcha)}
    body = {"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.recaptcha", "response": "solved"}}
    async with make(config, federation=_LOOPBACK) as (_, api):
        assert (await api.post("/register", body)).status in (401, 503)
        assert (await api.get("/register/available?username=alice")).status == 200


async def test_a_captcha_is_asked_for_through_the_guard(make: Any, captcha: _CaptchaService) -> None:
    """The service is reached by the one client that refuses private addresses, like everything that leaves."""
    config = {"mode": "open", "captcha": _captcha_config(captcha)}
    body = {"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.recaptcha", "response": "solved"}}
    async with make(config) as (_, api):
        assert (await api.post("/register", body)).status == 503
    assert captcha.asked == []


async def test_several_stages_are_done_in_their_order(make: Any, captcha: _CaptchaService) -> None:
    """Token, captcha and terms make one flow; a stage out of turn is refused; each counts for this account alone."""
    config = {"mode": "token", "tokens": ["tok"], "terms": TERMS, "captcha": _captcha_config(captcha)}
    body = {"username": "alice", "password": PASSWORD}
    async with make(config, federation=_LOOPBACK) as (_, api):
        asked = await api.post("/register", body)
        stages = ["m.login.registration_token", "m.login.recaptcha", "m.login.terms"]
        assert asked.body["flows"] == [{"stages": stages}]
        session = asked.body["session"]
        out_of_turn = await _go_on(api, body, session, type="m.login.terms")
        assert (out_of_turn.status, out_of_turn.errcode) == (401, "M_UNRECOGNIZED")
        told = await _go_on(api, body, session, type="m.login.registration_token", token="tok")
        assert told.body["completed"] == stages[:1]
        told = await _go_on(api, body, session, type="m.login.recaptcha", response="solved")
        assert told.body["completed"] == stages[:2]
        # What is proved for alice makes no other account.
        other = {"username": "mallory", "password": PASSWORD}
        told = await _go_on(api, other, session, type="m.login.terms")
        assert "completed" not in told.body
        assert (await _go_on(api, body, session, type="m.login.terms")).status == 200
        assert (await _go_on(api, other, session, type="m.login.terms")).status == 401


async def test_an_optional_e_mail_is_a_flow_of_its_own(make: Any) -> None:
    """Where the e-mail is optional, the flow without it ends in a dummy, so that no flow is a part of another."""
    config = {"mode": "open", "terms": TERMS, "email": "optional"}
    async with make(config) as (_, api):
        asked = await api.post("/register", {"username": "alice", "password": PASSWORD})
        assert [flow["stages"] for flow in asked.body["flows"]] == [
            ["m.login.terms", "m.login.dummy"],
            ["m.login.terms", "m.login.email.identity"],
        ]


async def test_a_token_for_one_makes_one_account(make: Any) -> None:
    """Of twenty who use the last use of a token at once, one gets an account."""
    async with make({"mode": "token"}) as (server, api):
        pool = server.services.pool
        await pool.execute("INSERT INTO registration_tokens (token, uses_allowed) VALUES ('once', 1)")
        auth = {"type": "m.login.registration_token", "token": "once"}
        bodies = [{"username": f"user{n}", "password": PASSWORD, "auth": auth} for n in range(20)]
        answers = await asyncio.gather(*(api.post("/register", body) for body in bodies))
        assert sorted(answer.status for answer in answers).count(200) == 1
        assert all(answer.status in (200, 401, 403) for answer in answers)
        assert await pool.fetchval("SELECT count(*) FROM accounts") == 1
        row = await pool.fetchrow("SELECT pending, completed FROM registration_tokens")
        assert (row["pending"], row["completed"]) == (0, 1)


async def test_a_name_is_given_to_one(make: Any) -> None:
    """Of twenty who register the same name at once, in small and capital letters, one gets it."""
    async with make({"mode": "open"}) as (server, api):
        names = ["alice", "Alice", "ALICE", "aLiCe"] * 5
        bodies = [{"username": name, "password": f"{PASSWORD} {n}", "auth": _DUMMY} for n, name in enumerate(names)]
        answers = await asyncio.gather(*(api.post("/register", body) for body in bodies))
        assert sorted({answer.errcode for answer in answers if answer.status != 200}, key=str) == ["M_USER_IN_USE"]
        winner = [n for n, answer in enumerate(answers) if answer.status == 200]
        assert len(winner) == 1
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts") == 1
        await api.login("alice", f"{PASSWORD} {winner[0]}")


async def test_a_session_of_registration_makes_one_account(make: Any) -> None:
    """Two requests that finish the same session at once make one account, also where no name is asked for."""
    async with make({"mode": "open"}) as (server, api):
        body = {"password": PASSWORD}
        session = (await api.post("/register", body)).body["session"]
        answers = await asyncio.gather(*(_go_on(api, body, session, **_DUMMY) for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [200, 401, 401, 401, 401]
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts") == 1


@pytest.mark.parametrize(
    "name",
    [
        "\u0430lice",  # a Cyrillic letter that looks Latin
        "ali\u200bce",
        "\u212aevin",  # the Kelvin sign, whose small letter is k
        "\uff41lice",
        "al\u0131ce",
        "\uff52oot",
        "ali\nce",
        "alice ",
        "al\u0301ice",
        "🙂",
        "a" * 246,
        "@alice:test.example",
    ],
)
async def test_names_that_look_like_others_are_refused(api: Api, name: str) -> None:
    """Nothing but the plain characters of the grammar makes a name, and nothing is quietly made of something else."""
    body = {"username": name, "password": PASSWORD, "auth": _DUMMY}
    answer = await api.post("/register", body)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_USERNAME")
    available = await api.get("/register/available", query={"username": name})
    assert (available.status, available.errcode) == (400, "M_INVALID_USERNAME")


@pytest.mark.parametrize("name", ["admin", "Admin", "root", "support", "_bridge_someone", "guest-aaaa"])
async def test_reserved_names_are_not_for_the_taking(api: Api, name: str) -> None:
    """Names that others would take for the server's own, a bridge's or a guest's can't be registered."""
    answer = await api.post("/register", {"username": name, "password": PASSWORD, "auth": _DUMMY})
    assert (answer.status, answer.errcode) == (400, "M_USER_IN_USE")


async def test_what_is_reserved_is_for_the_operator_to_say(make: Any) -> None:
    """Patterns of the configuration replace the defaults, and stand for whole names."""
    async with make({"mode": "open", "reserved_names": ["ceo", "vip-.*"]}) as (_, api):
        await api.register("admin")
        await api.register("ceo2")
        for name in ("ceo", "CEO", "vip-1"):
            answer = await api.post("/register", {"username": name, "password": PASSWORD, "auth": _DUMMY})
            assert answer.errcode == "M_USER_IN_USE"


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "a\0b"},
        {"username": "x" * 100_000},
        {"password": "p" * 100_000},
        {"password": "pass\0word"},
        {"username": ["alice"]},
        {"inhibit_login": "yes"},
        {"refresh_token": 1},
        {"device_id": "x" * 300},
        {"initial_device_display_name": "x" * 300},
        {"guest_access_token": 5},
        {"guest_access_token": "nonsense"},
        {"guest_access_token": "x" * 10_000},
        {"auth": {"type": "m.login.dummy", "session": "x" * 10_000}},
        {"auth": {"type": "m.login.dummy", "session": ["s"]}},
        {"auth": [[[[]]]]},
        {"extra": 1e400},
    ],
)
async def test_what_makes_no_sense_makes_no_account(server: Server, api: Api, fields: dict[str, Any]) -> None:
    """Fields of the wrong type or size are refused with an error of the specification, and nothing is stored."""
    answer = await api.post("/register", {"username": "alice", "password": PASSWORD, "auth": _DUMMY, **fields})
    assert answer.status in (400, 403), answer
    assert answer.errcode
    assert await server.services.pool.fetchval("SELECT count(*) FROM accounts") == 0
    assert await server.services.pool.fetchval("SELECT count(*) FROM uia_sessions") == 0


async def test_parameters_nested_deeply_are_refused(api: Api) -> None:
    """A body that nests thousands of levels costs an error, not the stack."""
    raw = b'{"username": "alice", "auth": {"type": "m.login.dummy"}, "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    answer = await api.post("/register", body=raw)
    assert answer.status == 400
    shallow = b'{"username": "alice", "x": ' + b"[" * 200 + b"]" * 200 + b"}"
    assert (await api.post("/register", body=shallow)).status in (400, 401)


async def test_the_password_is_judged_before_anything_is_proved(api: Api) -> None:
    """Nobody proves anything for a password that they can't have."""
    answer = await api.post("/register", {"username": "alice", "password": "short"})
    assert (answer.status, answer.errcode) == (400, "M_WEAK_PASSWORD")


async def test_registering_gives_a_refresh_token_to_who_can_use_it(api: Api) -> None:
    """With refresh_token the session can be refreshed; without it, it does not expire."""
    answer = await api.post(
        "/register", {"username": "alice", "password": PASSWORD, "auth": _DUMMY, "refresh_token": True}
    )
    assert answer.body["expires_in_ms"] > 0
    refreshed = await api.post("/refresh", {"refresh_token": answer.body["refresh_token"]})
    assert (await api.as_token(refreshed.body["access_token"]).get("/account/whoami")).status == 200
    plain = await api.post("/register", {"username": "bob", "password": PASSWORD, "auth": _DUMMY})
    assert "refresh_token" not in plain.body
    assert "expires_in_ms" not in plain.body


async def _guest(api: Api) -> Api:
    answer = await api.post("/register?kind=guest", {})
    return Api(api.session, api.url, answer.body["access_token"], answer.body["user_id"], answer.body["device_id"])


async def test_a_guest_becomes_a_user(make: Any) -> None:
    """With its token and its name a guest registers as anyone does, and is the same user, with a password now."""
    async with make({"mode": "open", "guests": True}) as (server, api):
        guest = await _guest(api)
        name = guest.user_id[1:].partition(":")[0]
        body = {"username": name, "password": PASSWORD, "guest_access_token": guest.token}
        asked = await api.post("/register", body)
        assert asked.status == 401
        answer = await _go_on(api, body, asked.body["session"], **_DUMMY)
        assert answer.status == 200
        assert answer.body["user_id"] == guest.user_id
        user = api.as_token(answer.body["access_token"])
        assert (await user.get("/account/whoami")).body["is_guest"] is False
        assert (await user.get("/pushrules/")).status == 200
        # Whoever knew the guest's token does not become the user along with it.
        assert (await guest.get("/account/whoami")).status == 401
        await api.login(name)
        assert (await _go_on(api, body, asked.body["session"], **_DUMMY)).status == 403
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts") == 1


async def test_a_guest_keeps_the_device_that_it_names(make: Any) -> None:
    """A guest that names its own device goes on with it, and with what hangs on it."""
    async with make({"mode": "open", "guests": True}) as (_, api):
        guest = await _guest(api)
        body = {
            "username": guest.user_id[1:].partition(":")[0],
            "password": PASSWORD,
            "guest_access_token": guest.token,
            "device_id": guest.device_id,
            "auth": _DUMMY,
        }
        answer = await api.post("/register", body)
        assert answer.body["device_id"] == guest.device_id
        assert (await guest.get("/account/whoami")).status == 401


async def test_nobody_becomes_somebody_else_through_a_guest(make: Any) -> None:
    """The name must be the guest's own and the token a guest's: no other account is taken over or made."""
    async with make({"mode": "open", "guests": True}) as (server, api):
        alice = await api.register("alice")
        guest, other = await _guest(api), await _guest(api)
        other_name = other.user_id[1:].partition(":")[0]
        tries = [
            ("alice", guest.token),
            (other_name, guest.token),
            ("mallory", guest.token),
            (None, guest.token),
            ("alice", alice.token),
            (other_name, "nonsense"),
        ]
        for name, token in tries:
            body = {"username": name, "password": "a password of mallory's", "guest_access_token": token}
            answer = await api.post("/register", {**body, "auth": _DUMMY})
            assert answer.status in (400, 403), (name, answer)
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts") == 3
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts WHERE guest") == 2
        await api.login("alice")


async def test_a_locked_guest_stays_one(make: Any) -> None:
    """Becoming a user is no way out of a lock, with a session or without."""
    async with make({"mode": "open", "guests": True}) as (server, api):
        guest = await _guest(api)
        await server.services.pool.execute("UPDATE accounts SET locked = true")
        body = {"username": guest.user_id[1:].partition(":")[0], "password": PASSWORD, "inhibit_login": True}
        answer = await api.post("/register", {**body, "guest_access_token": guest.token, "auth": _DUMMY})
        assert answer.status == 403
        assert await server.services.pool.fetchval("SELECT count(*) FROM accounts WHERE guest") == 1


async def test_a_guest_becomes_a_user_once(make: Any) -> None:
    """Of several requests that make a user of the same guest at once, one does, and its password counts."""
    async with make({"mode": "open", "guests": True}) as (_, api):
        guest = await _guest(api)
        name = guest.user_id[1:].partition(":")[0]
        body = {"username": name, "guest_access_token": guest.token, "auth": _DUMMY}
        answers = await asyncio.gather(
            *(api.post("/register", {**body, "password": f"{PASSWORD} {n}"}) for n in range(6))
        )
        winner = [n for n, answer in enumerate(answers) if answer.status == 200]
        assert len(winner) == 1
        assert all(answer.status in (200, 400, 403) for answer in answers)
        await api.login(name, f"{PASSWORD} {winner[0]}")
