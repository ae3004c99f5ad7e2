"""What an SQL statement compares, and where: read with sqlglot's tokens, confirmed by its parser.

The text of a statement is never written anew from a tree: a guard is weakened by a few characters put in at its
place, and everything else reaches the driver as the application wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pytest_ssot_isolation.errors import MutationUnusable

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

Reference: TypeAlias = tuple[str, Any]
"""Where a value comes from: ``("at", 0)`` an argument by place, ``("by", "name")``, ``("is", "literal")``."""

ALWAYS: Final = " OR 1=1"
"""True in every dialect; the comparison before it stays, and with it its parameters and their types."""

LONGEST: Final = 4000
"""Characters of a statement that is read; a longer one is data rather than a question."""

_OPENS: Final = frozenset(("WHERE", "PREWHERE", "ON"))
_ENDS: Final = frozenset(
    [
        "GROUP_BY",
        "ORDER_BY",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "HAVING",
        "WINDOW",
        "QUALIFY",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "RETURNING",
        "FOR",
        "SETTINGS",
        "FORMAT",
        "WHERE",
        "PREWHERE",
        "ON",
        "JOIN",
        "LEFT",
        "RIGHT",
        "FULL",
        "INNER",
        "CROSS",
        "NATURAL",
        "SEMICOLON",
        "COMMA",
        "SET",
        "WITH",
        "THEN",
    ]
)
_CALLABLE: Final = frozenset(("LEFT", "RIGHT", "FORMAT"))
_LITERALS: Final = frozenset(("STRING", "NATIONAL_STRING", "HEREDOC_STRING", "UNICODE_STRING", "NUMBER"))
_BEFORE_NAMED: Final = frozenset(
    [
        "EQ",
        "NEQ",
        "LT",
        "GT",
        "LTE",
        "GTE",
        "L_PAREN",
        "COMMA",
        "LIKE",
        "ILIKE",
        "IN",
        "AND",
        "OR",
        "NOT",
        "BETWEEN",
        "PLUS",
        "DASH",
        "DPIPE",
        "WHEN",
        "THEN",
        "ELSE",
    ]
)
_SESSION: Final = frozenset(("CURRENT_SETTING", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE"))
_GUARDING: Final = frozenset(("role", "search_path", "row_security"))


@dataclass(frozen=True, slots=True)
class Conjunct:
    """One of the conditions that a clause joins by AND.

    Attributes:
        start: Where it begins in the text.
        end: Where it ends.
        references: Values that it compares with.
        asks_session: Whether it reads the session's user or a setting.
    """

    start: int
    end: int
    references: tuple[Reference, ...]
    asks_session: bool


@dataclass(frozen=True, slots=True)
class LocalSetting:
    """A setting that is made for one transaction.

    Attributes:
        start: Where the text begins that says so.
        end: Where it ends.
        weakened: What makes it the session's.
        name: The name of the setting.
        is_local: What has to be true for it to be local.
    """

    start: int
    end: int
    weakened: str
    name: Reference
    is_local: Reference


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, taken apart.

    Attributes:
        skeleton: Its text without literals: equal for what one line of code sends.
        conjuncts: The conditions of all its clauses.
        settings: The settings that it makes for one transaction.
    """

    skeleton: str
    conjuncts: tuple[Conjunct, ...] = ()
    settings: tuple[LocalSetting, ...] = ()


def require_sqlglot() -> None:
    """Make sure that SQL can be read.

    Raises:
        MutationUnusable: sqlglot is not installed.
    """
    try:
        import sqlglot  # noqa: F401
    except ImportError:
        raise MutationUnusable.without_sqlglot() from None


@lru_cache(maxsize=4096)
def read(sql: str, dialect: str) -> Statement | None:
    """Take a statement apart; None where it cannot be read."""
    from sqlglot import tokenize
    from sqlglot.errors import SqlglotError

    if len(sql) > LONGEST:
        return None
    try:
        tokens = tokenize(sql, dialect=dialect)
    except (SqlglotError, ValueError, IndexError):
        return None
    skeleton = " ".join("?" if kind(token) in _LITERALS else token.text for token in tokens)
    conjuncts = tuple(_conjuncts(sql, tokens))
    return Statement(skeleton, conjuncts, tuple(_settings(tokens)))


