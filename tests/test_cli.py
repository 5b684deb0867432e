"""The talk-pai command: zero questions, plain answers, and the same whether the server runs or not."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeserver.cli import main
from homeserver.config import load_config
from homeserver.secrets import load_signing_key

ROOT = Path(__file__).parents[1]
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TALKPAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory with a configuration and a database in which Alice has an account; made once."""
    with tempfile.TemporaryDirectory(prefix="tp-") as name:
        (Path(name) / "config.yaml").write_text(
            "server_name: example.invalid\npasswords: {bcrypt_cost: 4}\nlisteners: [{port: 0}]\n"
        )
        before, sys.stdin = sys.stdin, io.StringIO(f"{PASSWORD}\n")
        try:
            done = main(["user", "create", "alice", "--admin", "--password-stdin", "--config", f"{name}/config.yaml"])
        finally:
            sys.stdin = before
        assert done == 0
        yield Path(name)


class Terminal(io.StringIO):
    """Standard input with nobody at it, unless a test says otherwise."""


class Command:
    """Runs `talk-pai` in a directory, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, directory: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.chdir(directory)
        self._monkeypatch.setattr(sys, "stdin", Terminal(stdin))
        self._capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as end:  # how argparse ends
            status = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return status, out, err


@pytest.fixture
def talk_pai(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)


def test_every_command_explains_itself(talk_pai: Command, tmp_path: Path) -> None:
    """--help works on each command and says what it does; without a command there is a usage."""
    for words in ([], ["start"], ["init"], ["user"], ["user", "create"], ["config", "check"], ["routes"], ["doctor"]):
        status, out, _ = talk_pai(tmp_path, *words, "--help")
        assert status == 0
        assert out.startswith("usage: talk-pai")
        assert len(out.splitlines()) > 3
    status, _, err = talk_pai(tmp_path)
    assert status == 2
    assert "usage: talk-pai" in err


def test_init_writes_a_commented_configuration_and_the_keys(talk_pai: Command, tmp_path: Path) -> None:
    """The file holds what was given, uncommented; keys are private; nothing else is made."""
    status, out, _ = talk_pai(
        tmp_path, "init", "--server-name", "example.invalid", "--public-baseurl", "https://matrix.example.invalid"
    )
    assert status == 0
    config = load_config(tmp_path / "config.yaml", {})
    assert (config.server_name, config.public_baseurl) == ("example.invalid", "https://matrix.example.invalid")
    assert load_signing_key(config.signing_key_file).key_id in out
    for name in ("signing.key", "secrets.json"):
        assert stat.S_IMODE((config.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "data"]


def test_init_overwrites_nothing(talk_pai: Command, tmp_path: Path) -> None:
    """An existing configuration is left alone, and so is an existing key."""
    assert talk_pai(tmp_path, "init")[0] == 0
    key = (tmp_path / "data" / "signing.key").read_text()
    (tmp_path / "config.yaml").write_text("server_name: mine.example\n")
    status, _, err = talk_pai(tmp_path, "init")
    assert (status, "config.yaml exists already" in err) == (1, True)
    assert (tmp_path / "config.yaml").read_text() == "server_name: mine.example\n"
    assert talk_pai(tmp_path, "init", "--config", "other.yaml")[0] == 0
    assert (tmp_path / "data" / "signing.key").read_text() == key


def test_init_checks_what_it_is_given(talk_pai: Command, tmp_path: Path) -> None:
    """A name that can't be one leaves no file behind."""
    status, _, err = talk_pai(tmp_path, "init", "--server-name", "not a name")
    assert (status, "server_name: must be a host name" in err) == (1, True)
    assert os.listdir(tmp_path) == []


