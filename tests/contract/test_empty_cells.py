"""Cells without any count are refused, warned of or allowed as the input declares, by the fit and by a rerun alike."""

import warnings
from contextlib import contextmanager

import pytest

import dbx
from contract.example import Example, as_tuple, fitted_cells, new_cells
from contract.promise import each, examples
from contract.recorded import needs_graph, record, recorded
from dbx.ops.checks import ZERO_COUNTS

EMPTY = 3


def with_empty_cell(data):
    for name in ("counts", "log"):
        values = data.layers[name].toarray()
        values[EMPTY] = 0
        data.layers[name] = values
    return data


def rule(example: Example) -> str:
    """The strictest among the inputs that it has."""
    declared = {example.cls.inputs[name].empty_cells for name in example.reads}
    return next(rule for rule in ("raise", "warn", "allow") if rule in declared)


@contextmanager
def treated(example: Example):
    if rule(example) == "raise":
        with pytest.raises(ValueError, match="counts"):
            yield
    elif rule(example) == "warn":
        with pytest.warns(UserWarning, match=ZERO_COUNTS):
            yield
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=ZERO_COUNTS)
            yield


def reads_counts(example: Example) -> bool:
    return any("layers/counts" in as_tuple(slots) for slots in example.reads.values())


def maps_counts(example: Example) -> bool:
    """Tests of samples are left out, which add cells up; and of a warning the fit takes note, the wrapper gives it."""
    return reads_counts(example) and example.maps_cells and "sample" not in example.cls.inputs


@each(lambda example: maps_counts(example) and rule(example) != "warn", first=True)
def test_the_fit(example):
    data = with_empty_cell(fitted_cells())
    with treated(example):
        record(example, data)
    assert ("dbx" in data.uns) is (rule(example) != "raise")


@each(lambda example: maps_counts(example) and not needs_graph(example), first=True)
@pytest.mark.filterwarnings("ignore:.* do not pass the filters")
def test_a_rerun(example):
    query = with_empty_cell(new_cells())
    with treated(example):
        dbx.rerun(query, recorded(example))
    assert ("dbx" in query.uns) is (rule(example) != "raise")


def test_each_rule_is_tried():
    assert {rule(example) for example in examples() if reads_counts(example)} == {"raise", "warn", "allow"}
