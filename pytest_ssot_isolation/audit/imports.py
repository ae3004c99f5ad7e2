"""Finds import cycles, from the import graph that grimp reads off the source."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ssot_isolation.audit.sources import Source
from pytest_ssot_isolation.errors import AuditError
from pytest_ssot_isolation.model.verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grimp import ImportGraph


def cycles(name: str, sources: Sequence[Source], roots: Sequence[Path] = ()) -> tuple[tuple[str, ...], ...]:
    """Find the import cycles of a package that are there while it is imported.

    Imports inside functions and under ``if TYPE_CHECKING`` take no part: they are how a
    cycle is broken.

    Args:
        name: Dotted name of the package.
        sources: Its parsed modules.
        roots: Folders to look in after ``sys.path``.

    Returns:
        The shortest cycle through each module that is in one, each cycle once, shortest
        first; a cycle begins with its alphabetically first module.
    """
    graph = _graph(name, roots)
    late = {source.module: source.late_lines for source in sources}
    inside = {source.module for source in sources}
    for module in graph.modules - inside:
        graph.remove_module(module)
    for importer in sorted(inside & graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            details = graph.get_import_details(importer=importer, imported=imported)
            if details and all(one["line_number"] in late[importer] for one in details):
                graph.remove_import(importer=importer, imported=imported)
    found: set[tuple[str, ...]] = set()
    for module in sorted(graph.modules):
        ways = [
            (module, *chain[:-1])
            for imported in sorted(graph.find_modules_directly_imported_by(module))
            if imported != module
            and (chain := graph.find_shortest_chain(importer=imported, imported=module)) is not None
        ]
        if ways:
            shortest = min(ways, key=lambda way: (len(way), way))
            turn = shortest.index(min(shortest))
            found.add((*shortest[turn:], *shortest[:turn]))
    return tuple(sorted(found, key=lambda cycle: (len(cycle), cycle)))


def judge(name: str, sources: Sequence[Source], roots: Sequence[Path] = ()) -> tuple[Finding, ...]:
    """Say which modules of a package import one another in a circle."""
    return tuple(
        Finding(
            oracle="imports",
            operation=name,
            channel="source",
            path=" -> ".join(cycle),
            explanation=f"{' imports '.join((*cycle, cycle[0]))}: "
            "whichever is imported first meets another one half-made",
        )
        for cycle in cycles(name, sources, roots)
    )


def _graph(name: str, roots: Sequence[Path]) -> ImportGraph:
    try:
        import grimp
    except ImportError as missing:
        raise AuditError(
            "The import graph is read by grimp, which is not installed.\n"
            "To fix this, install the extra: pip install 'pytest-ssot-isolation[audit]'"
        ) from missing
    with _also_importable(roots):
        return grimp.build_graph(name.partition(".")[0], exclude_type_checking_imports=True, cache_dir=None)


@contextmanager
def _also_importable(roots: Sequence[Path]) -> Iterator[None]:
    before = sys.path[:]
    sys.path.extend(map(str, roots))
    try:
        yield
    finally:
        sys.path[:] = before
