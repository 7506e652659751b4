"""Messages go where scanpy's go and are as many, and a progress bar is there only while something takes long."""

import contextlib
import functools
import io
import json
import logging
import pickle
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import anndata as ad
import nbformat
import numpy as np
import pytest
import scanpy as sc
from nbclient import NotebookClient

import dbx
from dbx.program import log
from dbx.settings import Verbosity


@pytest.fixture
def scanpy_s(monkeypatch):
    """Settings of scanpy, restored afterwards."""
    before = sc.settings.verbosity, sc.settings.logfile
    yield sc.settings
    sc.settings.verbosity, sc.settings.logfile = before


def said(verbosity):
    """Which levels are heard at this verbosity of dbx."""
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    log.logger.addHandler(handler)
    try:
        with dbx.settings.override(verbosity=verbosity):
            for level in Verbosity:
                log.say(level, level.name)
    finally:
        log.logger.removeHandler(handler)
    return heard.getvalue().split()


@pytest.mark.parametrize("progress", [None, True, False])
@pytest.mark.parametrize("verbosity", ["warning", "info"])
def test_first_note_is_a_line_at_info(progress, verbosity, capsys, monkeypatch):
    monkeypatch.setattr(log, "DELAY", 0)
    monkeypatch.setattr(dbx.settings, "verbosity", verbosity)
    monkeypatch.setattr(dbx.settings, "progress", progress)
    with log.progress("vae") as show:
        show(0, 3, "data on the device (1 MB)")
        time.sleep(0.15)  # tqdm draws a bar anew ten times a second at most
        show(1, 3, "loss 2.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("    data on the device (1 MB)") == (verbosity == "info")
    shown = any("vae:" in line for line in lines)
    assert shown == (progress if progress is not None else verbosity == "info")


@pytest.mark.parametrize(("seconds", "shown"), [(0.6, True), (0.2, False)])
def test_a_bar_comes_with_what_takes_long_and_goes_at_its_end(seconds, shown, capsys, monkeypatch):
    monkeypatch.setattr(log, "DELAY", 0.4)
    with dbx.settings.override(progress=True), log.progress("pca") as show:
        for done in range(3):
            show(done, 3)
            time.sleep(seconds / 2)
    written = capsys.readouterr().err
    assert ("pca:" in written) == shown
    assert ["", *written.split("\r")][-2].isspace() == shown  # blanks over the last line


def test_two_seconds_are_long():
    assert log.DELAY == 2


@pytest.mark.parametrize("verbosity", list(Verbosity))
def test_scanpy_s_verbosity_holds_unless_dbx_has_its_own(verbosity, scanpy_s):
    assert dbx.settings.verbosity is None
    scanpy_s.verbosity = int(verbosity)
    assert said(None) == [level.name for level in Verbosity if level <= verbosity]
    for own in Verbosity:
        assert said(own) == [level.name for level in Verbosity if level <= own]


def test_messages_go_where_scanpy_s_go(scanpy_s, tmp_path, counts):
    scanpy_s.verbosity = "hint"
    for file in (io.StringIO(), tmp_path / "log.txt"):
        scanpy_s.logfile = file
        adata = counts.copy()
        sc.pp.log1p(adata)
        sc.logging.info("from scanpy")
        dbx.pp.pca(adata, n_comps=3)
        text = file.read_text() if hasattr(file, "read_text") else file.getvalue()
        assert text.index("from scanpy") < text.index("computing") < text.index("adata.obsm['X_pca']")


def test_a_stream_that_was_closed_is_left(scanpy_s, capsys):
    scanpy_s.logfile = file = io.StringIO()
    file.close()
    with dbx.settings.override(verbosity="info"):
        log.info("still here")
    assert capsys.readouterr().err == "still here\n"


def test_the_logger_can_be_redirected(scanpy_s, monkeypatch):
    other = io.StringIO()
    monkeypatch.setattr(log.logger, "handlers", [logging.StreamHandler(other)])
    scanpy_s.logfile = unused = io.StringIO()
    with dbx.settings.override(verbosity="info"):
        log.info("100 % elsewhere")
    assert (other.getvalue(), unused.getvalue()) == ("100 % elsewhere\n", "")


def test_a_logger_that_was_set_up_before_is_left_as_it_is():
    code = """
        import logging, sys
        logger = logging.getLogger("dbx")
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.setLevel(logging.WARNING)
        import dbx.program.log
        dbx.settings.verbosity = "debug"
        dbx.program.log.info("no")
        dbx.program.log.say(dbx.program.log.Verbosity.warning, "yes")
        print(len(logger.handlers), logger.propagate)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["yes", "1 True"]
    assert done.stderr == ""


def test_a_warning_points_at_the_line_that_called_dbx_through_a_dispatched_function():
    @functools.singledispatch
    def normalize(data):
        raise NotImplementedError

    normalize.register(ad.AnnData, dbx.pp.normalize_total)
    with pytest.warns(dbx.DbxWarning, match="zero counts") as warned:
        normalize(ad.AnnData(np.array([[0, 0], [1, 2]], "float32")))
    assert warned[0].filename == __file__


def test_a_warning_points_at_the_line_that_called_a_decorated_function():
    inner = contextlib.contextmanager(lambda: iter([None]))()(log.warn)
    with pytest.warns(dbx.DbxWarning, match="new level") as warned:
        inner("new level")
    assert warned[0].filename == __file__


def test_operators_warn_by_the_function_that_points_at_the_users_line():
    modules = Path(dbx.__file__).parent.joinpath("ops").rglob("*.py")
    assert [str(module) for module in modules if "warnings.warn(" in module.read_text()] == []


def test_warnings_of_dbx_alone_can_be_silenced():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=dbx.DbxWarning)
        log.warn("dbx")
        warnings.warn("another", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["another"]


def test_a_warning_comes_back_from_another_process():
    warning = pickle.loads(pickle.dumps(dbx.DbxWarning("gene5")))
    assert (type(warning), str(warning)) == (dbx.DbxWarning, "gene5")


def test_a_saved_notebook_holds_no_bar():
    """Run as a notebook is: the bar is seen while it is there, and neither it nor a widget is left."""
    code = """
        import time, dbx
        from dbx.program import log
        log.DELAY = 0.1
        dbx.settings.verbosity = "info"
        with log.timed("computing"), log.progress("pca") as show:
            for done in range(4):
                show(done, 3, "note")
                time.sleep(0.2)
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(code))])
    client = NotebookClient(notebook, timeout=120)
    seen, process = [], client.process_message

    def watched(message, cell, index):
        seen.append(json.dumps(message["content"], default=str))
        return process(message, cell, index)

    client.process_message = watched
    client.execute()
    assert any("pca:" in text for text in seen)
    outputs = notebook.cells[0].outputs
    left = [output for output in outputs if output.output_type != "stream"]
    assert [output.data for output in left] in ([{"text/plain": ""}], [])
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
    assert text.startswith("computing\n    note\n    finished (")


@pytest.mark.parametrize("wrong", ["nope", 7, -1])
def test_levels_that_there_are_not(wrong):
    with pytest.raises(ValueError, match="verbosity must be None or one of 0 or 'error', .*got"):
        dbx.settings.verbosity = wrong
