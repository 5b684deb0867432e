"""Builds everything, once, and owns start and stop: the only place where the long-lived objects are made.

`running_server` brings up, in this order, the database, the services, the background work and the listeners, and takes
them down in the reverse order whatever happens in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.util
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import asyncpg
from aiohttp import web

from federation.administration import administration_routes
from federation.client import FederationClient
from federation.discovery import Discovery
from federation.key_ring import KeyRing
from federation.keys import KeyStore
from federation.outbound_edus import OutboundEdus
from federation.outbox import Outbox
from federation.peers import Federation
from federation.routes import federation_routes
from federation.transactions import Transactions
from federation.transport import Transport
from homeserver import metrics
from homeserver.accounts.device_activity import DeviceActivity
from homeserver.accounts.interactive_auth import expire_sessions_now_and_then, make_sessions
from homeserver.accounts.job_kinds import JOB_KINDS
from homeserver.accounts.jobs import Jobs, Tools
from homeserver.accounts.login_attempts import LoginAttempts
from homeserver.accounts.oauth2.signed_tokens import load_or_create_token_key
from homeserver.accounts.register import create_account
from homeserver.accounts.single_sign_on.logins import expire_now_and_then as expire_sign_ins_now_and_then
from homeserver.accounts.single_sign_on.oidc import OidcProvider
from homeserver.accounts.web_sessions import expire_sessions_now_and_then as expire_web_sessions_now_and_then
from homeserver.admin_api.job_kinds import ADMIN_JOB_KINDS
from homeserver.admin_api.routes import ADMIN_API_ROUTES
from homeserver.appservice_registrations import Appservices, load_appservices
from homeserver.changes import Changes
from homeserver.client_api.routes import ADMIN_ROUTES, CLIENT_ROUTES
from homeserver.config import Config, ConfigError, ListenerConfig
from homeserver.http import ApiRequest, Auth, HttpServer, Route
from homeserver.http.authentication import Authenticator
from homeserver.mail import MailSender
from homeserver.media.opened import opened_media
from homeserver.outbound import OutboundClient
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, localpart_of
from homeserver.protocol.signing import SigningKey, parse_verify_key
from homeserver.push.sender import PushSender
from homeserver.rate_limits import RateLimits
from homeserver.rooms.backfill import Backfiller
from homeserver.rooms.delayed_events import DelayedEvents
from homeserver.rooms.delayed_events import Limits as DelayLimits
from homeserver.rooms.guest_access import GuestAccess
from homeserver.rooms.identity_servers import IdentityServers
from homeserver.rooms.membership import Membership
from homeserver.rooms.presence import Presence
from homeserver.rooms.presence_upkeep import PresenceUpkeep
from homeserver.rooms.receipts import Receipts
from homeserver.rooms.receive import Receiver
from homeserver.rooms.remote_join import RemoteJoins
from homeserver.rooms.space_hierarchy import SpaceHierarchy
from homeserver.rooms.third_party_invites import ThirdPartyInvites
from homeserver.rooms.timeline import Timeline
from homeserver.rooms.typing_users import TypingUsers
from homeserver.secrets import SecretsError, load_or_create_secrets, load_or_create_signing_key
from homeserver.services import Services
from homeserver.storage.accounts import any_account, find_account
from homeserver.storage.embedded import EmbeddedError, EmbeddedPostgres
from homeserver.storage.migrate import MigrationError, migrate
from homeserver.storage.names import Names
from homeserver.storage.pool import create_pool
from homeserver.storage.state_snapshots import StateSnapshots
from homeserver.storage.stream import DatabaseInUse, Pool, Stream, lock_database, open_stream
from homeserver.sync.sent_members import SentMembers
from homeserver.web.routes import WEB_ROUTES

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0  # requests in progress are given this long to end


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is running. `addresses` are those of its listeners, as URLs or `unix:PATH`, in their order."""

    config: Config
    services: Services
    federation: Federation
    http: HttpServer
    database_url: str
    addresses: tuple[str, ...]
    failed: asyncio.Event  # set when it can't go on, because it has lost its database

    @property
    def url(self) -> str:
        """The address of the first listener."""
        return self.addresses[0]


