"""`talk-pai doctor`: looks at everything around the server that can be wrong, and says what to do about it.

Each check is a function from the configuration to findings, in plain words: what was looked at, what was found, and for
what is not well, what to do. No check changes anything, and none stops the others: a check that itself fails is a
finding too. What only the outside can tell (does the name lead here?) is asked the way another server would ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO
from urllib.parse import urlsplit

import asyncpg
from aiosmtplib import SMTPAuthenticationError, SMTPException

from federation.discovery import Discovery, Route
from homeserver import config as configuration
from homeserver.config import Config, ListenerConfig
from homeserver.mail import try_smtp
from homeserver.outbound import OutboundClient, RequestFailed
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.signing import SigningKey
from homeserver.secrets import SecretsError, load_secrets, load_signing_key, loose_permissions
from homeserver.storage.migrate import MigrationError, pending
from homeserver.storage.pool import command_connection
from homeserver.storage.postgres_programs import EmbeddedError, find_programs

Level = Literal["ok", "warn", "fail"]

_DAY = 86400
_GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """What one check found. `advice` says what to do; it is there whenever the level is not ok."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def report(findings: Sequence[Finding], output: TextIO) -> int:
    """Prints a line for each finding and what to do below it. Returns the exit status: 1 if anything is broken."""
    for one in findings:
        output.write(f"{one.level:<4}  {one.subject}: {one.text}\n")
        if one.advice:
            output.write(f"      → {one.advice}\n")
    counts = {level: sum(one.level == level for one in findings) for level in ("fail", "warn")}
    if not any(counts.values()):
        output.write("\nAll is well.\n")
    else:
        output.write(f"\n{counts['fail']} to repair, {counts['warn']} to look at.\n")
    return 1 if counts["fail"] else 0


async def examine(config: Config) -> list[Finding]:
    """All findings about that configuration and what is around it. Must be awaited on the main thread."""
    findings = []
    for check in (check_clock, check_data_dir, check_keys, check_listeners, check_certificate_files):
        findings += await _guarded(check.__name__, asyncio.to_thread(check, config))
    findings += await _guarded("database", check_database(config))
    findings += await _guarded("ports", check_ports(config))
    findings += await _guarded("delegation", check_delegation(config))
    findings += await _guarded("e-mail", check_mail(config))
    return findings


