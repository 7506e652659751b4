"""Classes that another phase or the other strand turns into each other."""

import numpy as np
import pytest

from dbx.data.text import as_bytes
from dbx.ops.sequence.alphabet import MEANS, codes_of
from dbx.ops.sequence.regression import Problem, fit_words
from dbx.ops.sequence.symmetries import Sequences, with_changes

CODONS = ["ATG", "GCC", "CTG", "AAA", "GAT", "TCC"]
PAIRS = str.maketrans("ACGT", "TGCA")


def reading_frames(rng, n: int, n_codons: int = 12, noise: float = 0.4) -> tuple[list[str], np.ndarray]:
    """Windows of genes of three kinds of length, by strand and phase of the first base: 0 to 2, and 3 to 5 behind."""
    codes, texts = rng.permutation(np.arange(n) % 6), []
    for code in codes:
        gene = np.array(list("".join(rng.choice(CODONS, n_codons + 2))))
        gene = np.where(rng.random(len(gene)) < noise, rng.choice(list("ACGT"), len(gene)), gene)
        size = int(3 * n_codons - rng.integers(0, 3))
        if code < 3:
            texts.append("".join(gene[code : code + size]))
        else:  # the first base here is the last one there, of phase code - 3
            start = (code - 3 + 1 - size) % 3
            texts.append("".join(gene[start : start + size])[::-1].translate(PAIRS))
    return texts, codes


def problem_of(texts, codes, rng) -> tuple[Problem, Sequences]:
    numbers = codes_of(as_bytes(texts))
    sequences = Sequences(MEANS[numbers], numbers >= 0, 3)
    return Problem(sequences.table(), codes, rng.integers(0, 4, len(codes)), True), sequences


def test_phases_and_strands_are_found_and_help(rng):
    problem, sequences = problem_of(*reading_frames(rng, 60), rng)
    plain = fit_words(problem)
    made = with_changes(problem, plain, sequences)
    assert made.n_own == 60
    codes = made.codes.reshape(6, -1)
    for copy, code in enumerate([[0, 1, 2, 3, 4, 5], [1, 2, 0, 5, 3, 4], [2, 0, 1, 4, 5, 3]]):
        np.testing.assert_array_equal(codes[copy], np.array(code)[problem.codes])
        # of whole codons, the last base of phase 2 is the first one of the other strand
        np.testing.assert_array_equal(codes[3 + copy], np.array([5, 3, 4, 1, 2, 0])[codes[copy]])
    found = fit_words(problem, lambda first: with_changes(problem, first, sequences))
    assert found.loss < plain.loss
    new, truth = reading_frames(rng, 300)
    words = problem_of(new, truth, rng)[0].features
    right = [(x.model.logits(words).argmax(axis=1) == truth).mean() for x in (plain, found)]
    assert right[1] > right[0] + 0.05
    assert found.held_out.shape == (60, 6)


@pytest.mark.parametrize("motif", ["ACCACCAGAACC", "ACGTACGTACGT"])
def test_a_motif_of_one_strand_is_not_looked_for_on_the_other(motif, rng):
    """A palindrome is on both."""
    bases, codes = rng.choice(list("ACGT"), (80, 36)), np.arange(80) % 2
    bases[codes == 1, 12:24] = list(motif)
    problem, sequences = problem_of(["".join(row) for row in bases], codes, rng)
    made = with_changes(problem, fit_words(problem), sequences)
    on_both = made is not None and len(made.codes) // made.n_own % 2 == 0
    assert on_both == (motif == "ACGTACGTACGT")


def test_short_sequences_stay_as_they_are(rng):
    problem, sequences = problem_of(*reading_frames(rng, 60, n_codons=3), rng)
    assert with_changes(problem, fit_words(problem), sequences) is None
