"""The seen form: what each kind of answer looks like, and how declarations name parts of it."""

from __future__ import annotations

import dataclasses
import enum
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import httpx
import pydantic
import pytest
import requests
import sqlalchemy
from sqlalchemy import orm
from starlette import responses

from pytest_ssot_isolation.model import payload
from pytest_ssot_isolation.model.payload import as_seen, leaves, matches, select, succeeded

NOTE = {"id": 3, "tags": ["a"], "owner": None}


# -- plain values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 1.5, "x", b"x", Decimal("1.50"), UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)],
    ids=str,
)
def test_a_plain_value_is_its_own_seen_form(value: object) -> None:
    assert as_seen(value) is value


def test_later_changes_do_not_reach_what_was_seen() -> None:
    answer = {"items": [{"id": 1}], "raw": bytearray(b"abc")}
    seen = as_seen(answer)
    answer["items"][0]["id"] = 2  # type: ignore[index]
    answer["raw"][0] = 0  # type: ignore[index]
    assert seen == {"items": [{"id": 1}], "raw": b"abc"}


def test_containers_become_lists_and_dicts_with_text_keys() -> None:
    Point = namedtuple("Point", "x y")
    assert as_seen((1, (2,))) == [1, [2]]
    assert as_seen({1: "a", UUID(int=1): "b", (1, "z"): "c", b"k": "d"}) == {
        "1": "a",
        str(UUID(int=1)): "b",
        "(1, z)": "c",
        "k": "d",
    }
    assert as_seen({1: "a", "1": "b"}) == {"1": "a", "1 (str)": "b"}
    assert as_seen(Point(1, [2])) == {"x": 1, "y": [2]}
    assert as_seen(MappingProxyType(NOTE)) == NOTE


def test_a_set_has_one_order() -> None:
    assert as_seen({"b", "a", "c"}) == ["a", "b", "c"]
    assert as_seen(frozenset({2, "1"})) == [2, "1"]


def test_enums_and_subclasses_are_seen_by_value() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.Enum):
        HIGH = 3

    class Name(str):
        __slots__ = ()

    seen = as_seen([Colour.RED, Level.HIGH, Name("x")])
    assert seen == ["red", 3, "x"]
    assert isinstance(seen, list)
    assert [type(leaf) for leaf in seen] == [str, int, str]


def test_an_iterator_is_not_consumed() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    given = numbers()
    assert as_seen({"rows": given}) == {"rows": "<generator>"}
    assert list(given) == [1]
    assert as_seen(iter([1])) == "<list_iterator>"


def test_a_cycle_is_cut() -> None:
    ring: dict[str, object] = {"id": 1}
    ring["self"] = ring
    assert as_seen(ring) == {"id": 1, "self": "<seen above>"}
    twice = [1]
    assert as_seen([twice, twice]) == [[1], [1]]


def test_depth_and_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert "<deeper>" in [leaf for _, leaf in leaves(as_seen(deep))]
    monkeypatch.setattr(payload, "NODES", 10)
    seen = as_seen(list(range(100)))
    assert seen == [*range(10), "<more>"]


# -- objects -----------------------------------------------------------------------------------------


def test_dataclasses_attrs_and_pydantic_models_are_seen_by_field() -> None:
    @dataclasses.dataclass
    class Plain:
        id: int
        _hidden: str = "h"

    @attrs.define
    class Attrs:
        id: int
        tags: list[str]

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        id: int
        inner: Plain

    assert as_seen(Plain(1)) == {"id": 1, "_hidden": "h"}
    assert as_seen(Attrs(1, ["a"])) == {"id": 1, "tags": ["a"]}
    assert as_seen(Model(id=1, inner=Plain(2), more="x")) == {  # type: ignore[call-arg]
        "id": 1,
        "inner": {"id": 2, "_hidden": "h"},
        "more": "x",
    }


def test_any_other_object_is_seen_by_its_public_attributes() -> None:
    class Note:
        def __init__(self) -> None:
            self.title = "x"
            self._lock = object()

    class Slotted:
        __slots__ = ("id", "unset")

        def __init__(self) -> None:
            self.id = 4

    assert as_seen(Note()) == {"title": "x"}
    assert as_seen(Slotted()) == {"id": 4}


def test_an_object_without_any_is_shown_without_its_address() -> None:
    assert as_seen(object()) == "<object>"
    assert "0x" not in str(as_seen([lambda: 1, test_a_cycle_is_cut, int, dataclasses]))


def test_what_cannot_be_read_is_shown_by_its_type_and_the_rest_is_seen() -> None:
    class Broken:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("closed")

        def __repr__(self) -> str:
            raise RuntimeError("closed")

    assert as_seen({"id": 1, "row": Broken()}) == {"id": 1, "row": "<Broken>"}


