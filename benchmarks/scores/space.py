"""Steps of transport, space and networks for their scorers: the tables of ``benchmarks/space.md``."""

import numpy as np

import dbx


def ot(adata, time_key, pairs, seed, **settings):
    """Couplings and growth, for ``score_ot.py``."""
    if "prior_growth" in adata.obs:
        settings.setdefault("growth_key", "prior_growth")
    dbx.tl.ot_trajectory(adata, time_key, time_pairs=pairs, random_state=seed, **settings)
    couplings, growth = dbx.get.ot(adata), {}
    for first, second in pairs:
        rate = adata.obs["ot_growth"].to_numpy(float)[(adata.obs[time_key] == first).to_numpy()]
        growth[first, second] = rate ** (second - first)
    return {pair: couplings[pair].matrix() for pair in pairs}, growth


def slices(adata, slice_key, seed, **settings):
    """Positions and the coupling, for ``score_slices.py``."""
    dbx.tl.align_slices(adata, slice_key, random_state=seed, **{"reference": "a", **settings})
    (coupling,) = dbx.get.align_slices(adata, slice_key=slice_key).values()
    return np.asarray(adata.obsm["spatial_aligned"]), {("a", "b"): coupling.toarray()}


def gat(adata, n_domains, seed, **settings):
    """Domains by attention, for ``score_domains.py``."""
    return _domains(adata, n_domains, seed, method="gat", **settings)


def smooth(adata, n_domains, seed, **settings):
    """Domains by smoothing, for ``score_domains.py``."""
    return _domains(adata, n_domains, seed, **settings)


def _domains(adata, n_domains, seed, method="smooth", **settings):
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    if method == "smooth":
        dbx.pp.pca(adata, n_comps=min(20, adata.n_vars - 1))
    key = "slice" if "slice" in adata.obs else None
    dbx.tl.spatial_domains(adata, n_domains, method=method, batch_key=key, random_state=seed, **settings)
    return adata.obs["spatial_domain"].to_numpy()


def grn(adata, tf_names, seed, **settings):
    """Edges, for ``score_grn.py``."""
    dbx.tl.grn(adata, tf_names=list(tf_names), random_state=seed, **settings)
    return adata.uns["grn"]


def ligrec(adata, groupby, resource, seed, pvalue="pvalue_specific", **settings):
    """Triples, for ``score_ligrec.py``; with positions those of touching cells."""
    if "spatial" in adata.obsm:
        pvalue, settings = "pvalue_spatial", {"spatial_key": "spatial", "radius": 1.0, **settings}
    dbx.tl.ligrec(adata, groupby, resource=resource, random_state=seed, **settings)
    table = adata.uns["ligrec"].rename(columns={"ligand_complex": "ligand", "receptor_complex": "receptor"})
    table["pvalue"] = table[pvalue]
    if pvalue == "pvalue_spatial":
        table["score"] = table["score_spatial"]
    return table


def communication(adata, groupby, resource, seed, **settings):
    """Links, for ``score_ligrec.py --comm``."""
    dbx.tl.communication(adata, groupby, resource=resource, radius=1.0, random_state=seed, **settings)
    return adata.uns["communication"]["links"]
