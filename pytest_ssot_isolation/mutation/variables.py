"""``contextvar_reset``: a context variable of the application keeps what it was set to.

``ContextVar`` is written in C and can neither be patched nor derived from. What can be done: in the modules of the
application, names of modules and classes that stand for a variable stand for a proxy for a while, whose ``reset`` does
nothing.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pytest_ssot_isolation.mutation.guards import Reach
from pytest_ssot_isolation.mutation.patches import Patches

_OURS: Final = __name__.partition(".")[0]
_LIBRARIES: Final = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def of_application(packages: Sequence[str] = ()) -> Iterator[ModuleType]:
    """The loaded modules that were installed by nobody, and those of the packages named."""
    for name, module in sorted(sys.modules.items()):
        top = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if not isinstance(module, ModuleType) or not isinstance(file, str) or top == _OURS:
            continue
        path = str(Path(file).resolve())
        is_installed = "site-packages" in path or any(path.startswith(folder) for folder in _LIBRARIES)
        if top in packages or not is_installed:
            yield module


def _holders(packages: Sequence[str]) -> Iterator[tuple[Any, str, ContextVar[Any]]]:
    for module in of_application(packages):
        for name, value in list(vars(module).items()):
            if isinstance(value, ContextVar):
                yield module, name, value
            elif isinstance(value, type) and value.__module__ == module.__name__:
                for inner, held in list(vars(value).items()):
                    if isinstance(held, ContextVar):
                        yield value, inner, held


class _Kept:
    """A context variable that is never set back."""

    def __init__(self, variable: ContextVar[Any], reach: Reach) -> None:
        self._variable = variable
        self._reach = reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._variable, name)

    def set(self, value: Any) -> Any:
        token = self._variable.set(value)
        # From Python 3.14 on a token is a context manager, and its end would set the variable back.
        return _KeptToken(token, self._reach) if hasattr(token, "__enter__") else token

    def reset(self, token: Any) -> None:
        self._reach.count += 1


class _KeptToken:
    def __init__(self, token: Token[Any], reach: Reach) -> None:
        self._token = token
        self._reach = reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._token, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._reach.count += 1


@dataclass(frozen=True, slots=True)
class VariableGuard:
    """The resets of one context variable.

    Attributes:
        place: The variable and where it is held.
        variable: The variable.
        packages: Installed packages that count as the application's.
        is_idle: Not known before it is tried.
    """

    place: str
    variable: ContextVar[Any]
    packages: tuple[str, ...]
    is_idle: bool = False

    @contextmanager
    def weakened(self) -> Iterator[Reach]:
        """Skip every reset of it."""
        reach = Reach()
        kept = _Kept(self.variable, reach)
        with Patches() as patches:
            for owner, name, held in list(_holders(self.packages)):
                if held is self.variable:
                    patches.put(owner, name, kept)
            yield reach


@dataclass(frozen=True, slots=True)
class ContextVarReset:
    """Looks for context variables in the modules of the application.

    Attributes:
        packages: Installed packages that count as the application's.
    """

    packages: tuple[str, ...] = ()

    def recording(self) -> nullcontext[None]:
        """Nothing is looked at: whether a variable is ever set back shows when that is skipped."""
        return nullcontext()

    def found(self) -> Sequence[VariableGuard]:
        """Each variable once, named by where it was found first."""
        seen: dict[int, VariableGuard] = {}
        for owner, name, variable in _holders(self.packages):
            place = f"the reset of {getattr(owner, '__qualname__', owner.__name__)}.{name}"
            seen.setdefault(id(variable), VariableGuard(place, variable, self.packages))
        return list(seen.values())

    def absent(self) -> str:
        """Where was looked."""
        count = sum(1 for _ in of_application(self.packages))
        return f"no module or class of the application holds a ContextVar, in {count} modules"
