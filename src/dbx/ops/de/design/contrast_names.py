"""What a contrast may name: coefficients, by formulaic's spelling and DESeq2's, and means of the levels of factors."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from dbx.ops.checks import did_you_mean, listed
from dbx.ops.de.design.design import Design
from dbx.ops.de.design.factor_coding import codings, factor_coding, factors

NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
OPERATORS = "+-*/()"
WORD = re.compile(r"[\w.:\[]")
"""What goes on where a shorter name would end in the middle of a longer, unknown one."""


@dataclass(frozen=True)
class Known:
    """A name in a contrast."""

    name: str
    vector: np.ndarray
    """Array of shape (n_coefficients,)."""
    level: tuple[str, str] | None = None
    """(factor, level) if it stands for the mean of a level."""


@dataclass(frozen=True)
class Names:
    """All names that a contrast of one design may use."""

    known: dict[str, Known]
    ambiguous: frozenset[str]
    design: Design

    def split(self, text: str) -> list[Known | float | str]:
        """Names, numbers and operators of a text; of several names that fit, the longest.

        Raises
        ------
        ValueError
            Something in it is neither.
        """
        longest_first = sorted(self.known, key=len, reverse=True)
        tokens: list[Known | float | str] = []
        at = 0
        while at < len(text):
            name = next((name for name in longest_first if _stands_at(text, at, name)), None)
            number = NUMBER.match(text, at)
            if name:
                self._check_clear(name)
                tokens.append(self.known[name])
                at += len(name)
            elif number:
                tokens.append(float(number.group()))
                at = number.end()
            elif text[at].isspace():
                at += 1
            elif text[at] in OPERATORS:
                tokens.append(text[at])
                at += 1
            else:
                raise self._unknown(text, at)
        return tokens

    def _check_clear(self, name: str) -> None:
        if name in self.ambiguous:
            msg = (
                f"{name!r} can be read as two levels of different factors: name coefficients instead, {self._there()}."
            )
            raise ValueError(msg)

    def _unknown(self, text: str, at: int) -> ValueError:
        name = _whole_name(text, at)
        hint = did_you_mean(name, self.known)
        levels = [known.name for known in self.known.values() if known.level]
        short = f", and means of levels: {listed(levels)}" if levels else ""
        return ValueError(
            f"There is no coefficient {name!r} in {self.design.title}; there are {self._there()}{short}.{hint}"
        )

    def _there(self) -> str:
        return listed(self.design.names)


def known_names(design: Design) -> Names:
    """Every name that a contrast of the design may use; a coefficient's own comes before others spelt alike."""
    known: dict[str, Known] = {}
    ambiguous = set()
    for name, vector in zip(design.names, np.eye(len(design.names)), strict=True):
        for spelling in (name, name.replace("'", '"')):
            known.setdefault(spelling, Known(spelling, vector))
    for name, vector in zip(design.names, np.eye(len(design.names)), strict=True):
        for spelling in _as_in_deseq2(design, name):
            known.setdefault(spelling, Known(spelling, vector))
    for factor in factors(design):
        for level, vector in factor_coding(design, factor).items():
            mean = Known(f"{factor}{level}", vector, (factor, level))
            before = known.setdefault(mean.name, mean)
            if before.level not in (None, mean.level):
                ambiguous.add(mean.name)
    return Names(known, frozenset(ambiguous), design)


def _as_in_deseq2(design: Design, name: str) -> list[str]:
    """How R and DESeq2 call a coefficient: ``dex_trt_vs_untrt``, ``celly.dextrt``."""
    plain = name
    for column, expression, levels, reference in codings(design):
        for level in sorted(levels, key=len, reverse=True):
            if reference is not None and name == f"{expression}[T.{level}]":
                against = f"{column}_{level}_vs_{reference}"
                return [against, _syntactic(against)]
            for written in (f"{expression}[T.{level}]", f"{expression}[{level}]"):
                plain = plain.replace(written, f"{column}{level}")
    return [plain, _syntactic(plain)] if plain != name and ":" in name else []


def _syntactic(name: str) -> str:
    """What R makes of a name: dots in place of all but letters, digits, dots and underscores."""
    return re.sub(r"[^\w.]", ".", name)


def _stands_at(text: str, at: int, name: str) -> bool:
    if not text.startswith(name, at):
        return False
    end = at + len(name)
    return end == len(text) or not (WORD.match(text, end) and (name[-1].isalnum() or name[-1] in "_.]"))


def _whole_name(text: str, at: int) -> str:
    """From ``at`` to the next operator that is not in brackets."""
    depth, parts = 0, []
    for character in text[at:]:
        if depth == 0 and (character in OPERATORS or character.isspace()):
            break
        depth += (character in "[(") - (character in "])")
        parts.append(character)
    return "".join(parts)
