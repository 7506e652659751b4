"""The demonstration does what it promises, on real cells whose line is known by genotype."""

import anndata as ad
import pytest

import dbx
from dbx.demo import run_demo


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    numbers = run_demo(tmp_path).numbers
    printed = capsys.readouterr().out
    assert numbers["ari"] >= 0.99
    assert numbers["accuracy_singlets"] >= 0.99
    assert numbers["accuracy"] >= 0.95  # 49 of the 499 cells are doublets of two lines
    assert numbers["ilisi_before"] < 1.2
    assert numbers["ilisi_after"] >= 1.8
    assert numbers["clisi_after"] <= numbers["clisi_before"] + 0.01
    assert numbers["same_bits"] == 1
    assert "bitwise identical" in printed
    for figure in ("umap", "volcano", "program", "mapped"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 20_000
    joint = ad.read_h5ad(tmp_path / "joint.h5ad")
    assert set(dbx.steps(joint)["status"]) == {"ok"}
    assert not joint.layers["counts"].data.min() < 1
