"""Finds state that all users share and that may hold what was made for one of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from pytest_ssot_isolation.audit import names
from pytest_ssot_isolation.audit.program import (
    Class,
    Program,
    Scope,
    first_parameter,
    has_decorator,
    parameters,
)
from pytest_ssot_isolation.audit.sources import Source
from pytest_ssot_isolation.audit.writes import Write, bindings, every_parameter, walk, writes_in
from pytest_ssot_isolation.model.verdict import Finding, Severity

MODULE, CLASS, DEFAULT, CACHE = "module", "class", "default argument", "cache"
RULES = (MODULE, CLASS, DEFAULT, CACHE)


def judge(sources: Sequence[Source]) -> tuple[Finding, ...]:
    """Read all modules of the audited packages and say what their users share.

    Severity ``leak``: something of a user is kept there. ``low``: objects are kept there at
    run time, and nothing tells whose. Constants, registries that are filled at import only,
    loggers, context variables, enumerations and what nobody writes to are no findings.

    Returns:
        One finding for each shared place, by module and line; its ``path`` is the rule:
        ``module``, ``class``, ``default argument`` or ``cache``.
    """
    program = Program(sources)
    found: dict[tuple[str, str], tuple[str, int, Finding]] = {}
    for source, line, finding in _all(program):
        key = (finding.path, finding.operation or "")
        known = found.get(key)
        if known is None or (known[2].severity != "leak" and finding.severity == "leak"):
            found[key] = (source.module, line, finding)
    return tuple(finding for _, _, finding in sorted(found.values(), key=lambda one: one[:2]))


def _all(program: Program) -> Iterator[tuple[Source, int, Finding]]:
    for name, (value, line, source) in program.values.items():
        yield from _module_instance(program, name, value, line, source)
    for one in program.classes.values():
        for name, (value, line) in one.attributes.items():
            yield from _module_instance(program, f"{one.name}.{name}", value, line, one.source, rule=CLASS)
    for scope in program.scopes:
        yield from _cached(program, scope)
        yield from _defaults(program, scope)
        if not program.runs_only_on_import(scope):
            yield from _writes(program, scope)


def _module_instance(
    program: Program, name: str, value: ast.expr, line: int, source: Source, *, rule: str = MODULE
) -> Iterator[tuple[Source, int, Finding]]:
    made = program.class_made_by(value, source)
    if made is not None and made.remembers and not made.is_description:
        yield (
            source,
            line,
            _finding(
                rule,
                name,
                f"{name} is one {made.node.name} for the whole process, and its {made.remembers}() "
                f"keeps what belongs to a user",
                source,
                line,
            ),
        )


def _cached(program: Program, scope: Scope) -> Iterator[tuple[Source, int, Finding]]:
    function, source = scope.node, scope.source
    if not names.is_cached(function, source):
        return
    name, line = f"{source.module}.{scope.name}", function.lineno
    users = [one.arg for one in parameters(function) if names.is_user_parameter(one)]
    is_method = scope.owner is not None and not has_decorator(function, "staticmethod")
    if users:
        text = f"the cache of {name} keeps a result for each {users[0]}, also when that user is gone"
        yield source, line, _finding(CACHE, name, text, source, line)
    elif is_method and scope.owner is not None and not has_decorator(function, "classmethod"):
        text = f"the cache of {name} keeps every {scope.owner.node.name} it was called on"
        severity = Severity.LEAK if _is_users(scope.owner) else Severity.LOW
        yield source, line, _finding(CACHE, name, text, source, line, severity)
    else:
        for node in ast.walk(function):
            made = program.class_made_by(node.value, source) if isinstance(node, ast.Return) else None
            if made is not None and _is_users(made):
                text = f"the cache of {name} gives one {made.node.name} to all users" + _by(made)
                yield source, line, _finding(CACHE, name, text, source, line)
                return


def _defaults(program: Program, scope: Scope) -> Iterator[tuple[Source, int, Finding]]:
    function, source = scope.node, scope.source
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        name, line = f"{source.module}.{scope.name}({parameter.arg})", function.lineno
        made = program.class_made_by(default, source)
        if made is not None and _is_users(made):
            text = f"the default of {name} is one {made.node.name} for all calls" + _by(made)
            yield source, line, _finding(DEFAULT, name, text, source, line)
        elif names.is_container(default, source) and (what := _use_of_default(function, parameter.arg)):
            is_cache = names.is_cache_name(parameter.arg)
            text = f"the default of {name} is one object for all calls, and {what}"
            severity = Severity.LOW if is_cache else Severity.LEAK
            yield source, line, _finding(DEFAULT, name, text, source, line, severity)


def _use_of_default(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    """How a default container comes to be changed or held; empty where it is only read."""

    def is_it(node: ast.expr | None) -> bool:
        return isinstance(node, ast.Name) and node.id == name

    for write in writes_in(function):
        if is_it(write.target):
            # `x = x or []` and the like: from then on the name stands for something else.
            return "" if write.is_binding else f"the function writes to it (line {write.line})"
        if write.is_binding and isinstance(write.target, ast.Attribute) and any(map(is_it, write.values)):
            return f"the function keeps it in {ast.unparse(write.target)} (line {write.line})"
    for node in ast.walk(function):
        if isinstance(node, (ast.Return, ast.Yield)) and is_it(node.value):
            return f"the function hands it out (line {node.lineno})"
    return ""


def _writes(program: Program, scope: Scope) -> Iterator[tuple[Source, int, Finding]]:
    writes = [write for write in writes_in(scope.node) if _may_be_shared(write, scope)]
    if writes:
        reader = _Reader(program, scope)
        for write in writes:
            yield from reader.judge(write)


def _may_be_shared(write: Write, scope: Scope) -> bool:
    """Say quickly whether a write needs a closer look: most only set a local name or an instance's own."""
    if not write.is_binding:
        return True
    if isinstance(write.target, ast.Name):
        return any(isinstance(node, ast.Global) for node in walk(scope.node))
    is_own = isinstance(write.target, ast.Attribute) and isinstance(write.target.value, ast.Name)
    return not (is_own and ast.unparse(write.target).startswith("self."))