# -- errors ------------------------------------------------------------------------------------------


def test_an_error_is_seen_with_its_type_text_arguments_attributes_and_notes() -> None:
    error = LookupError("no note", 7)
    error.detail = "of bob"  # type: ignore[attr-defined]
    error.add_note("tried twice")
    assert as_seen(error) == {
        "error": {
            "type": "LookupError",
            "text": "('no note', 7)",
            "args": ["no note", 7],
            "attributes": {"detail": "of bob"},
            "notes": ["tried twice"],
        }
    }
    assert as_seen(ValueError("bad")) == {"error": {"type": "ValueError", "text": "bad"}}


def caught(*, hide: bool = False, cause: bool = False) -> Exception:
    try:
        try:
            raise KeyError("secret")
        except KeyError as inner:
            if cause:
                raise ValueError("outer") from inner
            if hide:
                raise ValueError("outer") from None
            raise ValueError("outer")  # noqa: B904 - the implicit context is the point
    except ValueError as error:
        return error


def test_causes_and_contexts_are_seen_unless_they_are_hidden() -> None:
    inner = {"type": "KeyError", "text": "'secret'", "args": ["secret"]}
    for error in (caught(), caught(cause=True)):
        assert as_seen(error) == {"error": {"type": "ValueError", "text": "outer", "cause": inner}}
    assert as_seen(caught(hide=True)) == {"error": {"type": "ValueError", "text": "outer"}}


def test_the_members_of_a_group_are_seen() -> None:
    seen = as_seen(ExceptionGroup("two", [ValueError("a"), ExceptionGroup("inner", [OSError("b")])]))
    assert [leaf for path, leaf in leaves(seen) if path.endswith("text")] == [
        "two (2 sub-exceptions)",
        "a",
        "inner (1 sub-exception)",
        "b",
    ]


def test_a_response_inside_an_error_is_seen() -> None:
    response = httpx.Response(403, json={"owner": "bob"}, request=httpx.Request("GET", "http://x/"))
    with pytest.raises(httpx.HTTPStatusError) as raised:
        response.raise_for_status()
    assert list(select(as_seen(raised.value), "error.attributes.response.body.owner")) == ["bob"]


# -- HTTP --------------------------------------------------------------------------------------------