async def _guarded(name: str, check: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        return await check
    except Exception as error:
        # Whatever it is, the operator wants to read it beside the other findings.
        subject = name.removeprefix("check_").replace("_", " ")
        return [Finding("fail", subject, f"the check itself failed: {error!r}", "Please report this.")]


def check_clock(config: Config) -> list[Finding]:
    """A clock that is behind this program is certainly wrong; events and certificates depend on it."""
    newest = Path(configuration.__file__).stat().st_mtime
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if time.time() < newest - _DAY:
        advice = "Set the clock, and let NTP keep it (timedatectl set-ntp true)."
        return [Finding("fail", "clock", f"it says {now}, which is before this program was installed", advice)]
    return [Finding("ok", "clock", now)]


def check_data_dir(config: Config) -> list[Finding]:
    """The directories can be written and have room left."""
    findings = []
    for name, path in {"data directory": config.data_dir, "media directory": config.media_dir}.items():
        place = next(one for one in (path, *path.parents) if one.exists())
        advice = f"Give it to the user that runs the server: chown, or set {name.split()[0]}_dir to another place."
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            findings.append(Finding("fail", name, f"{place} can't be written by this user", advice))
            continue
        free = shutil.disk_usage(place).free
        text = f"{path}, {free / _GIB:.1f} GiB free" + ("" if path.exists() else ", made at the first start")
        level: Level = "ok" if free > _GIB else "warn" if free > _GIB // 8 else "fail"
        findings.append(
            Finding(level, name, text, "" if level == "ok" else "Make room: a full disk stops the database.")
        )
    if config.data_dir.exists() and config.data_dir.stat().st_mode & 0o022:
        text = f"{config.data_dir} can be written by other users of this machine"
        findings.append(Finding("fail", "data directory", text, f"chmod go-w {config.data_dir}"))
    return findings


def check_keys(config: Config) -> list[Finding]:
    """The keys are there, can be read, and by nobody else."""
    secrets_file = config.data_dir / "secrets.json"
    checks: tuple[tuple[str, Path, Callable[[], object]], ...] = (
        ("signing key", config.signing_key_file, lambda: load_signing_key(config.signing_key_file)),
        ("secrets", secrets_file, lambda: load_secrets(config.data_dir)),
    )
    return [_check_key(*one) for one in checks]


def _check_key(subject: str, path: Path, load: Callable[[], object]) -> Finding:
    if not path.exists():
        return Finding("ok", subject, f"{path} is made at the first start")
    try:
        key = load()
    except SecretsError as error:
        return Finding("fail", subject, str(error), "Without the right one this server is a stranger to the others.")
    if (mode := loose_permissions(path)) is not None:
        return Finding("fail", subject, f"{path} has the mode {mode}: others can read it", f"chmod 600 {path}")
    return Finding("ok", subject, f"{path}{f', {key.key_id}' if isinstance(key, SigningKey) else ''}")


def check_listeners(config: Config) -> list[Finding]:
    """What is served where: nothing for administrators on the open network, and nothing there in plain HTTP."""
    findings = []
    for one in config.listeners:
        if one.unix_socket is not None or one.bind in ("localhost", "::1") or one.bind.startswith("127."):
            continue
        place = _place(one)
        if one.tls is None and not one.trusted_proxies:
            text = f"{place} is open to the network in plain HTTP"
            advice = (
                "Give it tls, or bind it to 127.0.0.1 behind a reverse proxy, or name the proxy in trusted_proxies."
            )
            findings.append(Finding("warn", "listener", text, advice))
        if open_wide := sorted({"admin", "metrics"} & set(one.serves)):
            text = f"{place} serves {' and '.join(open_wide)} to the network"
            advice = f"Serve {' and '.join(open_wide)} on a listener of their own at 127.0.0.1."
            findings.append(Finding("warn", "listener", text, advice))
    if config.registration.mode == "open":
        text = "anyone who reaches this server can make accounts"
        findings.append(Finding("warn", "registration", text, "Set registration.mode to token, unless that is meant."))
    return findings


def check_certificate_files(config: Config) -> list[Finding]:
    """The certificates of the listeners can be used and are good for a while."""
    findings = []
    for one in config.listeners:
        if one.tls is None:
            continue
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(one.tls.certificate, one.tls.private_key)
            ends = certificate_end(one.tls.certificate.read_text(encoding="ascii", errors="replace"))
        except (OSError, ValueError) as error:
            text = f"{one.tls.certificate} with {one.tls.private_key} can't be used: {error}"
            advice = "They must be PEM files that belong together, readable by the user that runs the server."
            findings.append(Finding("fail", "certificate", text, advice))
            continue
        findings.append(_lifetime(str(one.tls.certificate), ends))
    return findings


def certificate_end(pem: str) -> float:
    """When the first certificate in that PEM text ends, in seconds since 1970. Raises ValueError if there is none.

    The standard library decodes only certificates that it has verified, so the two layers of DER above the dates are
    walked here: Certificate → tbsCertificate → [version], serial, algorithm, issuer, validity → notBefore, notAfter.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    _, found, rest = pem.partition(begin)
    if not found:
        raise ValueError("there is no certificate in it")
    der = ssl.PEM_cert_to_DER_cert(begin + rest.partition(end)[0] + end)
    try:
        fields = _der_children(_der_children(_der_children(der)[0][1])[0][1])
        validity = fields[4 if fields[0][0] == 0xA0 else 3]
        tag, text = _der_children(validity[1])[1]
    except IndexError:
        raise ValueError("it is no certificate") from None
    digits = text.decode("ascii")
    if tag == 0x17:  # UTCTime has two digits for the year.  RFC 5280, 4.1.2.5.1
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _der_children(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of the elements one after the other in `data`."""
    children = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("the certificate is cut off")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size])
            at += size
        if at + length > len(data):
            raise ValueError("the certificate is cut off")
        children.append((tag, data[at : at + length]))
        at += length
    return children


