"""Messages through the logger "dbx", to the stream scanpy writes to, and a progress bar for what takes a while."""

from __future__ import annotations

import builtins
import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from dbx._warnings import warn as warn
from dbx.ops.operator import Progress, silent
from dbx.settings import Verbosity, settings

LEVELS = {
    Verbosity.error: logging.ERROR,
    Verbosity.warning: logging.WARNING,
    Verbosity.info: logging.INFO,
    Verbosity.hint: (logging.INFO + logging.DEBUG) // 2,
    Verbosity.debug: logging.DEBUG,
}
DELAY = 2.0
"""Seconds that something takes before it shows a progress bar."""

logger = logging.getLogger("dbx")


class ScanpyStream(logging.StreamHandler):
    """Writes wherever scanpy does at that moment: ``sc.settings.logfile``."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """By default stdout in a notebook and stderr elsewhere."""
        chosen = getattr(_scanpy_settings(), "logfile", None)
        if chosen is None or chosen.closed:
            return sys.stdout if hasattr(builtins, "__IPYTHON__") else sys.stderr
        return sys.stderr if chosen is sys.__stderr__ else chosen


if not logger.handlers:  # whoever set this logger up before keeps what they chose
    logger.addHandler(ScanpyStream())
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def _scanpy_settings() -> Any:
    """Settings of scanpy, or None: whoever has not imported scanpy has not set them."""
    return getattr(sys.modules.get("scanpy"), "settings", None)


def verbosity() -> Verbosity:
    """The verbosity of dbx, or scanpy's where it is None."""
    if settings.verbosity is not None:
        return Verbosity(settings.verbosity)
    return Verbosity(int(getattr(_scanpy_settings(), "verbosity", Verbosity.warning)))


def say(level: Verbosity, text: str) -> None:
    """Log a line if the user wants to hear of this level."""
    if verbosity() >= level:
        logger.log(LEVELS[level], "%s", text)


def info(text: str) -> None:
    """Say what is being computed."""
    say(Verbosity.info, text)


def hint(text: str) -> None:
    """Say what was written where."""
    say(Verbosity.hint, text)


def warn_of_future(text: str) -> None:
    """Warn of an argument that will go."""
    warn(text, FutureWarning)


class NotebookLine:
    """A line of a notebook that a progress bar writes to: text in one place, and none of it left when it is cleared.

    A widget would stay behind in the saved notebook without its contents.
    """

    encoding = "utf-8"

    def __init__(self) -> None:
        self.handle: Any = None

    def write(self, text: str) -> None:
        """Show the text in place of the one before."""
        from IPython.display import display

        line = {"text/plain": text.strip("\r ")}
        if self.handle is not None:
            self.handle.update(line, raw=True)
        elif line["text/plain"]:
            self.handle = display(line, raw=True, display_id=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextlib.contextmanager
def progress(title: str) -> Iterator[Progress]:
    """A progress callback for ``fit``: one tqdm line after ``DELAY`` seconds, only if wanted, and gone at the end.

    What an operator says before it begins is a line of its own at ``info``.
    """
    loud = verbosity() >= Verbosity.info
    wanted = loud if settings.progress is None else settings.progress
    if not (wanted or loud):
        yield silent
        return
    from tqdm import tqdm

    start = time.perf_counter()
    bar: list[tqdm] = []

    def show(done: int, total: int, note: str = "") -> None:
        if done == 0 and note:
            info(f"    {note}")
        if not wanted:
            return
        if not bar:
            wait = max(DELAY - (time.perf_counter() - start), 0)
            file = NotebookLine() if _in_notebook() else sys.stderr
            bar.append(tqdm(total=total, desc=title, leave=False, delay=wait, file=file))
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
