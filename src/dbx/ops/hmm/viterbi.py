"""The most probable path of states of each sequence, all sequences together."""

from __future__ import annotations

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


def _sources(log_transition: np.ndarray) -> list[list[int]]:
    """For each state those that may precede it; all where none may."""
    every = list(range(len(log_transition)))
    return [np.flatnonzero(column > -np.inf).tolist() or every for column in log_transition.T]


def _best(score: np.ndarray, log_transition: np.ndarray, sources: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Largest score of a path into each state, and the state before; ``score`` has shape (n_states, n_lanes)."""
    best, before, other = np.empty_like(score), np.empty(score.shape, np.int8), np.empty_like(score[0])
    for state, (first, *more) in enumerate(sources):
        np.add(score[first], log_transition[first, state], out=best[state])
        before[state] = first
        for source in more:
            np.add(score[source], log_transition[source, state], out=other)
            np.copyto(before[state], source, where=other > best[state])
            np.maximum(best[state], other, out=best[state])
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
    n_states, n, sources = len(log_transition), packed.n_lanes, _sources(log_transition)
    score = np.full((n_states, n_states, n), -np.inf)
    score[range(n_states), range(n_states)] = log_emission[:, :n]
    best, other, done = np.empty_like(score), np.empty((n_states, n)), np.empty_like(score)
    for start, stop in packed.steps()[1:]:
        done[..., stop - start : n] = score[..., stop - start : n]
        n = stop - start
        for state, (first, *more) in enumerate(sources):
            here, to = other[:, :n], best[:, state, :n]
            np.add(score[:, first, :n], log_transition[first, state], out=to)
            for source in more:
                np.add(score[:, source, :n], log_transition[source, state], out=here)
                np.maximum(to, here, out=to)
            to += log_emission[state, start:stop]
        score, best = best, score
    done[..., :n] = score[..., :n]
    return done


def _choices(packed: Packed, log_emission, enter, log_transition) -> tuple[np.ndarray, np.ndarray]:
    """The best state before each position for each state there, and scores where lanes end."""
    n_states, n, sources = len(log_transition), packed.n_lanes, _sources(log_transition)
    before = np.zeros(log_emission.shape, np.int8)
    last = np.empty((n_states, n))
    score = enter + log_emission[:, :n]
    for start, stop in packed.steps()[1:]:
        last[:, stop - start : n] = score[:, stop - start : n]
        n = stop - start
        score, before[:, start:stop] = _best(score[:, :n], log_transition, sources)
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
