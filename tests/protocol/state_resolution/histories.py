"""Random histories of a room with several branches, for property tests: every event is allowed where it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from homeserver.protocol.auth_rules import check_auth
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.rooms import ALICE, BOB, CHARLIE, DAVE, VERSIONS, Room

_PEOPLE = [ALICE, BOB, CHARLIE, DAVE]


@dataclass(frozen=True)
class Step:
    """Somebody's attempt to do something on a branch. `ts` comes from few values, so that times often tie."""

    branch: int
    sender: str
    action: str
    target: str
    level: int
    ts: int


steps = st.builds(
    Step,
    branch=st.integers(0, 2),
    sender=st.sampled_from(_PEOPLE),
    action=st.sampled_from(["topic", "join", "leave", "ban", "invite", "power", "demote", "rules", "name"]),
    target=st.sampled_from(_PEOPLE),
    level=st.sampled_from([0, 10, 50, 100]),
    ts=st.integers(5000, 5004),
)
histories = st.tuples(st.sampled_from(VERSIONS), st.lists(steps, max_size=25))


def branches(version: RoomVersion, history: list[Step]) -> list[Room]:
    """The three branches that the history leads to; attempts that the rules refuse have no effect."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50, CHARLIE: 50})
    rooms = [room.fork() for _ in range(3)]
    for step in history:
        _try(rooms[step.branch], step)
    return rooms


def _try(room: Room, step: Step) -> None:
    event = _attempt(room, step)
    try:
        check_auth(event, room.state, create=room.create)
    except AuthRuleError:
        return
    room.put(event)


def _attempt(room: Room, step: Step) -> Event:
    match step.action:
        case "topic" | "name":
            return room.make(f"m.room.{step.action}", step.sender, {"text": step.level}, "", ts=step.ts)
        case "join":
            return room.make("m.room.member", step.sender, {"membership": "join"}, step.sender, ts=step.ts)
        case "leave" | "ban" | "invite":
            return room.make("m.room.member", step.sender, {"membership": step.action}, step.target, ts=step.ts)
        case "rules":
            rule = {"join_rule": "public" if step.level >= 50 else "invite"}
            return room.make("m.room.join_rules", step.sender, rule, "", ts=step.ts)
        case _:
            levels = room.state[("m.room.power_levels", "")].content
            users: dict[str, Any] = levels["users"] | {step.target: step.level}
            if step.action == "demote":
                del users[step.target]
            return room.make("m.room.power_levels", step.sender, levels | {"users": users}, "", ts=step.ts)