def run(config: Config, *, first_account: str = "talk-pai user create --admin NAME") -> int:
    """Runs a server until SIGINT or SIGTERM. Returns the exit status.

    :param first_account: the command that makes an administrator, to be shown while there is no account
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(config, first_account))
    except (
        ConfigError,
        SecretsError,
        EmbeddedError,
        MigrationError,
        DatabaseInUse,
        OSError,
        asyncpg.PostgresError,
    ) as error:
        sys.stderr.write(f"talk-pai: {str(error) or type(error).__name__}\n")
        return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:  # there is none for Windows
        return None
    import uvloop

    return uvloop.new_event_loop


async def _run(config: Config, first_account: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    serving = asyncio.create_task(_serve(config, first_account))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    # A start may take long (a database that recovers, a migration) and counts as stopped where it was.
    serving.cancel()
    try:
        return await serving
    except asyncio.CancelledError:
        return 0


async def _serve(config: Config, first_account: str) -> int:
    if config.oauth2.enabled and config.public_baseurl is None:
        log.info("OAuth 2.0 is offered only to clients that reach a listener directly, until public_baseurl is set")
    async with running_server(config) as server:
        _collect_garbage_seldom()
        await _greet(server, first_account)
        await server.failed.wait()
        return 1


def _collect_garbage_seldom() -> None:
    """Keeps the collector of reference cycles from walking what is no garbage, for as long as this process lives.

    A large response is some 100,000 objects that all live until it is sent. By Python's defaults the collector walks
    through them every 700 objects, which is half of what the first sync of 1,000 rooms costs. Next to nothing here is
    part of a cycle, so what a rarer collection leaves lying is little. What start-up has made stays, and is not walked.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


