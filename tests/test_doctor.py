"""The doctor: finds what is wrong around the server, says what to do, and changes nothing."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import os
import time
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from homeserver import doctor
from homeserver.config import Config
from homeserver.doctor import Finding, certificate_end, check_certificate_files, check_data_dir, check_keys
from homeserver.secrets import load_or_create_secrets, load_or_create_signing_key
from tests.local_servers import authority, raw_server, serving
from tests.support.smtp import smtp_server


def _config(directory: Path, **values: object) -> Config:
    return Config.model_validate({"data_dir": "data", **values}, context={"base_directory": directory})


def _levels(findings: list[Finding]) -> list[str]:
    assert all(bool(one.advice) == (one.level != "ok") for one in findings), findings
    return [one.level for one in findings]


def _certificate(directory: Path, ends: datetime.datetime) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.org")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1999, 1, 1))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "cert.pem").write_bytes(b"Some text before\n" + made.public_bytes(pem))
    (directory / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"certificate": str(directory / "cert.pem"), "private_key": str(directory / "key.pem")}


def test_the_report_counts_and_advises() -> None:
    """A line for each finding, the advice below it, a sum at the end; broken things make the status 1."""
    output = io.StringIO()
    assert doctor.report([Finding("ok", "a", "fine"), Finding("warn", "b", "hm", "do this")], output) == 0
    assert output.getvalue() == "ok    a: fine\nwarn  b: hm\n      → do this\n\n0 to repair, 1 to look at.\n"
    assert doctor.report([Finding("fail", "c", "broken", "mend it")], io.StringIO()) == 1
    output = io.StringIO()
    assert doctor.report([Finding("ok", "a", "fine")], output) == 0
    assert output.getvalue().endswith("All is well.\n")


async def test_a_fresh_installation_is_well(tmp_path: Path) -> None:
    """Before the first start nothing is missing, and looking makes nothing."""
    findings = await doctor.examine(_config(tmp_path, listeners=[{"unix_socket": "socket"}]))
    assert set(_levels(findings)) == {"ok"}
    assert os.listdir(tmp_path) == []


async def test_a_check_that_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in one check does not hide what the others found."""

    async def broken(_: Config) -> list[Finding]:
        raise RuntimeError("oh")

    monkeypatch.setattr(doctor, "check_database", broken)
    findings = await doctor.examine(_config(tmp_path, listeners=[{"unix_socket": "socket"}]))
    assert [one.subject for one in findings if one.level == "fail"] == ["database"]
    assert len(findings) > 5


def test_a_clock_that_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time before the installation can't be right."""
    assert _levels(doctor.check_clock(_config(tmp_path))) == ["ok"]
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    assert _levels(doctor.check_clock(_config(tmp_path))) == ["fail"]


def test_directories_must_be_writable_and_private(tmp_path: Path) -> None:
    """A data directory that others write, and a media directory that can't be made, are broken."""
    (tmp_path / "data").mkdir()
    (tmp_path / "file").touch()
    assert _levels(check_data_dir(_config(tmp_path))) == ["ok", "ok"]
    assert _levels(check_data_dir(_config(tmp_path, media_dir="file/media"))) == ["ok", "fail"]
    (tmp_path / "data").chmod(0o777)
    assert _levels(check_data_dir(_config(tmp_path))) == ["ok", "ok", "fail"]


def test_keys_must_be_whole_and_private(tmp_path: Path) -> None:
    """Keys that others can read, or that are damaged, are broken; the advice says what to type."""
    config = _config(tmp_path)
    load_or_create_signing_key(config.signing_key_file)
    load_or_create_secrets(config.data_dir)
    assert _levels(check_keys(config)) == ["ok", "ok"]
    config.signing_key_file.chmod(0o644)
    (finding, _) = check_keys(config)
    assert (finding.level, finding.advice) == ("fail", f"chmod 600 {config.signing_key_file}")
    config.signing_key_file.write_text("nonsense")
    (config.data_dir / "secrets.json").write_text("{")
    assert _levels(check_keys(config)) == ["fail", "fail"]


@pytest.mark.parametrize(
    ("listener", "levels"),
    [
        ({"port": 8008}, []),
        ({"unix_socket": "socket"}, []),
        ({"bind": "0.0.0.0", "port": 8008, "serves": ["client"], "trusted_proxies": ["192.0.2.1"]}, []),
        ({"bind": "0.0.0.0", "port": 8008, "serves": ["client"]}, ["warn"]),
        ({"bind": "::", "port": 8008, "serves": ["client", "admin", "metrics"]}, ["warn", "warn"]),
    ],
)
def test_what_is_open_to_the_network(tmp_path: Path, listener: dict[str, object], levels: list[str]) -> None:
    """Plain HTTP and what is for administrators are remarked on where the network can reach them."""
    assert _levels(doctor.check_listeners(_config(tmp_path, listeners=[listener]))) == levels


def test_open_registration_is_remarked_on(tmp_path: Path) -> None:
    """Registration that is open to everyone is allowed but said."""
    assert _levels(doctor.check_listeners(_config(tmp_path, registration={"mode": "open"}))) == ["warn"]


