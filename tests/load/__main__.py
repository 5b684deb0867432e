"""Runs benchmarks one after the other, each as a process of its own, and prints all results in one table at the end.

`python -m tests.load` runs all of them, `python -m tests.load send history` those two. Exits with 1 if a bound is
missed or a benchmark fails; the others run all the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.load.report import RESULTS_VARIABLE, Result, table

_PREFIX = "bench_"


def main(arguments: list[str]) -> int:
    """Runs the named benchmarks, or all; the exit status."""
    known = sorted(file.stem for file in Path(__file__).parent.glob(f"{_PREFIX}*.py"))
    names = [_PREFIX + argument.removeprefix(_PREFIX) for argument in arguments] or known
    if unknown := [name for name in names if name not in known]:
        print(f"There is no {', '.join(unknown)}. There are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed: list[str] = []
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as file:
        for number, name in enumerate(names, 1):
            print(f"== {name} ({number} of {len(names)})", flush=True)
            environment = os.environ | {RESULTS_VARIABLE: file.name}
            if subprocess.run([sys.executable, "-m", f"tests.load.{name}"], env=environment, check=False).returncode:
                failed.append(name)
        results = [Result(**json.loads(line)) for line in file]
    print("\n== all", *table(results), sep="\n")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
