"""Accuracy of hidden bases beside Markov chains.

``python -m benchmarks.scores.sequence_masked SCORERS frame 0 cnn``
"""

import json
import sys
import time

import jax.numpy as jnp
import numpy as np
from benchmarks.scores.sequence import frame

from dbx.get.sequence_networks import trained
from dbx.ops.sequence.ensemble import each
from dbx.ops.sequence.sequences import soft_of
from dbx.tl import sequence_embedding

ORDER, EVERY = 5, 12


def network(train, test, hidden, seed: int, **settings) -> np.ndarray:
    """Logits of each base by the network, trained without labels."""
    adata = frame(train)
    sequence_embedding(adata, random_state=seed, **settings)
    operator, _ = trained(adata, "X_sequence")
    values = operator.values_of({"text": np.array([list(s.encode().ljust(hidden.shape[1], b"\0")) for s in test])})
    soft, mask = soft_of(values, jnp.float32)
    hidden = np.pad(hidden, [(0, 0), (0, mask.shape[1] - hidden.shape[1])])
    found = each(operator.network, lambda member, _: member.bases(soft, mask, hidden & mask))
    return np.asarray(found.mean(axis=0))


def chain(train, test, length: int, *, both_sides: bool) -> np.ndarray:
    """Logarithms of each base by a Markov chain: given the bases before, or also those behind.

    Counts of each order start from those of the order below, with the weight of four sequences.
    """
    known = [np.array(["ACGT".find(b) for b in s]) for s in train]
    table = np.full((1, 4), 0.25)
    for order in range(ORDER + 1):
        counts = np.zeros((4**order, 4))
        for codes in known:
            if len(codes) > order:
                words = sum(codes[j : len(codes) - order + j] * 4 ** (order - j) for j in range(order + 1))
                np.add.at(counts, (words[words >= 0] // 4, words[words >= 0] % 4), 1)
        counts += 4 * np.tile(table, (4 if order else 1, 1))
        table = counts / counts.sum(axis=1, keepdims=True)
    found = np.full((len(test), length, 4), -np.inf)
    logs = np.log(table)
    for row, text in enumerate(test):
        codes = np.maximum(["ACGT".find(b) for b in text], 0)
        for i in range(ORDER, len(text) - ORDER):
            for base in range(4):
                there = codes.copy()
                there[i] = base
                places = range(i, i + ORDER + 1 if both_sides else i + 1)
                words = [there[j - ORDER : j] @ 4 ** np.arange(ORDER - 1, -1, -1) for j in places]
                found[row, i, base] = sum(logs[w, there[j]] for w, j in zip(words, places, strict=True))
    return found


def main(scorers: str, task: str, seed: int, method: str) -> None:
    """Print one line; places are each twelfth base, away from both ends, so that chains see all they need."""
    sys.path.insert(0, scorers)
    from score_sequence import folds

    sequences, _, rest, out, unlabelled = next(iter(folds(task, seed, 5)))
    train = list(unlabelled) if task == "frame" else [sequences[i] for i in rest]
    test = [sequences[i] for i in out]
    length = max(map(len, [*train, *test]))
    truth = np.array([["ACGT".find(b) for b in s.ljust(length)] for s in test])
    inside = np.arange(length) < np.array([len(s) for s in test])[:, None] - ORDER
    chosen = (truth >= 0) & inside & (np.arange(length) % EVERY == EVERY // 2)
    start = time.process_time()
    logits = {"network": network(train, test, chosen, seed, method=method)[:, :length]}
    seconds = time.process_time() - start
    logits |= {name: chain(train, test, length, both_sides=name == "both") for name in ("before", "both")}
    by_place = np.array([[np.mean([s[i : i + 1] == b for s in train]) for b in "ACGT"] for i in range(length)])
    logits["place"] = np.broadcast_to(by_place, (len(test), *by_place.shape))
    right = {name: float((x.argmax(axis=2) == truth)[chosen].mean()) for name, x in logits.items()}
    print(json.dumps({"task": task, "seed": seed, "method": method, "n": int(chosen.sum()), **right, "cpu": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
