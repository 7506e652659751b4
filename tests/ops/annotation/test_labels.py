"""Which cells have a label, however a column codes those that have none."""

import numpy as np
import pandas as pd
import pytest

from dbx.ops.annotation.labels import known_labels, unlabeled_levels
from dbx.program.slots.stored import as_codes

COLUMNS = {
    "int -1": (np.array([1, 2, -1, 1, -1]), -1),
    "int 0": (np.array([1, 2, 0, 1, 0]), 0),
    "NumPy's 0": (np.array([1, 2, 0, 1, 0]), np.int64(0)),
    "float -1": (np.array([1.0, 2.0, -1.0, 1.0, -1.0]), -1),
    "float, given as text": (np.array([1.0, 2.0, -1.0, 1.0, -1.0]), "-1"),
    "int, given as float": (np.array([1, 2, -1, 1, -1]), -1.0),
    "category of int": (pd.Categorical([1, 2, -1, 1, -1]), -1),
    "unsigned int": (np.array([1, 2, 0, 1, 0], np.uint8), 0),
    "text of numbers": (np.array(["1", "2", "-1", "1", "-1"], object), -1),
    "nullable int": (pd.array([1, 2, -1, 1, -1], dtype="Int64"), -1),
    "int, given as False": (np.array([1, 2, 0, 1, 0]), False),
    "False among names": (np.array(["1", "2", False, "1", False], object), False),
    "False, given as 0": (np.array(["1", "2", False, "1", False], object), 0),
    "missing": (np.array(["1", "2", None, "1", None], object), None),
    "NaN": (np.array([1, 2, np.nan, 1, np.nan]), np.nan),
    "text": (np.array(["1", "2", "Unknown", "1", "Unknown"], object), "Unknown"),
}


@pytest.mark.parametrize(("column", "unlabeled"), COLUMNS.values(), ids=COLUMNS)
def test_cells_without_a_label_are_those_the_column_marks(column, unlabeled):
    codes, classes = known_labels(as_codes(pd.Series(column)), unlabeled)
    assert [float(name) for name in classes] == [1, 2]
    assert codes.tolist() == [0, 1, -1, 0, -1]


def test_names_that_merely_look_alike_are_labels():
    assert unlabeled_levels(("1", "01", "1.0"), 1).tolist() == [True, False, False]
    assert unlabeled_levels(("1_0", "2"), 10).tolist() == [False, False]
    assert unlabeled_levels(("None", "nan", "a"), None).tolist() == [False, False, False]
    assert unlabeled_levels(("0", "a"), "Unknown").tolist() == [False, False]
    assert unlabeled_levels(("True", "a"), "a").tolist() == [False, True]
