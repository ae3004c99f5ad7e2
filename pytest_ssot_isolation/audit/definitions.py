"""Holds each canonical name to one definition and one import path."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_ssot_isolation.audit.sources import Source
from pytest_ssot_isolation.errors import AuditError
from pytest_ssot_isolation.model.verdict import Finding

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A module and a name in it, written ``package.module:Name``."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """One canonical name.

    Attributes:
        place: Where it is to be imported from.
        deprecated: Places where it used to be, which must go on working with a warning.
    """

    place: Place
    deprecated: tuple[Place, ...] = ()


def read_canonical(lines: Sequence[str]) -> tuple[Canonical, ...]:
    """Read the lines of ``ssot_canonical``: ``package.module:Name``, then ``<- old.path:Name, ...`` if any.

    Raises:
        AuditError: A line has another form.
    """
    names = []
    for line in lines:
        text = line.partition("#")[0].strip()
        if not text:
            continue
        place, _, old = text.partition("<-")
        places = [place.strip(), *(part.strip() for part in old.split(",") if part.strip())]
        for one in places:
            if not _PLACE.fullmatch(one):
                raise AuditError(
                    f"ssot_canonical has the line {line.strip()!r}, and {one!r} names no place.\n"
                    "To fix this, write `package.module:Name`, and old places behind an arrow: "
                    "`package.module:Name <- old.module:Name`."
                )
        first, *rest = (Place(module=one.partition(":")[0], name=one.partition(":")[2]) for one in places)
        names.append(Canonical(place=first, deprecated=tuple(rest)))
    return tuple(names)


def judge(canonical: Canonical, sources: Sequence[Source]) -> tuple[Finding, ...]:
    """Say where a canonical name is defined again, exported again, or imported from elsewhere."""
    index = _Index(sources)
    place = canonical.place
    origin = index.origin(place)
    if origin is None:
        what = "has no such name" if place.module in index else "is no module of the audited packages"
        return (_finding(place, "missing", f"{place} cannot be found: {place.module} {what}"),)
    deprecated = {(old.module, old.name) for old in canonical.deprecated}
    findings = []
    definitions = [(source, node) for source in sources for node in _definitions(source, origin.name)]
    told = {origin.module}
    for source, node in definitions:
        if source.module not in told and (source.module, origin.name) not in deprecated:
            told.add(source.module)
            findings.append(
                _finding(
                    place,
                    source.module,
                    f"{origin.name} is defined in {origin.module} and again in {source.module} "
                    f"({source.path.name}:{node.lineno})",
                )
            )
    again = [
        node for source, node in definitions if source.module == origin.module and node in source.tree.body
    ]
    if len([node for node in again if not _is_overload(node)]) > 1:
        findings.append(
            _finding(place, origin.module, f"{origin} is defined {len(again)} times in its own module")
        )
    for source in sources:
        findings.extend(_other_paths(source, place, origin, deprecated, index))
    return tuple(findings)


def _other_paths(
    source: Source, place: Place, origin: Place, deprecated: set[tuple[str, str]], index: _Index
) -> Iterator[Finding]:
    lawful = {(place.module, place.name), (origin.module, origin.name)}
    for node in source.from_imports:
        module = source.absolute(node)
        for name, taken in _taken(node, source, index, place.name):
            if module not in index or index.origin(Place(module=module, name=taken)) != origin:
                continue
            where = f"({source.path.name}:{node.lineno})"
            if (module, taken) not in lawful and (source.module, name) not in deprecated:
                kind = "its deprecated place" if (module, taken) in deprecated else "a second place"
                yield _finding(
                    place,
                    source.module,
                    f"{source.module} imports {place.name} from {module}, {kind}, "
                    f"and not from {place.module} {where}",
                )
            if (
                (source.module, name) not in lawful | deprecated
                and node in source.toplevel
                and _is_exported(source, name, is_renamed_to_itself=any(a.asname == name for a in node.names))
            ):
                yield _finding(
                    place,
                    source.module,
                    f"{place.name} can be imported from {source.module} as well as from {place.module} "
                    f"{where}",
                )
    for statement in source.toplevel:
        for name, value in _assigned(statement):
            dotted = _dotted(value, source) if value is not None else ""
            module, _, last = dotted.rpartition(".")
            if (
                module in index
                and (source.module, name) not in lawful | deprecated
                and index.origin(Place(module=module, name=last)) == origin
            ):
                yield _finding(
                    place,
                    source.module,
                    f"{source.module}:{name} is a second name for {place} "
                    f"({source.path.name}:{statement.lineno})",
                )


class _Index(dict[str, Source]):
    """The audited modules by name; remembers where each place leads, which is asked over and over."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__((source.module, source) for source in sources)
        self._origins: dict[Place, Place | None] = {}

    def origin(self, place: Place) -> Place | None:
        """Follow imports to the definition; None where they leave the audited packages, or end."""
        if place not in self._origins:
            self._origins[place] = None  # what leads back to itself leads nowhere
            self._origins[place] = self._follow(place)
        return self._origins[place]

    def _follow(self, place: Place) -> Place | None:
        source = self.get(place.module)
        if source is None:
            return None
        if any(True for _ in _definitions(source, place.name)):
            return place
        for statement in source.toplevel:
            if isinstance(statement, ast.ImportFrom):
                for name, taken in _taken(statement, source, self, place.name):
                    # One of several `import *` may only seem to bring the name.
                    further = Place(module=source.absolute(statement), name=taken)
                    if name == place.name and (found := self.origin(further)):
                        return found
            for name, value in _assigned(statement):
                if name == place.name:
                    module, _, last = (_dotted(value, source) if value is not None else "").rpartition(".")
                    return (self.origin(Place(module=module, name=last)) if module in self else None) or place
        return None


def _definitions(source: Source, name: str) -> Iterator[ast.stmt]:
    for statement in source.toplevel:
        if (
            isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and statement.name == name
        ):
            yield statement


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id, statement.value


def _dotted(value: ast.expr, source: Source) -> str:
    parts: list[str] = []
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    if not isinstance(value, ast.Name):
        return ""
    return ".".join([source.imported.get(value.id, f"{source.module}.{value.id}"), *reversed(parts)])


def _taken(node: ast.ImportFrom, source: Source, index: _Index, wanted: str) -> Iterator[tuple[str, str]]:
    """What a ``from ... import`` binds, each name with the one it has where it comes from."""
    for alias in node.names:
        if alias.name != "*":
            yield alias.asname or alias.name, alias.name
        elif (origin := index.get(source.absolute(node))) is not None:
            listed = _listed(origin)
            if wanted in listed if listed is not None else not wanted.startswith("_"):
                yield wanted, wanted


def _is_exported(source: Source, name: str, *, is_renamed_to_itself: bool) -> bool:
    listed = _listed(source)
    if listed is not None:
        return name in listed
    return source.is_package or is_renamed_to_itself


def _listed(source: Source) -> set[str] | None:
    for statement in source.toplevel:
        for name, value in _assigned(statement):
            if name == "__all__" and isinstance(value, (ast.List, ast.Tuple)):
                return {
                    one.value
                    for one in value.elts
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    return None


def _is_overload(node: ast.stmt) -> bool:
    return any("overload" in ast.unparse(one) for one in getattr(node, "decorator_list", ()))


def _finding(place: Place, path: str, explanation: str) -> Finding:
    return Finding(
        oracle="definitions", operation=str(place), channel="source", path=path, explanation=explanation
    )
