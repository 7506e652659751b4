import inspect
import re

import pytest

import dbx
from dbx.pl._doc_params import doc_params


def test_a_line_is_replaced_at_its_indentation():
    @doc_params(shared="one\n    two", other="three")
    def figure():
        """A summary with {shared} in a sentence.

        head
          {shared}
        {other}
        """

    assert inspect.getdoc(figure) == (
        "A summary with {shared} in a sentence.\n\nhead\n  one\n      two\nthree"  # the sentence stays as it is
    )
    assert figure.__name__ == "figure"


def test_without_docstrings_nothing_is_needed():
    def figure():
        pass

    assert not doc_params(shared="one")(figure).__doc__


@pytest.mark.parametrize("name", dbx.pl.__all__)
def test_help_of_a_figure_has_every_parameter_in_order(name):
    figure = getattr(dbx.pl, name)
    docstring = inspect.getdoc(figure)
    section = docstring.split("Parameters\n----------\n")[1].split("\n\nReturns\n-------\n")[0]
    assert "{" not in section
    assert re.findall(r"^\w+$", section, flags=re.MULTILINE) == list(inspect.signature(figure).parameters)
