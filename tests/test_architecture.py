"""Data flows one way through the package: each room imports itself and what its row of the map lists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pytest_ssot_isolation

ROOT = Path(pytest_ssot_isolation.__file__).parent
PACKAGE = ROOT.name
EVERYWHERE = frozenset({"model", "errors"})


@dataclass(frozen=True)
class Room:
    """What a folder or a module at the top may import of ours, beside itself, `model` and `errors`.

    Attributes:
        at_import: At import time.
        inside: Inside functions, in addition.
    """

    at_import: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()


def room(at_import: str = "", inside: str = "") -> Room:
    return Room(frozenset(at_import.split()), frozenset(inside.split()))


ENGINE = "engine oracles surfaces generation"
FOLDERS = f"provisioning audit {ENGINE}"

# A type checker's imports count as well: what a module knows the shape of, it depends on. Only the public
# face, which re-exports, and errors, which carry a report, are free there.
MAP = {
    "__init__": room(inside="*"),
    "__main__": room("cli"),
    "plugin": room(
        "options fixtures",
        inside="hookspecs extensions gate_loops gathering known_findings together audit proof report surfaces engine "
        "harness provisioning",
    ),
    "options": room("extensions known_findings"),  # Names of types only.
    "extensions": room("surfaces"),  # The name of a type only.
    "known_findings": room(),
    "hookspecs": room(),
    "fixtures": room("options", inside="extensions harness generation provisioning"),
    "harness": room(
        "parameters extensions known_findings", inside=f"options conclude report mutation {FOLDERS}"
    ),
    "parameters": room("surfaces extensions", inside="engine oracles"),
    "conclude": room(inside=ENGINE),
    "proof": room("options", inside="report audit"),
    "gate_loops": room(inside="engine"),
    "together": room("options gate_loops", inside=f"fixtures harness parameters conclude report {FOLDERS}"),
    "demo": room("harness options report", inside=FOLDERS),
    "gathering": room("options", inside="report"),
    "cli": room("__init__", inside="demo engine harness provisioning report"),
    "errors": room(),
    "model": room(),
    "provisioning": room(),
    "surfaces": room("generation"),
    "generation": room("surfaces"),
    "engine": room("surfaces generation oracles"),
    "oracles": room(),
    "mutation": room(),
    "audit": room(),
    "report": room(),
}

STANDARD_ONLY = ("model", "errors", "__init__")
HEAVY = frozenset(
    ("hypothesis", "asyncpg", "testcontainers", "docker", "clickhouse_connect", "chdb", "httpx", "uvloop")
)


@dataclass(frozen=True)
class Import:
    """One import statement's target.

    Attributes:
        where: File and line.
        module: Dotted name of the module that imports.
        room: The room that it is in.
        target: Dotted name of what is imported.
        when: ``"import"``, ``"inside"`` a function, or ``"types"``.
    """

    where: str
    module: str
    room: str
    target: str
    when: str

    @property
    def is_heavy(self) -> bool:
        """Whether it takes a driver or another package that costs tens of milliseconds."""
        return self.target.partition(".")[0] in HEAVY

    @property
    def of_ours(self) -> str | None:
        """The room that is imported; None for another's package."""
        top, _, rest = self.target.partition(".")
        return (rest.partition(".")[0] or "__init__") if top == PACKAGE else None


def _walk(node: ast.AST, when: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, when
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, "inside")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(child, "types")
        else:
            yield from _walk(child, when)


def _imports() -> Iterator[Import]:
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT)
        name = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        module = ".".join((PACKAGE, *inside.with_suffix("").parts))
        for node, when in _walk(ast.parse(path.read_text(encoding="utf-8")), "import"):
            where = f"{inside}:{node.lineno}"
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                assert not node.level, f"{where}: a relative import hides which room it means"
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            for target in targets:
                # A name that the package itself defines, such as __version__, is the package's own.
                plain = target.startswith(f"{PACKAGE}.__")
                yield Import(where, module, name, PACKAGE if plain else target, when)


IMPORTS = list(_imports())


def test_every_room_is_on_the_map() -> None:
    assert {found.room for found in IMPORTS} <= MAP.keys()


@pytest.mark.parametrize("name", sorted(MAP))
def test_a_room_imports_only_what_its_row_lists(name: str) -> None:
    row = MAP[name]
    if "*" in row.inside:
        return
    trespasses = [
        f"{found.where}: imports {found.target} ({found.when})"
        for found in IMPORTS
        if found.room == name
        and (target := found.of_ours)
        and target not in {name, *EVERYWHERE, *row.at_import}
        if found.when == "import" or target not in row.inside
    ]
    assert trespasses == []


def test_what_every_process_loads_uses_the_standard_library_only() -> None:
    import sys

    strangers = [
        f"{found.where}: imports {found.target}"
        for found in IMPORTS
        if found.room in STANDARD_ONLY and found.when != "types"
        if found.of_ours is None and found.target.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert strangers == []


def test_heavy_packages_are_imported_only_where_they_are_used() -> None:
    # A module whose classes derive from a driver's needs it at once; then whoever imports that module waits.
    takers = {found.module: found for found in IMPORTS if found.when == "import" and found.is_heavy}
    early = [
        f"{found.where}: imports {found.target}, which imports {takers[module].target}"
        for found in IMPORTS
        for module in (found.target, found.target.rpartition(".")[0])
        if found.when == "import" and module in takers and found.module not in takers
    ]
    assert early == []


def test_no_module_hides_a_standard_one_from_its_reader() -> None:
    import sys

    hidden = [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if path.stem in sys.stdlib_module_names
    ]
    allowed = {"provisioning/clickhouse/embedded.py"}
    assert set(hidden) - allowed == set()


def test_the_hooks_stay_short() -> None:
    assert len((ROOT / "plugin.py").read_text(encoding="utf-8").splitlines()) < 150
