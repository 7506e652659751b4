"""Streamlines and phase portraits: what is drawn is what is stored."""

import numpy as np
import pytest
from velocity_reference import cells

import dbx
from dbx.pl.velocity_stream import N_GRID, on_grid

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads")


@pytest.fixture(scope="module")
def moving():
    adata = cells()
    dbx.tl.velocity(adata, mode="steady_state")
    dbx.tl.velocity_graph(adata)
    dbx.tl.velocity_embedding(adata)
    adata.obs["half"] = np.where(np.arange(100) < 50, "a", "b")
    return adata


def cells_without_moments():
    adata = cells()
    del adata.layers["Ms"]
    return adata


def test_a_rotation_stays_one_on_the_grid(rng):
    x = rng.uniform(-1, 1, (4000, 2))
    field = on_grid(x, np.column_stack([-x[:, 1], x[:, 0]]), smooth=1.0, min_mass=0.05)
    u, v = field.velocity
    inside = slice(5, N_GRID - 5)
    np.testing.assert_allclose(u[inside, inside], np.repeat(-field.y[inside, None], N_GRID - 10, axis=1), atol=0.08)
    np.testing.assert_allclose(v[inside, inside], np.repeat(field.x[None, inside], N_GRID - 10, axis=0), atol=0.08)


def test_no_lines_where_there_are_no_cells(rng):
    x = np.concatenate([rng.normal(0, 0.1, (300, 2)), rng.normal(5, 0.1, (300, 2))])
    field = on_grid(x, np.ones_like(x), smooth=1.0, min_mass=0.05)
    middle = np.abs(field.x - 2.5) < 1
    assert np.isnan(field.velocity[:, middle][:, :, middle]).all()
    assert np.isfinite(field.velocity).any()


def test_streamlines_are_among_the_cells(moving):
    ax = dbx.pl.velocity_stream(moving, color="half", show=False)
    x = moving.obsm["X_umap"]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), x)
    segments = np.concatenate([c.get_segments() for c in ax.collections if hasattr(c, "get_segments")])
    assert (segments.min(axis=(0, 1)) >= x.min(axis=0) - 1).all()
    assert (segments.max(axis=(0, 1)) <= x.max(axis=0) + 1).all()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_phase_portrait(moving):
    gene = moving.var_names[moving.var["velocity_genes"]][0]
    ax = dbx.pl.velocity_phase(moving, gene, show=False)
    at = moving.var_names.get_loc(gene)
    drawn = ax.collections[0]
    np.testing.assert_allclose(drawn.get_offsets(), np.column_stack([moving.layers[k][:, at] for k in ("Ms", "Mu")]))
    np.testing.assert_allclose(drawn.get_array(), moving.layers["velocity"][:, at])
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), moving.var["velocity_gamma"].iloc[at] * line.get_xdata())
    assert f"slope {moving.var['velocity_gamma'].iloc[at]:.2f}" in ax.get_title()


def test_wrong_input(moving):
    with pytest.raises(KeyError, match="Sox2"):
        dbx.pl.velocity_phase(moving, ["gene1", "Sox2"], show=False)
    with pytest.raises(KeyError, match=r"velocity_pca'\] is missing"):
        dbx.pl.velocity_stream(moving, "pca", show=False)
    with pytest.raises(KeyError, match=r"Ms'\] is missing .* dbx.pp.moments"):
        dbx.pl.velocity_phase(cells_without_moments(), "gene1", show=False)
