"""Hidden Markov models along rows or genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dbx.ops.checks import as_names, check_known, listed
from dbx.ops.hmm.gene_markov import GeneHMM, posterior_output
from dbx.ops.hmm.markov import HMM
from dbx.ops.hmm.model_operator import MarkovOperator
from dbx.program import Slot, check_key, matrix_slot, resolve_seed, run_step
from dbx.tl._along_genes import along_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def hmm(
    adata: AnnData | MuData,
    n_states: int,
    *,
    emission: Literal["gaussian", "categorical", "poisson", "nb"] = "gaussian",
    axis: Literal["obs", "var"] = "obs",
    layer: str | None = None,
    use_rep: str | None = None,
    codes_key: str | None = None,
    sequence_key: str | None = None,
    position_key: str | None = None,
    chromosome_key: str = "chromosome",
    size_factors: str | None = None,
    n_symbols: int | None = None,
    labels_key: str | None = None,
    unlabeled: str = "Unknown",
    params: Mapping[str, Any] | None = None,
    init: Literal["kmeans", "copy_number", "random"] = "kmeans",
    fit: bool = True,
    learn: Sequence[str] = ("startprob", "transmat", "emission"),
    share: bool = True,
    method: Literal["baum-welch", "gradient"] = "baum-welch",
    n_init: int = 10,
    max_iter: int = 200,
    tol: float | None = 1e-4,
    transmat_prior: float = 0.0,
    sticky: float | None = None,
    emission_prior: float = 0.0,
    min_variance: float | None = None,
    temperature: float = 1.0,
    learning_rate: float = 5e-2,
    order_states: bool = True,
    state_names: Sequence[str] | None = None,
    posteriors: bool | None = None,
    key_added: str = "hmm",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find the hidden states of sequences by a hidden Markov model.

    Rows are positions of sequences (genomic bins, time points, clones, bases), or, with ``axis="var"``, genes are: each
    row is then a set of sequences, one for each chromosome, and all share their parameters. The parameters are fitted
    by Baum and Welch (Rabiner, Proceedings of the IEEE, 1989) from several starts side by side, of which the best is
    kept; states are those of the most probable path (Viterbi), posteriors are exact. Several features are independent
    given the state. A missing value (NaN, or -1 as a code) is left out, and its row still has a state. Rows need not be
    sorted.

    Parameters
    ----------
    adata
        Annotated data.
    n_states
        Number of states.
    emission
        Distribution of the data given the state: ``"gaussian"`` with a variance of its own for each feature,
        ``"categorical"`` for codes, ``"poisson"``, or ``"nb"``, whose variance is mean + mean^2 / theta, for counts.
    axis
        ``"obs"``: rows are positions. ``"var"``: genes or bins are, sorted by ``var[chromosome_key]`` and
        ``var["start"]`` (or in their order, without that column); those without a chromosome take no part. Parameters
        are fitted on at most 2 million values, of rows drawn at random.
    layer
        Layer with the data instead of ``X``.
    use_rep
        Key of ``obsm`` with the data instead of ``X``.
    codes_key
        Column of ``obs`` with the data instead of ``X``: categories, or codes from 0 on.
    sequence_key
        Column of ``obs`` that names the sequence of each row; without it all rows are one.
    position_key
        Column of ``obs`` with numbers by which the rows of a sequence are ordered; by default their order in ``adata``.
    chromosome_key
        Column of ``var`` with the chromosomes, with ``axis="var"``.
    size_factors
        Column of ``obs`` with factors of the means of counts.
    n_symbols
        Number of symbols where codes do not show it; by default the largest code plus 1.
    labels_key
        Column of ``obs`` with states that are known, the others missing: these rows keep them. The categories are the
        first states, in their order.
    unlabeled
        Category of ``labels_key`` for rows whose state is not known.
    params
        Parameters to start from: ``startprob``, ``transmat``, and ``emissionprob``, ``means`` and ``variances``,
        ``rates``, or ``means`` and ``theta``. A transition of probability 0 stays impossible.
    init
        Without ``params``: ``"kmeans"``, half of the starts from clusters of running means and half from random
        ones; ``"random"``; or ``"copy_number"``, three states around 0 with few transitions, for log ratios: an event
        has two positions at least, and a value more than 4 deviations of the noise above, or below, the three on either
        side counts as missing (DNAcopy's ``smooth.CNA`` moves such values).
    fit
        False computes with ``params`` as they are.
    learn
        What the fit may change, among ``"startprob"``, ``"transmat"`` and ``"emission"``.
    share
        With ``axis="var"``: one set of parameters for all rows. False fits those of each row (also of new ones) by
        Baum-Welch from the shared ones on; theta of ``"nb"`` stays that of all.
    method
        ``"baum-welch"``, or ``"gradient"``: first up to ``max_iter`` steps of Adam along the gradient of the mean
        log-likelihood, all starts side by side, then Baum-Welch from the best parameters on the way of each.
    n_init
        Number of starts.
    max_iter
        Largest number of passes.
    tol
        Gain of log-likelihood in a pass, in nats, below which a fit ends (steps along the gradient: in ten steps);
        None for exactly ``max_iter`` passes.
    transmat_prior, sticky, emission_prior
        Pseudo-counts of each transition, of staying in a state, and of emissions: of each symbol, or of an observation
        at the overall mean (for variances, with the overall variance). ``sticky`` is 0 by default, and with
        ``init="copy_number"`` 10 for each position, so that single outliers are not called.
    min_variance
        Smallest variance; by default 1e-4 of that of the feature.
    temperature
        Divides log-probabilities of emissions: above 1 the data weigh less, as for positions that are not independent.
    learning_rate
        Step size of ``method="gradient"``, in logits, logarithms, and standard deviations of the data.
    order_states
        Sort states by the mean of the first feature; not with ``params`` or ``labels_key``.
    state_names
        Names of states; by default their numbers, or with ``labels_key`` the labels.
    posteriors
        Write the posteriors; by default only with ``axis="obs"``: along genes they are a layer for each state.
    key_added
        Key in ``uns``, and part of the other keys.
    random_state
        Seed of the starts.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["hmm_state"]`` (``axis="obs"``)
        State of each row on the most probable path, categorical.
    ``obsm["X_hmm"]`` (``axis="obs"``)
        Posterior of each state, array of shape (n_rows, n_states), float64.
    ``layers["hmm_state"]`` (``axis="var"``)
        Number of the state of each row and gene, int8; -1 for genes without a chromosome.
    ``layers["hmm_mean"]`` (``axis="var"``)
        Mean of the data given the state, averaged by the posterior; NaN for genes without a chromosome.
    ``layers["hmm_posterior_0"]``, ... (``axis="var"``, ``posteriors=True``)
        Posterior of each state, by its name; NaN for genes without a chromosome.
    ``obsm["hmm_params"]`` (``share=False``)
        Parameters of each row one after another: startprob, transmat by rows, and those of the emission by states.
    ``uns["hmm"]``
        ``params``; ``log_likelihood`` and ``log_likelihood_per_sequence`` in nats; ``history``, the log-likelihood
        (plus the log prior) of each pass of the best start; ``starts``, the last one of each start; ``converged`` and
        ``bic``.

    Raises
    ------
    KeyError
        There is no such layer, key or column.
    ValueError
        Counts or codes are not whole numbers, a sequence has missing values only, there are fewer distinct values than
        states, or ``params`` have other shapes or rows that do not sum to 1.

    See Also
    --------
    dbx.get.segments : Runs of equal state as a table.

    Notes
    -----
    The reference implementation is hmmlearn. :func:`dbx.rerun` finds the states of new sequences by the stored
    parameters.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import dbx
    >>> rng = np.random.default_rng(0)
    >>> x = np.repeat([0.0, 3.0, 0.0], 50) + rng.normal(size=150)
    >>> bins = ad.AnnData(x[:, None])
    >>> dbx.tl.hmm(bins, 2)
    >>> dbx.get.segments(bins)[["start", "end", "state"]]
       start  end state
    0      0   49     0
    1     50   99     1
    2    100  149     0
    """
    check_key(key_added)
    check_known(axis, ("obs", "var"), "axis")
    reads = _reads(layer, use_rep, codes_key, emission, mod)
    columns = {
        "sequences": sequence_key,
        "positions": position_key,
        "sizes": size_factors,
        "labels": labels_key,
    }
    reads |= {name: Slot("obs", (key,), mod) for name, key in columns.items() if key is not None}
    if size_factors is not None and emission not in ("poisson", "nb"):
        msg = f'size_factors are for emission="poisson" or "nb"; got emission={emission!r}.'
        raise ValueError(msg)
    names = () if state_names is None else tuple(map(str, as_names(state_names, "state_names")))
    settings: dict[str, Any] = {
        "n_states": n_states,
        "emission": emission,
        "params": None if params is None else as_tuples(params),
        "init": init,
        "fitted": fit,
        "learn": tuple(as_names(learn, "learn")),
        "method": method,
        "n_init": n_init,
        "max_iter": max_iter,
        "tol": tol,
        "transmat_prior": transmat_prior,
        "sticky": sticky,
        "emission_prior": emission_prior,
        "min_variance": min_variance,
        "temperature": temperature,
        "learning_rate": learning_rate,
        "n_symbols": n_symbols,
        "order_states": order_states,
        "names": names,
    }
    operator: MarkovOperator
    writes = {"fitted_model": f"uns/{key_added}"}
    if axis == "var":
        _check_along_genes(reads, use_rep=use_rep, codes_key=codes_key)
        chromosomes, places = along_genes(adata, chromosome_key, mod)
        settings |= {"share": share, "posteriors": bool(posteriors)}
        operator = GeneHMM.declared(settings)(chromosomes=chromosomes, places=places, **settings)
        if not share:
            writes["row_params"] = f"obsm/{key_added}_params"
        writes |= {"states": f"layers/{key_added}_state", "mean": f"layers/{key_added}_mean"}
        if posteriors:
            of_state = {
                posterior_output(k): f"layers/{key_added}_posterior_{name}" for k, name in enumerate(operator.levels)
            }
            writes |= of_state
    else:
        if not share:
            msg = 'share=False is for axis="var": parameters of each row. Rows are positions here.'
            raise ValueError(msg)
        operator = HMM(**settings, unlabeled=unlabeled)
        writes["states"] = f"obs/{key_added}_state"
        if posteriors is not False:
            writes["posteriors"] = f"obsm/X_{key_added}"
    seed = resolve_seed(random_state, None)
    return run_step(adata, operator, reads=reads, writes=writes, seed=seed, copy=copy, mod=mod)