@lru_cache(maxsize=1024)
def is_sound(sql: str, dialect: str, start: int, end: int) -> bool:
    """Whether the parser agrees that a condition stands there, and that weakening it changes nothing else."""
    from sqlglot import exp, parse
    from sqlglot.errors import SqlglotError

    try:
        before, after = parse(sql, dialect=dialect), parse(weaken(sql, start, end), dialect=dialect)
    except (SqlglotError, ValueError, IndexError):
        return False
    if len(before) != len(after):
        return False
    for tree in after:
        for either in tree.find_all(exp.Or) if tree is not None else ():
            always, around = either.expression, either.parent
            if isinstance(around, exp.Paren) and always.sql() == "1 = 1":
                around.replace(either.this)
                return [_plain(one) for one in before] == [_plain(one) for one in after]
    return False


def weaken(sql: str, start: int, end: int) -> str:
    """The statement with one condition made always true."""
    return f"{sql[:start]}(({sql[start:end]}){ALWAYS}){sql[end:]}"


def value_of(reference: Reference, arguments: Any) -> Any:
    """The value behind a reference; None where the arguments have none."""
    how, what = reference
    if how == "is":
        return what
    if how == "by":
        return arguments.get(what) if isinstance(arguments, Mapping) else None
    if isinstance(arguments, Sequence) and not isinstance(arguments, str | bytes) and what < len(arguments):
        return arguments[what]
    return None


def kind(token: Token) -> str:
    """The name of a token's type."""
    return str(token.token_type.name)


def _plain(tree: Any) -> str:
    from sqlglot import exp

    # Parentheses that nobody needs come and go.
    for paren in list(tree.find_all(exp.Paren)) if tree is not None else ():
        if paren.parent is not None:
            paren.replace(paren.this)
    return repr(tree)


def _conjuncts(sql: str, tokens: Sequence[Token]) -> Iterator[Conjunct]:
    places = _references(tokens)
    for at, token in enumerate(tokens):
        if kind(token) in _OPENS:
            for first, last in _split(tokens, at + 1):
                own = list(_without_subqueries(tokens, first, last))
                yield Conjunct(
                    tokens[first].start,
                    tokens[last].end + 1,
                    tuple(places[n] for n in own if n in places),
                    any(kind(tokens[n]) in _SESSION or tokens[n].text.upper() in _SESSION for n in own),
                )


def _split(tokens: Sequence[Token], first: int) -> Iterator[tuple[int, int]]:
    """The conditions of a clause, first and last token of each; one where an OR joins them."""
    parts, begins, depth, between, has_or = [], first, 0, False, False
    at = first
    while at < len(tokens):
        name = kind(tokens[at])
        follows = kind(tokens[at + 1]) if at + 1 < len(tokens) else ""
        if name in ("L_PAREN", "L_BRACKET", "L_BRACE", "CASE"):
            depth += 1
        elif name in ("R_PAREN", "R_BRACKET", "R_BRACE", "END"):
            depth -= 1
            if depth < 0:
                break
        elif depth == 0:
            if name in _ENDS and not (name in _CALLABLE and follows == "L_PAREN"):
                break
            if name == "BETWEEN":
                between = True
            elif name == "AND" and between:
                between = False
            elif name == "AND":
                parts.append((begins, at - 1))
                begins = at + 1
            elif name in ("OR", "XOR"):
                has_or = True
        at += 1
    parts.append((begins, at - 1))
    if has_or:
        parts = [(first, at - 1)]
    for begin, end in parts:
        if begin > end:
            continue
        if (inside := _inside(tokens, begin, end)) is not None:
            yield from _split(tokens, inside)
        else:
            yield begin, end


def _inside(tokens: Sequence[Token], first: int, last: int) -> int | None:
    """Where the text inside begins, for a condition that is one pair of parentheses."""
    if kind(tokens[first]) != "L_PAREN" or kind(tokens[last]) != "R_PAREN":
        return None
    depth = 0
    for at in range(first, last + 1):
        depth += {"L_PAREN": 1, "R_PAREN": -1}.get(kind(tokens[at]), 0)
        if depth == 0 and at < last:
            return None
    return first + 1 if kind(tokens[first + 1]) not in ("SELECT", "WITH") else None


def _without_subqueries(tokens: Sequence[Token], first: int, last: int) -> Iterator[int]:
    """The tokens of a condition that are its own: a question within it has conditions of its own."""
    depth = 0
    for at in range(first, last + 1):
        name = kind(tokens[at])
        if name == "L_PAREN" and (depth or kind(tokens[at + 1]) in ("SELECT", "WITH")):
            depth += 1
        elif name == "R_PAREN" and depth:
            depth -= 1
        elif not depth:
            yield at


