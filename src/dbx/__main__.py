"""The ``dbx`` command: ``dbx demo`` runs a whole analysis on embedded real counts."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run what it asks for."""
    from dbx._version import __version__

    parser = argparse.ArgumentParser(prog="dbx", description="A scanpy analysis as one program.")
    parser.add_argument("--version", action="version", version=f"dbx {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo", help="analyse embedded real counts, rerun the program on held-out cells, draw figures"
    )
    demo.add_argument("--out", type=Path, default=Path("dbx-demo"), help="folder for the h5ad files and figures")
    options = parser.parse_args(arguments)
    from dbx.demo import run_demo

    run_demo(options.out)


if __name__ == "__main__":
    main()