def _reads(layer: str | None, use_rep: str | None, codes_key: str | None, emission: str, mod: str | None) -> dict:
    """The one slot with the data."""
    given = {"layer": layer, "use_rep": use_rep, "codes_key": codes_key}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        msg = f"Pass only one of {' and '.join(named)}: a model has one kind of data."
        raise ValueError(msg)
    check_known(emission, ("gaussian", "categorical", "poisson", "nb"), "emission")
    if codes_key is not None and emission != "categorical":
        msg = f'codes_key is for emission="categorical"; got emission={emission!r}.'
        raise ValueError(msg)
    if codes_key is not None:
        return {"codes": Slot("obs", (codes_key,), mod)}
    if use_rep is not None:
        return {"z": Slot("obsm", (use_rep,), mod)}
    return {"x": Slot.parse(matrix_slot(layer), mod)}


def _check_along_genes(reads: Mapping[str, Any], **data: str | None) -> None:
    """Refuse what is for rows as positions."""
    names = {"sequences": "sequence_key", "positions": "position_key", "labels": "labels_key"}
    given = [names[name] for name in reads if name in names] + [name for name, value in data.items() if value]
    if given:
        msg = f'{listed(given)}: only with axis="obs". With axis="var" sequences are chromosomes of genes.'
        raise ValueError(msg)


def as_tuples(params: Mapping[str, Any]) -> tuple[tuple[str, tuple], ...]:
    """Arrays by name as nested tuples, as a program stores settings.

    Raises
    ------
    ValueError
        They are not arrays of numbers by name.
    """
    if not isinstance(params, Mapping):
        msg = (
            "params must be a dict of arrays by name, such as uns['hmm']['params'] of another fit: startprob, "
            f"transmat, and those of the emission; got {type(params).__name__}."
        )
        raise ValueError(msg)
    for name, value in params.items():
        try:
            np.asarray(value, np.float64)
        except (TypeError, ValueError):
            msg = f"params[{name!r}] must be an array of numbers with rows of one length; got {value!r}."
            raise ValueError(msg) from None

    def nested(value):
        return tuple(map(nested, value)) if isinstance(value, list) else value

    return tuple((str(name), nested(np.asarray(value, np.float64).tolist())) for name, value in params.items())
