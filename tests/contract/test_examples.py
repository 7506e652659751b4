"""Every operator of dbx has an example, and every input and output is in one of its examples."""

from contract.promise import examples
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator

OWN = [name for name in CATALOGUE if CATALOGUE[name].__module__.startswith("dbx.")]


def test_every_operator_has_an_example():
    without = set(OWN) - {example.operator for example in examples()}
    assert not without, f"tests/contract/examples has no example of {', '.join(sorted(without))}"


def test_every_input_and_output_is_in_an_example():
    missing = []
    for name in OWN:
        operator, own = CATALOGUE[name], [example for example in examples() if example.operator == name]
        inputs = {key for key, port in operator.inputs.items() if port.kind != "rows"}
        missing += [f"{name}: input {key}" for key in inputs - {key for e in own for key in e.reads}]
        outputs = set(operator.outputs) - {key for e in own for key in operator.outputs if key not in e.lacks}
        missing += [f"{name}: output {key}" for key in outputs]
    assert not missing


def test_examples_are_told_apart():
    titles = [str(example) for example in examples()]
    assert len(titles) == len(set(titles))


DECLARED = {"name", "inputs", "outputs", "rowwise", "sparse", "host", "precision", "config", "fit"}
"""What every promise is about."""
TESTED = {
    "loss": "test_hooks",
    "units": "test_hooks",
    "undone": "test_hooks",
    "counted_totals": "test_hooks",
    "alternatives": "tests/program/replay/test_recognised",
    "in_pieces": "tests/pp/test_regress_out",
    "jitter": "test_hooks",
    "depicted": "tests/program/training/test_layouts",
    "settle": "test_hooks",
    "resumes": "test_refit",
    "fit_config": "test_refit",
    "blockwise": "test_references",
    "references": "test_references",
    "refresh": "test_references",
    "neighbours": "test_references",
    "prepared": "test_references",
    "on_host": "test_references",
    "of_all_cells": "test_together",
    "in_space": "test_rows",
    "in_sequences": "tests/program/training/test_optimize_sequences",
    "together": "test_together",
    "role": "test_declared",
    "check_differentiable": "test_gradients",
    "declared": "tests/test_own_steps",
    "functions": "tests/test_own_steps",
    "unlisted": "tests/test_own_steps",
    "result": "tests/program/record/test_replaced",
    "config_after": "tests/tl/test_ot_trajectory",
    "listed": "tests/program/record/test_listing",
}
"""Optional part of an operator -> where its promise is tested."""


def test_every_optional_part_of_an_operator_has_a_promise():
    own = {name for name in (*vars(Operator), *Operator.__annotations__) if not name.startswith("_")}
    assert own == DECLARED | set(TESTED)
