"""The log records that users cause: each is seen by the user in whose context it was emitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_ssot_isolation.engine.lanes import USER

_PLAIN_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class ObservedLogs(logging.Handler):
    """Takes down the records that a user's code emits, at INFO and above.

    One for all runs of a check: to make a handler and to forget it took as long as two calls.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._push: Callable[[int, object, str], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the user in whose context it was emitted."""
        user = USER.get()
        if user is not None and self._push is not None:
            self._push(user, form_of(record), "log")

    @contextmanager
    def seen_by(self, push: Callable[[int, object, str], None]) -> Iterator[None]:
        """Hand records over as long as this lasts, and let nobody else see more of them than before.

        Args:
            push: Takes the index of the user, the record in its seen form, and the channel.
        """
        root = logging.getLogger()
        level = root.level
        barred = list(root.handlers)

        def as_before(record: logging.LogRecord) -> bool:
            return record.levelno >= level or logging.getLogger(record.name).getEffectiveLevel() != root.level

        for other in barred:
            other.addFilter(as_before)
        self._push = push
        root.addHandler(self)
        if level > logging.INFO:
            root.setLevel(logging.INFO)
        try:
            yield
        finally:
            if level > logging.INFO:
                root.setLevel(level)
            root.removeHandler(self)
            self._push = None
            for other in barred:
                other.removeFilter(as_before)


def form_of(record: logging.LogRecord) -> dict[str, object]:
    """What a log record tells, structured extras and the exception included."""
    form: dict[str, object] = {
        "logger": record.name,
        "level": record.levelname,
        "message": record.getMessage(),
    }
    extras = {name: value for name, value in vars(record).items() if name not in _PLAIN_RECORD}
    if extras:
        form["extra"] = extras
    if record.exc_info and record.exc_info[1] is not None:
        form["exception"] = record.exc_info[1]
    return form
