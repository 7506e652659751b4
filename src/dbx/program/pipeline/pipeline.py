"""Recorded steps composed by their slots into one differentiable function of all their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.checks import UnknownNameError
from dbx.ops.operator import Operator
from dbx.ops.values import Codes, Graph
from dbx.program.pipeline.blocks import first_rows, renew
from dbx.program.pipeline.parameters import read_values, write_parameters
from dbx.program.pipeline.values import check_slots
from dbx.program.record.inputs import own_rows
from dbx.program.record.registry import Registry, load_program
from dbx.program.record.step import Step
from dbx.program.replay.plan import Plan, Version, excluded_text, make_plan, read_versions
from dbx.program.replay.reference import fitted
from dbx.program.slots.kinds import KINDS, Request, Value, leading

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

Parameters = dict[str, dict[str, Any]]


class Run(NamedTuple):
    """How a step ran within a pipeline."""

    operator: Operator
    inputs: dict[str, Any]
    outputs: dict[str, Any]


class Pipeline:
    """A differentiable function ``(parameters, slots) -> slots`` made of an AnnData's recorded steps.

    Parameters
    ----------
    registry
        The recorded steps.
    plan
        Which of them take part, and what they start from.
    operators
        Step name -> fitted operator, its references attached.

    Examples
    --------
    >>> pipeline = dbx.Pipeline.from_adata(adata)  # doctest: +SKIP
    >>> print(pipeline.describe())  # doctest: +SKIP
    >>> slots = pipeline(pipeline.parameters, {"X": counts})  # doctest: +SKIP
    """

    def __init__(self, registry: Registry, plan: Plan, operators: Mapping[str, Operator]):
        self.registry = registry
        self.plan = plan
        self.operators = dict(operators)
        self._split: dict[str, Any] = {
            name: nnx.split(operator, nnx.Param, ...) for name, operator in self.operators.items()
        }

    @classmethod
    def from_adata(cls, adata: AnnData | MuData, steps: Iterable[str] | None = None) -> Pipeline:
        """Compose the program recorded in ``adata``.

        Parameters
        ----------
        adata
            The annotated data with a program in ``uns["dbx"]``; transductive steps keep their reference cells in its
            slots.
        steps
            Names of the steps wanted, all that map cells by default; what they need of others comes along.

        Returns
        -------
        The pipeline. It starts from the slots as they were before the program.

        Raises
        ------
        ValueError
            There is no program, or a step named in ``steps`` cannot run: it is stale, or an input was changed outside
            dbx.
        """
        registry = load_program(adata)
        plan = make_plan(registry, lambda version: version.writer is None and version.reader is None, names=steps)
        if steps is not None and plan.excluded:
            raise ValueError(excluded_text(plan.excluded))
        operators, needed = {}, set()
        for step in plan.steps:
            operators[step.name] = fitted(adata, registry, step)
            for name in step.reads.keys() - _of_fitted_cells(operators[step.name]):
                needed.update(read_versions(registry, step, step.reads[name]))
        plan.roots = [version for version in plan.roots if version in needed]
        return cls(registry, plan, operators)

    @property
    def parameters(self) -> Parameters:
        """Step name -> parameter name -> array: everything a gradient is taken in, at its fitted value."""
        split = {name: nnx.to_flat_state(params) for name, (_, params, _) in self._split.items()}
        named = {
            name: {".".join(map(str, path)): variable[...] for path, variable in flat} for name, flat in split.items()
        }
        return {name: arrays for name, arrays in named.items() if arrays}

    @property
    def states(self) -> dict[str, tuple[Any, Any]]:
        """Step name -> parameters and other variables of its operator: an argument of functions that are compiled."""
        return {name: (parameters, rest) for name, (_, parameters, rest) in self._split.items()}

    def with_states(self, states: Mapping[str, tuple[Any, Any]]) -> Pipeline:
        """The same steps with other :attr:`states`."""
        pipeline = copy(self)
        pipeline._split = {name: (graph, *states[name]) for name, (graph, _, _) in self._split.items()}
        return pipeline

    @property
    def inputs(self) -> dict[str, list[str] | None]:
        """Slot -> names of the genes its columns must be, in this order (None for a slot that has no genes)."""
        return {version.slot: self._genes(version) for version in self.plan.roots}

    def __call__(
        self,
        parameters: Parameters,
        slots: Mapping[str, Any],
        *,
        rows: Any = None,
        genes: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run the steps on device values; pure, so that it can be jitted and differentiated.

        Parameters
        ----------
        parameters
            As :attr:`parameters`; steps or names left out keep their fitted values.
        slots
            A value for each slot in :attr:`inputs`: an array of shape (n_cells, n_genes) with the genes named there,
            Codes for a categorical column.
        rows
            Array of shape (n_cells,), int32: each cell's row among the fitted cells, -1 for a new one. Fitted cells get
            back the stored results of transductive steps. All cells are new by default.
        genes
            Slot -> names of the genes of its columns, where they are others or in another order than :attr:`inputs`
            says.

        Returns
        -------
        Slot -> value after the last step that wrote it.
        """
        return self.trace(parameters, slots, rows=rows, genes=genes)[0]

    def trace(
        self,
        parameters: Parameters,
        slots: Mapping[str, Any],
        *,
        rows: Any = None,
        genes: Mapping[str, Any] | None = None,
        block: int | None = None,
        together: bool = False,
    ) -> tuple[dict[str, Any], dict[str, Run]]:
        """What a call returns, and how each step ran: step name -> :class:`Run`.

        With a ``block`` only that many cells, the first, pass the first step that works on a graph: the others are
        their neighbours, and where it keeps its reference cells these are brought up to date by all of them.
        ``together`` is for all fitted cells in their order: steps that work on a graph, and those whose results depend
        on all cells, are functions of what they are given here, with the neighbour assignments held fixed.
        """
        genes = {**self.inputs, **(genes or {})}
        check_slots(slots, genes)
        env = {version: Value(slots[version.slot], genes[version.slot]) for version in self.plan.roots}
        n_cells = _n_cells(next(iter(env.values())).value)
        rows = jnp.full(n_cells, -1, jnp.int32) if rows is None else jnp.asarray(rows, jnp.int32)
        latest: dict[str, Any] = {}
        runs: dict[str, Run] = {}
        for step in self.plan.steps:
            operator = self._merged(step.name, parameters.get(step.name, {}))
            inputs = own_rows(operator, rows) | {
                name: self._input(env, step, name) for name in step.reads if name not in _of_fitted_cells(operator)
            }
            if (together or block is not None) and type(operator).blockwise:
                renew(operator, inputs, rows)
            if block is not None and type(operator).blockwise:
                inputs = {name: first_rows(value, block) for name, value in inputs.items()}
                rows = rows[:block]
            outputs = operator.together(**inputs) if together else operator(**inputs)
            runs[step.name] = Run(operator, inputs, outputs)
            names = None if step.genes is None else list(step.genes)
            for name, value in outputs.items():
                if name in step.writes:
                    slot = step.writes[name]
                    env[Version(slot, step.id)] = Value(value, names if slot.is_gene_matrix else None)
                    latest[slot] = value
        return latest, runs

    def read(self, adata: AnnData | MuData, cells: Any = None) -> dict[str, Any]:
        """What the pipeline starts from, as a call takes it.

        Parameters
        ----------
        adata
            The data the pipeline was made of, or new cells in the state it started from (counts are found in a layer,
            too).
        cells
            Row numbers, a slice or a mask of the cells wanted; all by default.

        Returns
        -------
        Slot -> dense array of shape (n_cells, n_genes) with the genes named in :attr:`inputs`, or Codes.

        Raises
        ------
        ValueError
            New cells are not in the state that the pipeline starts from: they hold what one of its steps writes, which
            is recognised, or values on another scale.
        """
        return read_values(self, adata, cells)

    def write(self, adata: AnnData | MuData, parameters: Parameters) -> None:
        """Put trained parameters into the program that the pipeline was made of.

        The steps are recorded with them, and what they and the row-wise steps after them write is computed again.
        Layouts, graphs and partitions stay as they are and are marked stale.

        Parameters
        ----------
        adata
            The data the pipeline was made of.
        parameters
            As :attr:`parameters`; what is left out stays as it is.

        Raises
        ------
        KeyError
            There is no such step, or no such parameter of this shape.
        ValueError
            The program changed since the pipeline was made; a parameter is not finite.
        """
        write_parameters(self, adata, parameters)

    def describe(self) -> str:
        """The wiring as text: a line per step, what feeds it, what it writes, and what is left out and why."""
        lines = [f"starts from: {', '.join(version.slot for version in self.plan.roots) or 'nothing'}"]
        for step in self.plan.steps:
            feeds = []
            for name, read in step.reads.items():
                for version in read_versions(self.registry, step, read):
                    source = self.registry.by_id(version.writer)
                    feeds.append(f"{name} <- {version.slot}" + (f" ({source.name})" if source else ""))
            made = ", ".join(slot for name, slot in step.writes.items() if not self._is_view(step, name))
            count = sum(np.size(array) for array in self.parameters.get(step.name, {}).values())
            learnt = f"  [{count:,} parameters]" if count else ""
            lines.append(f"{step.name}: {'; '.join(feeds)} -> {made}{learnt}")
        lines += [f"left out: {name} ({reason})" for name, reason in self.plan.excluded.items()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Pipeline({' -> '.join(step.name for step in self.plan.steps)})"

    def _is_view(self, step: Step, name: str) -> bool:
        return self.operators[step.name].outputs[name].view

    def _genes(self, version: Version) -> list[str] | None:
        """Genes that the steps reading a root need, in the first reader's order."""
        if not version.slot.is_gene_matrix:
            return None
        names: dict[str, None] = {}
        for step in self.plan.steps:
            for read in step.reads.values():
                if step.genes is not None and version in read_versions(self.registry, step, read):
                    names.update(dict.fromkeys(step.genes))
        return list(names)

    def _input(self, env: Mapping[Version, Value], step: Step, name: str) -> Any:
        port, entry = self.operators[step.name].inputs[name], step.reads[name]
        values = tuple(leading(env[version], entry.first) for version in read_versions(self.registry, step, entry))
        return KINDS[port.kind].connect(
            Request(step=step.name, port=port, slots=entry.slots, values=values, genes=step.genes)
        )

    def _merged(self, name: str, parameters: Mapping[str, Any]) -> Operator:
        graphdef, params, rest = self._split[name]
        if parameters:
            flat = dict(nnx.to_flat_state(params))
            unknown = set(parameters) - {".".join(map(str, path)) for path in flat}
            if unknown:
                msg = f"Step {name!r} has no parameter {', '.join(sorted(unknown))}."
                raise UnknownNameError(msg)
            for path, variable in flat.items():
                key = ".".join(map(str, path))
                flat[path] = variable.replace(parameters[key]) if key in parameters else variable
            params = nnx.from_flat_state(flat)
        return nnx.merge(graphdef, params, rest, copy=True)


def _of_fitted_cells(operator: Operator) -> set[str]:
    """Inputs that new cells go without."""
    return {name for name, port in operator.inputs.items() if port.of_fitted_cells}


def _n_cells(value: Any) -> int:
    return len(value) if isinstance(value, Codes | Graph) else value.shape[0]
