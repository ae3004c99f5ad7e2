"""``Surface`` and ``@operation``: the author writes what one person can do, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, overload

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.model.arguments import Argument, Drawn, Keys, Observed, OtherUser, Secrets
from pytest_ssot_isolation.model.program import Operation

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.context import UserExecutionContext

World = TypeVar("World")
Method = TypeVar("Method", bound=Callable[..., Any])

_MARK = "__ssot_operation__"
_OPTIONS = ("weight", "publishes", "may_fail", "needs")
_SPECS = (Keys, Secrets, Observed, OtherUser, Drawn)


@overload
def operation(arguments: Method, /) -> Method: ...


@overload
def operation(
    arguments: Mapping[str, Any] | None = None,
    /,
    *,
    weight: int = 1,
    publishes: Iterable[str] = (),
    may_fail: bool = False,
    needs: Callable[[Any], bool] | None = None,
    **keywords: Any,
) -> Callable[[Method], Method]: ...


def operation(
    arguments: Mapping[str, Any] | Callable[..., Any] | None = None,
    /,
    *,
    weight: int = 1,
    publishes: Iterable[str] = (),
    may_fail: bool = False,
    needs: Callable[[Any], bool] | None = None,
    **keywords: Any,
) -> Any:
    """Declare a method of a surface as something that a user can do.

    Args:
        arguments: Arguments by name, for those whose name is one of the options below.
        weight: How often the operation is drawn beside the others, from 1.
        publishes: Names of arguments whose canaries become public.
        may_fail: The operation may lawfully never succeed.
        needs: Given the surface, says whether the call makes sense now.
        **keywords: Arguments by name: a Hypothesis strategy, or one of ``keys()``, ``secrets()``,
            ``observed()`` and ``other_user()``.

    Returns:
        The method, marked.

    Raises:
        SurfaceError: An argument is declared twice, or a declaration is of no known kind.
    """
    if callable(arguments) and not isinstance(arguments, Mapping):
        return operation()(arguments)
    declared: dict[str, Argument] = {}
    for name, spec in [*(arguments or {}).items(), *keywords.items()]:
        if name in declared:
            raise SurfaceError(
                f"The argument {name!r} is declared twice for one operation: in the mapping and as a keyword.\n"
                "To fix this, keep one of the two."
            )
        declared[name] = _spec(name, spec)
    if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
        raise SurfaceError(
            f"weight={weight!r} is not a whole number from 1.\n"
            "To fix this, give one, or put an argument of that name in the mapping: "
            '@operation({"weight": ...}).'
        )
    published = frozenset([publishes] if isinstance(publishes, str) else publishes)
    for name in sorted(published - declared.keys()):
        raise SurfaceError(
            f"publishes names {name!r}, which is no argument of the operation.\n"
            f"To fix this, name one of: {', '.join(declared) or 'none is declared'}."
        )

    def mark(method: Method) -> Method:
        found = Operation(
            name=method.__name__,
            arguments=declared,
            weight=weight,
            publishes=published,
            may_fail=may_fail,
            needs=needs,
            is_async=inspect.iscoroutinefunction(method),
        )
        setattr(method, _MARK, found)
        return method

    return mark


def _spec(name: str, spec: object) -> Argument:
    if isinstance(spec, _SPECS):
        return spec
    if any(base.__name__ == "SearchStrategy" for base in type(spec).__mro__):
        return Drawn(cast("Any", spec))
    raise SurfaceError(
        f"The argument {name!r} is declared with {spec!r}, which is neither a Hypothesis strategy nor one of "
        "keys(), secrets(), observed(), other_user().\n"
        "To fix this, give a strategy: hypothesis.strategies.just(...) draws one fixed value."
    )


class Surface(Generic[World]):
    """What one signed-in user of the application can do; one instance is one user's session in one run.

    Subclasses declare methods with ``@operation``. ``open`` signs the user in (it may be an async
    generator: what follows its ``yield`` is the closing), ``close`` signs out; both are optional.

    Attributes:
        world: What the ``world`` factory gave.
        user: Who acts; also the current context whenever this user's code runs.
        shared: Paths in the seen form that may depend on other users.
        opaque: Paths that hold names only, compared up to renaming.
        ignore: Paths that are not compared.
        order_free: Paths to lists whose order does not count.
        open_concurrently: Whether users sign in interleaved instead of one after another.
    """

    world: World
    user: UserExecutionContext

    shared: ClassVar[tuple[str, ...]] = ()
    opaque: ClassVar[tuple[str, ...]] = ()
    ignore: ClassVar[tuple[str, ...]] = ()
    order_free: ClassVar[tuple[str, ...]] = ()
    open_concurrently: ClassVar[bool] = False

    _operations: ClassVar[Mapping[str, Operation]] = {}
    _tell: Callable[[object, str], None] | None = None
    _plant: Callable[[Any, Mapping[str, Any]], Any] | None = None
    _spot: Callable[[object], Any] | None = None
    errors_count: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        found: dict[str, Operation] = {}
        for base in reversed(cls.__mro__):
            for name, member in vars(base).items():
                marked = getattr(member, _MARK, None)
                if isinstance(marked, Operation):
                    found[name] = marked
                elif name in found:
                    del found[name]  # overridden by something that is no operation
        for name, marked in found.items():
            _check(cls, name, marked)
        cls._operations = found

    def saw(self, value: object, channel: str = "pushed") -> None:
        """Tell the harness of something that reached this user outside an answer.

        Args:
            value: What the user saw; taken down at once, so it may change later.
            channel: Where it came from, such as ``"websocket"`` or ``"mail"``.
        """
        if self._tell is not None:
            self._tell(value, channel)

    async def _begin(self) -> None:
        """What a kind of surface needs before its author's ``open``."""

    async def _end(self) -> None:
        """What a kind of surface gives back after its author's ``close``."""

    @classmethod
    @asynccontextmanager
    async def enter_world(cls, world: Any) -> AsyncIterator[Any]:
        """Start what the ``world`` factory gave, once for each world, and stop it afterwards.

        Args:
            world: What the factory gave.

        Yields:
            What the surfaces get for their world.
        """
        yield world

    def may_see(self, owner: UserExecutionContext) -> bool:
        """Whether this user may see what is the owner's, beyond the boundary of the check."""
        return False

    def may_change(self, owner: UserExecutionContext) -> bool:
        """Whether this user may change what is the owner's; as ``may_see`` by default."""
        return self.may_see(owner)


