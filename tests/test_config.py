"""The configuration: what it can say, and what it says when it can't be used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from homeserver.config import Config, ConfigError, RateLimit, describe, load_config

ROOT = Path(__file__).parents[1]


def _load(directory: Path, text: str, **env: str) -> Config:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, {f"TALKPAI_{key}": value for key, value in env.items()})


def _refusal(directory: Path, text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(directory, text, **env)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{directory}/", "")


def test_nothing_needs_to_be_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without file and environment there is a server for this machine alone, its data below the working directory."""
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {})
    assert config.server_name == "localhost"
    assert [(one.bind, one.port, one.tls) for one in config.listeners] == [("127.0.0.1", 8008, None)]
    assert config.listeners[0].serves == ("client", "federation", "admin", "metrics")
    assert config.data_dir == tmp_path / "data"
    assert config.media_dir == tmp_path / "data" / "media"
    assert config.signing_key_file == tmp_path / "data" / "signing.key"
    assert config.database.url is None
    assert config.registration.mode == "off"
    assert config.rooms.default_version == "12"


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    """A relative path means the same wherever the server is started from."""
    config = _load(tmp_path, "data_dir: files\napplication_services: [bridge.yaml, /etc/bot.yaml]")
    assert config.data_dir == tmp_path / "files"
    assert config.media_dir == tmp_path / "files" / "media"
    assert config.application_services == (tmp_path / "bridge.yaml", Path("/etc/bot.yaml"))


def test_an_empty_file_and_empty_sections_mean_the_defaults(tmp_path: Path) -> None:
    """A file or section in which everything is commented out changes nothing."""
    assert _load(tmp_path, "") == _load(tmp_path, "federation:\nrate_limits:\n")


def test_a_configuration_can_not_be_changed() -> None:
    """The configuration of a running server is frozen."""
    with pytest.raises(ValidationError):
        setattr(load_config(None, {}), "server_name", "example.org")  # noqa: B010


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """TALKPAI_SECTION__KEY wins over the file; lists are JSON; a variable that is set to nothing does not count."""
    config = _load(
        tmp_path,
        "server_name: example.org\ndatabase: {pool_size: 5}",
        SERVER_NAME="example.com",
        DATABASE__POOL_SIZE="7",
        LISTENERS='[{"bind": "::", "port": 8448, "serves": ["federation"]}]',
        FEDERATION__ENABLED="false",
        REGISTRATION__MODE="off",
        RATE_LIMITS__LOGIN="off",
        DATA_DIR="",
        CONFIG="the file",
    )
    assert config.server_name == "example.com"
    assert config.database.pool_size == 7
    assert (config.listeners[0].bind, config.listeners[0].serves) == ("::", ("federation",))
    assert not config.federation.enabled
    assert config.rate_limits.login is None
    assert config.data_dir == tmp_path / "data"


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """Any secret `foo` may be given as `foo_file`; it is stripped, and a list has one a line."""
    (tmp_path / "url").write_text("postgresql://talkpai:hidden@db/talkpai\n")
    (tmp_path / "tokens").write_text("# for the team\nfirst\n\n second \n")
    config = _load(
        tmp_path, f"database: {{url_file: url}}\nregistration: {{mode: token, tokens_file: {tmp_path}/tokens}}"
    )
    assert config.database.url is not None
    assert config.database.url.get_secret_value() == "postgresql://talkpai:hidden@db/talkpai"
    assert [one.get_secret_value() for one in config.registration.tokens] == ["first", "second"]


def test_a_secret_in_the_environment_replaces_a_secret_file(tmp_path: Path) -> None:
    """An override counts whichever way the file gave the secret."""
    config = _load(tmp_path, "database: {url_file: not-there}", DATABASE__URL="postgresql://db/talkpai")
    assert config.database.url is not None
    (tmp_path / "secret").write_text("correct horse")
    config = _load(
        tmp_path, "registration: {shared_secret: from the file}", REGISTRATION__SHARED_SECRET_FILE=f"{tmp_path}/secret"
    )
    assert config.registration.shared_secret is not None
    assert config.registration.shared_secret.get_secret_value() == "correct horse"


