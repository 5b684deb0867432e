"""What it costs to merge two branches of a large room, here and on Synapse.

`python -m tests.load.bench_state_resolution` builds a room of 10,000 members and two branches of it that differ in 100
events: joins, leaves, profile changes, kicks, bans, power levels, join rules and topics. Compared is the CPU time of
`resolve` (best of the rounds) with that of Synapse's resolver on the same case, for room versions 10 and 12, with the
full conflicted set computed and all events in memory. The two results must be equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from homeserver.protocol.events import StateKey
from homeserver.protocol.room_versions import RoomVersion, room_version
from homeserver.protocol.state_resolution import (
    auth_chain,
    auth_difference,
    conflicted_subgraph,
    missing_events,
    resolve,
    separate,
)
from tests.interop.synapse import PYTHON_VARIABLE, synapse_python
from tests.load.report import Report
from tests.protocol.rooms import ALICE, BOB, CHARLIE, Room

MEMBERS = 10_000
DIFFERING = 100
ROUNDS = 30
BOUND = 1 / 5


def _member(number: int) -> str:
    return f"@user{number}:s{number % 100}.example"


def build(version: RoomVersion) -> tuple[Room, Room]:
    """The two branches: fifty state events each on top of the same 10,000 members."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50, CHARLIE: 50})
    for number in range(MEMBERS - 3):
        room.join(_member(number))
    branches = (room, room.fork())
    for side, branch in enumerate(branches):
        before = len(branch.events)
        moderator, other = ((BOB, CHARLIE), (CHARLIE, BOB))[side]
        for number in range(12):
            branch.join(_member(200 + number), content={"displayname": f"name {side}"})
            branch.join(f"@new{side}x{number}:n.example")
            branch.member(_member(400 + 100 * side + number), "leave")
        for number in range(4):
            branch.member(moderator, "leave", _member(200 + number + side))
            branch.member(moderator, "ban", _member(600 + number))
        branch.power_levels(ALICE if side else moderator, kick=40 + side)
        branch.join_rules(moderator, "invite" if side else "public")
        branch.topic(moderator, f"topic {side}")
        branch.member(other, "join", content={"displayname": f"moderator {side}"})
        branch.add("m.room.name", other, {"name": f"name {side}"}, "")
        branch.topic(other, f"another topic {side}")
        assert len(branch.events) - before == DIFFERING // 2
    return branches


def _copied(state: dict[StateKey, str]) -> dict[StateKey, str]:
    pairs = json.loads(json.dumps([[*key, event_id] for key, event_id in state.items()]))
    return {(type, state_key): event_id for type, state_key, event_id in pairs}


def measure_ours(
    report: Report, version: RoomVersion, states: list[dict[StateKey, str]], full: set[str], room: Room
) -> tuple[float, dict[StateKey, str]]:
    """CPU seconds of the best round, and the result. Only what `missing_events` asks for is given."""
    unconflicted, _ = separate(states)
    events: dict[str, Any] = {}
    while missing := missing_events(version, unconflicted, full, events):
        events |= {event_id: room.events[event_id] for event_id in missing}
    best, resolved = float("inf"), {}
    for _ in range(ROUNDS):
        start = time.process_time()
        resolved = resolve(version, states, full, events)
        best = min(best, time.process_time() - start)
    report.note(f"{len(full)} events in the full conflicted set, {len(events)} of {len(room.events)} events loaded")
    return best, resolved


def measure_synapse(python: Path, case: dict[str, Any]) -> tuple[float, dict[StateKey, str]]:
    """The same of Synapse's resolver, run by that interpreter."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(case, file)
        file.flush()
        command = [str(python), __file__.replace("bench_state_resolution", "synapse_resolver"), file.name]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer["seconds"], {(type, state_key): event_id for type, state_key, event_id in answer["state"]}


def compare(report: Report, version: RoomVersion, python: Path) -> None:
    """Measures one room version. Raises AssertionError if the two don't agree."""
    left, right = build(version)
    # As out of a database: no two of the states' strings are the same object, so comparing them takes what it takes.
    states = [_copied(left.ids), _copied(right.ids)]
    edges = {event_id: event.auth_events for event_id, event in left.events.items()}
    _, conflicted = separate(states)
    difference = auth_difference([auth_chain(state.values(), edges) for state in states])
    subgraph = conflicted_subgraph(conflicted, edges) if version.room_id_is_create_hash else set()
    ours, resolved = measure_ours(report, version, states, conflicted | difference | subgraph, left)
    theirs, their_result = measure_synapse(
        python,
        {
            "room_version": version.identifier,
            "room_id": left.room_id,
            "rounds": ROUNDS,
            "events": {event_id: event.json for event_id, event in left.events.items()},
            "states": [[[*key, event_id] for key, event_id in state.items()] for state in states],
            "auth_difference": sorted(difference),
            "conflicted_subgraph": sorted(subgraph),
        },
    )
    if resolved != their_result:
        raise AssertionError(f"room version {version.identifier}: the results differ")
    report.note(f"room version {version.identifier}: ours {ours * 1e3:.2f} ms, Synapse {theirs * 1e3:.2f} ms")
    report.check(f"state resolution, version {version.identifier}, ours / Synapse's", ours / theirs, BOUND)


def main() -> int:
    """Runs the comparison for both algorithms in use; the exit status says whether the bound holds."""
    python = synapse_python()
    if python is None:
        print(f"There is no Synapse: `make bench` installs one, or {PYTHON_VARIABLE} names a Python that has it.")
        return 1
    report = Report()
    for number in ("10", "12"):
        compare(report, room_version(number), python)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
