"""Operators by name: dbx's own, and no other class under one of their names."""

import pytest

import dbx
from dbx.ops.catalogue import CATALOGUE, OPERATORS
from dbx.ops.operator import Operator


@pytest.mark.parametrize("name", OPERATORS)
def test_each_line_gives_the_operator_of_that_name(name):
    operator = CATALOGUE[name]
    assert issubclass(operator, Operator)
    assert operator.name == name
    assert getattr(dbx.ops, operator.__name__) is operator
    assert operator.__name__ in dbx.ops.__all__


def test_every_operator_of_dbx_has_its_line():
    for name in OPERATORS:
        CATALOGUE[name]
    classes, queue = set(), [Operator]
    while queue:
        queue += (below := queue.pop().__subclasses__())
        public = (cls for cls in below if not cls.__name__.startswith("_") and cls.__module__.startswith("dbx."))
        classes.update(cls for cls in public if "name" in vars(cls))
    assert classes == {CATALOGUE[name] for name in OPERATORS}


@pytest.mark.parametrize("name", OPERATORS)
def test_each_that_maps_cells_says_how_new_ones_are_mapped(name):
    # docs/steps.md makes its table of these paragraphs
    maps_cells = any(not output.view for output in CATALOGUE[name].outputs.values())
    assert not maps_cells or "New cells: " in CATALOGUE[name].__doc__


def test_what_is_not_there_is_said():
    assert "levitate" not in CATALOGUE
    assert CATALOGUE.get("levitate") is None
    with pytest.raises(KeyError, match="^Neither dbx nor an installed package has an operator 'levitate'"):
        CATALOGUE["levitate"]
    with pytest.raises(AttributeError, match=r"module 'dbx\.ops' has no attribute 'Levitate'"):
        dbx.ops.Levitate


def test_a_name_of_dbx_is_not_given_away(monkeypatch):
    monkeypatch.setattr(CATALOGUE, "_session", {})
    mine = type("Mine", (Operator,), {"name": "pca", "__module__": "elsewhere"})
    with pytest.raises(ValueError, match=r"elsewhere\.Mine has the same name 'pca' as dbx\.ops\..*PCA"):
        CATALOGUE.register(mine)
    assert CATALOGUE["pca"] is dbx.ops.PCA


def test_an_operator_of_the_session_may_be_written_again(monkeypatch):
    monkeypatch.setattr(CATALOGUE, "_session", {})
    one, two = (type("Mine", (Operator,), {"name": "mine", "__module__": "__main__"}) for _ in range(2))
    assert CATALOGUE.register(one) is one
    assert CATALOGUE.register(two) is two
    assert CATALOGUE["mine"] is two
    assert list(CATALOGUE)[-1] == "mine"
    assert CATALOGUE.provider(two) == ""
