"""Runs the stories of a file in js/stories, each told by clients of matrix-js-sdk, in one process of Node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "js"
STORIES = sorted(path.stem for path in (_DIRECTORY / "stories").glob("*.mjs"))
"""The names of the files."""


async def tell(node: Path, url: str, name: str, log_file: Path) -> dict[str, str | None]:
    """Tells all stories of a file to the server at `url`: rule -> what went wrong, or None.

    What the library logs goes to `log_file`. Raises AssertionError if Node ends before it has told them all.
    """
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            node, "tell.mjs", url, f"stories/{name}.mjs", cwd=_DIRECTORY, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = {line["story"]: line["error"] for line in map(json.loads, output.splitlines())}
    failed = any(error is not None for error in told.values())
    assert told, f"Node told nothing, see {log_file}"
    assert process.returncode == int(failed), f"Node ended with {process.returncode}, see {log_file}"
    return told