def test_a_response_of_httpx_has_status_headers_and_a_decoded_body() -> None:
    response = httpx.Response(201, json=NOTE, headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    seen = as_seen(response)
    assert isinstance(seen, dict)
    assert (seen["status"], seen["body"]) == (201, NOTE)
    assert seen["headers"]["set-cookie"] == ["a=1", "b=2"]
    assert seen["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "seen"),
    [
        (b"", "application/json", ""),
        (b"{broken", "application/json", "{broken"),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", {"a": 1}),
        (b"<p>hi</p>", "text/html", "<p>hi</p>"),
        (b"caf\xe9", "text/plain; charset=latin-1", "caf\xe9"),
        (b"\x89PNG\xff", "image/png", b"\x89PNG\xff"),
        (b"[" * 100_000, "application/json", "[" * 100_000),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_is_seen_as_json_else_text_else_bytes(body: bytes, kind: str, seen: object) -> None:
    assert list(
        select(as_seen(httpx.Response(200, content=body, headers={"content-type": kind})), "body")
    ) == [seen]


def test_an_unread_stream_stays_unread() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"

    response = httpx.Response(200, content=chunks())
    assert list(select(as_seen(response), "body")) == ["<unread>"]
    assert response.read() == b"x"


def test_a_response_of_requests_is_seen_and_its_stream_is_left_alone() -> None:
    response = requests.Response()
    response.status_code = 404
    response.headers["Content-Type"] = "application/json"
    assert as_seen(response) == {
        "status": 404,
        "headers": {"content-type": "application/json"},
        "body": "<unread>",
    }
    response._content = b'{"a": 1}'
    assert list(select(as_seen(response), "a")) == [1]


def test_responses_of_starlette_are_seen() -> None:
    class Own(responses.JSONResponse):
        pass

    assert list(select(as_seen(Own(NOTE, 202)), "body")) == [NOTE]
    assert list(select(as_seen(responses.StreamingResponse(iter(["x"]))), "body")) == ["<unread>"]
    assert list(select(as_seen(responses.PlainTextResponse("hi")), "headers.Content-Length")) == ["2"]


def test_success_means_a_status_below_400_and_no_error() -> None:
    assert succeeded(None)
    assert succeeded({"error": "a field of the application"})
    assert succeeded(as_seen(httpx.Response(302)))
    assert succeeded(responses.Response(status_code=204))
    assert not succeeded(responses.Response(status_code=400))
    assert not succeeded(as_seen(httpx.Response(500)))
    assert not succeeded(ValueError("x"))
    assert not succeeded(as_seen(ValueError("x")))


# -- rows --------------------------------------------------------------------------------------------


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    bio: orm.Mapped[str] = orm.mapped_column(deferred=True)
    books: orm.Mapped[list[Book]] = orm.relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    author_id: orm.Mapped[int] = orm.mapped_column(sqlalchemy.ForeignKey("author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def test_sqlalchemy_rows_are_mappings_and_objects_load_nothing() -> None:
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Author(id=1, name="x", bio="long", books=[Book(id=5)]))
        session.commit()
    statements: list[str] = []
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with orm.Session(engine) as session:
        row = session.execute(sqlalchemy.text("select id, name from author")).one()
        assert as_seen(row) == {"id": 1, "name": "x"}
        author = session.get_one(Author, 1)
        before = len(statements)
        assert as_seen(author) == {"id": 1, "name": "x"}
        assert len(statements) == before
        assert author.books[0].author is author
        assert as_seen(author) == {
            "id": 1,
            "name": "x",
            "books": [{"id": 5, "author_id": 1, "author": "<seen above>"}],
        }
    engine.dispose()


def test_a_record_of_asyncpg_is_a_mapping() -> None:
    # A record can only be made by the driver; this one has its name, its base and its ways.
    class Record(tuple[object, ...]):
        __slots__ = ()

        def items(self) -> Iterator[tuple[str, object]]:
            return iter(zip(("id", "name"), self, strict=True))

    Record.__module__ = "asyncpg.protocol.record"
    assert as_seen([Record((1, "x"))]) == [{"id": 1, "name": "x"}]


def test_plain_rows_and_rows_of_sqlite_are_seen() -> None:
    connection = sqlite3.connect(":memory:")
    assert as_seen(connection.execute("select 1, 'x'").fetchall()) == [[1, "x"]]
    connection.close()


# -- paths -------------------------------------------------------------------------------------------


def test_leaves_have_dotted_paths_without_positions() -> None:
    seen = {"id": 1, "items": [{"id": 2}, {"id": 3}], "none": [], "map": {}}
    assert list(leaves(seen)) == [("id", 1), ("items.*.id", 2), ("items.*.id", 3), ("none", []), ("map", {})]
    assert list(leaves(None)) == [("", None)]


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("id", "id", True),
        ("id", "identity", False),
        ("items.*.id", "items.*.id", True),
        ("items.*.id", "items", True),
        ("items.*.id", "items.*.name", False),
        ("items.*.id", "id", False),
        ("items", "items.*.id", False),
        ("body.id", "id", True),
        ("body.id", "body.id", True),
        ("body.*.id", "id", True),
        ("body.*.id", "*.id", True),
        ("*.id", "id", True),
        ("*.id", "*.id", True),
        ("headers.date", "headers.Date", True),
        ("headers.date", "date", False),
        ("body.status", "status", False),
        ("error.text", "error.text", True),
        ("error.cause.text", "error.text", False),
        ("", "*", True),
        ("a.b.c", "*", True),
        ("", "id", False),
        ("users.x.id", "users.*.id", True),
    ],
)
def test_a_declaration_covers_what_it_names_and_all_below(path: str, pattern: str, expected: bool) -> None:
    assert matches(path, pattern) is expected


@pytest.mark.parametrize(
    ("seen", "path", "values"),
    [
        ({"id": 1}, "id", [1]),
        ({"id": 1}, "name", []),
        ({"items": [{"id": 1}, {"id": 2}]}, "items.*.id", [1, 2]),
        ({"items": [{"id": 1}, {"id": 2}]}, "items.1.id", [2]),
        ([{"id": 1}, {"id": 2}], "id", [1, 2]),
        ([{"id": 1}, {"id": 2}], "*.id", [1, 2]),
        ({"status": 200, "headers": {"etag": "x"}, "body": {"id": 1}}, "id", [1]),
        ({"status": 200, "headers": {"etag": "x"}, "body": [{"id": 1}]}, "id", [1]),
        ({"status": 200, "headers": {"etag": "x"}, "body": {"status": "open"}}, "status", [200]),
        ({"status": 200, "headers": {"etag": "x"}, "body": {"id": 1}}, "headers.ETag", ["x"]),
        ({"a.b": {"c": 1}}, "a.b.c", [1]),
        (None, "*", [None]),
        (7, "id", []),
    ],
    ids=str,
)
def test_a_path_selects_what_it_names(seen: object, path: str, values: list[object]) -> None:
    assert list(select(seen, path)) == values
