"""What names in source code tell: who is a user, what can be changed, what is a cache."""

from __future__ import annotations

import ast
import re
from typing import Final

from pytest_ssot_isolation.audit.sources import Source

_USER_WORDS: Final = frozenset(
    {
        "user",
        "users",
        "tenant",
        "tenants",
        "principal",
        "customer",
        "customers",
        "visitor",
        "viewer",
        "patient",
    }
    | {"uid", "userid", "username", "subscriber", "account", "accounts"}
)

# Words that stand for a user only when they are all of the name: an `ssl_context` is nobody.
_USER_NAMES: Final = frozenset(
    {"context", "ctx", "user_context", "request", "session", "session_id", "websocket", "conversation"}
    | {"request_context", "execution_context", "current_session", "request_id", "thread_id", "identity"}
)
_USER_TYPES: Final = frozenset(
    {"Request", "HttpRequest", "WebSocket", "RequestContext", "ExecutionContext", "Session", "AsyncSession"}
)
_NOBODY: Final = re.compile(
    r"user_?(agent|s?_?config|site|base|warning|dict|list|string|defined|code)", re.IGNORECASE
)

_CONTAINERS: Final = frozenset(
    {"dict", "list", "set", "bytearray", "collections.defaultdict", "collections.OrderedDict"}
    | {"collections.deque", "collections.Counter", "collections.ChainMap", "weakref.WeakValueDictionary"}
    | {"weakref.WeakKeyDictionary", "weakref.WeakSet", "queue.Queue", "queue.SimpleQueue", "queue.LifoQueue"}
    | {"queue.PriorityQueue", "asyncio.Queue", "typing.DefaultDict", "typing.OrderedDict", "typing.Deque"}
)
_CACHES: Final = frozenset(
    {"functools.lru_cache", "functools.cache", "async_lru.alru_cache", "cachetools.cached", "cachetools.func"}
)
_MUTATORS: Final = frozenset(
    {"append", "add", "appendleft", "extend", "insert", "setdefault", "update", "put", "put_nowait", "push"}
)
_IS_CACHE_NAME: Final = re.compile(
    r"(?:^|[_.])\w*(?:cached?|caches|registry|registered)$|(?:^|[_.])memo$", re.IGNORECASE
)


def names_a_user(identifier: str) -> bool:
    """Say whether a variable of this name stands for a user, or for what belongs to one."""
    return identifier.lower().strip("_") in _USER_NAMES or is_named_after_a_user(identifier)


def is_named_after_a_user(identifier: str) -> bool:
    """Say whether a name has a word for a user in it; less than `names_a_user`, for names of anything."""
    lowered = identifier.lower().strip("_")
    return not _NOBODY.search(lowered) and not _USER_WORDS.isdisjoint(lowered.split("_"))


def types_a_user(annotation: ast.expr | None) -> bool:
    """Say whether an annotation names a user's type, such as ``User`` or ``UserExecutionContext``."""
    if annotation is None:
        return False
    for node in ast.walk(annotation):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.rpartition(".")[2]
        if name in _USER_TYPES:
            return True
        words = {word.lower() for word in re.findall(r"[A-Z][a-z]+", name)}
        if not words.isdisjoint(_USER_WORDS) and not _NOBODY.search(name):
            return True
    return False


def is_user_parameter(parameter: ast.arg) -> bool:
    """Say whether a parameter takes a user, by its name or its annotation."""
    return names_a_user(parameter.arg) or types_a_user(parameter.annotation)


def dotted(value: ast.expr, source: Source) -> str:
    """The full dotted name behind a chain of attributes; empty where it does not begin with a name."""
    parts: list[str] = []
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    if not isinstance(value, ast.Name):
        return ""
    return ".".join([source.imported.get(value.id, value.id), *reversed(parts)])


def is_container(value: ast.expr | None, source: Source) -> bool:
    """Say whether an expression makes something that can be filled later: a dict, a list, a cache, ..."""
    if isinstance(value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)):
        return True
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        return is_container(value.left, source) or is_container(value.right, source)
    if not isinstance(value, ast.Call):
        return False
    name = dotted(value.func, source)
    if name.endswith((".copy", ".deepcopy")):
        return True
    return name in _CONTAINERS or (name.startswith("cachetools.") and name not in _CACHES)


def is_plain_container(value: ast.expr | None) -> bool:
    """Say whether an expression is an everyday list, dict or set, as one writes it for an instance."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in ("list", "dict", "set")
    return isinstance(value, (ast.Dict, ast.List, ast.Set))


def is_thread_local(value: ast.expr | None, source: Source) -> bool:
    """Say whether an expression makes a ``threading.local``, which all tasks of a thread share."""
    return isinstance(value, ast.Call) and dotted(value.func, source) in ("threading.local", "_thread._local")


def is_shared_default(value: ast.expr | None, source: Source) -> bool:
    """Say whether an expression makes a context variable whose default can be filled, by anybody for all."""
    if not isinstance(value, ast.Call) or dotted(value.func, source) != "contextvars.ContextVar":
        return False
    return any(one.arg == "default" and is_container(one.value, source) for one in value.keywords)


def is_cached(function: ast.FunctionDef | ast.AsyncFunctionDef, source: Source) -> bool:
    """Say whether a function keeps what it returns, by a decorator known for that."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if dotted(called, source) in _CACHES:
            return True
    return False


def is_mutator(method: str) -> bool:
    """Say whether a method of this name puts something into a container."""
    return method in _MUTATORS


def is_cache_name(name: str) -> bool:
    """Say whether a name says that what it holds can be made again: a cache, a registry."""
    return bool(_IS_CACHE_NAME.search(name))
