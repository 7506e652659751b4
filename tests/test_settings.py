"""Settings of a session: compiled code that is kept for the next one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dbx
from dbx._compilation_cache import default_folder
from dbx.settings import Settings

SESSION = """
import logging, os, sys
said = []
class Listen(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
import dbx
assert "jax" not in sys.modules
dbx.settings.compilation_cache = True
import jax, jax.numpy as jnp
from jax import monitoring
monitoring.register_event_listener(lambda name, **_: said.append(name))
print(jax.jit(lambda x: jnp.sin(x) * 2 + 1)(jnp.float32(0.5)))
print(said.count("/jax/compilation_cache/cache_hits"), said.count("/jax/compilation_cache/cache_misses"))
print(dbx.settings.compilation_cache)
dbx.settings.compilation_cache = None
print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
"""


def session(home: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-c", SESSION], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_second_session_compiles_nothing(tmp_path):
    first, second = session(tmp_path), session(tmp_path)
    assert first[0] == second[0]
    (hits, misses), (later_hits, later_misses) = (map(int, lines[1].split()) for lines in (first, second))
    assert (hits, later_misses) == (0, 0)
    assert misses == later_hits > 0
    folder = tmp_path / "dbx" / "jax"
    assert first[2] == str(folder)
    assert first[3] == "None 1.0"  # as JAX has it without dbx
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "dbx" / "jax"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_folder() == tmp_path / "home" / ".cache" / "dbx" / "jax"


@pytest.mark.parametrize("value", [3, "", b"folder", ["a"]])
def test_what_is_no_folder(value):
    with pytest.raises(TypeError, match="compilation_cache must be True, False or the path of a folder; got"):
        dbx.settings.compilation_cache = value
    assert dbx.settings.compilation_cache is None


def test_folders_that_cannot_hold_code(tmp_path):
    settings, shared, file = Settings(), tmp_path / "shared", tmp_path / "file"
    file.write_text("")
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ValueError, match="other users can write to .*shared.*chmod 700"):
        settings.compilation_cache = shared
    with pytest.raises(ValueError, match="file.* cannot be made"):
        settings.compilation_cache = str(file)
    assert settings.compilation_cache is None


def test_it_is_beside_scanpys_settings():
    import scanpy as sc

    with dbx.settings.override(verbosity=3):
        assert dbx.settings.compilation_cache is None
    assert dbx.settings.n_jobs == sc.settings.n_jobs
    with pytest.raises(AttributeError, match="dbx has verbosity, progress, compilation_cache"):
        dbx.settings.compilaton_cache = True