def _references(tokens: Sequence[Token]) -> dict[int, Reference]:
    """Where values stand, by the token that they begin at."""
    found: dict[int, Reference] = {}
    places = 0

    def text(at: int) -> str:
        return tokens[at].text if at < len(tokens) else ""

    def name(at: int) -> str:
        return kind(tokens[at]) if at < len(tokens) else ""

    def touches(at: int) -> bool:
        return at < len(tokens) and tokens[at].start == tokens[at - 1].end + 1

    at = 0
    while at < len(tokens):
        now, takes = name(at), 1
        if now in _LITERALS:
            found[at] = ("is", text(at))
        elif now == "PARAMETER" and name(at + 1) == "NUMBER":
            found[at], takes = ("at", int(text(at + 1)) - 1), 2
        elif now == "PARAMETER" and touches(at + 1):
            found[at], takes = ("by", text(at + 1)), 2
        elif now == "PLACEHOLDER" and name(at + 1) == "NUMBER" and touches(at + 1):
            found[at], takes = ("at", int(text(at + 1)) - 1), 2
        elif now == "PLACEHOLDER":
            found[at] = ("at", places)
            places += 1
        elif now == "MOD" and text(at + 1) in ("s", "b", "t") and touches(at + 1):
            found[at], takes = ("at", places), 2
            places += 1
        elif now == "MOD" and name(at + 1) == "L_PAREN" and name(at + 3) == "R_PAREN" and touches(at + 4):
            found[at], takes = ("by", text(at + 2)), 5
        elif (
            now == "COLON" and touches(at + 1) and name(at + 1) != "NUMBER" and name(at - 1) in _BEFORE_NAMED
        ):
            found[at], takes = ("by", text(at + 1)), 2
        elif now == "L_BRACE" and name(at + 2) == "COLON":
            found[at], takes = ("by", text(at + 1)), 3
        at += takes
    return found


def _settings(tokens: Sequence[Token]) -> Iterator[LocalSetting]:
    places = _references(tokens)
    for at, token in enumerate(tokens):
        if kind(token) == "SET" and at + 2 < len(tokens) and tokens[at + 1].text.upper() == "LOCAL":
            local = tokens[at + 1]
            names: list[str] = []
            for part in tokens[at + 2 :]:
                if kind(part) in ("EQ", "TO", "SEMICOLON") or part.text.upper() == "TO" or len(names) > 4:
                    break
                names.append(part.text)
            if names and names[0].lower() in _GUARDING:
                names = names[:1]
            yield LocalSetting(local.start, local.end + 1, "SESSION", ("is", "".join(names)), ("is", True))
        elif token.text.lower() == "set_config" and at + 1 < len(tokens):
            parts = _arguments(tokens, at + 1)
            if len(parts) == 3:
                (name, _), _, (first, last) = parts
                said = places.get(first, ("is", tokens[first].text))
                yield LocalSetting(
                    tokens[first].start,
                    tokens[last].end + 1,
                    "({} AND FALSE)",
                    places.get(name, ("is", "")),
                    said,
                )


def _arguments(tokens: Sequence[Token], opens: int) -> list[tuple[int, int]]:
    """First and last token of each argument of a call."""
    parts, begins, depth = [], opens + 1, 0
    for at in range(opens, len(tokens)):
        name = kind(tokens[at])
        depth += {"L_PAREN": 1, "R_PAREN": -1}.get(name, 0)
        if (name == "COMMA" and depth == 1) or (name == "R_PAREN" and depth == 0):
            if begins > at - 1:
                return []
            parts.append((begins, at - 1))
            begins = at + 1
        if depth == 0:
            return parts
    return []


def guards_a_user(name: object) -> bool:
    """Whether a setting of this name may say who acts: one of the application's own, a role, a search path."""
    text = str(name).lower()
    return "." in text or text in _GUARDING


def makes_local(value: object) -> bool:
    """Whether the last argument of ``set_config`` makes a setting local."""
    return value is True or str(value).lower() in ("true", "t", "on", "yes", "1")


def make_session_wide(sql: str, setting: LocalSetting) -> str:
    """The statement with one setting made the session's."""
    said = sql[setting.start : setting.end]
    weakened = setting.weakened.format(said) if "{}" in setting.weakened else setting.weakened
    return f"{sql[: setting.start]}{weakened}{sql[setting.end :]}"
