"""How the table of steps is shown: as text of at most 100 columns, and in a notebook."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from html import escape

import pandas as pd

WIDTH = 100
LINES = 4
"""Of a cell; what is longer ends in "..."."""
COLOURS = {"ok": "#dcebf7", "mapped": "#e3f1df", "stale": "#f6e3b5", "gap": "#f5cfc6", "outside": "#e6d7f0"}
FOLDED = ("operator", "learnt", "trained", "cells")
"""Columns that a notebook shows on request."""
CSS = """
.dbx-steps table { font-size: 12px; border-collapse: collapse; max-width: 100%; }
.dbx-steps th, .dbx-steps td { padding: 3px 8px; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.dbx-steps span { color: #222; border-radius: 8px; padding: 1px 8px; }
.dbx-steps p { max-width: 60em; margin: 4px 8px; }
"""


class Steps(pd.DataFrame):
    """The recorded steps: a DataFrame, a row a step, that shows itself in few columns.

    What is taken from it is an ordinary DataFrame; :meth:`to_frame` returns all of it.
    """

    _metadata = ["note"]  # noqa: RUF012 - pandas takes a list
    note: str = ""
    """What to know of the whole program, shown below the table."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """All columns as a plain DataFrame."""
        return pd.DataFrame(self)

    def __repr__(self) -> str:
        return as_text(self, self.note)

    def _repr_html_(self) -> str:
        return as_html(self, self.note)


EMPTY = "No steps are recorded. Call functions of dbx.pp and dbx.tl, or dbx.adopt(adata) for scanpy's results."


def as_text(table: pd.DataFrame, note: str) -> str:
    """The table within 100 columns: step, what it reads and writes, its settings, its status."""
    if not len(table):
        return EMPTY
    columns = {
        "step": [str(name) for name in table.index],
        "reads": table["reads"].tolist(),
        "writes": [_short(writes) for writes in table["writes"]],
        "settings": _settings(table),
        "status": table["status"].tolist(),
    }
    widths = _widths(columns)
    lines = ["  ".join(name.ljust(widths[name]) for name in columns).rstrip()]
    for row in zip(*columns.values(), strict=True):
        cells = [_wrapped(cell, width) for cell, width in zip(row, widths.values(), strict=True)]
        for i in range(max(map(len, cells))):
            parts = [cell[i] if i < len(cell) else "" for cell in cells]
            padded = (part.ljust(width) for part, width in zip(parts, widths.values(), strict=True))
            lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, *(["", *textwrap.wrap(note, WIDTH)] if note else [])])


def _settings(table: pd.DataFrame) -> list[str]:
    """Settings, and by what the step was trained."""
    both = zip(table["settings"], table["trained"], strict=True)
    return ["; ".join(filter(None, (settings, trained and f"trained by {trained}"))) for settings, trained in both]


def _widths(columns: dict[str, list[str]]) -> dict[str, int]:
    """Width of each column: what it needs, the widest narrowed first until all fit, if possible not below its words."""
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    words = {
        name: max(len(word) for cell in [name, *cells] for word in cell.split(" ")) for name, cells in columns.items()
    }
    spare = WIDTH - 2 * (len(columns) - 1)
    while sum(widths.values()) > spare:
        loose = [name for name in widths if widths[name] > words[name]] or list(widths)
        widths[max(loose, key=lambda name: widths[name])] -= 1
    return widths


def _short(slots: str) -> str:
    """Slots, those in one entry of ``uns`` as one."""
    return ", ".join(dict.fromkeys(re.sub(r"(^|/)(uns/[^/]+)/.*", r"\1\2", slot) for slot in slots.split(", ")))


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a cell, broken at spaces, or within a word that is longer than a line."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        parts = list(_pieces(word, width))
        lines[-1] = f"{lines[-1]} {parts[0]}".strip()
        lines += parts[1:]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: width - 4] + " ..."]


def _pieces(word: str, width: int) -> Iterator[str]:
    """A word in pieces that fit a line, broken after a slash or an underscore where there is one."""
    while len(word) > width:
        at = max(word.rfind(mark, width // 3, width) for mark in "/_") + 1 or width
        yield word[:at]
        word = word[at:]
    yield word


def as_html(table: pd.DataFrame, note: str) -> str:
    """The table for a notebook: a badge for each status, further columns folded."""
    if not len(table):
        return f"<p>{escape(EMPTY)}</p>"
    head = "".join(f"<th>{name}</th>" for name in ("step", "reads", "writes", "settings", "status"))
    rows = [
        _html_row(str(name), row, settings)
        for (name, row), settings in zip(table.iterrows(), _settings(table), strict=True)
    ]
    below = f"<p>{escape(note)}</p>" if note else ""
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<style>{CSS}</style><div class="dbx-steps">{body}{below}</div>'


def _html_row(name: str, row: pd.Series, settings: str) -> str:
    cells = [_named(name, row), *map(escape, (row["reads"], _short(row["writes"]), settings)), _badge(row["status"])]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _named(name: str, row: pd.Series) -> str:
    """A step's name, which opens the columns that are folded."""
    folded = "<br>".join(f"{column}: {escape(str(row[column]))}" for column in FOLDED if row[column] not in ("", None))
    return f"<details><summary><b>{escape(name)}</b></summary>{folded}</details>"


def _badge(status: str) -> str:
    colour = COLOURS.get(status, "#eeeeee")
    return f'<span style="background: {colour}">{escape(status)}</span>'
