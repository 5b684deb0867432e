"""E-mail addresses of accounts: proved by a real mail, used once, for one purpose, by one account."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Answer, Api, open_api
from tests.support.client import eventually
from tests.support.servers import server_config
from tests.support.smtp import Mailbox, email_settings, link_of, smtp_server, text_of

_SECRET = "monkeys_are_GREAT"
_OWNER = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD}


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
async def server(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Server]:
    """A server that sends mail; its links begin with an address at which it is not."""
    config = server_config(
        database,
        tmp_path,
        public_baseurl="https://chat.test.example",
        email=email_settings(mailbox, next_link_origins=["https://app.test.example"]),
    )
    async with running_server(config) as server:
        yield server


async def _ask(
    api: Api, address: str, *, of: str = "account/3pid", secret: str = _SECRET, attempt: int = 1, **more: object
) -> Answer:
    body = {"email": address, "client_secret": secret, "send_attempt": attempt, **more}
    return await api.post(f"/{of}/email/requestToken", body)


async def _asked(api: Api, address: str, **more: object) -> str:
    answer = await _ask(api, address, **more)  # type: ignore[arg-type]
    assert answer.status == 200, answer
    return str(answer.body["sid"])


async def _click(api: Api, link: str) -> tuple[int, str]:
    """Opens the link of a mail in a browser and presses the button, if there is one."""
    parts = urlsplit(link)
    assert f"{parts.scheme}://{parts.netloc}" == "https://chat.test.example"
    async with api.session.get(f"{api.url}{parts.path}?{parts.query}") as response:
        page, cookie = await response.text(), response.headers.get("Set-Cookie", "").partition(";")[0]
        if "<form" not in page.partition("<main")[2]:
            return response.status, page
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    async with api.session.post(f"{api.url}{parts.path}", data=fields, headers={"Cookie": cookie}) as response:
        return response.status, await response.text()


async def _add(api: Api, sid: str, secret: str = _SECRET, **auth: object) -> Answer:
    body = {"sid": sid, "client_secret": secret, "auth": {**_OWNER, **auth}}
    return await api.post("/account/3pid/add", body)


async def _add_address(alice: Api, mailbox: Mailbox, address: str, *, user: str = "alice") -> None:
    number = len(mailbox.messages) + 1
    sid = await _asked(alice, address, secret=f"secret-{number}")
    assert (await _click(alice, await mailbox.link(number)))[0] == 200
    answer = await _add(alice, sid, f"secret-{number}", identifier={"type": "m.id.user", "user": user})
    assert answer.status == 200, answer


async def test_an_address_is_added_by_whoever_reads_its_mail(alice: Api, mailbox: Mailbox) -> None:
    """The link is opened, the button pressed, the password given; then the address is the account's."""
    sid = await _asked(alice, "Alice@Example.ORG")
    message = await mailbox.mail()
    assert message["To"] == "alice@example.org"
    unproved = await _add(alice, sid)
    assert (unproved.status, unproved.errcode) == (403, "M_THREEPID_AUTH_FAILED")
    status, page = await _click(alice, link_of(message))
    assert (status, "is confirmed" in page) == (200, True)
    assert (await _add(alice, sid)).status == 200
    threepids = (await alice.get("/account/3pid")).body["threepids"]
    assert [(one["medium"], one["address"]) for one in threepids] == [("email", "alice@example.org")]
    assert 0 < threepids[0]["validated_at"] <= threepids[0]["added_at"]


async def test_opening_the_link_confirms_nothing(alice: Api, mailbox: Mailbox) -> None:
    """Programs that open every link in a mail don't confirm for its reader."""
    sid = await _asked(alice, "alice@example.org")
    parts = urlsplit(await mailbox.link())
    for _ in range(3):
        async with alice.session.get(f"{alice.url}{parts.path}?{parts.query}") as response:
            assert response.status == 200
    assert (await _add(alice, sid)).errcode == "M_THREEPID_AUTH_FAILED"


async def test_a_link_works_once(alice: Api, mailbox: Mailbox) -> None:
    """A token that was used is refused, by the page and by the API."""
    sid = await _asked(alice, "alice@example.org")
    link = await mailbox.link()
    assert (await _click(alice, link))[0] == 200
    assert (await _click(alice, link))[0] == 400
    token = parse_qs(urlsplit(link).query)["token"][0]
    again = {"sid": sid, "client_secret": _SECRET, "token": token}
    answer = await alice.post("/_matrix/client/unstable/org.talkpai.threepid/submit_token", again)
    assert (answer.status, answer.errcode) == (400, "M_TOKEN_INCORRECT")


