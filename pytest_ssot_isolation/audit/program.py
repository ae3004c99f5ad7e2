"""An index of what a package defines: classes, functions, module-level names, and who remembers users."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pytest_ssot_isolation.audit import names, sources
from pytest_ssot_isolation.audit.sources import Source, children
from pytest_ssot_isolation.audit.writes import walk

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Bases whose class attributes are descriptions, copied for each instance or never written to.
_DESCRIBING = frozenset(
    {"BaseModel", "BaseSettings", "SQLModel", "Struct", "Schema", "NamedTuple", "TypedDict", "Protocol"}
    | {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "Structure"}
)
_IMPORT_HOOKS = frozenset({"__init_subclass__", "__set_name__", "__class_getitem__"})


@dataclass(eq=False, slots=True)
class Class:
    """One class of the package.

    Attributes:
        name: Its full dotted name.
        node: Its definition.
        source: Its module.
        bases: Full dotted names of its bases.
        methods: Its functions, by name.
        attributes: Names bound in its body, each with the value and the line.
        decorators: Names of decorators in its body, which may be functions of its own.
        set_on_self: Names that some method sets on the instance.
        remembers: The method by which an instance comes to hold something of a user; empty if none.
        is_of_one_user: Whether an instance is made for one user.
    """

    name: str
    node: ast.ClassDef
    source: Source
    bases: tuple[str, ...]
    methods: dict[str, Function] = field(default_factory=dict)
    attributes: dict[str, tuple[ast.expr, int]] = field(default_factory=dict)
    decorators: set[str] = field(default_factory=set)
    set_on_self: set[str] = field(default_factory=set)
    remembers: str = ""
    is_of_one_user: bool = False

    @property
    def is_description(self) -> bool:
        """Whether its class attributes describe instances, and are not shared by them."""
        return any(base.rpartition(".")[2] in _DESCRIBING for base in self.bases)

    @property
    def is_metaclass(self) -> bool:
        """Whether its methods run while classes are made, which is at import."""
        return any(
            base in ("type", "abc.ABCMeta", "enum.EnumMeta") or base.endswith("Meta") for base in self.bases
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """One function and where it stands: its class if it is a method, and the functions around it."""

    node: Function
    source: Source
    owner: Class | None
    outer: tuple[Function, ...] = ()

    @property
    def name(self) -> str:
        """What a reader calls it: ``Class.method`` or ``function``."""
        parts = [self.owner.node.name] if self.owner else []
        return ".".join([*parts, *(one.name for one in self.outer), self.node.name])


class Program:
    """All modules of the audited packages, indexed by full dotted names."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._by_module = {source.module: source for source in sources}
        self.classes: dict[str, Class] = {}
        self.values: dict[str, tuple[ast.expr, int, Source]] = {}
        self.functions: dict[str, Function] = {}
        self.scopes: list[Scope] = []
        self._called_on_import: set[str] = set()
        self._called_later: set[str] = set()
        for source in sources:
            self._index(source)
        for source in sources:
            self._see_uses(source)
        for one in self.classes.values():
            self._see_users(one)
        for one in self.classes.values():
            for base in self.ancestors(one):
                one.remembers = one.remembers or base.remembers
                one.is_of_one_user = one.is_of_one_user or base.is_of_one_user

    def resolve(self, value: ast.expr, source: Source) -> str:
        """The full dotted name that an expression stands for, re-exports followed; empty if it is none."""
        return self._canonical(self._full(names.dotted(value, source), source))

    def class_made_by(self, value: ast.expr | None, source: Source) -> Class | None:
        """The class of the package that a call makes an instance of."""
        if isinstance(value, ast.BoolOp):
            found = [self.class_made_by(one, source) for one in value.values]
            return next((one for one in found if one), None)
        if isinstance(value, ast.Await):
            return self.class_made_by(value.value, source)
        if not isinstance(value, ast.Call):
            return None
        return self.classes.get(self.resolve(value.func, source))

    def ancestors(self, one: Class) -> Iterator[Class]:
        """The classes of the package that a class derives from, nearest first."""
        seen = {one.name}
        queue = list(one.bases)
        while queue:
            name = self._canonical(queue.pop(0))
            if name not in seen and (base := self.classes.get(name)):
                seen.add(name)
                yield base
                queue.extend(base.bases)

    def class_attribute(self, one: Class, name: str) -> tuple[Class, ast.expr, int] | None:
        """The class, value and line where an attribute of a class is bound, bases included."""
        for place in (one, *self.ancestors(one)):
            if name in place.attributes:
                value, line = place.attributes[name]
                return place, value, line
        return None

    def runs_only_on_import(self, scope: Scope) -> bool:
        """Say whether a function serves to fill something while modules are imported."""
        outermost = scope.outer[0] if scope.outer else scope.node
        if scope.owner is not None:
            is_decorator = outermost.name in scope.owner.decorators
            return scope.owner.is_metaclass or outermost.name in _IMPORT_HOOKS or is_decorator
        name = f"{scope.source.module}.{outermost.name}"
        return name in self._called_on_import and name not in self._called_later

    def _index(self, source: Source) -> None:
        for statement in source.toplevel:
            if isinstance(statement, ast.ClassDef):
                self._index_class(statement, source, source.module)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[f"{source.module}.{statement.name}"] = statement
                self._index_function(Scope(statement, source, None))
            else:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    name = f"{source.module}.{statement.target.id}"  # maybe only announced, and bound later
                    self.values.setdefault(
                        name, (statement.value or ast.Constant(None), statement.lineno, source)
                    )
                for name, value in bound(statement):
                    self.values.setdefault(f"{source.module}.{name}", (value, statement.lineno, source))

    def _index_class(self, node: ast.ClassDef, source: Source, prefix: str) -> None:
        bases = tuple(self._full(names.dotted(base, source), source) for base in _bases(node))
        one = Class(f"{prefix}.{node.name}", node, source, bases)
        self.classes[one.name] = one
        for statement in node.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                one.methods[statement.name] = statement
                one.decorators.update(
                    part.id for part in statement.decorator_list if isinstance(part, ast.Name)
                )
                self._index_function(Scope(statement, source, one))
            elif isinstance(statement, ast.ClassDef):
                self._index_class(statement, source, one.name)
            else:
                for name, value in bound(statement):
                    one.attributes[name] = (value, statement.lineno)
        for method in one.methods.values():
            me = first_parameter(method)
            for inner in walk(method):
                if isinstance(inner, (ast.Assign, ast.AnnAssign)):
                    targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                    for target in targets:
                        one.set_on_self.update(
                            part.attr
                            for part in (target.elts if isinstance(target, ast.Tuple) else [target])
                            if isinstance(part, ast.Attribute)
                            and isinstance(part.value, ast.Name)
                            and part.value.id == me != "cls"
                        )

    def _index_function(self, scope: Scope) -> None:
        self.scopes.append(scope)
        for node in _inner_functions(scope.node):
            self._index_function(Scope(node, scope.source, scope.owner, (*scope.outer, scope.node)))

    def _see_uses(self, source: Source) -> None:
        """Tell functions that are used while modules are imported from those used later."""
        for node, is_late in _loads(source.tree.body):
            if (node.id if isinstance(node, ast.Name) else node.attr) not in self._may_be_functions:
                continue  # Most names are of something else, and following each takes long.
            name = self._canonical(self._full(names.dotted(node, source), source))
            if name in self.functions:
                (self._called_later if is_late else self._called_on_import).add(name)

    @cached_property
    def _may_be_functions(self) -> frozenset[str]:
        """Last parts of the names that functions have, and of those that imports give to anything."""
        own = {name.rpartition(".")[2] for name in self.functions}
        renamed = {
            local
            for source in self._by_module.values()
            for local, full in source.imported.items()
            if full.rpartition(".")[2] != local
        }
        return frozenset(own | renamed)

    def _see_users(self, one: Class) -> None:
        if any(base.rpartition(".")[2] in ("Exception", "BaseException", "ValueError") for base in one.bases):
            return
        makes = one.methods.get("__init__") or one.methods.get("__new__")
        if makes is not None:
            one.is_of_one_user = any(names.is_user_parameter(each) for each in parameters(makes))
        else:
            one.is_of_one_user = any(
                isinstance(part, ast.AnnAssign)
                and isinstance(part.target, ast.Name)
                and "ClassVar" not in ast.dump(part.annotation)
                and names.names_a_user(part.target.id)
                for part in one.node.body
            ) and (bool(one.node.decorator_list) or one.is_description)
        for method in one.methods.values():
            if method.name != "__init__" and _stores_a_user(method):
                one.remembers = method.name
                return

    def _full(self, name: str, source: Source) -> str:
        """Names that a module defines itself get its own name in front."""
        top = name.partition(".")[0]
        if name and top not in source.imported:
            return f"{source.module}.{name}" if self._is_own(top, source) else name
        return name

    def _is_own(self, top: str, source: Source) -> bool:
        own = f"{source.module}.{top}"
        return own in self.classes or own in self.functions or own in self.values

    def _canonical(self, name: str, depth: int = 8) -> str:
        """Follow a name through the modules that only import it."""
        if not depth or not name or name in self.classes or name in self.functions or name in self.values:
            return name
        module, _, last = name.rpartition(".")
        source = self._by_module.get(module)
        if source is not None and (further := source.imported.get(last)) and further != name:
            return self._canonical(further, depth - 1)
        return name


