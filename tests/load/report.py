"""What every benchmark says in one way: figures with their spread, and a table of what was measured beside its bound.

A bound is held against a ratio that hardly depends on the machine, or against a number of bytes. A benchmark measures
what it compares in turn, one round after the other, so that whatever else the machine does disturbs both alike.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS_VARIABLE = "TALKPAI_BENCH_RESULTS"  # a file to which the results are added, for `python -m tests.load`


@dataclass(frozen=True, slots=True)
class Result:
    """Something measured. `bound` is the most that it may be; `spread` says how the rounds differed."""

    what: str
    ours: float
    bound: float
    spread: str = ""

    @property
    def holds(self) -> bool:
        return self.ours <= self.bound


class Report:
    """The results of one benchmark, in the order in which they were found."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def note(self, text: str) -> None:
        """Prints a figure that has no bound, or what a bounded one is made of."""
        print(f"  {text}", flush=True)

    def check(self, what: str, ours: float, bound: float, spread: str = "") -> None:
        """Remembers a figure that has a bound."""
        self.results.append(Result(what, ours, bound, spread))

    def check_ratio(self, what: str, above: Sequence[float], below: Sequence[float], bound: float) -> None:
        """The same of the ratio of two sums, whose terms are from the same rounds."""
        ratio, spread = ratio_and_spread(above, below)
        self.check(what, ratio, bound, spread)

    def finish(self) -> int:
        """Prints the table; the exit status: 1 if a bound is missed or nothing was measured."""
        print("\n".join(table(self.results)), flush=True)
        if file := os.environ.get(RESULTS_VARIABLE):
            with Path(file).open("a") as results:
                results.writelines(json.dumps(asdict(result)) + "\n" for result in self.results)
        return 0 if self.results and all(result.holds for result in self.results) else 1


def table(results: Sequence[Result]) -> list[str]:
    """The lines of the table: what, ours, bound, ok or MISSED, spread."""
    width = max((len(result.what) for result in results), default=4)
    lines = [f"{'what':<{width}}  {'ours':>8}  {'bound':>8}"]
    for result in results:
        verdict = "ok" if result.holds else "MISSED"
        line = f"{result.what:<{width}}  {result.ours:>8.3g}  {result.bound:>8.3g}  {verdict:<6}  {result.spread}"
        lines.append(line.rstrip())
    return lines


def ratio_and_spread(above: Sequence[float], below: Sequence[float]) -> tuple[float, str]:
    """The ratio of two sums, and what it was in single rounds: where the middle half of them lies."""
    rounds = [high / low for high, low in zip(above, below, strict=True) if low]
    low, middle, high = quartiles(rounds)
    return sum(above) / sum(below), f"of {len(rounds)} rounds: median {middle:.3g}, middle half {low:.3g} to {high:.3g}"


def milliseconds(seconds: Iterable[float]) -> str:
    """Median and middle half of durations, in milliseconds."""
    low, middle, high = (value * 1e3 for value in quartiles(list(seconds)))
    return f"{middle:.2f} ms ({low:.2f} to {high:.2f})"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The values below which a quarter, a half and three quarters of the values lie."""
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


class Progress:
    """A line now and then that says how far something long is."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self._started = time.monotonic()
        self._shown = self._started

    def add(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number
        now = time.monotonic()
        if self.done >= self.total:
            print(f"  … {self.what}: {self.done} in {now - self._started:.1f} s", file=sys.stderr, flush=True)
        elif now - self._shown > 5:
            self._shown = now
            print(f"  … {self.what}: {self.done} of {self.total}", file=sys.stderr, flush=True)
