"""Parameters that the figures share, documented once."""

from __future__ import annotations

import re
from collections.abc import Callable
from textwrap import indent
from typing import TypeVar

F = TypeVar("F", bound=Callable)

SHOW = """\
show
    Show the figure; by default as set by ``scanpy.settings.autoshow``.
save
    Save the figure: a path, or True or a suffix for a file in ``scanpy.settings.figdir``.
return_fig
    Return the figure."""

FIGURE = f"""\
ax
    Axes to draw on; new ones by default.
{SHOW}"""


def doc_params(**texts: str) -> Callable[[F], F]:
    """Decorator that replaces each line ``{name}`` of a docstring by the text of that name, equally indented."""

    def fill(function: F) -> F:
        for name, text in texts.items():
            place = re.compile(rf"^( *)\{{{name}\}}$", re.MULTILINE)
            function.__doc__ = place.sub(lambda found, text=text: indent(text, found[1]), function.__doc__ or "")
        return function

    return fill
