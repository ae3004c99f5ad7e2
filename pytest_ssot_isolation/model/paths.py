"""Paths into the seen form: where a leaf stands, and what a declaration such as ``items.*.id`` means."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

_TOPS = ("status", "headers", "body")


def leaves(seen: object) -> Iterator[tuple[str, object]]:
    """Yield path and value of each leaf of a seen form, in its order.

    Positions in lists are ``*``; a bare answer has the empty path; an empty mapping or list is a leaf.
    """
    stack: list[tuple[str, object]] = [("", seen)]
    while stack:
        path, value = stack.pop()
        dot = f"{path}." if path else ""
        if isinstance(value, dict) and value:
            stack += [(f"{dot}{key}", inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list) and value:
            here = f"{dot}*"
            stack += [(here, inner) for inner in reversed(value)]
        else:
            yield path, value


def select(seen: object, path: str) -> Iterator[object]:
    """Yield what stands at a declared path, whole mappings and lists included.

    Args:
        seen: The seen form of an answer.
        path: As in declarations: ``id``, ``items.*.id``, ``headers.date``, ``*`` for the whole answer.
            In an answer over HTTP a path that does not begin with ``status``, ``headers`` or ``body`` is
            looked up in the body; in a list, in each of its elements.
    """
    if path == "*":
        yield seen
        return
    parts = path.split(".")
    if _is_http(seen) and parts[0] not in _TOPS:
        seen = seen["body"]  # type: ignore[index]
    elif _is_http(seen) and parts[0] == "headers":
        parts = [part.lower() for part in parts]
    if isinstance(seen, list) and parts[0] != "*" and not parts[0].isdigit():
        parts = ["*", *parts]
    yield from _walk(seen, parts)


def _walk(value: object, parts: list[str]) -> Iterator[object]:
    if not parts:
        yield value
        return
    part, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        if part == "*":
            for inner in value.values():
                yield from _walk(inner, rest)
        elif part in value:
            yield from _walk(value[part], rest)
        else:
            # A key may hold a dot itself ("example.test").
            for length in range(2, len(parts) + 1):
                key = ".".join(parts[:length])
                if key in value:
                    yield from _walk(value[key], parts[length:])
                    return
    elif isinstance(value, list):
        if part == "*":
            for inner in value:
                yield from _walk(inner, rest)
        elif part.isdigit() and int(part) < len(value):
            yield from _walk(value[int(part)], rest)


@lru_cache(maxsize=8192)
def matches(path: str, pattern: str) -> bool:
    """Tell whether a leaf's path lies in what a declaration names.

    Args:
        path: As `leaves` and the scanner give it.
        pattern: As declared; it covers all that stands below it. ``*`` as a part is any key or position.
            Tried from the top, in the body of an answer over HTTP, and in each element of a list at the top.
    """
    if pattern == "*":
        return True
    wanted = pattern.split(".")
    if wanted[0] == "headers":
        wanted = [part.lower() for part in wanted]
    there = path.split(".") if path else []
    if _covers(wanted, there):
        return True
    if wanted[0] in _TOPS:
        return False
    if there[:1] == ["body"]:
        there = there[1:]
        if _covers(wanted, there):
            return True
    return there[:1] == ["*"] and _covers(wanted, there[1:])


def _covers(wanted: list[str], there: list[str]) -> bool:
    return len(wanted) <= len(there) and all(
        want in ("*", part) or (part == "*" and want.isdigit())
        for want, part in zip(wanted, there, strict=False)
    )


def _is_http(seen: object) -> bool:
    return isinstance(seen, dict) and "status" in seen and "headers" in seen and "body" in seen
