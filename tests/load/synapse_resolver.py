"""Resolves two room states with Synapse, for comparison. Runs in a Python that has Synapse, not in ours.

Reads the case that bench_state_resolution.py wrote to the file named on the command line, and prints a JSON object: the
best CPU time of the rounds in seconds, and the resolved state. All events are in memory and auth differences computed
beforehand, so that, as with ours, only the resolution counts; reading the result out does not.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


class _Store:
    """What Synapse's resolver asks of a database, out of memory."""

    def __init__(self, events: dict[str, Any], difference: Any) -> None:
        self.events, self.difference = events, difference

    async def get_events(self, event_ids: Any, allow_rejected: bool = False) -> dict[str, Any]:
        return {event_id: self.events[event_id] for event_id in event_ids}

    async def get_auth_chain_difference(self, *_: Any) -> Any:
        return self.difference


class _Clock:
    async def sleep(self, duration: Any) -> None:
        return None


def _load(case: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    version = importlib.import_module("synapse.api.room_versions").KNOWN_ROOM_VERSIONS[case["room_version"]]
    make_event = importlib.import_module("synapse.events").make_event_from_dict
    events = {}
    for event_id, pdu in case["events"].items():
        event = events[event_id] = make_event(pdu, version)
        assert event.event_id == event_id, "the two sides see different events"
    return version, events


def _run(coroutine: Any) -> Any:
    """The result of a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        case = json.load(file)
    version, events = _load(case)
    importlib.import_module("synapse.event_auth")  # the two import each other and bear only this order
    resolver = importlib.import_module("synapse.state.v2")
    store = _Store(
        events,
        resolver.StateDifference(
            auth_difference=set(case["auth_difference"]), conflicted_subgraph=set(case["conflicted_subgraph"])
        ),
    )
    states = [{(type, state_key): event_id for type, state_key, event_id in state} for state in case["states"]]
    best, resolved = float("inf"), {}
    for _ in range(case["rounds"]):
        start = time.process_time()
        resolved = _run(resolver.resolve_events_with_store(_Clock(), case["room_id"], version, states, None, store))
        best = min(best, time.process_time() - start)
    json.dump({"seconds": best, "state": [[*key, event_id] for key, event_id in resolved.items()]}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
