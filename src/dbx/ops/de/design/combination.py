"""Linear combinations written as a text."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np


def combined(text: str, tokens: Sequence[np.ndarray | float | str]) -> np.ndarray:
    """The vector that a linear combination comes to.

    Parameters
    ----------
    text
        The combination as it was written, for messages.
    tokens
        Its parts: vectors of equal shape, numbers, and the operators ``+ - * / ( )``.

    Raises
    ------
    ValueError
        It cannot be read, is not linear, or has a constant term.
    """
    vectors = {f"v{i}": token for i, token in enumerate(tokens) if isinstance(token, np.ndarray)}
    written = [
        token if isinstance(token, str) else f"v{i}" if f"v{i}" in vectors else repr(token)
        for i, token in enumerate(tokens)
    ]
    try:
        tree = ast.parse(" ".join(written), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        msg = f'The contrast {text!r} cannot be read; it is written like "a - b" or "(a + b)/2 - c".'
        raise ValueError(msg) from error
    value = _value(tree, vectors, text)
    if not isinstance(value, np.ndarray):
        msg = f"The contrast {text!r} names no coefficient."
        raise ValueError(msg)
    return value


def _value(node: ast.expr, vectors: dict[str, np.ndarray], text: str) -> np.ndarray | float:
    match node:
        case ast.Name():
            return vectors[node.id]
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, vectors, text)
        case ast.UnaryOp(op=ast.UAdd()):
            return _value(node.operand, vectors, text)
        case ast.BinOp():
            left, right = (_value(side, vectors, text) for side in (node.left, node.right))
            return _applied(node.op, left, right, text)
    msg = f'The contrast {text!r} cannot be read; a number times a coefficient is written "2*a".'
    raise ValueError(msg)


def _applied(operator: ast.operator, left, right, text: str) -> np.ndarray | float:
    vectors = isinstance(left, np.ndarray) + isinstance(right, np.ndarray)
    match operator:
        case ast.Add() | ast.Sub() if vectors != 1:
            return left + right if isinstance(operator, ast.Add) else left - right
        case ast.Mult() if vectors < 2:
            return left * right
        case ast.Div() if not isinstance(right, np.ndarray) and right != 0:
            return left / right
    msg = f"The contrast must be a linear combination: coefficients added, or multiplied by numbers; got {text!r}."
    raise ValueError(msg)
