"""The log of a day in the life of accounts, with everything switched on that can be logged: no secret is in it."""

from __future__ import annotations

import hmac
import io
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
import pytest

from homeserver.config import LoggingConfig
from homeserver.logs import setup_logging
from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Answer, Api
from tests.support.oauth2 import VERIFIER, OAuth2, answered, registered
from tests.support.oidc import CLIENT_ID, CLIENT_SECRET, OidcServer, running_oidc_server
from tests.support.servers import server_config
from tests.support.smtp import Mailbox, email_settings, link_of, smtp_server

_SHARED_SECRET = "shared-secret-7f3a"
_NEW_PASSWORD = "battery staple correct horse"
_WRONG_PASSWORD = "wrong-horse-of-mine"
_TOKEN = "invitation-c0ffee"
_TOTP = "/_matrix/client/unstable/org.talkpai.two_factor"
_FORM_TOKEN = re.compile(r'name="form_token" value="(\w+)"')


@dataclass
class Diary:
    """What has been logged so far, and what must not be in it: each secret by what it is."""

    log: io.StringIO
    secrets: dict[str, str] = field(default_factory=dict)

    def keep(self, **secrets: object) -> None:
        for name, secret in secrets.items():
            assert isinstance(secret, str), name
            assert len(secret) >= 6, name
            self.secrets[name] = secret

    def keep_answer(self, name: str, answer: Answer) -> Answer:
        """Remembers the tokens of an answer."""
        assert answer.status == 200, answer
        for key in ("access_token", "refresh_token", "login_token", "device_code", "user_code", "id_token"):
            if key in answer.body:
                self.keep(**{f"{name}_{key}": answer.body[key]})
        return answer

    def told(self) -> dict[str, str]:
        """The secrets that are in the log, each with the line that tells it."""
        lines = self.log.getvalue().splitlines()
        return {name: line for name, secret in self.secrets.items() for line in lines if secret in line}


