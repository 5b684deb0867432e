"""What the states disagree about: the definitions that come before the algorithm.

# spec: rooms/v2#definitions  rooms/v12#definitions
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from homeserver.protocol.events import StateKey


def conflicted_keys(state_sets: Sequence[Mapping[StateKey, str]]) -> set[StateKey]:
    """The keys that not every state has with the same event.

    The comparison is the interpreter's own, of dictionaries: only the entries that differ are ever handled one by one.
    """
    if not state_sets:
        return set()
    first = _as_dict(state_sets[0]).items()
    # A key is conflicted just if some state has it otherwise than the first one does.
    return {key for other in state_sets[1:] for key, _ in first ^ _as_dict(other).items()}


def separate(state_sets: Sequence[Mapping[StateKey, str]]) -> tuple[dict[StateKey, str], set[str]]:
    """The unconflicted state map, and the conflicted state set as event ids.

    # spec: rooms/v2#definitions
    """
    if not state_sets:
        return {}, set()
    keys = conflicted_keys(state_sets)
    unconflicted = dict(state_sets[0])
    for key in keys:
        unconflicted.pop(key, None)
    return unconflicted, {state[key] for state in state_sets for key in keys if key in state}


def _as_dict(state: Mapping[StateKey, str]) -> dict[StateKey, str]:
    return state if isinstance(state, dict) else dict(state)


def auth_chain(event_ids: Iterable[str], auth_edges: Mapping[str, Sequence[str]]) -> set[str]:
    """Those events and all that can be reached from them along `auth_edges` (event id to its auth events' ids).

    With the events themselves, unlike the spec's wording for one event. For an auth difference that is what counts:
    otherwise an event that every state contains would differ as soon as only one state also cites it, and would be
    replayed although nobody disputes it; the servers of the network agree on not doing that.
    # spec: rooms/v2#definitions
    """
    found = set(event_ids)
    waiting = list(found)
    while waiting:
        for event_id in auth_edges.get(waiting.pop(), ()):
            if event_id not in found:
                found.add(event_id)
                waiting.append(event_id)
    return found


def auth_difference(chains: Sequence[Set[str]]) -> set[str]:
    """The events that are not in every one of the states' full auth chains.

    What is known to be in all of them (the chain of the unconflicted events, say) may be left out of all of them.
    :param chains: for each state the `auth_chain` of all its events
    # spec: rooms/v2#definitions
    """
    if not chains:
        return set()
    return set().union(*chains).difference(set(chains[0]).intersection(*chains[1:]))


def conflicted_subgraph(conflicted: Set[str], auth_edges: Mapping[str, Sequence[str]]) -> set[str]:
    """The conflicted events and every event on a path along `auth_edges` from one of them to another.

    :param auth_edges: event id to its auth events' ids; an event that it lacks is taken to have none. What lies beyond
        the oldest conflicted events need not be in it
    # spec: rooms/v12#definitions
    """
    cited_by: dict[str, list[str]] = {}
    found = set(conflicted)
    waiting = list(found)
    while waiting:
        citing = waiting.pop()
        for cited in auth_edges.get(citing, ()):
            cited_by.setdefault(cited, []).append(citing)
            if cited not in found:
                found.add(cited)
                waiting.append(cited)
    # `cited_by` leads only through events below a conflicted one: going up it from the conflicted ones stays on paths.
    return auth_chain(conflicted, cited_by)
