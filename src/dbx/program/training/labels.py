"""Labels that an optimisation predicts, and the classifier that predicts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from dbx.losses import CrossEntropy
from dbx.losses.objectives import Objective
from dbx.ops.annotation.label_head import LabelHead
from dbx.ops.annotation.labels import known_labels
from dbx.ops.values import Codes
from dbx.program.slots.columns import column_value
from dbx.program.slots.slots import Slot, read
from dbx.program.training.chain import Chain


@dataclass
class Labels:
    """A column of labels and the head that predicts them."""

    column: Slot
    given: Codes
    known: np.ndarray
    """Codes against the head's classes, -1 for a cell without a label; array of shape (n_cells,)."""
    head: LabelHead
    slot: str
    """The slot that they are predicted from."""


def read_labels(data, chain: Chain, part: CrossEntropy, unlabeled: Any, mask: np.ndarray | None) -> Labels:
    """The labels of an objective; cells outside the mask have none."""
    column = Slot("obs", (part.label,), chain.trained[0].mod)
    value = read(data, column)
    check_names(value, column)
    if "/" in part.label:
        msg = f"obs[{part.label!r}] has a slash in its name, and slots of predictions are named after it: rename it."
        raise ValueError(msg)
    given = cast(Codes, column_value(value, column, "optimize", LabelHead.inputs["labels"]))
    if mask is not None:
        given = Codes(np.where(mask, given.codes, -1), given.levels)
    known, classes = known_labels(given, unlabeled)
    return Labels(column, given, known, LabelHead(unlabeled=unlabeled, classes=classes), judged_slot(chain, part))


def check_names(value, slot: Slot) -> None:
    """Refuse measurements and names of single cells where names of groups are meant."""
    column = pd.Series(value).dropna()
    if pd.api.types.is_float_dtype(column) and (column % 1 != 0).any():
        msg = f"{slot.written()} holds fractions, and names of groups are needed: cut it into categories (pandas.cut)."
        raise ValueError(msg)
    n_alone = int((column.value_counts() == 1).sum())
    if 2 * n_alone > len(column) > 1:
        numbers = pd.api.types.is_numeric_dtype(column)
        advice = (
            "cut the numbers into categories (pandas.cut), or use them as they are, "
            f"dbx.losses.Function(lambda z, x: ..., slots=({str(slot)!r},))"
            if numbers
            else "name a column of groups of cells"
        )
        msg = (
            f"{slot.written()} has a value of its own for {n_alone} of {len(column)} cells, and groups of cells are "
            f"needed: {advice}."
        )
        raise ValueError(msg)


def check_labels(labels: Mapping[str, Labels]) -> None:
    """Refuse labels whose predictions would overwrite each other, and labels that leave no cell to train on."""
    names = [x.column.keys[-1] for x in labels.values()]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        msg = (
            f"{twice[0]!r} is predicted from two slots, and its predictions would be written twice: judge one of them."
        )
        raise ValueError(msg)
    if len(names) > 1 and not np.all([x.known >= 0 for x in labels.values()], axis=0).any():
        msg = f"No cell has all of the labels {', '.join(map(repr, names))}."
        raise ValueError(msg)


def judged_slot(chain: Chain, part: Objective) -> Slot:
    """The slot that an objective judges."""
    return chain.slot if part.slot is None else Slot.parse(part.slot, chain.trained[0].mod)
