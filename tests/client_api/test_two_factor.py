"""Second factors: set up with an authenticator app, asked for at each login, each code good once."""

from __future__ import annotations

import asyncio
import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from homeserver.accounts import threepids, two_factor
from homeserver.accounts.email_validation import Threepid
from homeserver.main import Server, running_server
from homeserver.storage.users import ensure_user
from tests.support.api import PASSWORD, Answer, Api, open_api
from tests.support.servers import server_config
from tests.support.smtp import email_settings, smtp_server, text_of

_PATH = "/_matrix/client/unstable/org.talkpai.two_factor"
_OWNER = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD}
_LOGIN = {**_OWNER, "device_id": "NEW"}


class Clock:
    """What the server takes for the time. Codes are made for it, so that no test waits for the next one."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def later(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)

    def code(self, secret: str, steps: int = 0) -> str:
        """What the app shows, `steps` half minutes from now."""
        return pyotp.TOTP(secret).at(self.now_ms // 1000 + 30 * steps)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(two_factor, "_now_ms", lambda: clock.now_ms)
    return clock


async def _prove(api: Api, path: str, body: Mapping[str, object], code: str | None = None) -> Answer:
    """Asks, gives the password, and then the code if there is one."""
    answer = await api.post(path, {**body, "auth": _OWNER})
    if code is None or answer.status != 401:
        return answer
    auth = {"type": "org.talkpai.totp", "session": answer.body["session"], "code": code}
    return await api.post(path, {**body, "auth": auth})


async def _enable(api: Api, clock: Clock) -> tuple[str, list[str]]:
    """Sets a second factor up; gives its secret and the backup codes."""
    begun = await _prove(api, f"{_PATH}/begin", {})
    assert begun.status == 200, begun
    secret = str(begun.body["secret"])
    answer = await api.post(f"{_PATH}/confirm", {"code": clock.code(secret)})
    assert answer.status == 200, answer
    clock.later(30)
    return secret, answer.body["backup_codes"]


async def _log_in(api: Api, code: object, **more: object) -> Answer:
    return await api.as_token(None).post(
        "/login", {**_LOGIN, "auth": {"type": "org.talkpai.totp", "session": "s", "code": code}, **more}
    )


async def test_setting_up(alice: Api, clock: Clock) -> None:
    """The password, the QR code, the first code: then it is on, with ten backup codes that differ."""
    assert (await alice.get(f"{_PATH}/status")).body == {"enabled": False, "backup_codes_left": 0, "required": False}
    assert (await alice.post(f"{_PATH}/begin", {})).status == 401
    begun = await _prove(alice, f"{_PATH}/begin", {})
    uri = urlsplit(begun.body["uri"])
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/test.example:alice")
    assert parse_qs(uri.query) == {"secret": [begun.body["secret"]], "issuer": ["test.example"]}
    assert ElementTree.fromstring(begun.body["qr_svg"]).tag == "svg"
    assert (await alice.get(f"{_PATH}/status")).body["enabled"] is False
    wrong = await alice.post(f"{_PATH}/confirm", {"code": "000000"})
    assert (wrong.status, wrong.errcode) == (403, "M_FORBIDDEN")
    answer = await alice.post(f"{_PATH}/confirm", {"code": clock.code(begun.body["secret"])})
    assert len(set(answer.body["backup_codes"])) == 10
    status = (await alice.get(f"{_PATH}/status")).body
    assert (status["enabled"], status["backup_codes_left"]) == (True, 10)
    # The session that it was set up in goes on.
    assert (await alice.get("/account/whoami")).status == 200


async def test_logging_in_asks_for_a_code(alice: Api, clock: Clock) -> None:
    """The password alone opens no session, and neither does a code without it."""
    secret, _ = await _enable(alice, clock)
    nobody = alice.as_token(None)
    first = await nobody.post("/login", _LOGIN)
    assert first.status == 401
    assert first.body["flows"] == [{"stages": ["m.login.password", "org.talkpai.totp"]}]
    assert first.body["completed"] == ["m.login.password"]
    assert first.errcode == "ORG.TALKPAI.SECOND_FACTOR_NEEDED"
    assert "browser" in first.body["error"]
    wrong = await _log_in(alice, "000000", password="wrong")
    assert (wrong.status, wrong.errcode) == (403, "M_FORBIDDEN")
    assert "flows" not in wrong.body
    assert (await _log_in(alice, clock.code(secret), password="wrong")).status == 403
    answer = await _log_in(alice, clock.code(secret))
    assert (answer.status, answer.body["device_id"]) == (200, "NEW")


@pytest.mark.parametrize("code", ["", "000000", "1", "x" * 500, "\uff11" * 6, "00000\x00", 123456, None, []])
async def test_wrong_codes(alice: Api, clock: Clock, code: object) -> None:
    """Whatever is no code of the app is refused in the same way."""
    await _enable(alice, clock)
    answer = await _log_in(alice, code)
    assert (answer.status, answer.errcode) == (401, "M_FORBIDDEN")
    assert answer.body["flows"]


async def test_a_code_works_once(alice: Api, clock: Clock) -> None:
    """A code that was used is refused, and so is each older one; the one that confirmed the app counts as used."""
    begun = (await _prove(alice, f"{_PATH}/begin", {})).body["secret"]
    await alice.post(f"{_PATH}/confirm", {"code": clock.code(begun)})
    assert (await _log_in(alice, clock.code(begun))).status == 401
    clock.later(60)
    assert (await _log_in(alice, clock.code(begun))).status == 200
    assert (await _log_in(alice, clock.code(begun))).status == 401
    assert (await _log_in(alice, clock.code(begun, -1))).status == 401
    assert (await _log_in(alice, clock.code(begun, 1))).status == 200


async def test_codes_of_another_time_are_refused(alice: Api, clock: Clock) -> None:
    """A clock that is half a minute wrong is forgiven, and no more."""
    secret, _ = await _enable(alice, clock)
    clock.later(300)
    assert (await _log_in(alice, clock.code(secret, -2))).status == 401
    assert (await _log_in(alice, clock.code(secret, 2))).status == 401
    assert (await _log_in(alice, clock.code(secret, -1))).status == 200
    assert (await _log_in(alice, clock.code(secret, 1))).status == 200


async def test_the_same_code_twice_at_once(alice: Api, clock: Clock) -> None:
    """Of several logins with the same code at the same time, one succeeds."""
    secret, backup = await _enable(alice, clock)
    for code in (clock.code(secret), backup[0]):
        answers = await asyncio.gather(*(_log_in(alice, code, device_id=f"D{n}") for n in range(5)))
        assert sorted(answer.status // 100 for answer in answers) == [2, 4, 4, 4, 4]
    assert (await alice.get(f"{_PATH}/status")).body["backup_codes_left"] == 9


async def test_backup_codes(alice: Api, clock: Clock) -> None:
    """Each opens one session, however it is typed; new ones end the old ones."""
    secret, codes = await _enable(alice, clock)
    assert (await _log_in(alice, codes[0].upper().replace("-", " "))).status == 200
    assert (await _log_in(alice, codes[0])).status == 401
    assert (await alice.get(f"{_PATH}/status")).body["backup_codes_left"] == 9
    answer = await _prove(alice, f"{_PATH}/backup_codes", {}, clock.code(secret))
    assert answer.status == 200, answer
    assert (await _log_in(alice, codes[1])).status == 401
    assert (await _log_in(alice, answer.body["backup_codes"][1])).status == 200


async def test_guessing_is_slow(alice: Api, clock: Clock) -> None:
    """After five wrong codes even the right one has to wait, and a right one gives no new tries to who guesses."""
    secret, _ = await _enable(alice, clock)
    answers = await asyncio.gather(*(_log_in(alice, f"00000{n}") for n in range(9)))
    assert sorted(answer.status for answer in answers) == [401] * 5 + [429] * 4
    refused = await _log_in(alice, clock.code(secret))
    assert (refused.status, refused.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    clock.later(61)
    assert (await _log_in(alice, "000000")).status == 401
    clock.later(61)
    assert (await _log_in(alice, clock.code(secret))).status == 200


async def test_grave_requests_ask_for_a_code_too(alice: Api, clock: Clock) -> None:
    """What the password protected before, it protects together with a code now: switching off among it."""
    secret, _ = await _enable(alice, clock)
    first = await _prove(alice, f"{_PATH}/disable", {})
    assert first.status == 401
    assert first.body["flows"] == [{"stages": ["m.login.password", "org.talkpai.totp"]}]
    assert (await _prove(alice, f"{_PATH}/disable", {}, "000000")).status == 401
    new = {"new_password": "another good password"}
    assert (await _prove(alice, "/account/password", new)).status == 401
    assert (await _prove(alice, "/account/password", new, clock.code(secret))).status == 200


async def test_switching_off(alice: Api, clock: Clock) -> None:
    """Without it the password suffices again, and the old codes are worth nothing after it is set up anew."""
    secret, codes = await _enable(alice, clock)
    assert (await _prove(alice, f"{_PATH}/disable", {}, clock.code(secret))).status == 200
    assert (await alice.as_token(None).post("/login", _LOGIN)).status == 200
    clock.later(30)
    new_secret, _ = await _enable(alice, clock)
    assert (await _log_in(alice, codes[0])).status == 401
    assert (await _log_in(alice, clock.code(secret))).status == 401
    assert (await _log_in(alice, clock.code(new_secret))).status == 200


async def test_another_app_takes_over_only_when_confirmed(alice: Api, clock: Clock) -> None:
    """Until the new app has shown a code the old one stays in use, and an hour later there is nothing to confirm."""
    old, _ = await _enable(alice, clock)
    begun = await _prove(alice, f"{_PATH}/begin", {}, clock.code(old))
    new = begun.body["secret"]
    clock.later(30)
    assert (await _log_in(alice, clock.code(new))).status == 401
    assert (await _log_in(alice, clock.code(old))).status == 200
    clock.later(3601)
    late = await alice.post(f"{_PATH}/confirm", {"code": clock.code(new)})
    assert (late.status, late.errcode) == (400, "M_UNKNOWN")
    assert (await alice.post(f"{_PATH}/backup_codes", {"auth": _OWNER})).status == 401


async def test_what_is_stored_is_worth_nothing_alone(alice: Api, server: Server, clock: Clock) -> None:
    """In the database the secret is encrypted and bound to its account; backup codes are keyed hashes."""
    secret, codes = await _enable(alice, clock)
    bob = await alice.as_token(None).register("bob")
    pool = server.services.pool
    text = await pool.fetchval("SELECT string_agg(f::text, ' ') FROM second_factors f")
    text += await pool.fetchval("SELECT string_agg(c::text, ' ') FROM backup_codes c")
    plain = codes[0].replace("-", "")
    for told in (secret.encode(), plain.encode(), hashlib.sha256(plain.encode()).digest()):
        assert told.hex() not in text
    # A row that is copied to another account opens nothing there.
    await pool.execute(
        "INSERT INTO second_factors (user_nid, secret, confirmed_ts) SELECT u.user_nid, f.secret, f.confirmed_ts "
        "FROM second_factors f, users u WHERE u.user_id = '@bob:test.example'"
    )
    identifier = {"type": "m.id.user", "user": "bob"}
    assert (await _log_in(alice, clock.code(secret), identifier=identifier)).status == 401
    assert (await bob.get("/account/whoami")).status == 200


@pytest.fixture
async def strict(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server whose administrators must have a second factor."""
    config = server_config(
        database, tmp_path, two_factor={"required": "admins"}, public_baseurl="https://chat.test.example"
    )
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        await api.register("bob")
        await server.services.pool.execute(
            "UPDATE accounts SET admin = true WHERE user_nid = "
            "(SELECT user_nid FROM users WHERE user_id = '@alice:test.example')"
        )
        yield alice


