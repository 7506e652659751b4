"""One step of one tool in a process of its own: seconds of the import and of two calls, and what JAX compiled."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


class Programs(logging.Handler):
    """What JAX says of its compilations, read without importing it."""

    SAID = re.compile(r"Finished (tracing|jaxpr to MLIR module conversion|XLA compilation of) (\S+) .*in (\S+) sec")

    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, str, float]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep stage, name of the function and seconds."""
        if said := self.SAID.match(record.getMessage()):
            self.found.append((said[1], said[2], float(said[3])))


def measure(tool: str, stage: str, call: str, folder: Path, programs: Programs, clock: str, cache: str) -> dict:
    """Call twice, each time on cells just read; compiled code is kept in the folder ``cache``, if it is given."""
    import anndata

    now = getattr(time, clock)
    start = now()
    modules = {tool: import_module(tool)}
    found: dict[str, Any] = {"import": now() - start, "calls": []}
    modules |= {"tool": modules[tool], "sc": modules.get("scanpy")}
    if "harmonypy." in call:
        modules["harmonypy"] = import_module("harmonypy")
    files = {"adata": stage} | {name: name for name in ("new", "placed", "mapped") if re.search(rf"\b{name}\b", call)}
    for _ in range(2):
        cells = {name: anndata.read_h5ad(folder / f"{file}.h5ad") for name, file in files.items()}
        code = compile(call, "call", "exec")
        start = now()
        if cache:
            modules[tool].settings.compilation_cache = cache
        exec(code, {**modules, **cells})
        found["calls"].append(now() - start)
        found.setdefault("programs", list(programs.found))
    return found


def main(tool: str, stage: str, call: str, folder: str, clock: str, cache: str = "") -> None:
    """Measure, and answer as JSON."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    programs = Programs()
    logger = logging.getLogger("jax")
    logger.addHandler(programs)
    logger.propagate = False
    print(json.dumps(measure(tool, stage, call, Path(folder), programs, clock, cache)), file=answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