def test_config_check_is_one_line(talk_pai: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said in one line: file or variable, key, rule. Also for what the file refers to."""
    assert talk_pai(tmp_path, "config", "check")[:2] == (
        0,
        "No configuration file: all is well. This is localhost.\n",
    )
    (tmp_path / "config.yaml").write_text("server_nam: x\n")
    status, out, err = talk_pai(tmp_path, "config", "check")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("talk-pai: config.yaml: server_nam: is not a setting; allowed here: server_name")
    (tmp_path / "config.yaml").write_text("application_services: [absent.yaml]\n")
    assert "absent.yaml: can't be read" in talk_pai(tmp_path, "config", "check")[2]
    monkeypatch.setenv("TALKPAI_CONFIG", str(tmp_path / "named.yaml"))
    assert "named.yaml: can't be read" in talk_pai(tmp_path, "config", "check")[2]


def test_start_refuses_a_bad_configuration(talk_pai: Command, tmp_path: Path) -> None:
    """The server does not start on a configuration that can't be read."""
    status, _, err = talk_pai(tmp_path, "start", "--config", "absent.yaml")
    assert (status, err) == (1, "talk-pai: absent.yaml: can't be read: No such file or directory\n")
    assert os.listdir(tmp_path) == []


def test_routes_lists_what_is_answered(talk_pai: Command, tmp_path: Path) -> None:
    """Every route, METHOD /path a line, or the same as JSON."""
    status, out, _ = talk_pai(tmp_path, "routes")
    assert status == 0
    assert "GET /_matrix/client/versions" in out.splitlines()
    listed = json.loads(talk_pai(tmp_path, "routes", "--json")[1])
    assert [f"{one['method']} {one['path']}" for one in listed] == out.splitlines()
    assert os.listdir(tmp_path) == []


def test_accounts_are_listed(talk_pai: Command, home: Path) -> None:
    """user list shows each account, who administers, and as JSON everything there is to know but the password."""
    status, out, _ = talk_pai(home, "user", "list")
    assert status == 0
    assert out.splitlines()[0] == "@alice:example.invalid  admin"
    first = json.loads(talk_pai(home, "user", "list", "--json")[1])[0]
    assert (first["user_id"], first["admin"], first["deactivated"]) == ("@alice:example.invalid", True, False)
    assert not any("password" in key for key in first)


@pytest.mark.parametrize(
    ("name", "password", "complaint"),
    [
        ("alice", PASSWORD, "This user name is taken"),
        ("Bob Smith", PASSWORD, "A user name consists of"),
        ("@bob:elsewhere.org", PASSWORD, "@bob:elsewhere.org does not live here: this server is example.invalid"),
        ("bob", "short", "at least 8 characters"),
        ("bob", "x" * 80, "at most 72 bytes"),
        ("bob", "", "at least 8 characters"),
    ],
)
def test_an_account_that_can_not_be_made_is_explained(
    talk_pai: Command, home: Path, name: str, password: str, complaint: str
) -> None:
    """What is wrong with name or password is one line, and no account is made."""
    status, out, err = talk_pai(home, "user", "create", name, "--password-stdin", stdin=f"{password}\n")
    assert (status, out) == (1, "")
    assert complaint in err.splitlines()[-1]
    assert "bob" not in talk_pai(home, "user", "list")[1]


def test_passwords_are_asked_for_twice(talk_pai: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the password is typed twice without showing; without one it has to come from --password-stdin."""
    status, _, err = talk_pai(home, "user", "create", "bob")
    assert (status, "--password-stdin" in err) == (1, True)
    monkeypatch.setattr(Terminal, "isatty", lambda _: True)
    answers = iter([PASSWORD, "something else"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    status, _, err = talk_pai(home, "user", "create", "bob")
    assert (status, err) == (1, "talk-pai: The two passwords are not the same.\n")


def test_an_account_from_beginning_to_end(talk_pai: Command, home: Path) -> None:
    """Made, given another password, deactivated after a confirmation, and then neither is possible again."""
    name = "@carol:example.invalid"
    assert talk_pai(home, "user", "create", "carol", "--password-stdin", stdin=PASSWORD)[:2] == (
        0,
        f"{name} has an account.\n",
    )
    changed = talk_pai(home, "user", "set-password", name, "--password-stdin", stdin="another one\n")
    assert changed[:2] == (0, f"{name} has a new password.\n")
    refused = talk_pai(home, "user", "deactivate", "carol")
    assert (refused[0], "--yes" in refused[2]) == (1, True)
    assert talk_pai(home, "user", "deactivate", "carol", "--yes")[:2] == (0, f"{name} is deactivated.\n")
    assert f"{name}  deactivated" in talk_pai(home, "user", "list")[1]
    for again in (("deactivate", "carol", "--yes"), ("set-password", "carol", "--password-stdin")):
        status, _, err = talk_pai(home, "user", *again, stdin="another one\n")
        assert (status, "There is no such account" in err) == (1, True)


def test_commands_make_no_database_by_accident(talk_pai: Command, tmp_path: Path) -> None:
    """In a directory without a database only `user create` makes one; the others say where they looked."""
    for words in (["list"], ["deactivate", "alice", "--yes"], ["set-password", "alice", "--password-stdin"]):
        status, _, err = talk_pai(tmp_path, "user", *words, stdin=PASSWORD)
        assert (status, f"no database in {tmp_path}/data" in err) == (1, True)
    assert os.listdir(tmp_path) == []


def test_accounts_can_be_made_while_the_server_runs(talk_pai: Command, home: Path) -> None:
    """A command joins the database of the running server; a second server is refused; SIGTERM stops cleanly."""
    start = [sys.executable, "-m", "homeserver.cli", "start", "--config", str(home / "config.yaml")]
    with subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert "example.invalid" in server.stdout.readline()
        assert talk_pai(home, "user", "create", "dave", "--password-stdin", stdin=PASSWORD)[0] == 0
        assert "@dave:example.invalid" in talk_pai(home, "user", "list")[1]
        second = subprocess.run(start, cwd=ROOT, capture_output=True, text=True)
        assert (second.returncode, "Another Talk pAI server is running" in second.stderr) == (1, True)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "@dave:example.invalid" in talk_pai(home, "user", "list")[1]


def test_doctor_ends_with_what_is_to_be_done(talk_pai: Command, home: Path, tmp_path: Path) -> None:
    """All is well: status 0. Something is broken: status 1. A configuration that can't be read is a finding too."""
    status, out, _ = talk_pai(home, "doctor")
    assert status == 1  # example.invalid does not lead to this machine
    assert "fail  delegation: " in out
    assert "ok    database: embedded, PostgreSQL" in out
    assert talk_pai(tmp_path, "doctor")[:2][0] == 0
    (tmp_path / "config.yaml").write_text("server_nam: x\n")
    status, out, _ = talk_pai(tmp_path, "doctor")
    assert (status, out.startswith("fail  configuration: config.yaml: server_nam")) == (1, True)


def test_accounts_are_administered_and_it_is_recorded(talk_pai: Command, home: Path) -> None:
    """Locking, suspending, rights and signing out work from the command line, each with a row of the audit log."""
    talk_pai(home, "user", "create", "dora", "--password-stdin", stdin=PASSWORD)
    name = "@dora:example.invalid"
    for command, said in (
        (["lock"], f"{name} is locked.\n"),
        (["suspend"], f"{name} is suspended.\n"),
        (["shadow-ban"], f"{name} is shadow-banned.\n"),
        (["set-admin"], f"{name} is an administrator.\n"),
    ):
        assert talk_pai(home, "user", *command, "dora")[:2] == (0, said)
    assert f"{name}  admin, locked, suspended, shadow-banned\n" in talk_pai(home, "user", "list")[1]
    for command, said in (
        (["unlock"], f"{name} is no longer locked.\n"),
        (["unsuspend"], f"{name} is no longer suspended.\n"),
        (["shadow-unban"], f"{name} is no longer shadow-banned.\n"),
        (["set-admin", "--no"], f"{name} is no longer an administrator.\n"),
        (["logout"], f"{name} is signed out everywhere (0 sessions).\n"),
        (["reset-second-factor"], f"{name} had no second factor.\n"),
    ):
        assert talk_pai(home, "user", *command, "dora")[:2] == (0, said)
    entries = json.loads(talk_pai(home, "audit", "list", "--target", name, "--json")[1])
    assert [entry["action"] for entry in reversed(entries)] == [
        *("user.create", "user.lock", "user.suspend", "user.shadow_ban", "user.make_administrator", "user.unlock"),
        *("user.unsuspend", "user.shadow_unban", "user.unmake_administrator", "user.sign_out"),
        "user.reset_second_factor",
    ]
    assert all(entry["actor"].startswith("command line") for entry in entries)
    assert len(talk_pai(home, "audit", "list", "--limit", "2")[1].splitlines()) == 2
    assert talk_pai(home, "user", "lock", "nobody")[0] == 1


def test_registration_tokens_from_the_command_line(talk_pai: Command, home: Path) -> None:
    """A token is made, listed with its limits, and revoked."""
    status, out, err = talk_pai(home, "registration-token", "make", "--uses", "2", "--days", "1")
    token = out.strip()
    assert (status, len(token), "registration.mode" in err) == (0, 16, True)
    assert f"{token}  0 of 2 uses, until " in talk_pai(home, "registration-token", "list")[1]
    assert json.loads(talk_pai(home, "registration-token", "list", "--json")[1])[0]["uses_allowed"] == 2
    assert talk_pai(home, "registration-token", "make", "--token", "with space")[0] == 1
    assert talk_pai(home, "registration-token", "make", "--uses", "0")[0] == 1
    assert talk_pai(home, "registration-token", "revoke", token)[0] == 0
    assert talk_pai(home, "registration-token", "revoke", token)[0] == 1


def test_a_user_is_exported_into_a_file_of_the_operators(talk_pai: Command, home: Path) -> None:
    """The ZIP is readable by its owner alone, a file that exists is left as it is, and no half of one stays."""
    assert talk_pai(home, "user", "export", "nobody", "nobody.zip")[0] == 1
    assert list(home.glob("*nobody.zip*")) == []
    status, out, err = talk_pai(home, "user", "export", "alice", "alice.zip")
    assert (status, "alice.zip" in out, "events.json" in err) == (0, True, True)
    assert stat.S_IMODE((home / "alice.zip").stat().st_mode) == 0o600
    with zipfile.ZipFile(home / "alice.zip") as archive:
        assert json.loads(archive.read("account.json"))[0]["user_id"] == "@alice:example.invalid"
    assert talk_pai(home, "user", "export", "alice", "alice.zip")[0] == 1
