"""Unconflicted state map, conflicted state set, auth difference, conflicted state subgraph."""

from __future__ import annotations

from collections import ChainMap

from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.events import StateKey
from homeserver.protocol.state_resolution import auth_chain, auth_difference, conflicted_subgraph, separate

A, B, C = ("a", ""), ("b", ""), ("c", "")
DEEP = 100_000


def test_what_every_state_has_is_unconflicted() -> None:
    """A pair that is in every state is unconflicted; all other values are conflicted, also where a state lacks one."""
    assert separate([{A: "1", B: "2", C: "4"}, {A: "1", B: "3"}]) == ({A: "1"}, {"2", "3", "4"})
    assert separate([{A: "1"}, {A: "1"}, {}]) == ({}, {"1"})
    assert separate([{A: "1"}]) == ({A: "1"}, set())
    assert separate([]) == ({}, set())


def test_any_mapping_is_a_state() -> None:
    """States need not be dictionaries, and are not changed."""
    state = {A: "1", B: "2"}
    assert separate([ChainMap(state), state, {B: "2"}]) == ({B: "2"}, {"1"})
    assert state == {A: "1", B: "2"}


_states = st.lists(st.dictionaries(st.sampled_from([A, B, C]), st.sampled_from("123")), min_size=1, max_size=4)


@given(_states)
def test_separation_as_it_is_defined(states: list[dict[StateKey, str]]) -> None:
    """For any states, the separation is the one that the definition spells out."""
    pairs = {pair for state in states for pair in state.items()}
    unconflicted = {key: value for key, value in pairs if all(state.get(key) == value for state in states)}
    conflicted = {value for key, value in pairs if unconflicted.get(key) != value}
    assert separate(states) == (unconflicted, conflicted)


def test_auth_difference() -> None:
    """The auth difference is what some auth chains have and not all."""
    assert auth_difference([{"1", "2"}, {"1", "3"}, {"1", "2"}]) == {"2", "3"}
    assert auth_difference([{"1", "2"}]) == set()
    assert auth_difference([]) == set()


_GRAPH = {"e": ["d", "x"], "d": ["c"], "c": ["b", "y"], "b": ["a"], "x": ["b"], "y": ["a"], "z": ["d"]}


def test_auth_chain() -> None:
    """An auth chain is everything that can be reached, an event that is not known having no auth events."""
    assert auth_chain(["c"], _GRAPH) == {"c", "b", "a", "y"}
    assert auth_chain(["unknown"], _GRAPH) == {"unknown"}


def test_the_subgraph_is_every_path_between_conflicted_events() -> None:
    """What lies on a path from one conflicted event to another is in it; what is only above or below is not."""
    assert conflicted_subgraph({"e", "b"}, _GRAPH) == {"e", "d", "c", "x", "b"}
    assert conflicted_subgraph({"d", "b"}, _GRAPH) == {"d", "c", "b"}
    assert conflicted_subgraph({"z", "x", "y"}, _GRAPH) == {"z", "x", "y", "d", "c"}
    assert conflicted_subgraph({"d"}, _GRAPH) == {"d"}
    assert conflicted_subgraph(set(), _GRAPH) == set()


def test_deep_chains_do_not_overflow() -> None:
    """A chain of 100,000 events is walked without recursion."""
    edges = {str(i): [str(i - 1)] for i in range(1, DEEP)}
    assert len(auth_chain([str(DEEP - 1)], edges)) == DEEP
    assert len(conflicted_subgraph({"10", str(DEEP - 1)}, edges)) == DEEP - 10


def test_forged_circles_end() -> None:
    """Auth events that go round in a circle, as events with chosen ids can, are walked once."""
    circle = {"a": ["b"], "b": ["c"], "c": ["a"]}
    assert auth_chain(["a"], circle) == conflicted_subgraph({"a"}, circle) == {"a", "b", "c"}
