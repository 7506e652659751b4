"""The page of sequence and statistical models: what a scorer measures, and the section it becomes.

A scorer is a module with ``score(run, task, seed, **settings)``, on the path that is passed. What it measured is kept
as a line of JSON, so that a run that was stopped goes on.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "sequence_models.md"
Found = dict[tuple[str, int], dict[str, Any]]
"""(task, seed) -> what was measured."""


def measured(
    scorer: str, run: Callable[..., Any], wanted: Mapping[str, Sequence[int]], arguments: Sequence[str]
) -> Found:
    """Results by task and seed.

    ``arguments`` are the scorer's folder, the file that keeps results, and perhaps ``--kept``: measure nothing more.
    """
    folder, kept = arguments[0], Path(arguments[1])
    sys.path.insert(0, folder)
    score = importlib.import_module(scorer).score
    lines = kept.read_text().splitlines() if kept.exists() else []
    found = {(line["task"], line["seed"]): line for line in map(json.loads, lines)}
    for task, seeds in wanted.items() if "--kept" not in arguments else ():
        for seed in seeds:
            if (task, seed) not in found:
                line = {"task": task, "seed": seed, **score(run, task, seed)}
                with kept.open("a") as file:
                    file.write(json.dumps(line, default=float) + "\n")
                found[task, seed] = line
                print(line, flush=True)
    return found


def values(found: Found, task: str, read: str | Callable[[dict[str, Any]], float], digits: int = 3) -> str:
    """A number of every seed of a task, joined by commas."""
    get = (lambda line: line[read]) if isinstance(read, str) else read
    numbers = [get(line) for (name, _), line in sorted(found.items()) if name == task]
    return ", ".join(shown(number, digits) for number in numbers)


def shown(number: float, digits: int = 3) -> str:
    """A number without the zero in front of its point."""
    text = f"{number:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def interval(share: float, n: int) -> str:
    """Where 95% of the observed shares of ``n`` independent genes are, by the normal approximation."""
    error = 1.96 * (share * (1 - share) / n) ** 0.5
    return f"{shown(max(share - error, 0))} to {shown(share + error)}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *map(list, rows)])


def put(section: str, text: str) -> None:
    """Replace a section of the page, which stands between comments with its name."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    page = PAGE.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        msg = f"The page has no section between {begin} and {end}."
        raise ValueError(msg)
    PAGE.write_text(pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", page))