async def _greet(server: Server, first_account: str) -> None:
    lines = [f"Talk pAI serves {server.config.server_name} at {', '.join(server.addresses)}"]
    async with server.services.pool.acquire() as conn:
        if not await any_account(conn):
            lines.append(f"There is no account yet. Make the first, an administrator: {first_account}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def running_server(config: Config) -> AsyncIterator[Server]:
    """A server that serves from entry to exit. Must be entered on the main thread if its database is embedded.

    :raises EmbeddedError, MigrationError, DatabaseInUse, ConfigError, OSError: if it can't start; nothing is left
    """
    async with AsyncExitStack() as stack:
        failed = asyncio.Event()
        appservices = load_appservices(config.application_services, config.server_name)
        url = await stack.enter_async_context(_database(config, failed))
        await _prepare(url)
        await stack.enter_async_context(_claimed(url, failed))
        changes = Changes()
        # For names alone, so that a transaction that waits for a name never waits for a connection that others hold.
        names_pool = await stack.enter_async_context(_pool(url, 4))
        pool = await stack.enter_async_context(_pool(url, config.database.pool_size))
        stream = await open_stream(pool, lambda rooms, users: changes.publish(rooms=rooms, users=users))
        services = await stack.enter_async_context(build_services(config, stream, changes, Names(names_pool)))
        activity = DeviceActivity(pool)
        stack.push_async_callback(activity.write)
        await stack.enter_async_context(_background(activity.run))
        await stack.enter_async_context(_background(partial(expire_sessions_now_and_then, pool)))
        await stack.enter_async_context(_background(partial(expire_sign_ins_now_and_then, pool)))
        await stack.enter_async_context(_background(services.login_attempts.sweep_now_and_then))
        await stack.enter_async_context(_background(partial(expire_web_sessions_now_and_then, pool, config.web)))
        await stack.enter_async_context(_presence(services))
        await stack.enter_async_context(_background(services.delayed_events.run))
        await stack.enter_async_context(_background(services.guest_access.run))
        await stack.enter_async_context(_background(services.jobs.run))
        await stack.enter_async_context(_background(services.mail.run))
        await stack.enter_async_context(_background(services.media.run))
        await stack.enter_async_context(_background(PushSender(services).run))
        await _make_senders(pool, appservices)
        federation = await stack.enter_async_context(_federation(services))
        http = _http_server(services, appservices, activity)
        addresses = await stack.enter_async_context(_listening(http, config.listeners, federation))
        yield Server(config, services, federation, http, url, addresses, failed)


@asynccontextmanager
async def build_services(config: Config, stream: Stream, changes: Changes, names: Names) -> AsyncIterator[Services]:
    """Every long-lived object that speakers are given."""
    signing_key = load_or_create_signing_key(config.signing_key_file)
    secrets = load_or_create_secrets(config.data_dir)
    if config.oauth2.jwt_access_tokens:
        load_or_create_token_key(config.data_dir)
    timeline = Timeline(
        stream=stream,
        names=names,
        snapshots=StateSnapshots(),
        server_name=config.server_name,
        signing_key=signing_key,
    )
    async with (
        _outbound(config) as outbound,
        _remote(config, signing_key, stream.pool, outbound) as remote,
        opened_media(config, stream.pool, remote, outbound) as media,
    ):
        receiver = Receiver(timeline, remote)
        membership = Membership(timeline, receiver, RemoteJoins(timeline, receiver))
        typing = TypingUsers(changes)
        rate_limits = RateLimits(config.rate_limits)
        delays = DelayLimits(config.delayed_events.max_delay_seconds * 1000, config.delayed_events.max_scheduled)
        yield Services(
            config=config,
            signing_key=signing_key,
            secrets=secrets,
            pool=stream.pool,
            stream=stream,
            changes=changes,
            timeline=timeline,
            receiver=receiver,
            backfiller=Backfiller(receiver),
            membership=membership,
            guest_access=GuestAccess(membership),
            third_party_invites=ThirdPartyInvites(
                membership, IdentityServers(outbound, config.identity_servers.trusted)
            ),
            spaces=SpaceHierarchy(timeline, remote),
            typing=typing,
            presence=Presence(typing, enabled=config.presence.enabled),
            delayed_events=DelayedEvents(membership, delays, partial(rate_limits.use, "message")),
            receipts=Receipts(stream, names),
            sent_members=SentMembers(),
            jobs=Jobs(Tools(membership), {**JOB_KINDS, **ADMIN_JOB_KINDS}),
            remote=remote,
            rate_limits=rate_limits,
            login_attempts=LoginAttempts(stream.pool, config.rate_limits),
            uia=make_sessions(stream.pool, secrets.token),
            outbound=outbound,
            single_sign_on={one.id: OidcProvider(one, outbound) for one in config.single_sign_on.providers},
            mail=_mail_sender(config, stream.pool, outbound),
            media=media,
        )


@asynccontextmanager
async def _presence(services: Services) -> AsyncIterator[None]:
    """What presence does in the background."""
    upkeep = PresenceUpkeep(services.presence, services.pool, services.changes, services.server_name)
    await upkeep.restore()
    async with _background(upkeep.run), _background(upkeep.write_now_and_then):
        try:
            yield
        finally:
            services.presence.close()
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await upkeep.write()


@asynccontextmanager
async def _outbound(config: Config) -> AsyncIterator[OutboundClient]:
    """What asks anything outside."""
    settings = config.federation
    try:
        outbound = OutboundClient(
            deny=settings.deny_addresses,
            allow=settings.allow_addresses,
            ca_file=str(settings.ca_file) if settings.ca_file is not None else None,
        )
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"federation.ca_file: {settings.ca_file} can't be used: {error}") from None
    try:
        yield outbound
    finally:
        await outbound.close()


def _mail_sender(config: Config, pool: Pool, outbound: OutboundClient) -> MailSender:
    try:
        return MailSender(pool, config, outbound)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"email.ca_file: {config.email.ca_file} can't be used: {error}") from None