def _lifetime(name: str, ends: float) -> Finding:
    days = int((ends - time.time()) // _DAY)
    date = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%d")
    if days < 0:
        return Finding("fail", "certificate", f"{name} ended on {date}", "Renew it, and restart the server.")
    if days < 14:
        return Finding("warn", "certificate", f"{name} ends on {date}, in {days} days", "Renew it in time.")
    return Finding("ok", "certificate", f"{name} is good until {date}")


async def check_database(config: Config) -> list[Finding]:
    """The database can be reached, is durable, shares our clock, and has the schema of this program."""
    if config.database.url is None and not (config.data_dir / "postgres").exists():
        try:
            programs = await asyncio.to_thread(find_programs, config.embedded.binaries)
        except EmbeddedError as error:
            return [Finding("fail", "database", str(error), "See the settings database and embedded.")]
        return [Finding("ok", "database", f"PostgreSQL {programs.major} makes it at the first start")]
    told: list[str] = []
    try:
        async with command_connection(config, told.append) as conn:
            return await _examine_database(config, conn)
    except (EmbeddedError, MigrationError) as error:
        return [Finding("fail", "database", str(error), "The server does not start like this.")]
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        where = "the one in the data directory" if config.database.url is None else _without_password(config)
        text = f"{where} can't be used: {str(error) or type(error).__name__}"
        return [Finding("fail", "database", text, "Check that it runs, and database.url: address, user, password.")]


async def _examine_database(config: Config, conn: asyncpg.Connection) -> list[Finding]:
    version = str(await conn.fetchval("SHOW server_version")).split()[0]
    where = "embedded" if config.database.url is None else _without_password(config)
    findings = [Finding("ok", "database", f"{where}, PostgreSQL {version}")]
    missing = await pending(conn)
    if missing:
        findings.append(Finding("ok", "schema", f"the next start brings it up to date: {', '.join(missing)}"))
    else:
        findings.append(Finding("ok", "schema", "up to date"))
    for setting in ("fsync", "full_page_writes"):
        if await conn.fetchval(f"SHOW {setting}") != "on":
            text = f"{setting} is off: a power cut can destroy the database"
            findings.append(Finding("fail", "database", text, f"Set {setting} = on in its postgresql.conf."))
    apart = abs(float(await conn.fetchval("SELECT extract(epoch FROM clock_timestamp())")) - time.time())
    if apart > 5:
        text = f"the database's is {apart:.0f} seconds away from this machine's"
        findings.append(Finding("warn", "clock", text, "Let NTP keep both."))
    return findings


def _without_password(config: Config) -> str:
    assert config.database.url is not None, "asked only where there is one"
    parts = urlsplit(config.database.url.get_secret_value())
    return f"{parts.hostname or 'the local socket'}{parts.path}"


async def check_ports(config: Config) -> list[Finding]:
    """Each listener's place is free, or it is us who listen there."""
    return [await _check_port(one) for one in config.listeners if one.port != 0]


async def _check_port(listener: ListenerConfig) -> Finding:
    place = _place(listener)
    answer = await _health(listener)
    if answer is not None:
        if answer:
            return Finding("ok", "port", f"{place}: the server is running")
        advice = "Stop the other program, or choose another port."
        return Finding("fail", "port", f"{place} is used by another program", advice)
    if listener.unix_socket is not None:
        parent = listener.unix_socket.parent
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Finding("ok", "port", f"{place} is free")
        return Finding("fail", "port", f"{place}: {parent} can't be written", f"Make {parent}, for the server's user.")
    try:
        _try_bind(listener)
    except OSError as error:
        advice_for = {
            errno.EACCES: "Ports below 1024 need a right of their own: use a higher one behind a reverse proxy.",
            errno.EADDRNOTAVAIL: "This machine has no such address: set bind to one that it has, or 0.0.0.0.",
            errno.EADDRINUSE: "Stop the other program, or choose another port.",
        }
        text = f"{place} can't be listened on: {error.strerror}"
        return Finding("fail", "port", text, advice_for.get(error.errno or 0, "Choose another bind and port."))
    return Finding("ok", "port", f"{place} is free")


def _try_bind(listener: ListenerConfig) -> None:
    for family, kind, _, _, address in socket.getaddrinfo(listener.bind, listener.port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)


async def _health(listener: ListenerConfig) -> bool | None:
    """Whether a Talk pAI server answers there; None if nothing listens."""
    tls = None
    if listener.tls is not None:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # the question is only who listens on this machine
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.bind, listener.bind)  # noqa: S104 - not bound to
    try:
        async with asyncio.timeout(5):
            if listener.unix_socket is not None:
                reader, writer = await asyncio.open_unix_connection(listener.unix_socket, ssl=tls)
            else:
                reader, writer = await asyncio.open_connection(host, listener.port, ssl=tls)
    except ssl.SSLError:
        return False
    except OSError:
        return None
    try:
        async with asyncio.timeout(5):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read(65536)
            while not reader.at_eof() and len(answer) < 65536:
                answer += await reader.read(65536)
    except OSError:
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200") and b'"status"' in body


