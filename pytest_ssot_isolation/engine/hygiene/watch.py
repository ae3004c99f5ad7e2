"""Remembers what each connection carried whenever it changed hands, and tells what one user left for another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from pytest_ssot_isolation.engine.hygiene.thread_contexts import ThreadContexts
from pytest_ssot_isolation.engine.lanes import USER
from pytest_ssot_isolation.model.history import InCommon, Leftover
from pytest_ssot_isolation.model.payload import as_seen

State: TypeAlias = Mapping[tuple[str, str], str]
"""Kind and name of all that a connection carries, and what it holds."""

USUAL_SETTINGS = (
    "app.user_id", "app.tenant_id", "app.user", "app.tenant", "app.current_user", "app.current_tenant",
    "app.current_user_id", "app.current_tenant_id", "app.org_id", "app.account_id", "app.role",
    "rls.user_id", "rls.tenant_id", "request.jwt.claims", "request.jwt.claim.sub", "jwt.claims.user_id",
    "application_name", "statement_timeout", "lock_timeout", "timezone", "datestyle", "row_security",
    "default_transaction_read_only", "default_transaction_isolation", "session_replication_role",
)  # fmt: skip
"""Settings that are asked for by name, together with those seen in SQL."""

MOST_SETTINGS = 200

ADVISORY_LOCK = "advisory_lock"
"""Stands among the settings once the application takes such locks: listing them is not cheap."""

_SET = re.compile(r"(?:^|;)\s*set\s+(?:session\s+|local\s+)?([a-z_][\w.]*)\s*(?:=|to\b)", re.IGNORECASE)
_CONFIG = re.compile(r"(?:set_config|current_setting)\s*\(\s*'([a-z_][\w.]*)'", re.IGNORECASE)
_NAME = re.compile(r"[a-z_]\w*\.[a-z_][\w.]*", re.IGNORECASE)
_OTHERWISE = frozenset({"role", "search_path", "session_authorization"})
"""These are asked for without a name."""


@dataclass(slots=True)
class _Carrier:
    """One connection.

    Attributes:
        first: What it carried when it was first seen, by anybody.
        start: What it carried when this run began.
        last: What it carried when it was last handed out.
        holder: User and call that it was last handed to; None for the application itself.
        setters: Who left what it carries.
        run: Number of the run in which it was last seen.
    """

    first: State
    start: State
    last: State
    run: int
    holder: tuple[int, int] | None = None
    setters: dict[tuple[str, str], tuple[int, int] | None] = field(default_factory=dict)


class Watch:
    """What was left on connections, over the runs of one check."""

    def __init__(self) -> None:
        self.found: list[Leftover] = []
        self.settings: dict[str, None] = dict.fromkeys(USUAL_SETTINGS)
        self.undo: list[Callable[[], None]] = []
        self.heard: WeakSet[Any] = WeakSet()
        self.passing: WeakSet[Any] = WeakSet()
        self.in_common: dict[InCommon, None] = {}
        self._threads = ThreadContexts()
        self._carriers: WeakKeyDictionary[Any, _Carrier] = WeakKeyDictionary()
        self._run = 0
        self._now: Mapping[int, tuple[int, str]] | None = None

    def begin(self, now: Mapping[int, tuple[int, str]] | None) -> None:
        """A run begins.

        Args:
            now: The call that each user is making, kept up by the run; None where nobody judges what is left, and
                connections change hands unseen.
        """
        if now is not None:
            from pytest_ssot_isolation.engine.hygiene import asyncpg_pools

            asyncpg_pools.install(self)
        self._run += 1
        self._now = now
        self.found = []
        self._threads.forget()
        self.in_common = {}

    def end(self) -> None:
        """The run has ended: what happens to a connection from now on is nobody's."""
        self._now = None

    def close(self) -> None:
        """Take back all that was changed in libraries."""
        while self.undo:
            self.undo.pop()()

    @property
    def looks(self) -> bool:
        """Whether it is a user who is being served here."""
        return self._now is not None and USER.get() is not None

    def learn(self, sql: str, values: object = ()) -> None:
        """Take the names of custom settings from a statement."""
        if "set" not in (lower := sql.lower()) and "advisory" not in lower:
            return
        names = [*_SET.findall(sql), *_CONFIG.findall(sql)]
        if "set_config" in lower:
            given = values.values() if isinstance(values, Mapping) else values
            strings = [v for v in given if isinstance(v, str)] if isinstance(given, Iterable) else []
            names += [value for value in strings if _NAME.fullmatch(value)]
        if "advisory" in lower:
            names.append(ADVISORY_LOCK)
        for name in names:
            if len(self.settings) < MOST_SETTINGS and name.lower() not in _OTHERWISE:
                self.settings.setdefault(name.lower())

    def is_new(self, connection: Any) -> bool:
        """Whether a connection was never handed out before."""
        return connection not in self._carriers

    def used(self, connection: Any, kind: str) -> None:
        """Somebody sends a statement; it should be the one to whom the connection was handed."""
        user, carrier = USER.get(), self._carriers.get(connection)
        if user is None or carrier is None or carrier.holder is None or connection in self.passing:
            return
        if carrier.run == self._run and self._now is not None and carrier.holder[0] != user:
            self.in_common.setdefault(InCommon(kind=kind, users=(carrier.holder[0], user)))

    def unseen(self, connection: Any) -> None:
        """The application itself takes a connection: what it leaves there is meant for all."""
        if carrier := self._carriers.get(connection):
            carrier.holder = None

    def handed_out(self, connection: Any, place: str, carried: State, kept: State | None = None) -> None:
        """A user gets a connection.

        Args:
            connection: The connection that the server knows, not the pool's proxy of it.
            place: What it is, in words.
            carried: What it carried.
            kept: What it still carried after the pool's own check-out hooks; None where there are none.
        """
        user = USER.get()
        if user is None or self._now is None:
            return
        call = self._now.get(user, (-1, ""))[0]
        kept = carried if kept is None else kept
        carrier = self._carriers.get(connection)
        if carrier is None:
            carrier = _Carrier(first=carried, start=carried, last=carried, run=self._run)
            self._carriers[connection] = carrier
        elif carrier.run != self._run or carrier.holder is None:
            carrier.start, carrier.run, carrier.setters = carried, self._run, {}
        setters: dict[tuple[str, str], tuple[int, int] | None] = {}
        for item, value in carried.items():
            if value in (carrier.start.get(item), carrier.first.get(item)):
                continue
            known = item in carrier.setters and carrier.last.get(item) == value
            setter = carrier.setters[item] if known else carrier.holder
            if kept.get(item) != value:
                continue
            setters[item] = setter
            if setter is not None and setter[0] != user:
                self._met(item, value, place, setter, (user, call))
        carrier.setters, carrier.last, carrier.holder = setters, kept, (user, call)

    def in_thread(self, job: Callable[..., Any]) -> Callable[..., Any]:
        """A user's job for a worker thread, which is looked at there."""
        user = USER.get()
        if user is None or self._now is None:
            return job
        return self._threads.looked_at(job, (user, self._now.get(user, (-1, ""))[0]), self._met_in_thread)

    def _met_in_thread(
        self, name: str, value: object, setter: tuple[int, int], finder: tuple[int, int]
    ) -> None:
        self._met(("context variable", name), as_seen(value), "a worker thread", setter, finder)

    def _met(
        self,
        item: tuple[str, str],
        value: object,
        place: str,
        setter: tuple[int, int],
        finder: tuple[int, int],
    ) -> None:
        self.found.append(
            Leftover(
                kind=item[0],
                name=item[1],
                value=value,
                place=place,
                left_by=setter[0],
                left_in=setter[1],
                found_by=finder[0],
                found_in=finder[1],
            )
        )
