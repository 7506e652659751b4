"""The most probable path of states of each sequence, all sequences together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.hmm.packed import Packed


def viterbi(packed: Packed, log_emission: np.ndarray, startprob: np.ndarray, transmat: np.ndarray) -> np.ndarray:
    """States of one model, an array of shape (n_positions,), int8; of equally probable paths that of lower states.

    ``log_emission`` has shape (n_states, n_positions).
    """
    with np.errstate(divide="ignore"):
        log_start, log_transition = np.log(startprob), np.log(transmat)
    enter = _entries(packed, log_emission, log_start, log_transition)
    before, last = _choices(packed, log_emission, enter, log_transition)
    return _traced(packed, before, last, log_transition)


class Move(NamedTuple):
    """Transitions that are possible."""

    source: int
    to: slice
    """States that may follow."""
    is_first: bool
    """Whether no earlier move leads to them."""


def _moves(log_transition: np.ndarray) -> list[Move]:
    """All transitions that are possible, those from one state together where all are."""
    n = len(log_transition)
    if (log_transition > -np.inf).all():
        return [Move(source, slice(0, n), source == 0) for source in range(n)]
    found = []
    for state in range(n):
        sources = np.flatnonzero(log_transition[:, state] > -np.inf).tolist() or [0]
        found += [Move(source, slice(state, state + 1), source == sources[0]) for source in sources]
    return found


def _best(score: np.ndarray, log_transition: np.ndarray, moves: list[Move]) -> tuple[np.ndarray, np.ndarray]:
    """Largest score of a path into each state, and the state before; ``score`` has shape (n_states, n_lanes)."""
    best, before, other = np.empty_like(score), np.empty(score.shape, np.int8), np.empty_like(score)
    for source, to, is_first in moves:
        here = best[to] if is_first else other[to]
        np.add(score[source], log_transition[source, to, None], out=here)
        if is_first:
            before[to] = source
        else:
            np.copyto(before[to], source, where=here > best[to])
            np.maximum(best[to], here, out=best[to])
    return best, before


def _entries(packed: Packed, log_emission, log_start, log_transition) -> np.ndarray:
    """Score of the best path that enters each lane, before its first emission: (n_states, n_lanes)."""
    enter = np.repeat(log_start[:, None], packed.n_lanes, axis=1)
    if not packed.chains:
        return enter
    through = _products(packed, log_emission, log_transition)
    for lanes, following in zip(packed.chains, packed.chains[1:], strict=False):
        here = lanes[: len(following)]
        score = (enter[:, None, here] + through[:, :, here]).max(axis=0)
        best = (score[:, None] + log_transition[:, :, None]).max(axis=0)
        enter[:, following] = best - best.max(axis=0)
    return enter


def _products(packed: Packed, log_emission, log_transition) -> np.ndarray:
    """Best score from the state at the first to that at the last position of each lane, emissions included."""
    n_states, n, moves = len(log_transition), packed.n_lanes, _moves(log_transition)
    score = np.full((n_states, n_states, n), -np.inf)
    score[range(n_states), range(n_states)] = log_emission[:, :n]
    best, other, done = (np.empty_like(score) for _ in range(3))
    for start, stop in packed.steps()[1:]:
        done[..., stop - start : n] = score[..., stop - start : n]
        n = stop - start
        for source, to, is_first in moves:
            into = best[:, to, :n]
            here = into if is_first else other[:, to, :n]
            np.add(score[:, source, None, :n], log_transition[source, to, None], out=here)
            if not is_first:
                np.maximum(into, here, out=into)
        best[..., :n] += log_emission[:, start:stop]
        score, best = best, score
    done[..., :n] = score[..., :n]
    return done


def _choices(packed: Packed, log_emission, enter, log_transition) -> tuple[np.ndarray, np.ndarray]:
    """The best state before each position for each state there, and scores where lanes end."""
    n_states, n, moves = len(log_transition), packed.n_lanes, _moves(log_transition)
    before = np.zeros(log_emission.shape, np.int8)
    last = np.empty((n_states, n))
    score = enter + log_emission[:, :n]
    for start, stop in packed.steps()[1:]:
        last[:, stop - start : n] = score[:, stop - start : n]
        n = stop - start
        score, before[:, start:stop] = _best(score[:, :n], log_transition, moves)
        score += log_emission[:, start:stop]
    last[:, :n] = score[:, :n]
    return before, last


def _traced(packed: Packed, before: np.ndarray, last: np.ndarray, log_transition: np.ndarray) -> np.ndarray:
    """Back from the best last state of each sequence."""
    end = last.argmax(axis=0)
    if packed.chains:
        origin = _origins(packed, before)
        for lanes, following in reversed(list(zip(packed.chains, packed.chains[1:], strict=False))):
            here = lanes[: len(following)]
            begin = origin[end[following], following]
            end[here] = (last[:, here] + log_transition[:, begin]).argmax(axis=0)
    states = np.empty(before.shape[1], np.int8)
    steps, n, state = packed.steps(), 0, end[:0]
    for t in range(len(steps) - 1, -1, -1):
        start, stop = steps[t]
        state = np.append(state, end[n : stop - start])
        n = stop - start
        states[start:stop] = state
        state = before[state, np.arange(start, stop)]
    return states


def _origins(packed: Packed, before: np.ndarray) -> np.ndarray:
    """State at the first position of each lane for each state at its last: (n_states, n_lanes)."""
    n_states, n = len(before), 0
    state = np.empty((n_states, 0), np.int64)
    steps = packed.steps()
    for start, stop in reversed(steps):
        begins = np.repeat(np.arange(n_states)[:, None], stop - start - n, axis=1)
        state = np.concatenate([state, begins], axis=1)
        n = stop - start
        if start:
            state = np.take_along_axis(before[:, start:stop], state, axis=0).astype(np.int64)
    return state
