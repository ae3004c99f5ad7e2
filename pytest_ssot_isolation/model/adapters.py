"""Seen forms of other libraries' objects, told by their class names: nothing of theirs is imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

Adapter = Callable[[Any], object]
"""Gives plain parts (still to be copied) of an object; may raise, then the object is shown by its `repr`."""

UNREAD = "<unread>"
"""Stands for a body that would have to be consumed to be shown."""


@lru_cache(maxsize=2048)
def adapter_of(kind: type) -> Adapter | None:
    """Find the adapter of a class, through its bases."""
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        adapter = _ADAPTERS.get((root, base.__name__))
        if adapter is not None:
            return adapter
    if hasattr(kind, "__attrs_attrs__"):
        return _attrs
    if hasattr(kind, "__struct_fields__"):
        return _struct
    return None


def is_response(kind: Any) -> bool:
    """Tell whether a class is an HTTP response."""
    return adapter_of(kind) is _response


def _response(value: Any) -> object:
    headers: dict[str, object] = {}
    for name, text in _pairs(value.headers):
        name = _text(name).lower()
        before = headers.get(name)
        text = _text(text)
        headers[name] = (
            text if before is None else [*(before if isinstance(before, list) else [before]), text]
        )
    # Only what the response itself holds: a property may compute, or refuse to.
    cookies = vars(value).get("cookies")
    if "set-cookie" not in headers and type(cookies).__name__ == "SimpleCookie" and cookies:
        headers["set-cookie"] = [morsel.OutputString() for morsel in cookies.values()]
    kind = headers.get("content-type")
    body = _content(value)
    seen = {
        "status": int(value.status_code),
        "headers": headers,
        "body": decoded(body, kind if isinstance(kind, str) else "") if isinstance(body, bytes) else body,
    }
    if history := vars(value).get("history"):
        seen["history"] = list(history)
    return seen


def _pairs(headers: Any) -> Iterable[tuple[object, object]]:
    pairs = headers.multi_items() if hasattr(headers, "multi_items") else headers.items()
    return list(pairs)


def _content(value: Any) -> object:
    if getattr(value, "streaming", False) or getattr(value, "_content", None) is False:
        return UNREAD  # Django and requests would read the stream for whoever asks
    for name in ("content", "body", "data"):
        try:
            body = getattr(value, name)
        except AttributeError:
            continue
        except Exception:
            return UNREAD  # httpx, while its stream is open
        if body is None:
            return ""
        return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else _text(body)
    return UNREAD


def decoded(body: bytes, content_type: str) -> object:
    """Give a body as JSON where it is JSON, else as text where it is text, else as it is.

    Args:
        body: The bytes that came.
        content_type: The header's value, empty where there was none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return ""
    if kind.endswith(("/json", "+json")) or (not kind and body[:1] in b"[{"):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return body if not kind.startswith("text/") else body.decode("latin-1")
    return body if "\0" in text else text


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _row(value: Any) -> object:
    return dict(value.items())


def _mapped(value: Any) -> object:
    return dict(value._mapping)


def _fields(value: Any) -> object:
    extra = getattr(value, "__pydantic_extra__", None)
    return {**vars(value), **(extra or {})}


def _attrs(value: Any) -> object:
    # A field that was never set has no value to be seen.
    names = [field.name for field in type(value).__attrs_attrs__]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _struct(value: Any) -> object:
    return {name: getattr(value, name) for name in type(value).__struct_fields__}


def _query_result(value: Any) -> object:
    names = list(value.column_names)
    return [dict(zip(names, row, strict=False)) for row in value.result_rows]


def _listed(value: Any) -> object:
    return value.tolist() if value.size <= 100_000 else f"<{type(value).__name__} of {value.size} elements>"


def _item(value: Any) -> object:
    return value.item()


def _frame(value: Any) -> object:
    return value.head(100_000).to_dict(orient="records")


def _table(value: Any) -> object:
    return value.slice(0, 100_000).to_pylist()


def _data(value: Any) -> object:
    return value.data  # a user dict or list may keep more than it shows; what it shows is what counts


_ADAPTERS: dict[tuple[str, str], Adapter] = {
    ("httpx", "Response"): _response,
    ("requests", "Response"): _response,
    ("starlette", "Response"): _response,
    ("django", "HttpResponseBase"): _response,
    ("werkzeug", "Response"): _response,
    ("asyncpg", "Record"): _row,
    ("sqlalchemy", "Row"): _mapped,
    ("pydantic", "BaseModel"): _fields,
    ("clickhouse_connect", "QueryResult"): _query_result,
    ("numpy", "ndarray"): _listed,
    ("numpy", "generic"): _item,
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _listed,
    ("pyarrow", "Table"): _table,
    ("collections", "UserDict"): _data,
    ("collections", "UserList"): _data,
    ("collections", "UserString"): _data,
}