@asynccontextmanager
async def _remote(
    config: Config, signing_key: SigningKey, pool: Pool, outbound: OutboundClient
) -> AsyncIterator[FederationClient]:
    """Other servers; each request to them is refused if federation is off."""
    settings = config.federation
    transport = Transport(
        outbound,
        Discovery(outbound),
        timeout=settings.timeout_seconds,
        may_talk_with=settings.may_talk_with if settings.enabled else lambda _: False,
    )
    keys = KeyStore(pool)
    old_keys = {old.key_id: parse_verify_key(old.public_key) for old in config.old_signing_keys}
    key_ring = KeyRing(
        transport,
        own_name=config.server_name,
        own_keys=old_keys | {signing_key.key_id: signing_key.verify_key},
        load_keys=keys.load,
        store_keys=keys.store,
        trusted_key_servers=settings.trusted_key_servers,
    )
    yield FederationClient(transport, key_ring, origin=config.server_name, signing_key=signing_key)


@asynccontextmanager
async def _federation(services: Services) -> AsyncIterator[Federation]:
    """What answers other servers, and the senders of what they must know."""
    remote = services.remote
    assert isinstance(remote, FederationClient)
    outbox = Outbox(services.stream, remote, server_name=services.server_name)
    transactions = Transactions()
    edus = OutboundEdus(services, outbox)
    async with AsyncExitStack() as stack:
        if services.config.federation.enabled:
            services.changes.add_listener(outbox.wake)
            edus.listen()
            await stack.enter_async_context(_background(outbox.run))
        stack.push_async_callback(edus.close)
        stack.push_async_callback(transactions.close)
        yield Federation(services, remote.key_ring, outbox, transactions)


def _http_server(services: Services, appservices: Appservices, activity: DeviceActivity) -> HttpServer:
    config = services.config
    authenticator = Authenticator(
        services.pool, appservices, activity, query_access_tokens=config.auth.query_access_tokens
    )
    return HttpServer(services, authenticator, services.rate_limits, appservices, max_body=config.limits.request_bytes)


@asynccontextmanager
async def _database(config: Config, failed: asyncio.Event) -> AsyncIterator[str]:
    """The address of the database. An embedded one runs meanwhile and is started again if it ends by itself."""
    if config.database.url is not None:
        yield config.database.url.get_secret_value()
        return
    database = EmbeddedPostgres(config.data_dir, config.embedded.binaries)
    url = await database.start()

    async def keep_up() -> None:
        while True:
            log.error("The database has ended by itself (status %d) and is started again", await database.wait())
            await database.stop()
            try:
                if await database.start() != url:
                    raise EmbeddedError("it has another address now")
            except EmbeddedError as error:
                log.critical("The database can't be started again: %s", error)
                failed.set()
                return

    try:
        async with _background(keep_up):
            yield url
    finally:
        await database.stop()