class _Reader:
    """Judges the writes of one function: where they go, and whether what they put there is a user's."""

    def __init__(self, program: Program, scope: Scope) -> None:
        self._program = program
        self._scope = scope
        self._source = scope.source
        every = (*scope.outer, scope.node)
        self._globals = {
            name for node in walk(every[0]) if isinstance(node, ast.Global) for name in node.names
        }
        self._locals = {one.arg for function in every for one in every_parameter(function)}
        self._users = {
            one.arg for function in every for one in parameters(function) if names.is_user_parameter(one)
        }
        self._taken = {one.arg for function in every for one in parameters(function)}
        self._made: set[str] = set()
        owner = scope.owner
        method = every[0]
        self._me = first_parameter(method) if owner and not has_decorator(method, "staticmethod") else ""
        self._is_class_method = has_decorator(method, "classmethod") or method.name in (
            "__new__",
            "__init_subclass__",
        )
        if self._me and owner and owner.is_of_one_user and not self._is_class_method:
            self._users.add(self._me)
        self._bindings = [pair for node in walk(every[0]) for pair in bindings(node)]
        self._locals.update(
            part.id
            for target, _ in self._bindings
            for part in ast.walk(target)
            if isinstance(part, ast.Name) and part.id not in self._globals
        )
        self._has_followed = False

    def _follow(self) -> None:
        """Learn which local names stand for something of a user, in two rounds for code that loops."""
        self._has_followed = True
        for target, value in self._bindings * 2:
            if value is None:
                continue
            of_user, is_object = self._is_of_user(value), self._is_object(value)
            for part in ast.walk(target):
                if isinstance(part, ast.Name) and part.id not in self._globals:
                    if of_user:
                        self._users.add(part.id)
                    if is_object:
                        self._made.add(part.id)

    def judge(self, write: Write) -> Iterator[tuple[Source, int, Finding]]:
        place = self._place(write.target)
        if place is None:
            return
        if not self._has_followed:
            self._follow()
        of_user = any(map(self._is_of_user, write.values))
        rule, name, value, source, line = place
        remembered = next(
            (made for one in write.values if (made := self._made_class(one)) is not None and made.remembers),
            None,
        )
        where = f"{self._scope.name}() {'sets it' if write.is_binding else 'writes to it'}"
        where += f" ({self._source.path.name}:{write.line})"
        if write.is_binding:
            is_value = not any(isinstance(one, ast.Constant) for one in write.values)
            of_user = of_user or (is_value and names.is_named_after_a_user(name.rpartition(".")[2]))
            if of_user and not self._is_import_hook():
                text = f"{name} is one for the whole process, and holds what belongs to a user: {where}"
            elif remembered is not None:
                text = f"{name} is one {remembered.node.name} for the whole process{_by(remembered)}: {where}"
            else:
                return
            yield source, line, _finding(rule, name, text, source, line)
            return
        if names.is_thread_local(value, source):
            if of_user:
                text = f"{name} is shared by all tasks of a thread, and holds what belongs to a user: {where}"
                severity = (
                    Severity.LEAK if isinstance(self._scope.node, ast.AsyncFunctionDef) else Severity.LOW
                )
                yield source, line, _finding(rule, name, text, source, line, severity)
            return
        if not names.is_container(value, source) and not names.is_shared_default(value, source):
            return
        text = f"{name} is one for the whole process"
        if of_user:
            text += f", and holds what belongs to a user: {where}"
        elif remembered is not None:
            text += f", and holds a {remembered.node.name}{_by(remembered)}: {where}"
        elif (
            rule == CLASS
            and self._writes_through_self(write)
            and names.is_plain_container(value)
            and not names.is_cache_name(name)
        ):
            text = f"{name} belongs to the class, hence to all its instances, and each writes to it: {where}"
        elif any(map(self._is_object, write.values)):
            text += f", and objects are put there at run time: {where}"
            yield source, line, _finding(rule, name, text, source, line, Severity.LOW)
            return
        else:
            return
        yield source, line, _finding(rule, name, text, source, line)

    def _place(self, target: ast.expr) -> tuple[str, str, ast.expr | None, Source, int] | None:
        """The shared place that a target is: rule, name, first value, module, line; None if it is none."""
        if isinstance(target, ast.Attribute):
            owner = self._class_behind(target.value)
            if owner is not None:
                return self._class_place(owner, target)
            if isinstance(target.value, ast.Name) and target.value.id in ("self", "cls", self._me):
                return None
        head = target
        while isinstance(head, ast.Attribute):
            head = head.value
        if not isinstance(head, ast.Name) or (head.id in self._locals and head.id not in self._globals):
            return None
        name = self._program.resolve(target, self._source)
        if isinstance(target, ast.Name) and target.id in self._globals:
            name = f"{self._source.module}.{target.id}"
        known = self._program.values.get(name)
        if known is None and isinstance(target, ast.Attribute):
            # `_local.user = user`: what is written into is the object, not a name of ours.
            known = self._program.values.get(self._program.resolve(target.value, self._source))
            if known is None or not names.is_thread_local(known[0], known[2]):
                return None
            name = self._program.resolve(target.value, self._source)
        if known is None and not (isinstance(target, ast.Name) and target.id in self._globals):
            return None
        value, line, source = known or (None, self._scope.node.lineno, self._source)
        return MODULE, name, value, source, line

    def _class_behind(self, node: ast.expr) -> Class | None:
        """The class that an expression before a dot stands for, or whose instance it is."""
        owner = self._scope.owner
        if isinstance(node, ast.Name) and node.id == self._me:
            return owner
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type":
            return owner
        if isinstance(node, ast.Attribute) and node.attr == "__class__":
            return owner
        if isinstance(node, ast.Name) and node.id in self._locals:
            return None
        return self._program.classes.get(self._program.resolve(node, self._source))

    def _class_place(
        self, owner: Class, target: ast.Attribute
    ) -> tuple[str, str, ast.expr | None, Source, int] | None:
        is_instance = (
            isinstance(target.value, ast.Name) and target.value.id == self._me and not self._is_class_method
        )
        if is_instance and any(
            target.attr in place.set_on_self for place in (owner, *self._program.ancestors(owner))
        ):
            return None
        known = self._program.class_attribute(owner, target.attr)
        if known is None:
            if is_instance or self._scope.node.name == "__new__":
                return None
            return CLASS, f"{owner.name}.{target.attr}", None, owner.source, owner.node.lineno
        place, value, line = known
        if place.is_description or (target.attr.startswith("__") and target.attr.endswith("__")):
            return None
        return CLASS, f"{place.name}.{target.attr}", value, place.source, line

    def _writes_through_self(self, write: Write) -> bool:
        target = write.target
        return (
            isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.value.id == self._me
            and not self._is_class_method
            and any(
                isinstance(node, ast.Name) and node.id in self._taken
                for one in write.values
                for node in ast.walk(one)
            )
        )

    def _is_import_hook(self) -> bool:
        return self._scope.node.name in ("__init_subclass__", "__set_name__")

    def _is_of_user(self, value: ast.expr) -> bool:
        for node in ast.walk(value):
            if isinstance(node, ast.Name) and node.id in self._users:
                return True
            if isinstance(node, ast.Attribute) and node.attr in ("user", "user_id", "tenant_id", "principal"):
                return True
            if isinstance(node, ast.Call):
                made = self._program.class_made_by(node, self._source)
                if made is not None and made.is_of_one_user and (node.args or node.keywords):
                    return True
        return False

    def _is_object(self, value: ast.expr) -> bool:
        """Say whether a value may be an object with a life of its own: one passed in, or one made here."""
        if isinstance(value, ast.Name):
            return value.id in self._taken or value.id in self._made
        return self._made_class(value) is not None

    def _made_class(self, value: ast.expr) -> Class | None:
        made = self._program.class_made_by(value, self._source)
        if made is not None or not isinstance(value, ast.Call):
            return made
        function = value.func
        is_own = isinstance(function, ast.Name) and function.id == "cls" and self._is_class_method
        is_new = isinstance(function, ast.Attribute) and function.attr == "__new__"
        return self._scope.owner if is_own or is_new else None


def _is_users(one: Class) -> bool:
    return bool(one.remembers) or one.is_of_one_user


def _by(one: Class) -> str:
    return (
        f", whose {one.remembers}() keeps what belongs to a user" if one.remembers else ", made for one user"
    )


def _finding(
    rule: str, name: str, text: str, source: Source, line: int, severity: Severity = Severity.LEAK
) -> Finding:
    return Finding(
        oracle="shared-state",
        severity=severity.label,
        operation=name,
        channel="source",
        path=rule,
        explanation=f"{text} [{source.module}, line {line}]",
    )