async def check_delegation(config: Config) -> list[Finding]:
    """Whether the server's name leads other servers here, and the public address clients."""
    if config.server_name.split(":")[0] == "localhost":
        text = "the server's name is localhost: only clients on this machine use it, no other server reaches it"
        return [Finding("ok", "delegation", text)]
    # The addresses are the operator's own, and may well be private ones on this side of the router.
    ca_file = str(config.federation.ca_file) if config.federation.ca_file is not None else None
    outbound = OutboundClient(deny=(), ca_file=ca_file)
    findings = []
    try:
        if config.federation.enabled:
            findings += await _check_federation(config, outbound)
        if config.public_baseurl is not None:
            findings += await _check_client_address(config, outbound)
        else:
            advice = "Set it to the address that clients shall use, such as https://matrix.example.org."
            findings.append(Finding("warn", "public_baseurl", "is not set", advice))
    finally:
        await outbound.close()
    return findings


async def _check_federation(config: Config, outbound: OutboundClient) -> list[Finding]:
    name = config.server_name
    try:
        route = (await Discovery(outbound).resolve(name))[0]
    except MatrixError as error:
        advice = f"Make https://{name}/.well-known/matrix/server or the DNS record _matrix-fed._tcp.{name}."
        return [Finding("fail", "delegation", f"{name} leads nowhere: {error.message}", advice)]
    place = f"{route.host}:{route.port}"
    try:
        answer = await outbound.request(
            "GET",
            f"https://{route.host_header}/_matrix/key/v2/server",
            connect_to=(route.host, route.port),
            server_hostname=route.tls_name,
            timeout=15,
        )
        keys = json.loads(answer.body)["verify_keys"] if answer.status == 200 else None
    except RequestFailed as error:
        advice = (
            "Other servers come to that address. Is the server running, the port open in firewall and router, and the "
            f"certificate for {route.tls_name}?"
        )
        return [Finding("fail", "delegation", f"{name} leads to {place}, which does not answer: {error}", advice)]
    except (ValueError, KeyError, TypeError):
        keys = None
    return [
        _judge_keys(config, place, keys),
        *await _check_remote_certificate(route, ca_file=config.federation.ca_file),
    ]


def _judge_keys(config: Config, place: str, keys: object) -> Finding:
    if not isinstance(keys, dict):
        advice = "Let the reverse proxy pass /_matrix/ on to this server, on a listener that serves federation."
        return Finding(
            "fail", "delegation", f"{config.server_name} leads to {place}, where no Matrix server is", advice
        )
    if not config.signing_key_file.exists():
        text = f"{config.server_name} leads to {place}, where a server runs already, and this one has no key yet"
        return Finding(
            "fail", "delegation", text, "Two servers can't have one name. Restore its signing key if it is this."
        )
    ours = load_signing_key(config.signing_key_file)
    theirs = keys.get(ours.key_id)
    if isinstance(theirs, dict) and theirs.get("key") == ours.verify_key_base64:
        return Finding("ok", "delegation", f"{config.server_name} leads to {place}, and that is this server")
    text = f"{config.server_name} leads to {place}, where a server with another key answers"
    return Finding("fail", "delegation", text, "Point the name to this machine, or restore the signing key it had.")


