"""What dbx says while it works: lines to stderr by verbosity, one plain progress bar."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from dbx.ops.operator import Progress, silent
from dbx.settings import Verbosity, settings

PACKAGE = str(Path(__file__).parents[1])


def say(level: Verbosity, text: str) -> None:
    """Print a line to stderr if the user wants to hear of this level."""
    if settings.verbosity >= level:
        print(text, file=sys.stderr)


def info(text: str) -> None:
    """Say what is being computed."""
    say(Verbosity.info, text)


def hint(text: str) -> None:
    """Say what was written where."""
    say(Verbosity.hint, text)


def warn(text: str) -> None:
    """Warn, pointing at the user's line rather than at dbx's."""
    depth, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=depth)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A progress callback for ``fit``: one tqdm line while there is something to show, and only if wanted.

    What an operator says before it begins is a line of its own at ``info``.
    """
    wanted = settings.verbosity >= Verbosity.info if settings.progress is None else settings.progress
    if not wanted and settings.verbosity < Verbosity.info:
        yield silent
        return
    from tqdm.auto import tqdm

    bar: list[tqdm] = []

    def show(done: int, total: int, note: str = "") -> None:
        if done == 0 and note:
            info(f"    {note}")
        if not wanted:
            return
        if not bar:
            bar.append(tqdm(total=total, desc=title, leave=False))
        bar[0].total = total
        bar[0].set_postfix_str(note, refresh=False)
        bar[0].update(done - bar[0].n)

    try:
        yield show
    finally:
        for open_bar in bar:
            open_bar.close()


@contextlib.contextmanager
def timed(title: str) -> Iterator[None]:
    """Say at ``info`` that something starts and how long it took."""
    info(title)
    start = time.perf_counter()
    yield
    info(f"    finished ({time.perf_counter() - start:.2f} s)")
