"""What an operator says before it begins is a line at ``info``, with and without a progress bar."""

import pytest

import dbx
from dbx.program import log


@pytest.mark.parametrize("progress", [None, True, False])
@pytest.mark.parametrize("verbosity", ["warning", "info"])
def test_first_note_is_a_line_at_info(progress, verbosity, capsys, monkeypatch):
    monkeypatch.setattr(dbx.settings, "verbosity", verbosity)
    monkeypatch.setattr(dbx.settings, "progress", progress)
    with log.progress("vae") as show:
        show(0, 3, "data on the device (1 MB)")
        show(1, 3, "loss 2.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("    data on the device (1 MB)") == (verbosity == "info")
    shown = any("vae:" in line for line in lines)
    assert shown == (progress if progress is not None else verbosity == "info")
