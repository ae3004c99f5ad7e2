"""Reads from a function what it writes to, and what it gives names to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from pytest_ssot_isolation.audit import names, sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One place where a function puts something into an object.

    Attributes:
        target: What is written into: ``X`` in ``X[key] = value`` and ``X.append(value)``, and all
            of ``X.name`` in ``X.name = value``.
        values: What is put in, keys included.
        line: Where.
        is_binding: Whether the target itself is bound anew, and nothing put into it.
    """

    target: ast.expr
    values: tuple[ast.expr, ...]
    line: int
    is_binding: bool


_walked: WeakKeyDictionary[ast.AST, tuple[ast.AST, ...]] = WeakKeyDictionary()


def walk(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[ast.AST, ...]:
    """Every node of a function; kept, since each rule asks again and walking is most of the work."""
    nodes = _walked.get(function)
    if nodes is None:
        nodes = _walked[function] = sources.walk(function)
    return nodes


def writes_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Write]:
    """Every place in a function where something is put into an object or bound to a name, in order."""
    kinds = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Call)
    nodes = sorted(
        (node for node in walk(function) if isinstance(node, kinds)),
        key=lambda node: (node.lineno, node.col_offset),
    )
    for node in nodes:
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and names.is_mutator(node.func.attr):
                values = (*node.args, *(one.value for one in node.keywords))
                yield _put_into(node.func.value, values, node.lineno)
            continue
        if node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Subscript):
                yield _put_into(target.value, (target.slice, node.value), node.lineno)
            elif isinstance(target, (ast.Attribute, ast.Name)):
                if isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.BitOr)):
                    yield _put_into(target, (node.value,), node.lineno)
                else:
                    yield Write(target=target, values=(node.value,), line=node.lineno, is_binding=True)


def _put_into(target: ast.expr, values: tuple[ast.expr, ...], line: int) -> Write:
    """Find the object that holds what is written into: ``d`` in ``d.setdefault(key, []).append(value)``."""
    while True:
        match target:
            case ast.Subscript():
                values = (*values, target.slice)
                target = target.value
            case ast.Call(func=ast.Attribute(attr="setdefault" | "get") as reading):
                values = (*values, *target.args)
                target = reading.value
            case ast.Attribute(attr="__dict__"):
                target = target.value
            case _:
                return Write(target=target, values=values, line=line, is_binding=False)


def bindings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """What a statement gives a local name to, and the value where there is one."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, (ast.Name, ast.Tuple, ast.List)):
                yield target, node.value
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and isinstance(node.target, ast.Name):
        yield node.target, node.value
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        yield node.target, node.iter
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, node.context_expr
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield ast.Name(id=node.name), None


def every_parameter(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """All parameters of a function, ``*args`` and ``**options`` included."""
    arguments = function.args
    extra = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]
