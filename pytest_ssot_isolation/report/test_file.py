"""A recorded example as a small test file of its own, which draws nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pytest_ssot_isolation.errors import ReplayMismatch

_TEMPLATE = '''"""{title}

{story}
Found by {test}. Run with the same choices again, it draws nothing.
"""

import functools
import inspect

import pytest

from {module} import *  # noqa: F403 - the fixtures of the test that found it
from {module} import {original} as original

# Its fixtures are wanted here, and none of its tests.
for name, each in list(globals().items()):
    is_plain = inspect.isfunction(each) and not hasattr(each, "_pytestfixturefunction")
    if name.startswith("test") and is_plain or name.startswith("Test") and inspect.isclass(each):
        del globals()[name]


@pytest.mark.{marker}(replay={text!r})
@functools.wraps(original)
{declaration} {name}(*args, **kwargs):
    return {call}original(*args, **kwargs)
'''


def render(document: Mapping[str, Any], text: str) -> str:
    """Write the test.

    Args:
        document: A recorded example as it is kept in the folder ``.ssot``.
        text: Its text form.

    Returns:
        The text of a Python file, to be put beside the test that found the leak.

    Raises:
        ReplayMismatch: The recording does not say which test found it.
    """
    test = str(document.get("test", ""))
    path, _, name = test.partition("::")
    if not path.endswith(".py") or not name:
        raise ReplayMismatch(
            "The recorded example does not say which test found it, so no test can be written for it.\n"
            "To fix this, name a file out of the folder .ssot, as it was written there."
        )
    if "::" in name or "[" in name:
        raise ReplayMismatch(
            f"The leak was found by {test}, a method or a parametrised test, which a written test cannot call.\n"
            f"To fix this, replay it there: pytest '{test}' --ssot-replay=FILE"
        )
    finding = [str(part) for part in document.get("finding", ())]
    told = [str(line) for line in document.get("told", ())]
    together = bool(document.get("plain_test"))
    return _TEMPLATE.format(
        title=f"A leak found by the {finding[0]} oracle." if finding else "A recorded example.",
        story="".join(f"    {line}\n" for line in told) or "    (its history was not kept)\n",
        test=test,
        module=PurePosixPath(path).stem,
        original=name,
        marker="concurrency" if together else "isolation",
        text=text,
        name="test_leak_" + re.sub(r"\W", "_", str(document.get("digest", "again"))),
        declaration="async def" if together else "def",
        call="await " if together else "",
    )
