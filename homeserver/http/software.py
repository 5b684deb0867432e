"""Which software this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    """The number of the version that runs."""
    try:
        return version("talk-pai")
    except PackageNotFoundError:  # run from a directory into which it was never installed
        return "unknown"
