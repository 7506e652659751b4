"""Trained networks on sequences as files, and as what a training starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx._version import __version__
from dbx.data.safetensors import read_safetensors, write_safetensors
from dbx.ops.checks import listed
from dbx.ops.sequence.network import SequenceNetwork

HEADS = ("classify",)
"""Parts of the network that belong to the classes of one training, and are not taken over."""
VOCABULARY = ("method", "alphabet", "tokens", "k", "pooling", "positions", "length", "n_heads", "reverse_complement")
"""Settings that a file must share with the call."""


def facts_of(operator: Any) -> dict[str, Any]:
    """What a file says of its network."""
    known = {"method": operator.name, "pooling": operator._pooling, "tokens": "base", "k": None, "positions": None}
    named = {name: getattr(operator, name, None) for name in VOCABULARY if name not in ("method", "pooling")}
    if named["tokens"] != "kmer":
        named |= {"tokens": "base", "k": None}
    if not operator._fixed:
        named["length"] = None
    return known | named


def save(operator: Any, path: str | PathLike[str]) -> None:
    """Write the network of a fitted operator: its tensors by name, with a leading axis for members of an ensemble."""
    tensors = {name: np.asarray(value, np.float32) for name, value in tensors_of(operator.network).items()}
    facts = {"format": "dbx.sequence", "dbx": __version__, "classes": list(operator.classes), **facts_of(operator)}
    write_safetensors(path, tensors, {name: json.dumps(value) for name, value in facts.items()})


def load(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors of a file by name, and what it says of its network."""
    tensors, about = read_safetensors(path)
    return tensors, {name: _value(text) for name, text in about.items()}


def _value(text: str) -> Any:
    """Texts that are no JSON are of other tools."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def tensors_of(network: SequenceNetwork) -> dict[str, Any]:
    """Parameters by dotted name."""
    flat = nnx.to_flat_state(nnx.state(network, nnx.Param))
    return {".".join(map(str, path)): variable[...] for path, variable in flat}


def start_from(network: SequenceNetwork, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Set the parameters of a network, except of its head of classes, in place.

    Raises
    ------
    ValueError
        Tensors are missing or of another shape; they are named.
    """
    wanted = {name: value for name, value in tensors_of(network).items() if name.split(".")[0] not in HEADS}
    missing = [name for name in wanted if name not in tensors]
    if missing:
        msg = f"{source} lacks the tensors {listed(missing)}: it is of another network, or not complete."
        raise ValueError(msg)
    found = {}
    for name, value in wanted.items():
        given = tensors[name]
        if name.startswith("project."):  # principal axes, the first ones first
            given = given[..., : value.shape[-1]]
        if given.shape != value.shape:
            msg = (
                f"The tensor {name!r} of {source} has the shape {tensors[name].shape}, but this network needs "
                f"{value.shape}: pass the settings that the weights were trained with."
            )
            raise ValueError(msg)
        found[name] = given
    flat = dict(nnx.to_flat_state(nnx.state(network, nnx.Param)))
    for path, variable in flat.items():
        name = ".".join(map(str, path))
        if name in found:
            flat[path] = variable.replace(jnp.asarray(found[name], jnp.float32))
    nnx.update(network, nnx.from_flat_state(flat))


def check_vocabulary(facts: Mapping[str, Any], operator: Any, source: str) -> None:
    """Refuse weights of another method, alphabet or kind of token; a file without metadata is only checked by shapes.

    Raises
    ------
    ValueError
        They differ; both values are named.
    """
    own = facts_of(operator)
    wrong = [name for name in VOCABULARY if name in facts and facts[name] != own[name]]
    if wrong:
        said = " and ".join(f"{name}={facts[name]!r}, not {own[name]!r}" for name in wrong)
        msg = f"{source} holds weights of {said}: pass the settings that the weights were trained with."
        raise ValueError(msg)
