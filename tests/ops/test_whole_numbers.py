"""Settings that are whole numbers, over every operator there is."""

import inspect

import numpy as np
import pytest

from dbx.ops.catalogue import CATALOGUE
from dbx.ops.components.pca import PCA
from dbx.ops.operator import Operator
from dbx.ops.whole_numbers import WHOLE, whole


def settings():
    for name in CATALOGUE:
        for parameter in inspect.signature(CATALOGUE[name].__init__).parameters.values():
            if str(parameter.annotation) in WHOLE:
                yield pytest.param(CATALOGUE[name], parameter, id=f"{name}-{parameter.name}")


@pytest.mark.parametrize(("operator", "parameter"), list(settings()))
def test_a_float_that_is_whole_is_taken_and_others_are_named(operator, parameter):
    number = 7 if parameter.default in (None, parameter.empty) else parameter.default
    others = [p for p in inspect.signature(operator).parameters.values() if p.name != parameter.name]
    if isinstance(number, int) and all(p.default is not p.empty for p in others):
        config = operator(**{parameter.name: float(number)}).config
        assert config == operator(**{parameter.name: number}).config
        assert type(config[parameter.name]) is int
    for wrong, error in ((number + 0.5, ValueError), (np.inf, ValueError), ("7", TypeError), ([7], TypeError)):
        with pytest.raises(error, match=f"{parameter.name} must be a whole number; got"):
            operator(**{parameter.name: wrong})


@pytest.mark.parametrize("number", [3, 3.0, np.int32(3), np.float32(3), np.array(3), np.array(3.0)])
def test_whole_numbers_become_int(number):
    assert type(whole(number, "n")) is int
    assert PCA(n_comps=number).config["n_comps"] == 3


def test_operators_of_others_are_checked_too():
    class Mine(Operator):
        def __init__(self, *, depth: int = 2, share: float = 0.5):
            self.depth, self.share = depth, share

    assert Mine(depth=4.0, share=1).config == {"depth": 4, "share": 1}
    assert type(Mine(depth=4.0).depth) is int
    with pytest.raises(ValueError, match="depth must be a whole number; got 4.5"):
        Mine(depth=4.5)