async def _check_remote_certificate(route: Route, ca_file: Path | None) -> list[Finding]:
    """How long the certificate is good that others see, which may be a reverse proxy's."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    try:
        async with asyncio.timeout(15):
            _, writer = await asyncio.open_connection(
                route.host, route.port, ssl=context, server_hostname=route.tls_name
            )
    except OSError:
        return []  # said before, with its reason
    certificate = writer.get_extra_info("peercert") or {}
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if "notAfter" not in certificate:
        return []
    return [_lifetime(f"the one at {route.host}:{route.port}", ssl.cert_time_to_seconds(certificate["notAfter"]))]


async def _check_client_address(config: Config, outbound: OutboundClient) -> list[Finding]:
    findings = []
    versions = f"{config.public_baseurl}/_matrix/client/versions"
    well_known = f"https://{config.server_name}/.well-known/matrix/client"
    try:
        answer = await outbound.request("GET", versions, timeout=15)
        if answer.status == 200:
            findings.append(Finding("ok", "public_baseurl", f"{config.public_baseurl} answers clients"))
        else:
            advice = "Let the reverse proxy pass /_matrix/ on to this server."
            findings.append(Finding("fail", "public_baseurl", f"{versions} answers {answer.status}", advice))
    except RequestFailed as error:
        advice = "Is the server running, the name in DNS, the port open, the certificate right?"
        findings.append(Finding("fail", "public_baseurl", f"{versions} does not answer: {error}", advice))
    try:
        answer = await outbound.request("GET", well_known, timeout=15, follow_redirects=True)
        found = json.loads(answer.body)["m.homeserver"]["base_url"] if answer.status == 200 else None
    except (RequestFailed, ValueError, KeyError, TypeError):
        found = None
    if isinstance(found, str) and found.rstrip("/") == config.public_baseurl:
        findings.append(Finding("ok", "well-known", f"{well_known} leads clients here"))
    else:
        text = f"{well_known} does not lead to {config.public_baseurl}"
        advice = f'Serve {{"m.homeserver": {{"base_url": "{config.public_baseurl}"}}}} there, as this server does.'
        findings.append(Finding("warn", "well-known", f"{text}: people have to type that address", advice))
    return findings


async def check_mail(config: Config) -> list[Finding]:
    """The SMTP server takes our mails: connected to and signed in at, without sending one."""
    email = config.email
    if email.host is None:
        text = "none is sent, so nobody can recover an account by themselves: email.host is not set"
        return [Finding("ok", "e-mail", text)]
    place = f"{email.host}:{email.effective_port}"
    try:
        await try_smtp(email)
    except SMTPAuthenticationError:
        advice = "Look at email.user and email.password."
        return [Finding("fail", "e-mail", f"{place} does not accept the name and password", advice)]
    except (SMTPException, OSError) as error:
        advice = "Is the name right, the port open from here, email.security what that server speaks?"
        return [Finding("fail", "e-mail", f"{place} does not take mail: {str(error) or type(error).__name__}", advice)]
    if email.security == "none" and not _is_near(email.host):
        text = f"{place} takes mail, but names, links and the password for it cross the network in the clear"
        return [Finding("warn", "e-mail", text, "Set email.security to starttls or tls.")]
    return [Finding("ok", "e-mail", f"{place} takes mail")]


def _is_near(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def _place(listener: ListenerConfig) -> str:
    if listener.unix_socket is not None:
        return str(listener.unix_socket)
    return f"[{listener.bind}]:{listener.port}" if ":" in listener.bind else f"{listener.bind}:{listener.port}"
