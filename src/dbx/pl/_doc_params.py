"""Parameters that the figures share, documented once."""

from __future__ import annotations

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
    placeholders = {f"{{{name}}}": text for name, text in texts.items()}

    def filled(line: str) -> str:
        text = placeholders.get(line.strip())
        return line if text is None else indent(text, line[: line.index("{")])

    def fill(function: F) -> F:
        function.__doc__ = "\n".join(map(filled, (function.__doc__ or "").split("\n")))
        return function

    return fill