async def test_who_must_have_one_is_told(strict: Api, clock: Clock) -> None:
    """An administrator without a second factor is refused and told where to set it up; others log in as ever."""
    answer = await strict.as_token(None).post("/login", _LOGIN)
    assert (answer.status, answer.errcode) == (403, "ORG.TALKPAI.SECOND_FACTOR_REQUIRED")
    assert "https://chat.test.example/account" in answer.body["error"]
    await strict.as_token(None).login("bob")
    secret, _ = await _enable(strict, clock)
    assert (await strict.get(f"{_PATH}/status")).body["required"] is True
    assert (await _log_in(strict, clock.code(secret))).status == 200
    clock.later(30)
    refused = await _prove(strict, f"{_PATH}/disable", {}, clock.code(secret))
    assert (refused.status, refused.errcode) == (403, "ORG.TALKPAI.SECOND_FACTOR_REQUIRED")


async def test_the_owner_is_told_by_mail(database: str, tmp_path: Path, clock: Clock) -> None:
    """Switching on and off, and a backup code that was used, reach the account's address."""
    async with smtp_server() as mailbox:
        config = server_config(
            database, tmp_path, public_baseurl="https://chat.test.example", email=email_settings(mailbox)
        )
        async with running_server(config) as server, open_api(server.url) as api:
            alice = await api.register("alice")
            async with server.services.pool.acquire() as conn, conn.transaction():
                user_nid = await ensure_user(conn, alice.user_id)
                await threepids.add(conn, user_nid, Threepid("email", "alice@example.org", 1))
            secret, codes = await _enable(alice, clock)
            assert (await _log_in(alice, codes[0])).status == 200
            assert (await _prove(alice, f"{_PATH}/disable", {}, clock.code(secret))).status == 200
            await mailbox.mail(4)
    told = {str(message["Subject"]): text_of(message) for message in mailbox.messages}
    assert set(told) == {
        "Your second factor was switched on",
        "A backup code was used",
        "New device signed in",
        "Your second factor was switched off",
    }
    assert "Codes left: 9" in told["A backup code was used"]