@pytest.mark.parametrize(("days", "level"), [(-1, "fail"), (5, "warn"), (60, "ok"), (20_000, "ok")])
def test_certificates_end(tmp_path: Path, days: int, level: str) -> None:
    """A certificate that has ended is broken, one that ends within two weeks is remarked on."""
    ends = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=days)
    tls = _certificate(tmp_path, ends)
    assert certificate_end((tmp_path / "cert.pem").read_text()) == ends.timestamp()
    assert _levels(check_certificate_files(_config(tmp_path, listeners=[{"port": 1, "tls": tls}]))) == [level]


def test_a_certificate_needs_its_own_key(tmp_path: Path) -> None:
    """A key of another certificate, or no file at all, is found before the server fails to start."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=90)
    tls = _certificate(tmp_path, soon)
    (tmp_path / "other").mkdir()
    other = _certificate(tmp_path / "other", soon)
    for wrong in ({**tls, "private_key": other["private_key"]}, {**tls, "certificate": "absent.pem"}):
        assert _levels(check_certificate_files(_config(tmp_path, listeners=[{"port": 1, "tls": wrong}]))) == ["fail"]


@given(st.binary(max_size=60))
def test_no_bytes_break_the_certificate_reader(data: bytes) -> None:
    """Whatever stands in the file, the answer is a date or a ValueError."""
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(data).decode()}\n-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError):  # noqa: PT011 - which one does not matter
        certificate_end(pem)


async def test_ports_are_free_ours_or_taken(tmp_path: Path) -> None:
    """A port is fine where it is free or our server answers; another program there is named."""

    async def ours(_: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org\r\n")

    async with serving(ours) as port:
        assert _levels(await doctor.check_ports(_config(tmp_path, listeners=[{"port": port}]))) == ["ok"]
    assert _levels(await doctor.check_ports(_config(tmp_path, listeners=[{"port": port}]))) == ["ok"]
    async with raw_server(silent) as port:
        (finding,) = await doctor.check_ports(_config(tmp_path, listeners=[{"port": port}]))
        assert (finding.level, "used by another program" in finding.text) == ("fail", True)
    elsewhere = _config(tmp_path, listeners=[{"bind": "192.0.2.1", "port": 8008}])
    assert _levels(await doctor.check_ports(elsewhere)) == ["fail"]


async def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    """Which database does not answer is said, its password is not."""
    config = _config(tmp_path, database={"url": "postgresql://u:hidden@127.0.0.1:9/talkpai"})
    (finding,) = await doctor.check_database(config)
    assert finding.level == "fail"
    assert "127.0.0.1/talkpai" in finding.text
    assert "hidden" not in finding.text


async def test_the_name_must_lead_to_this_server(tmp_path: Path) -> None:
    """The doctor asks as another server would: the name leads to us only if our own key comes back."""
    key = load_or_create_signing_key(tmp_path / "data" / "signing.key")
    answers: list[object] = [
        {"verify_keys": {key.key_id: {"key": key.verify_key_base64}}},
        {"verify_keys": {"ed25519:other": {"key": "x"}}},
        {"verify_keys": None},
        [],
    ]
    told = []

    async def keys(_: web.Request) -> web.StreamResponse:
        return web.json_response(answers[0])

    async with serving(keys, "127.0.0.1") as port:
        config = _config(tmp_path, server_name=f"127.0.0.1:{port}", federation={"ca_file": authority().ca_file})
        while answers:
            findings = await doctor.check_delegation(config)
            told.append(findings[0])
            certificate = next(one for one in findings if one.subject == "certificate")
            assert certificate.level == "warn"  # the test's authority gives it two days
            answers.pop(0)
    told.append((await doctor.check_delegation(config))[0])
    assert _levels(told) == ["ok", "fail", "fail", "fail", "fail"]
    assert "that is this server" in told[0].text
    assert "another key" in told[1].text
    assert "no Matrix server" in told[2].text
    assert "does not answer" in told[4].text


async def test_the_public_address_must_answer_clients(tmp_path: Path) -> None:
    """public_baseurl has to answer; that the well-known file does not name it is remarked on."""

    async def versions(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=200 if request.path == "/_matrix/client/versions" else 404)

    async with serving(versions) as port:
        config = _config(
            tmp_path,
            server_name="127.0.0.1:9",
            public_baseurl=f"http://127.0.0.1:{port}",
            federation={"enabled": False},
        )
        assert _levels(await doctor.check_delegation(config)) == ["ok", "warn"]
    assert _levels(await doctor.check_delegation(config)) == ["fail", "warn"]


async def test_the_smtp_server_is_tried(tmp_path: Path) -> None:
    """The doctor signs in where mail goes and sends none; what does not work has advice."""

    async def check(**email: object) -> Finding:
        values = {"host": "127.0.0.1", "security": "none", "from_address": "a@example.org", **email}
        config = _config(tmp_path, public_baseurl="https://chat.example.org", email=values)
        findings = await doctor.check_mail(config)
        assert _levels(findings) == [findings[0].level]
        return findings[0]

    assert (await doctor.check_mail(_config(tmp_path)))[0].level == "ok"
    async with smtp_server(login=("talkpai", "right")) as mailbox:
        assert (await check(port=mailbox.port, user="talkpai", password="right")).level == "ok"
        wrong = await check(port=mailbox.port, user="talkpai", password="wrong")
        assert (wrong.level, "email.password" in wrong.advice) == ("fail", True)
        plain = await check(port=mailbox.port, security="starttls")
        assert plain.level == "fail"
        assert mailbox.messages == []
    assert (await check(port=1)).level == "fail"