def test_secrets_do_not_show(tmp_path: Path) -> None:
    """Neither the representation of a configuration nor an error message repeats a secret."""
    text = "database: {url: 'postgresql://u:hidden@db/x'}\nregistration: {shared_secret: 'hidden secret'}"
    assert "hidden" not in repr(_load(tmp_path, text))
    assert "hidden" not in _refusal(tmp_path, "database: {url: 'mysql://u:hidden@db/x'}")
    assert "hidden" not in _refusal(tmp_path, "registration: {tokens: [good, 'hidden one']}")


def test_limits_can_be_switched_off_each_or_all_at_once(tmp_path: Path) -> None:
    """Each rate limit takes a number or `off`, and `enabled` switches all of them."""
    config = _load(tmp_path, "rate_limits: {enabled: false, message: off, join: {per_second: 0.5, burst: 3}}")
    assert not config.rate_limits.enabled
    assert config.rate_limits.message is None
    assert config.rate_limits.join == RateLimit(per_second=0.5, burst=3)


def test_domain_lists(tmp_path: Path) -> None:
    """A server is talked with unless it is denied, or there is a list of allowed ones without it; case is ignored."""
    everyone = _load(tmp_path, "federation: {deny_domains: [Evil.example]}").federation
    assert everyone.may_talk_with("example.org")
    assert not everyone.may_talk_with("EVIL.example")
    friends = _load(tmp_path, "federation: {allow_domains: [a.example, 'b.example:8448']}").federation
    assert friends.may_talk_with("b.example:8448")
    assert not friends.may_talk_with("b.example")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server_nam: x", "config.yaml: server_nam: is not a setting; allowed here: server_name, "),
        ("federation: {enable: true}", "config.yaml: federation.enable: is not a setting; allowed here: enabled, "),
        (
            "listeners: [{port: 1}, {port: 70000}]",
            "listeners[1].port: must be a whole number at least 0, at most 65535",
        ),
        ("listeners: [{bind: here, port: 1}]", "listeners[0].bind: must be an IP address"),
        ("listeners: [{bind: '::'}]", "listeners[0]: must have either a port or a unix_socket"),
        ("listeners: [{port: 1, serves: [web]}]", "must be client, federation, admin or metrics, not 'web'"),
        ("listeners: [{port: 1}, {port: 1}]", "listeners: two of them listen at the same place"),
        ("listeners: [{port: 1, tls: {certificate: c}}]", "listeners[0].tls.private_key: is missing"),
        ("listeners: 8008", "listeners: must be a list, not 8008"),
        ("server_name: 'bad name'", "server_name: must be a host name or address"),
        ("server_name: example.org:99999", "server_name: must be a host name or address"),
        ("server_name: null", "server_name: must be text, not null"),
        ("public_baseurl: example.org", "public_baseurl: must be an address such as https://"),
        ("database: nope", "database: must be a section with the keys url, pool_size"),
        ("database: {url_file: nope}", "database.url_file: must be the path of a readable file; nope: No such file"),
        ("database: {url: a, url_file: b}", "database.url_file: give either url or url_file, not both"),
        (
            "database: {pool_size: many}",
            "database.pool_size: must be a whole number at least 2, at most 1000, not 'many'",
        ),
        ("federation: {timeout_seconds: 0}", "federation.timeout_seconds: must be a number above 0"),
        (
            "federation: {allow_addresses: [10.0.0.0/40]}",
            "federation.allow_addresses[0]: must be an address or a range",
        ),
        ("registration: {mode: on}", "registration.mode: must be off, open or token, not true"),
        (
            "rooms: {default_version: 13}",
            "rooms.default_version: must be 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 or 12, not 13",
        ),
        ("rate_limits: {login: {per_second: 1}}", "rate_limits.login.burst: is missing"),
        ("limits: {upload_bytes: lots}", "limits.upload_bytes: must be a number of bytes, or one with a unit"),
        ("auth: {query_access_tokens: maybe}", "auth.query_access_tokens: must be true or false, not 'maybe'"),
        ("logging: {level: loud}", "logging.level: must be debug, info, warning or error, not 'loud'"),
        ("old_signing_keys: [{key_id: 'rsa:1', public_key: a, expired_ts: 1}]", "old_signing_keys[0].key_id: must be"),
        ("data_dir: 1\nserver_name: [x]", "server_name: must be text"),
        ("data_dir: [x]", "data_dir: must be a path"),
        ("a: 1\nb: 2\na: 3", "config.yaml: line 3, column 1: must be YAML: the key a is given twice"),
        ("a: [", "config.yaml: line 1, column 5: must be YAML"),
        ("a: 2024-13-45", "config.yaml: must be YAML"),
        ("x: " + "[" * 5000, "config.yaml: must be YAML"),
        ("- a", "config.yaml: must hold `key: value` lines"),
        ("1: 2", "a key must be a word"),
        ("{[a]: 2}", "a key must be a word"),
        ("\0", "config.yaml: must be YAML"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_key_and_rule(tmp_path: Path, text: str, expected: str) -> None:
    """An unknown key or a bad value stops the start with one line: the file, the key's path, what is allowed."""
    message = _refusal(tmp_path, text)
    assert message.startswith("config.yaml: ")
    assert expected in message


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SERVER_NAM", "x", "TALKPAI_SERVER_NAM: server_nam is not a setting; "),
        ("DATABASE__URI", "x", "TALKPAI_DATABASE__URI: database.uri is not a setting; allowed here: url, pool_size"),
        ("SERVER_NAME__X", "x", "TALKPAI_SERVER_NAME__X: server_name has no settings of its own below it"),
        ("DATABASE__POOL_SIZE", "1", "TALKPAI_DATABASE__POOL_SIZE: database.pool_size: must be a whole number"),
        ("LISTENERS", '[{"port": 70000}]', "TALKPAI_LISTENERS: listeners[0].port: must be a whole number"),
        ("LISTENERS", "[", "TALKPAI_LISTENERS: listeners: line 1, column 2: must be YAML"),
        (
            "REGISTRATION__TOKENS_FILE",
            "/nope",
            "TALKPAI_REGISTRATION__TOKENS_FILE: registration.tokens_file: must be the",
        ),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, variable: str, value: str, expected: str) -> None:
    """What is wrong in the environment names the variable, whatever the file says."""
    assert _refusal(tmp_path, "database: {pool_size: 5}", **{variable: value}).startswith(expected)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A path that was asked for must exist: defaults in its place would be another server."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: can't be read: No such file or directory"):
        load_config(tmp_path / "absent.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.yaml: must be UTF-8 text"):
        load_config(tmp_path / "binary.yaml", {})