@pytest.fixture
def diary() -> Iterator[Diary]:
    """Everything that any logger of the process writes, at the level debug."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    setup_logging(LoggingConfig(level="debug", format="json"), stream)
    # Libraries, too, as if somebody looked for a fault in them.
    noisy = [logging.getLogger(name) for name in ("aiohttp", "asyncpg", "asyncio", "authlib", "httpx", "aiosmtplib")]
    for logger in noisy:
        logger.setLevel(logging.DEBUG)
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # that of the SMTP server, which is the world outside
    yield Diary(stream)
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
    root.setLevel(level)
    for logger in noisy:
        logger.setLevel(logging.NOTSET)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
async def there() -> AsyncIterator[OidcServer]:
    async with running_oidc_server() as provider:
        yield provider


@pytest.fixture
async def server(
    diary: Diary, database: str, tmp_path: Path, mailbox: Mailbox, there: OidcServer
) -> AsyncIterator[Server]:
    """A server that mails, knows a provider elsewhere, has a shared secret, and asks for a token to register."""
    provider = {"id": "there", "name": "Elsewhere", "issuer": there.issuer}
    config = server_config(
        database,
        tmp_path,
        public_baseurl="https://chat.test.example",
        email=email_settings(mailbox),
        registration={"mode": "token", "tokens": [_TOKEN], "shared_secret": _SHARED_SECRET, "guests": True},
        single_sign_on={"providers": [{**provider, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}]},
        federation={"allow_addresses": ["127.0.0.0/8", "::1"]},
        rate_limits={"enabled": True},
        logging={"level": "debug"},
    )
    async with running_server(config) as server:
        yield server


@pytest.fixture
async def alice(diary: Diary, api: Api) -> Api:
    """A user who has registered with the token, at first with a wrong one."""
    body = {"username": "alice", "password": PASSWORD, "refresh_token": True}
    diary.keep(password=PASSWORD, registration_token=_TOKEN)
    await api.get("/_matrix/client/v1/register/m.login.registration_token/validity", query={"token": _TOKEN})
    session = (await api.post("/register", body)).body["session"]
    auth = {"type": "m.login.registration_token", "session": session}
    assert (await api.post("/register", {**body, "auth": {**auth, "token": "wrong-invitation"}})).status == 401
    diary.keep(wrong_token="wrong-invitation", uia_session=session)
    answer = diary.keep_answer("registered", await api.post("/register", {**body, "auth": {**auth, "token": _TOKEN}}))
    return Api(api.session, api.url, answer.body["access_token"], answer.body["user_id"], answer.body["device_id"])


def _owner(password: str = PASSWORD) -> dict[str, object]:
    return {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": password}


async def test_tokens_and_passwords(diary: Diary, server: Server, alice: Api) -> None:
    """Logging in in every way, right and wrong, refreshing, and being told that a token is not known."""
    nobody = alice.as_token(None)
    diary.keep(wrong_password=_WRONG_PASSWORD, typed_for_a_name="hunter2hunter2")
    assert (await nobody.post("/login", _owner(_WRONG_PASSWORD))).status == 403
    typed = {"type": "m.login.password", "user": "hunter2hunter2", "password": "alice-typed-the-other-way"}
    assert (await nobody.post("/login", typed)).status == 403
    logged_in = diary.keep_answer("login", await nobody.post("/login", {**_owner(), "refresh_token": True}))
    token = logged_in.body["refresh_token"]
    again = diary.keep_answer("refreshed", await nobody.post("/refresh", {"refresh_token": token}))
    assert (await alice.as_token(again.body["access_token"]).get("/account/whoami")).status == 200
    assert (await nobody.post("/refresh", {"refresh_token": token})).status == 401
    for unknown in ("tpat_unknown-but-who-knows-elsewhere", "Zm9yZWlnbi10b2tlbg"):
        diary.keep(**{f"unknown_{unknown[:4]}": unknown})
        assert (await alice.as_token(unknown).get("/account/whoami")).status == 401
        await nobody.get("/account/whoami", query={"access_token": unknown})
        await nobody.get(f"/nothing/{unknown}", query={"access_token": unknown})
    given = await alice.post("/_matrix/client/v1/login/get_token", {"auth": _owner()})
    login_token = {"type": "m.login.token", "token": diary.keep_answer("given", given).body["login_token"]}
    diary.keep_answer("by_token", await nobody.post("/login", login_token))
    assert (await nobody.post("/login", login_token)).status == 403
    openid = await alice.post(f"/user/{alice.user_id}/openid/request_token", {})
    diary.keep_answer("openid", openid)
    await nobody.get("/_matrix/federation/v1/openid/userinfo", query={"access_token": openid.body["access_token"]})
    changed = await alice.post("/account/password", {"new_password": _NEW_PASSWORD, "auth": _owner()})
    assert changed.status == 200
    diary.keep(new_password=_NEW_PASSWORD)
    assert (await nobody.post("/login", _owner(_NEW_PASSWORD))).status == 200
    assert "/_matrix/client/v3/refresh" in diary.log.getvalue()
    assert diary.told() == {}


async def test_the_shared_secret_and_administrators(diary: Diary, server: Server, api: Api) -> None:
    """Accounts made with the shared secret, and what administrators set and hand out."""
    path = "/_synapse/admin/v1/register"
    nonce = (await api.get(path)).body["nonce"]
    mac = hmac.new(_SHARED_SECRET.encode(), "\0".join([nonce, "root", PASSWORD, "admin"]).encode(), "sha1").hexdigest()
    body = {"nonce": nonce, "username": "root", "password": PASSWORD, "admin": True, "mac": mac}
    diary.keep(shared_secret=_SHARED_SECRET, password=PASSWORD, mac=mac)
    answer = diary.keep_answer("root", await api.post(path, body))
    root = api.as_token(answer.body["access_token"])
    user = "/_synapse/admin/v2/users/@bob:test.example"
    assert (await root.put(user, {"password": "bobs-first-password-x", "displayname": "Bob"})).status == 201
    diary.keep(set_password="bobs-first-password-x")
    made = await root.post("/_synapse/admin/v1/registration_tokens/new", {"token": "made-invitation-77"})
    assert made.status == 200
    diary.keep(made_token="made-invitation-77")
    await root.get("/_synapse/admin/v1/registration_tokens/made-invitation-77")
    signed_in = await root.post("/_synapse/admin/v1/users/@bob:test.example/login", {})
    diary.keep_answer("as_bob", signed_in)
    assert "registration_tokens" in diary.log.getvalue()
    assert diary.told() == {}


async def test_mails(diary: Diary, server: Server, alice: Api, mailbox: Mailbox) -> None:
    """Proving an address and coming back into an account by mail: neither links nor clients' secrets."""
    secret = "a-clients-own-secret"
    diary.keep(client_secret=secret)
    body = {"email": "alice@example.org", "client_secret": secret, "send_attempt": 1}
    sid = (await alice.post("/account/3pid/email/requestToken", body)).body["sid"]
    await _follow(diary, server, alice, await mailbox.mail(1), "address")
    added = await alice.post("/account/3pid/add", {"sid": sid, "client_secret": secret, "auth": _owner()})
    assert added.status == 200, added
    body |= {"client_secret": secret + "2"}
    number = len(mailbox.messages) + 1
    sid = (await alice.as_token(None).post("/account/password/email/requestToken", body)).body["sid"]
    mail = await mailbox.mail(number)
    while "assword" not in str(mail["Subject"]):  # that the address was added is told too
        number += 1
        mail = await mailbox.mail(number)
    await _follow(diary, server, alice, mail, "password")
    auth = {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": secret + "2"}}
    done = await alice.as_token(None).post("/account/password", {"new_password": _NEW_PASSWORD, "auth": auth})
    assert done.status == 200, done
    diary.keep(new_password=_NEW_PASSWORD)
    assert "requestToken" in diary.log.getvalue()
    assert diary.told() == {}


async def _follow(diary: Diary, server: Server, api: Api, mail: object, name: str) -> None:
    """Opens the link of a mail and presses the button; its token is a secret."""
    link = urlsplit(link_of(mail))  # type: ignore[arg-type]
    for key, values in parse_qs(link.query).items():
        if key in ("token", "client_secret"):
            diary.keep(**{f"mail_{name}_{key}": values[0]})
    assert any(key.startswith(f"mail_{name}") for key in diary.secrets), link
    async with api.session.get(f"{server.url}{link.path}?{link.query}") as response:
        page, cookie = await response.text(), response.headers.get("Set-Cookie", "").partition(";")[0]
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    async with api.session.post(f"{server.url}{link.path}", data=fields, headers={"Cookie": cookie}) as response:
        assert response.status == 200


async def test_second_factors(diary: Diary, server: Server, alice: Api) -> None:
    """Setting one up, and logging in with codes right and wrong."""
    begun = await alice.post(f"{_TOTP}/begin", {"auth": _owner()})
    secret = begun.body["secret"]
    diary.keep(totp_secret=secret)
    code = pyotp.TOTP(secret).at(time.time())
    confirmed = await alice.post(f"{_TOTP}/confirm", {"code": code})
    assert confirmed.status == 200
    backups = confirmed.body["backup_codes"]
    diary.keep(**{f"backup_code_{n}": one for n, one in enumerate(backups)})
    for given in (code, "wrong-code-x", backups[0], backups[0]):
        auth = {"type": "org.talkpai.totp", "session": "s", "code": given}
        await alice.as_token(None).post("/login", {**_owner(), "auth": auth})
    diary.keep(wrong_code="wrong-code-x")
    assert "two_factor/confirm" in diary.log.getvalue()
    assert diary.told() == {}


async def test_oauth2_and_pages(diary: Diary, server: Server, alice: Api) -> None:
    """Signing in at the pages, agreeing, codes, tokens, secrets of clients, device grants, and signing in elsewhere."""
    cookies: dict[str, str] = {}

    async def page(path: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Fetches a page, or posts its form, as a browser does; returns status, location and text."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        method = "GET" if form is None else "POST"
        async with alice.session.request(
            method, server.url + path, data=form, headers=headers, allow_redirects=False
        ) as response:
            for name, morsel in response.cookies.items():
                cookies[name] = morsel.value
                if len(morsel.value) > 8:
                    diary.keep(**{f"cookie_{name}_{len(diary.secrets)}": morsel.value})
            text = await response.text()
            for token in _FORM_TOKEN.findall(text):
                cookies_form["form_token"] = token
                diary.keep(**{f"form_token_{len(diary.secrets)}": token})
            return response.status, response.headers.get("Location", ""), text

    cookies_form: dict[str, str] = {}
    client = await registered(server, alice, token_endpoint_auth_method="client_secret_post")
    client = await _with_secret(diary, client)
    authorize = f"/oauth2/authorize?{client.query()}"
    await page("/account/sign-in")
    credentials = {"username": "alice", "password": PASSWORD, "continue": authorize}
    assert (await page("/account/sign-in", {**cookies_form, **credentials, "password": _WRONG_PASSWORD}))[0] >= 400
    assert (await page("/account/sign-in", {**cookies_form, **credentials}))[0] in (302, 303)
    status, _, text = await page(authorize)
    assert status == 200
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text))
    status, location, _ = await page(authorize, {**hidden, "answer": "allow"})
    code = answered(location)["code"]
    diary.keep(code=code, code_verifier=VERIFIER, client_secret=client.secret)
    tokens = diary.keep_answer("oauth2", await client.exchange(code, client_secret=client.secret)).body
    diary.keep_answer("oauth2_refreshed", await client.refresh(tokens["refresh_token"], client_secret=client.secret))
    assert (await client.exchange(code, client_secret=client.secret)).status == 400
    grant = diary.keep_answer("grant", await client.begin_device(client_secret=client.secret)).body
    await page(f"/oauth2/device?{urlencode({'user_code': grant['user_code']})}")
    await client.answer_device(grant["user_code"], alice.user_id)
    diary.keep_answer("device", await client.poll(grant["device_code"], client_secret=client.secret))
    assert "/oauth2/token" in diary.log.getvalue()
    assert diary.told() == {}