async def test_a_proof_works_once_even_at_once(alice: Api, mailbox: Mailbox) -> None:
    """Of several requests that use the same proof at the same time, one is carried out."""
    sid = await _asked(alice, "alice@example.org")
    await _click(alice, await mailbox.link())
    answers = await asyncio.gather(*(_add(alice, sid) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 403, 403, 403, 403]


async def test_an_address_belongs_to_one_account_even_at_once(alice: Api, api: Api, mailbox: Mailbox) -> None:
    """Two accounts that have proved the same address and add it at the same time: one gets it."""
    bob = await api.register("bob")
    sids = [await _asked(alice, "us@example.org", secret="one"), await _asked(bob, "us@example.org", secret="two")]
    for number in (1, 2):
        assert (await _click(api, await mailbox.link(number)))[0] == 200
    answers = await asyncio.gather(
        _add(alice, sids[0], "one"), _add(bob, sids[1], "two", identifier={"type": "m.id.user", "user": "bob"})
    )
    assert sorted(answer.status for answer in answers) == [200, 400]
    assert {answer.errcode for answer in answers if answer.status == 400} == {"M_THREEPID_IN_USE"}


async def test_a_proof_is_for_one_purpose_and_one_client(alice: Api, mailbox: Mailbox) -> None:
    """What was proved to add an address sets no password, and a stranger who knows the sid can't use it."""
    await _add_address(alice, mailbox, "alice@example.org")
    sid = await _asked(alice, "other@example.org")
    await _click(alice, await mailbox.link(2))
    creds = {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": _SECRET}}
    body = {"new_password": "another good password", "auth": creds}
    answer = await alice.as_token(None).post("/account/password", body)
    assert (answer.status, answer.errcode) == (401, "M_THREEPID_AUTH_FAILED")
    assert (await _add(alice, sid, "guessed")).errcode == "M_THREEPID_AUTH_FAILED"
    assert (await _add(alice, sid)).status == 200


async def test_the_same_attempt_sends_no_second_mail(alice: Api, mailbox: Mailbox) -> None:
    """A request that is repeated is answered as before, and only a larger send_attempt sends again."""
    first = await _asked(alice, "alice@example.org", attempt=3)
    assert await _asked(alice, "alice@example.org", attempt=3) == first
    assert await _asked(alice, "alice@example.org", attempt=2) == first
    assert await _asked(alice, "alice@example.org", attempt=4) == first
    assert await _asked(alice, "alice@example.org", secret="other", attempt=1) != first
    await mailbox.mail(3)
    await asyncio.gather(*(_asked(alice, "bob@example.org", attempt=1) for _ in range(4)))
    await mailbox.mail(4)
    assert [message["To"].partition("@")[0] for message in mailbox.messages] == ["alice", "alice", "alice", "bob"]
    # Either of the mails of one session will do.
    assert (await _click(alice, await mailbox.link(1)))[0] == 200
    assert (await _click(alice, await mailbox.link(2)))[0] == 400


async def test_nobody_learns_who_has_an_account(alice: Api, mailbox: Mailbox) -> None:
    """The answer about a known address is that about an unknown one; only the owner of the mailbox is told."""
    await _add_address(alice, mailbox, "alice@example.org")
    nobody = alice.as_token(None)
    for of in ("register", "account/3pid", "account/password"):
        known = await _ask(nobody, "alice@example.org", of=of, secret="a")
        unknown = await _ask(nobody, "carol@example.org", of=of, secret="b")
        assert (known.status, known.body.keys()) == (unknown.status, unknown.body.keys()) == (200, {"sid"})
        assert len(known.body["sid"]) == len(unknown.body["sid"])
    await mailbox.mail(6)
    told = [(message["To"], message["Subject"]) for message in mailbox.messages[1:]]
    assert told == [
        ("alice@example.org", "You have an account already"),
        ("carol@example.org", "Confirm your e-mail address"),
        ("alice@example.org", "You have an account already"),
        ("carol@example.org", "Confirm your e-mail address"),
        ("alice@example.org", "Set another password"),
    ]
    assert "@alice:test.example" in text_of(mailbox.messages[1])


@pytest.mark.parametrize(
    ("link", "status", "shown"),
    [
        ("https://app.test.example/#/register", 200, True),
        ("https://chat.test.example/welcome", 200, True),
        ("https://evil.example/", 200, False),
        ("https://app.test.example.evil.example/", 200, False),
        ("https://app.test.example@evil.example/", 200, False),
        ("http://app.test.example/", 200, False),
        ("javascript:alert(1)", 400, False),
        ("//evil.example/", 400, False),
        ('https://app.test.example/"onclick=', 400, False),
        ("https://app.test.example\\@evil.example/", 400, False),
        ("https://[app", 400, False),
    ],
)
async def test_nobody_is_led_astray(alice: Api, mailbox: Mailbox, link: str, status: int, shown: bool) -> None:
    """The page leads on only to the places that the operator allows."""
    answer = await _ask(alice, "alice@example.org", next_link=link)
    assert answer.status == status, answer
    if status == 200:
        _, page = await _click(alice, await mailbox.link())
        assert (link in page) == shown
        assert "evil" not in page


@pytest.mark.parametrize(
    "address",
    [
        *("", "alice", "@example.org", "alice@", "a b@example.org", "alice@example.org,eve@example.org"),
        *("alice@example", "alice@-x.org", "Alice <alice@example.org>", "alice@example.org\r\nBcc: eve@example.org"),
        *(
            '"a@b"@example.org',
            "a..b@example.org",
            "ali\u200bce@example.org",
            "x" * 65 + "@example.org",
            "\u0430lice@example.org",
        ),
    ],
)
async def test_what_is_no_address_is_refused(alice: Api, mailbox: Mailbox, address: str) -> None:
    """Nothing that could be read as another address, or as more than one, gets as far as a mail."""
    answer = await _ask(alice, address)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


async def test_mail_goes_to_the_address_of_the_account_and_not_to_a_lookalike(alice: Api, mailbox: Mailbox) -> None:
    """Who types another spelling that folds to the same address has the mail sent to the account's owner."""
    await _add_address(alice, mailbox, "sissy@example.org")
    await _asked(alice.as_token(None), "ſiſſy@Example.org", of="account/password")
    assert (await mailbox.mail(2))["To"] == "sissy@example.org"


async def test_a_removed_address_is_told_and_means_nobody(alice: Api, mailbox: Mailbox) -> None:
    """After its removal an address can't be used to log in, and its reader learns of it."""
    await _add_address(alice, mailbox, "alice@example.org")
    await _add_address(alice, mailbox, "second@example.org")
    added = await mailbox.mail(3)
    assert (added["To"], added["Subject"]) == ("alice@example.org", "An address was added to your account")
    identifier = {"type": "m.id.thirdparty", "medium": "email", "address": "Alice@example.org"}
    body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    assert (await alice.post("/login", body)).status == 200
    answer = await alice.post("/account/3pid/delete", {"medium": "email", "address": "alice@example.org"})
    assert answer.body == {"id_server_unbind_result": "no-support"}
    assert (await alice.post("/login", body)).status == 403
    assert [one["address"] for one in (await alice.get("/account/3pid")).body["threepids"]] == ["second@example.org"]


async def test_logging_in_with_an_address(alice: Api, mailbox: Mailbox) -> None:
    """A known address with the password logs in; an unknown one is refused like a wrong password."""
    await _add_address(alice, mailbox, "alice@example.org")
    for address, password, status in (
        ("alice@example.org", PASSWORD, 200),
        ("alice@example.org", "wrong", 403),
        ("carol@example.org", PASSWORD, 403),
        ("nonsense", PASSWORD, 403),
    ):
        identifier = {"type": "m.id.thirdparty", "medium": "email", "address": address}
        body = {"type": "m.login.password", "identifier": identifier, "password": password}
        answer = await alice.as_token(None).post("/login", body)
        assert answer.status == status, (address, answer)
        if status == 200:
            assert answer.body["user_id"] == "@alice:test.example"
        else:
            assert answer.body == {"errcode": "M_FORBIDDEN", "error": "Wrong user name or password"}
    old = {"type": "m.login.password", "medium": "email", "address": "alice@example.org", "password": PASSWORD}
    assert (await alice.as_token(None).post("/login", old)).status == 200


async def test_a_password_is_reset_by_mail(alice: Api, mailbox: Mailbox) -> None:
    """Who reads the account's mail sets another password, once; the sessions end, and the owner is told."""
    await _add_address(alice, mailbox, "alice@example.org")
    nobody = alice.as_token(None)
    sid = await _asked(nobody, "alice@example.org", of="account/password")
    auth = {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": _SECRET}}
    body = {"new_password": "another good password", "auth": auth}
    assert (await nobody.post("/account/password", {"new_password": "x"})).body["flows"][0] == {
        "stages": ["m.login.email.identity"]
    }
    assert (await nobody.post("/account/password", body)).status == 401
    assert (await _click(nobody, await mailbox.link(2)))[0] == 200
    weak = await nobody.post("/account/password", {**body, "new_password": "x"})
    assert (weak.status, weak.errcode) == (400, "M_WEAK_PASSWORD")
    assert (await nobody.post("/account/password", body)).status == 200
    assert (await nobody.post("/account/password", {**body, "new_password": "yet another password"})).status == 401
    assert (await alice.get("/account/whoami")).status == 401
    await nobody.login("alice", "another good password")
    assert (await mailbox.mail(3))["Subject"] == "Your password was changed"


async def test_sessions_outlive_a_reset_if_so_wanted(alice: Api, mailbox: Mailbox) -> None:
    """With logout_devices false nobody is signed out."""
    await _add_address(alice, mailbox, "alice@example.org")
    nobody = alice.as_token(None)
    sid = await _asked(nobody, "alice@example.org", of="account/password")
    await _click(nobody, await mailbox.link(2))
    auth = {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": _SECRET}}
    body = {"new_password": "another good password", "auth": auth, "logout_devices": False}
    assert (await nobody.post("/account/password", body)).status == 200
    assert (await alice.get("/account/whoami")).status == 200


async def test_tokens_and_secrets_are_not_stored(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """Who reads the database finds neither the token of the mail, once it is out, nor the client's secret."""
    await _asked(alice, "alice@example.org")
    token = parse_qs(urlsplit(await mailbox.link()).query)["token"][0]
    pool = server.services.pool

    async def is_out() -> bool:
        return not await pool.fetchval("SELECT count(*) FROM outgoing_mail")

    await eventually(is_out, "the mail is out")
    text = await pool.fetchval("SELECT string_agg(v::text, ' ') FROM threepid_validations v")
    for secret in (token, _SECRET):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_a_session_ends_after_an_hour(alice: Api, server: Server, mailbox: Mailbox) -> None:
    """A link that is too old proves nothing, and neither does a proof."""
    sid = await _asked(alice, "alice@example.org")
    link = await mailbox.link()
    await server.services.pool.execute("UPDATE threepid_validations SET expires_ts = created_ts")
    assert (await _click(alice, link))[0] == 400
    await server.services.pool.execute("UPDATE threepid_validations SET validated_ts = created_ts")
    assert (await _add(alice, sid)).errcode == "M_THREEPID_AUTH_FAILED"


async def test_without_smtp_everything_says_what_to_set(api: Api, database: str, tmp_path: Path) -> None:
    """Where no mail can be sent, or no text message, the error names the setting."""
    config = server_config(database, tmp_path / "plain", server_name="plain.example")
    answer = await api.post("/account/3pid/msisdn/requestToken", {})
    assert (answer.status, answer.errcode) == (400, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
    assert "phone.gateway_url" in answer.body["error"]
    assert config.email.host is None


async def test_identity_servers_must_be_trusted(alice: Api) -> None:
    """Nothing is bound at a server that the operator does not trust."""
    creds = {"sid": "1", "client_secret": "x", "id_server": "id.example.org", "id_access_token": "t"}
    answer = await alice.post("/account/3pid/bind", creds)
    assert (answer.status, answer.errcode) == (400, "M_SERVER_NOT_TRUSTED")
    assert (await alice.post("/account/3pid", {"three_pid_creds": creds})).errcode == "M_SERVER_NOT_TRUSTED"
    wanted = {"medium": "email", "address": "alice@example.org", "id_server": "id.example.org"}
    answer = await alice.post("/account/3pid/unbind", wanted)
    assert answer.body == {"id_server_unbind_result": "no-support"}


async def test_registering_with_an_address(database: str, tmp_path: Path, mailbox: Mailbox) -> None:
    """Where an address is required, nobody registers without proving one, and it is the account's afterwards."""
    config = server_config(
        database,
        tmp_path,
        public_baseurl="https://chat.test.example",
        email=email_settings(mailbox),
        registration={"email": "required"},
    )
    async with running_server(config) as server, open_api(server.url) as api:
        sid = await _asked(api, "dora@example.org", of="register")
        body = {"username": "dora", "password": PASSWORD}
        first = await api.post("/register", body)
        assert first.body["flows"] == [{"stages": ["m.login.email.identity"]}]
        creds = {"sid": sid, "client_secret": _SECRET}
        auth = {"type": "m.login.email.identity", "session": first.body["session"], "threepid_creds": creds}
        for wrong in ({}, {"sid": sid, "client_secret": "guessed"}, {"sid": 1}, "x", creds):
            answer = await api.post("/register", {**body, "auth": {**auth, "threepid_creds": wrong}})
            assert answer.status == 401, (wrong, answer)
        assert (await _click(api, await mailbox.link()))[0] == 200
        answer = await api.post("/register", {**body, "auth": auth})
        assert answer.status == 200, answer
        dora = api.as_token(answer.body["access_token"])
        assert (await dora.get("/account/3pid")).body["threepids"][0]["address"] == "dora@example.org"
        again = {"username": "eve", "password": PASSWORD, "auth": {"type": auth["type"], "threepid_creds": creds}}
        assert (await api.post("/register", again)).status == 401