def _check(cls: type[Surface[Any]], name: str, marked: Operation) -> None:
    """Hold an operation's declaration against the method's signature."""
    where = f"{cls.__qualname__}.{name}"
    parameters = list(inspect.signature(getattr(cls, name)).parameters.values())[1:]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for positional in [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]:
        raise SurfaceError(
            f"{where} takes {positional!r} by position only, but operations are called with keywords.\n"
            "To fix this, remove the `/` from its signature."
        )
    for declared in marked.arguments:
        if declared not in names and not takes_any:
            raise SurfaceError(
                f"{where} has no argument {declared!r}, though @operation declares it.\n"
                f"To fix this, rename it to one of: {', '.join(names) or 'the method takes none'}; "
                "or add it to the method."
            )
    for parameter in parameters:
        if (
            parameter.name in names
            and parameter.name not in marked.arguments
            and parameter.default is parameter.empty
        ):
            raise SurfaceError(
                f"{where} needs an argument {parameter.name!r}, which @operation does not declare.\n"
                f"To fix this, declare what it draws: @operation({parameter.name}=keys()), or give it a default."
            )
    for declared, spec in marked.arguments.items():
        if isinstance(spec, Secrets) and spec.to is not None and not isinstance(
            marked.arguments.get(spec.to), OtherUser
        ):  # fmt: skip
            raise SurfaceError(
                f"{where}: the secret {declared!r} is addressed to {spec.to!r}, which is no argument that names "
                f"a user.\nTo fix this, declare it: @operation({spec.to}=other_user(), ...)."
            )


def operations_of(cls: type[Surface[Any]]) -> Mapping[str, Operation]:
    """The operations of a concrete surface, by name, in the order of declaration.

    Raises:
        SurfaceError: It is no surface, has no operation, or refers to one that it does not have.
    """
    if not (isinstance(cls, type) and issubclass(cls, Surface)):
        raise SurfaceError(
            f"{cls!r} is not a Surface class.\nTo fix this, pass the class itself: isolation.check(Notes, ...)."
        )
    found = cls._operations
    if not found:
        raise SurfaceError(
            f"The surface {cls.__qualname__} has no operations, so its users can do nothing.\n"
            "To fix this, decorate at least one method with @operation(...)."
        )
    for name, marked in found.items():
        for spec in marked.arguments.values():
            if isinstance(spec, Observed) and spec.operation not in found:
                raise SurfaceError(
                    f"{cls.__qualname__}.{name} uses observed({spec.operation!r}), but {cls.__qualname__} has no "
                    f"such operation.\nTo fix this, name one of: {', '.join(found)}."
                )
    return found


def ways_into_the_world(
    surfaces: Iterable[type[Surface[Any]]],
) -> tuple[Callable[[Any], AbstractAsyncContextManager[Any]], ...]:
    """What starts the world for these surfaces: one way that several of them share is gone once.

    That of a plain surface does nothing, and is left out: to enter and leave it took a tenth of a short example.
    """
    ways: dict[object, Callable[[Any], AbstractAsyncContextManager[Any]]] = {}
    for cls in surfaces:
        ways.setdefault(_function(cls.enter_world), cls.enter_world)
    ways.pop(_function(Surface.enter_world), None)
    return tuple(ways.values())


def _function(method: Any) -> object:
    return getattr(method, "__func__", method)