@dataclass
class _Confidential(OAuth2):
    secret: str = ""


async def _with_secret(diary: Diary, client: OAuth2) -> _Confidential:
    """A client that has a secret, as it is told once."""
    answer = await client.register(token_endpoint_auth_method="client_secret_post")
    assert answer.status == 201, answer
    return _Confidential(client.server, client.api, answer.body["client_id"], answer.body["client_secret"])


async def test_signing_in_elsewhere(diary: Diary, server: Server, alice: Api, there: OidcServer) -> None:
    """Neither the secret that the provider knows, nor its codes and tokens, nor the state, also where it goes wrong."""
    diary.keep(provider_secret=CLIENT_SECRET)
    for wrong in (False, True):
        there.lies = {"nonce": "of-somebody-else"} if wrong else {}
        async with alice.session.get(f"{server.url}/account/sso/there", allow_redirects=False) as response:
            cookie = response.headers["Set-Cookie"].partition(";")[0]
            asked = {key: values[0] for key, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}
        back = urlsplit(there.answer(asked))
        name = "wrong" if wrong else "right"
        diary.keep(
            **{
                f"state_{name}": asked["state"],
                f"nonce_{name}": asked["nonce"],
                f"code_{name}": parse_qs(back.query)["code"][0],
                f"cookie_{name}": cookie.partition("=")[2],
            }
        )
        path = f"{server.url}{back.path}?{back.query}"
        async with alice.session.get(path, headers={"Cookie": cookie}, allow_redirects=False) as response:
            assert (response.status >= 400) is wrong, await response.text()
        async with alice.session.get(path, headers={"Cookie": cookie}, allow_redirects=False) as response:
            assert response.status >= 400, "the state counts once"
    assert "was refused" in diary.log.getvalue()
    assert diary.told() == {}
