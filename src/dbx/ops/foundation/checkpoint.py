"""Files of trained networks: tensors by documented names, their genes and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from flax import nnx

from dbx.data.safetensors import read_safetensors, write_safetensors
from dbx.ops.arrays import as_float
from dbx.ops.checks import listed
from dbx.ops.foundation.objectives import Predictor
from dbx.ops.operator import Constant

FORMAT = "dbx.foundation_model.1"
OF_GENES = ("gene_embedding", "gene_decoder", "frequency", "log_frequency", "log_theta", "mean", "log_sd")
VALUES_OF_GENES = ("value_weight", "value_centre", "value_spread")
FREE = ("max_length", "sampling", "pooling")
"""Settings that may differ from those of a file."""


def tensor_names(model: Predictor) -> dict[str, tuple[Any, ...]]:
    """Name in a file -> path of each variable: ``gene_embedding``, ``value_...``, ``blocks.N...``, and others."""
    names = {}
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        parts = [str(part) for part in path]
        if parts[-1] == "batch_shift" or not isinstance(variable, nnx.Param | Constant):
            continue
        parts = [part for part in parts if part != "network"]
        parts = parts[1:] if parts[0] == "tokens" and parts[1] == "blocks" else parts
        name = ".".join(parts)
        names["value_" + name.removeprefix("values.") if parts[0] == "values" else name] = path
    return names


def save(path: str, model: Predictor, genes: Sequence[str]) -> None:
    """Write a model; ``genes`` are the names of its vocabulary."""
    flat = dict(nnx.to_flat_state(nnx.state(model)))
    tensors = {name: np.asarray(flat[at][...]) for name, at in tensor_names(model).items()}
    about = {"format": FORMAT, "genes": json.dumps(list(map(str, genes))), "settings": json.dumps(settings_of(model))}
    write_safetensors(path, tensors, about)


def vocabulary(path: str) -> list[str]:
    """The genes of a file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not a file of this kind.
    """
    return json.loads(_read(path)[1]["genes"])


def load(path: str, model: Predictor, rows: np.ndarray) -> None:
    """Set the variables of a model from a file, in place; ``rows`` are the genes' places in it, -1 for unknown ones.

    Unknown genes keep what they have.

    Raises
    ------
    ValueError
        The file was written with other settings, or tensors are missing or of another shape.
    """
    tensors, about = _read(path)
    _check_settings(path, json.loads(about["settings"]), settings_of(model))
    names, known = tensor_names(model), rows >= 0
    if missing := [name for name in names if name not in tensors]:
        msg = f"{path} lacks the tensors {listed(missing)}: it was written by another version, or is incomplete."
        raise ValueError(msg)
    flat = dict(nnx.to_flat_state(nnx.state(model)))
    for name, at in names.items():
        values, tensor = np.array(flat[at][...]), tensors[name]
        if name in OF_GENES + VALUES_OF_GENES:
            if tensor.shape[1:] != values.shape[1:] or len(tensor) <= rows.max(initial=0):
                raise ValueError(_wrong_shape(path, name, tensor, values))
            values[known] = tensor[rows[known]]
        elif tensor.shape == values.shape:
            values = tensor
        else:
            raise ValueError(_wrong_shape(path, name, tensor, values))
        owner: Any = model
        for part in at[:-1]:
            owner = owner[part] if isinstance(part, int) else getattr(owner, part)
        kind = type(getattr(owner, at[-1]))
        setattr(owner, at[-1], kind(as_float(values)))


def settings_of(model: Predictor) -> dict[str, Any]:
    """What tensors depend on."""
    return {**asdict(model.network.shape), "likelihood": model.likelihood, "objective": model.objective}


def _read(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    tensors, about = read_safetensors(path)
    if about.get("format") != FORMAT or not {"genes", "settings"} <= set(about):
        msg = (
            f"{path} was not written by dbx.tl.foundation_model(save_weights=...): its header does not say {FORMAT!r}."
        )
        raise ValueError(msg)
    return tensors, about


def _check_settings(path: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    other = [f"{name}={there.get(name)!r}" for name in here if name not in FREE and there.get(name) != here[name]]
    if other:
        msg = f"{path} was trained with {', '.join(other)}: pass the same."
        raise ValueError(msg)


def _wrong_shape(path: str, name: str, tensor: np.ndarray, values: np.ndarray) -> str:
    return f"{name!r} in {path} has shape {tensor.shape}, which does not go with {values.shape}."
