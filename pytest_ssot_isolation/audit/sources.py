"""Finds and parses the modules of a package without importing any of it."""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pytest_ssot_isolation.errors import AuditError

_NO_NODE: Final = frozenset(
    {str, int, float, complex, bytes, bool, type(None), type(...), ast.Load, ast.Store, ast.Del}
)
"""What stands in a node's fields besides nodes and lists, and the contexts, which say nothing here."""


def walk(root: ast.AST) -> tuple[ast.AST, ...]:
    """Every node below one, itself first, as `ast.walk` gives them but for ``Load()`` and its like.

    Reading a large package is walking for the most part, and this takes a fifth of the time.
    """
    found = [root]
    for node in found:
        # `children`, written out: a call for each node would cost as much as what it does.
        for value in vars(node).values():
            kind = type(value)
            if kind is list:
                found += _nodes_in(value) if None in value or (value and type(value[0]) is str) else value
            elif kind not in _NO_NODE:
                found.append(value)
    return tuple(found)


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes that one node holds, in order, ``Load()`` and its like left out."""
    found: list[ast.AST] = []
    for value in vars(node).values():
        if type(value) is list:
            found += _nodes_in(value)
        elif type(value) not in _NO_NODE:
            found.append(value)
    return found


def _nodes_in(values: list[Any]) -> list[ast.AST]:
    """Without names, as `global` has them, and without the gaps of `{**other}` and of defaults."""
    return [one for one in values if isinstance(one, ast.AST)]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One parsed module.

    Attributes:
        module: Its dotted name.
        path: Its file.
        is_package: Whether it is an ``__init__.py``.
        tree: Its syntax tree; empty where the file does not parse.
        error: Why it does not parse; empty where it does.
    """

    module: str
    path: Path
    is_package: bool
    tree: ast.Module = field(repr=False, compare=False)
    error: str = ""

    def absolute(self, node: ast.ImportFrom) -> str:
        """The dotted name of the module that a ``from ... import`` in this one names."""
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return walk(self.tree)

    @cached_property
    def imported(self) -> dict[str, str]:
        """Local names bound by imports anywhere in the module, each with the dotted name it stands for."""
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                origin = self.absolute(node)
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{origin}.{alias.name}"
        return names

    @cached_property
    def from_imports(self) -> tuple[ast.ImportFrom, ...]:
        """Every ``from ... import`` of the module, late ones included."""
        return tuple(node for node in self.nodes if isinstance(node, ast.ImportFrom))

    @cached_property
    def toplevel(self) -> tuple[ast.stmt, ...]:
        """Statements that run when the module is imported, those in ``if``, ``try`` and ``with`` included."""
        return tuple(_statements(self.tree.body))

    @cached_property
    def late_lines(self) -> frozenset[int]:
        """Numbers of lines that no import runs: in functions, and where a module is run as a program."""
        lines: set[int] = set()
        for node in self.nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines.update(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
        for statement in self.tree.body:
            if isinstance(statement, ast.If) and _asks_whether_main(statement.test):
                lines.update(range(statement.body[0].lineno, (statement.body[-1].end_lineno or 0) + 1))
        return frozenset(lines)


def _asks_whether_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(
            left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]
        ):
            return True
    return False


def read_package(name: str, roots: Sequence[Path] = ()) -> tuple[Source, ...]:
    """Parse every module of a package, by name.

    Args:
        name: Dotted name of a package or module; it is looked up, never imported.
        roots: Folders to look in after ``sys.path``.

    Raises:
        AuditError: There is no such package.
    """
    top, *inner = name.split(".")
    spec = importlib.machinery.PathFinder.find_spec(top, [*sys.path, *map(str, roots)])
    for finder in sys.meta_path if spec is None else ():
        spec = spec or finder.find_spec(top, None)  # editable installs bring a finder of their own
    if spec is None:
        raise AuditError(
            f"ssot_packages names {name!r}, and there is no package {top!r} to be found.\n"
            "To fix this, do one of:\n"
            "  - correct the name in ssot_packages\n"
            "  - install the package, or add its folder to the ini option `pythonpath`"
        )
    if not spec.submodule_search_locations:
        return (_read(name, Path(str(spec.origin)), is_package=False),)
    sources: list[Source] = []
    for location in spec.submodule_search_locations:
        place = Path(location).joinpath(*inner)
        if place.is_dir():
            sources.extend(
                _read(module, path, is_package=path.stem == "__init__")
                for module, path in _files(place, name)
            )
        elif place.with_suffix(".py").is_file():
            sources.append(_read(name, place.with_suffix(".py"), is_package=False))
    if not sources:
        raise AuditError(
            f"ssot_packages names {name!r}, and {top!r} has no such module.\n"
            "To fix this, correct the name in ssot_packages."
        )
    return tuple(sources)


def _files(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if not all(part.isidentifier() for part in parts) or parts[-1] == "__main__":
            continue  # Such a file cannot be imported by name, or is a program and not a module.
        inner = parts[:-1] if parts[-1] == "__init__" else parts
        yield ".".join([name, *inner]), path


def _read(module: str, path: Path, *, is_package: bool) -> Source:
    try:
        tree, error = ast.parse(path.read_bytes(), filename=str(path)), ""
    except (SyntaxError, ValueError) as failure:
        tree, error = ast.Module(body=[], type_ignores=[]), str(failure)
    return Source(module=module, path=path, is_package=is_package, tree=tree, error=error)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        match node:
            case ast.If():
                yield from _statements([*node.body, *node.orelse])
            case ast.Try() | ast.TryStar():
                handlers = [inner for handler in node.handlers for inner in handler.body]
                yield from _statements([*node.body, *handlers, *node.orelse, *node.finalbody])
            case ast.With() | ast.For() | ast.While():
                yield from _statements(node.body)
