"""Small pieces of ClickHouse SQL: quoting, and cutting a script into its statements."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A text, a quoted name or a comment is taken whole, so that a semicolon within it ends nothing.
_PIECE = re.compile(
    r"""
    '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<comment>--[^\n]* | \#[ !][^\n]* | /\*.*?\*/)
    | (?P<end>;)
    | .
    """,
    re.DOTALL | re.VERBOSE,
)


def statements(script: str) -> Iterator[str]:
    """Cut a script at its semicolons and leave its comments out.

    Args:
        script: Statements of ClickHouse SQL. Rows that follow ``FORMAT ...`` in the script itself
            (``INSERT ... FORMAT CSV``) may hold no semicolon.

    Returns:
        Each statement that is more than space, without its semicolon.
    """
    current: list[str] = []
    for piece in _PIECE.finditer(script):
        if piece["end"]:
            if text := "".join(current).strip():
                yield text
            current.clear()
        else:
            current.append(" " if piece["comment"] else piece[0])
    if text := "".join(current).strip():
        yield text


def identifier(name: str) -> str:
    """Return a name in backquotes, safe inside a statement."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """Return a text in quotes, safe inside a statement."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def belongs_to_tenant(column: str) -> str:
    """Return the condition of a row policy: the row's tenant is the one the query names in ``log_comment``.

    ``log_comment`` is the one setting with free text that every ClickHouse knows, chDB included, where no
    settings of one's own can be declared. Unset it is empty, and then no row matches.
    """
    return f"toString({identifier(column)}) = getSetting('log_comment') AND getSetting('log_comment') != ''"