def bound(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names that a statement binds to a value."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.value is not None
    ):
        yield statement.target.id, statement.value


def parameters(function: Function) -> list[ast.arg]:
    """All parameters of a function but ``self`` and ``cls``."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [one for one in every if one.arg not in ("self", "cls", "mcs", "mcls")]


def first_parameter(function: Function) -> str:
    """Name of the first parameter, which in a method is the instance; empty without one."""
    every = [*function.args.posonlyargs, *function.args.args]
    return every[0].arg if every else ""


def has_decorator(function: Function, name: str) -> bool:
    """Say whether a function carries a plain decorator such as ``staticmethod``."""
    return any(isinstance(one, ast.Name) and one.id == name for one in function.decorator_list)


def _bases(node: ast.ClassDef) -> list[ast.expr]:
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return [*bases, *(one.value for one in node.keywords if one.arg == "metaclass")]


def _inner_functions(function: Function) -> Iterator[Function]:
    if not any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in walk(function)[1:]):
        return
    queue: list[ast.AST] = list(function.body)
    for node in queue:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        elif not isinstance(node, ast.Lambda):
            queue.extend(children(node))


def _loads(body: Sequence[ast.AST]) -> Iterator[tuple[ast.Name | ast.Attribute, bool]]:
    """Every name and attribute that code reads, and whether that is after the import."""
    queue: list[ast.AST] = list(body)
    for node in queue:
        late: Iterable[ast.AST] = ()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            at_once = [*node.decorator_list, *node.args.defaults]
            queue += at_once
            early = {id(one) for root in at_once for one in sources.walk(root)}
            late = (one for one in walk(node) if id(one) not in early)
        elif isinstance(node, ast.Lambda):
            late = sources.walk(node.body)
        else:
            if isinstance(node, (ast.Name, ast.Attribute)):
                yield node, False
            queue += children(node)
        for one in late:
            if isinstance(one, (ast.Name, ast.Attribute)):
                yield one, True


def _stores_a_user(method: Function) -> bool:
    """Say whether a method puts a user, or something under a user's name, into its instance."""
    users = {one.arg for one in parameters(method) if names.is_user_parameter(one)}
    me = first_parameter(method)
    if not users or not me:
        return False

    def is_mine(node: ast.expr) -> bool:
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                return node.value.id == me
            node = node.value
        return False

    def mentions(*nodes: ast.AST) -> bool:
        return any(isinstance(one, ast.Name) and one.id in users for node in nodes for one in ast.walk(node))

    for node in walk(method):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if is_mine(target) and mentions(target, node.value):
                    return True
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and names.is_mutator(node.func.attr)
            and is_mine(node.func.value)
            and mentions(node)
        ):
            return True
    return False