def test_the_example_is_current() -> None:
    """config.yaml.example is what the models say now (`python -m homeserver.config > config.yaml.example`)."""
    assert (ROOT / "config.yaml.example").read_text(encoding="utf-8") == describe()


def _examples(section: type[BaseModel]) -> Iterator[str]:
    """The settings of which the description shows an example instead of the default."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _examples(field.annotation)
        elif field.examples:
            yield name


def test_the_example_holds_every_setting_and_its_default(tmp_path: Path) -> None:
    """As it stands the example changes nothing; with every default uncommented it still says the same."""
    defaults = _load(tmp_path, "")
    assert _load(tmp_path, describe()) == defaults
    examples = set(_examples(Config))
    lines, shown = [], False
    for line in describe().splitlines():
        setting = re.match(r"( *)#((\w+):.*)", line)
        item = re.match(r"( *)#((?:- |  )\S.*)", line)  # what the list of the last setting holds
        if setting is not None:
            shown = setting[3] not in examples and not setting[3].endswith("_file")
        found = setting or item
        if shown and found is not None:
            line = found[1] + found[2]
        lines.append(line)
    assert len(yaml.safe_load("\n".join(lines))["rate_limits"]) == len(type(defaults.rate_limits).model_fields)
    assert _load(tmp_path, "\n".join(lines)) == defaults


def test_settings_can_be_put_into_the_description(tmp_path: Path) -> None:
    """What `talk-pai init` is told stands uncommented in the file it writes."""
    text = describe({"server_name": "example.org", "public_baseurl": "https://matrix.example.org"})
    config = _load(tmp_path, text)
    assert (config.server_name, config.public_baseurl) == ("example.org", "https://matrix.example.org")
