"""Everything an operator can set, typed and checked once, before anything else starts.

    base.py      what every section shares: strictness, secrets from files, paths, address ranges
    sections.py  the sections, one frozen model each; their descriptions are the operator's documentation
    registration.py  … those of new accounts and passwords
    oauth2.py    … those of sessions and of the OAuth 2.0 API
    email.py     a section or a few in a file of their own
    load.py      file + environment -> Config, or one line that says what is wrong where
    describe.py  the models -> config.yaml.example

No key is required: the defaults make a server that runs on this machine alone. The models know nothing of the rest of
the server, so that every layer may read them. `python -m homeserver.config` prints config.yaml.example.
"""

from homeserver.config.base import ConfigError
from homeserver.config.describe import describe
from homeserver.config.email import EmailConfig, PhoneConfig
from homeserver.config.load import load_config
from homeserver.config.media import MediaConfig
from homeserver.config.oauth2 import OAuth2ClientConfig, OAuth2Config, SessionsConfig
from homeserver.config.registration import PasswordsConfig, RegistrationConfig
from homeserver.config.sections import (
    AuthConfig,
    Config,
    DatabaseConfig,
    EmbeddedConfig,
    FederationConfig,
    LimitsConfig,
    ListenerConfig,
    LoggingConfig,
    OldSigningKey,
    PresenceConfig,
    RateLimit,
    RateLimitsConfig,
    RoomsConfig,
    TlsConfig,
)
from homeserver.config.two_factor import TwoFactorConfig

__all__ = [
    "AuthConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "EmailConfig",
    "EmbeddedConfig",
    "FederationConfig",
    "LimitsConfig",
    "ListenerConfig",
    "LoggingConfig",
    "MediaConfig",
    "OAuth2ClientConfig",
    "OAuth2Config",
    "OldSigningKey",
    "PasswordsConfig",
    "PhoneConfig",
    "PresenceConfig",
    "RateLimit",
    "RateLimitsConfig",
    "RegistrationConfig",
    "RoomsConfig",
    "SessionsConfig",
    "TlsConfig",
    "TwoFactorConfig",
    "describe",
    "load_config",
]