async def _prepare(url: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        await migrate(conn)
    finally:
        await conn.close()


@asynccontextmanager
async def _claimed(url: str, failed: asyncio.Event) -> AsyncIterator[None]:
    """Holds the lock that says that this process writes to the database. Takes it again should the connection break.

    :raises DatabaseInUse: if another process has it
    """
    conn = await asyncpg.connect(url)
    await lock_database(conn)

    async def hold() -> None:
        nonlocal conn
        while True:
            broken = asyncio.Event()
            conn.add_termination_listener(lambda _, broken=broken: broken.set())
            if not conn.is_closed():
                await broken.wait()
            log.warning("The connection to the database broke")
            while conn.is_closed():
                await asyncio.sleep(0.2)
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    conn = await asyncpg.connect(url)
            try:
                await lock_database(conn)
            except DatabaseInUse as error:
                log.critical("%s", error)
                failed.set()
                return

    try:
        async with _background(hold):
            yield
    finally:
        await conn.close()


async def _make_senders(pool: Pool, appservices: Appservices) -> None:
    """Makes the users that application services act as by themselves, where they are new."""
    async with pool.acquire() as conn:
        for appservice in appservices.all:
            if await find_account(conn, appservice.sender) is None:
                await create_account(
                    conn,
                    server_name=domain_of(appservice.sender),
                    localpart=localpart_of(appservice.sender),
                    password_hash=None,
                    appservice_id=appservice.id,
                )


@asynccontextmanager
async def _pool(url: str, size: int) -> AsyncIterator[Pool]:
    pool = await create_pool(url, size)
    try:
        yield pool
    finally:
        # Whatever still runs has been cancelled; a database that does not answer must neither keep us nor fail us.
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(_STOP_SECONDS):
                await pool.close()
        pool.terminate()


@asynccontextmanager
async def _background(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs `work` meanwhile. It handles its own errors: one that escapes is logged, and the work has ended."""
    task = asyncio.create_task(work())
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("Background work has ended: %s", task.get_coro(), exc_info=error)


@asynccontextmanager
async def _listening(
    http: HttpServer, listeners: Sequence[ListenerConfig], federation: Federation
) -> AsyncIterator[tuple[str, ...]]:
    """Serves on all listeners meanwhile; gives their addresses."""
    runners: list[web.ServerRunner] = []
    try:
        addresses = []
        for listener in listeners:
            server = http.listener(_served_routes(listener.serves, federation), listener.trusted_proxies)
            runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
            runners.append(runner)
            await runner.setup()
            addresses.append(await _bind(runner, listener))
        yield tuple(addresses)
    finally:
        http.stop_waiting()
        await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _bind(runner: web.ServerRunner, listener: ListenerConfig) -> str:
    tls = None
    if listener.tls is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(listener.tls.certificate, listener.tls.private_key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"listeners: tls: {listener.tls.certificate} can't be used: {error}") from None
    if listener.unix_socket is not None:
        await web.UnixSite(runner, listener.unix_socket, ssl_context=tls).start()
        listener.unix_socket.chmod(0o660)
        return f"unix:{listener.unix_socket}"
    try:
        await web.TCPSite(runner, listener.bind, listener.port, ssl_context=tls).start()
    except OSError as error:
        place = f"{listener.bind} port {listener.port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"{place} is in use: stop what uses it, or set another port at `listeners`") from None
        raise ConfigError(f"listeners: {place} can't be used: {error.strerror}") from None
    host, port = runner.addresses[0][:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _served_routes(serves: Collection[str], federation: Federation) -> list[Route]:
    parts = {
        "federation": federation_routes(federation),
        "client": [*CLIENT_ROUTES, *WEB_ROUTES],
        "admin": [*ADMIN_ROUTES, *ADMIN_API_ROUTES, *administration_routes(federation)],
        "metrics": [Route("GET", "/metrics", get_metrics, Auth.NONE)],
    }
    always = [Route("GET", "/health", get_health, Auth.NONE), Route("GET", "/ready", get_ready, Auth.NONE)]
    return [*always, *(route for name, routes in parts.items() if name in serves for route in routes)]


def all_routes() -> list[tuple[str, str]]:
    """Method and path of everything that a listener which serves all parts answers."""
    routes = _served_routes(("client", "federation", "admin", "metrics"), cast(Federation, None))
    return sorted({(route.method, route.path) for route in routes}, key=lambda one: (one[1], one[0]))


async def get_health(services: Services, request: ApiRequest) -> JsonObject:
    """The process is up."""
    return {"status": "ok"}


async def get_ready(services: Services, request: ApiRequest) -> JsonObject:
    """The database answers; until it does, a load balancer should send requests elsewhere."""
    try:
        async with asyncio.timeout(5):
            await services.pool.fetchval("SELECT 1")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        raise MatrixError("The database does not answer", status=503) from None
    return {"status": "ok"}


async def get_metrics(services: Services, request: ApiRequest) -> web.Response:
    """The metrics, for Prometheus."""
    return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})
