"""The text form of an example: JSON that a person can read, and a short line of it for a command."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine.joined import JoinedPlan
from pytest_ssot_isolation.engine.reduce import Example
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.errors import ReplayMismatch
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.generation.values import BATCH, POOL, draw_pools, drawn_arguments
from pytest_ssot_isolation.model.program import Call, Form, Key, Person, Program, Result, Secret, Value
from pytest_ssot_isolation.model.schedule import Anchor, Blocked, Fault, Pick, Schedule
from pytest_ssot_isolation.surfaces.base import operations_of

if TYPE_CHECKING:
    from pytest_ssot_isolation.surfaces.base import Surface

FORMAT = 1
PREFIX = "v1."

_FORMS: dict[str, type[Form]] = {
    "key": Key,
    "secret": Secret,
    "result": Result,
    "person": Person,
    "value": Value,
}
_NAMES = {kind: name for name, kind in _FORMS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An example as it was run, and what came of it.

    Attributes:
        example: The script and the schedule.
        seed: The seed of the check, from which values are drawn again.
        boundary: The boundary of the check.
        finding: Oracle, operation, channel and path of the finding; empty without one.
        trace: The steps as they ran; a text form has only their digest.
        steps: That digest.
    """

    example: Example
    seed: int
    boundary: str = "user"
    finding: tuple[str, ...] = ()
    trace: tuple[tuple[int, int], ...] = ()
    steps: str = ""

    def to_plain(self) -> dict[str, Any]:
        """The recording as dicts, lists, strings and numbers."""
        script, schedule = self.example.script, self.example.schedule
        plain: dict[str, Any] = {
            "format": FORMAT,
            "surfaces": [cls.__name__ for cls in script.surfaces],
            "seed": self.seed,
            "boundary": self.boundary,
            "cast": script.plan.to_plain(),
            "serial": script.serial,
            "values": list(script.values),
            "more_values": list(script.more_values or ()),
            "sequential": script.program.sequential,
            "calls": [_plain_call(call) for call in script.program.calls],
            "anchors": [[list(a.at), a.to] for a in schedule.anchors],
            "faults": [[f.call, f.kind, f.step] for f in schedule.faults],
            "in_flight": [list(p) for p in schedule.in_flight],
            "together": [list(p) for p in schedule.together],
            "picks": [[list(pick.at), pick.place] for pick in schedule.picks],
            "blocked": [[list(b.at), [list(lane) for lane in b.lanes]] for b in schedule.blocked],
            "finding": list(self.finding),
            "trace": [list(step) for step in self.trace],
        }
        return {name: value for name, value in plain.items() if value not in ([], False)}

    def to_text(self) -> str:
        """A line for ``--ssot-replay``; of the trace it has a digest only."""
        return packed(self.to_plain())

    def ran_alike(self, trace: Sequence[tuple[int, int]]) -> bool:
        """Whether a run took the steps that were recorded."""
        if self.trace:
            return tuple(trace) == self.trace
        return not self.steps or self.steps == _digest_of(trace)

    @property
    def digest(self) -> str:
        """Eight letters or digits that name the recording."""
        plain = {n: v for n, v in self.to_plain().items() if n not in ("trace", "seed", "serial")}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def _digest_of(trace: Sequence[tuple[int, int]]) -> str:
    return (
        hashlib.sha256(json.dumps([list(step) for step in trace]).encode()).hexdigest()[:8] if trace else ""
    )


def _plain_call(call: Call) -> list[Any]:
    arguments = {}
    for name, form in call.arguments:
        fields = [getattr(form, slot) for slot in form.__dataclass_fields__]
        arguments[name] = [_NAMES[type(form)], *fields]
    return [call.id, call.user, call.operation, arguments, call.stage]


def _call(plain: Sequence[Any]) -> Call:
    number, user, operation, arguments, stage = plain
    forms = tuple((name, _FORMS[form[0]](*form[1:])) for name, form in arguments.items())
    return Call(number, user, operation, forms, stage)


def _pools(strategies: Mapping[tuple[str, str], Any], values: Sequence[int]) -> dict[Any, tuple[object, ...]]:
    seed, place = values
    return dict(draw_pools(strategies, seed, BATCH)[place]) if strategies else {}


def _place(plain: Sequence[int]) -> tuple[int, int, int]:
    user, call, step = plain
    return (user, call, step)


_OF_THE_FILE = frozenset({"test", "digest", "told", "plain_test", "trace"})


def packed(plain: Mapping[str, Any]) -> str:
    """The text form of a recording's plain data; of the trace it keeps a digest."""
    kept = {name: value for name, value in plain.items() if name not in _OF_THE_FILE}
    if plain.get("trace"):
        kept["steps"] = _digest_of(plain["trace"])
    squeezed = zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), 9)
    return PREFIX + base64.urlsafe_b64encode(squeezed).decode().rstrip("=")


def text_of(text_or_path: str, root: Path | None) -> str:
    """What ``--ssot-replay`` was given: the text itself, or what is in the file.

    Args:
        text_or_path: The text form, or a path.
        root: Folder from which a path is looked up as well.

    Raises:
        ReplayMismatch: The file cannot be read.
    """
    if text_or_path.startswith(PREFIX):
        return text_or_path
    path = Path(text_or_path)
    if not path.is_absolute() and root is not None and not path.exists():
        path = root / path
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReplayMismatch(
            f"The recorded example {path} cannot be read: {error.strerror}.\n"
            "To fix this, name the file that the report names, or copy the text that begins with v1."
        ) from error


def parse(text: str) -> dict[str, Any]:
    """Read the text form or the JSON of a recording.

    Raises:
        ReplayMismatch: It is neither.
    """
    try:
        if text.startswith(PREFIX):
            body = text[len(PREFIX) :]
            text = zlib.decompress(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))).decode()
        plain = json.loads(text)
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise ValueError("it is not of format 1")
    except (ValueError, zlib.error, binascii.Error) as error:
        raise ReplayMismatch(
            f"The recorded example cannot be read: {error}.\n"
            "To fix this, copy the whole text after --ssot-replay=, or name the file that the report names."
        ) from error
    return plain


def restore(plain: Mapping[str, Any], surfaces: Sequence[type[Surface[Any]]]) -> Recording:
    """The recording that plain data stands for, over the surfaces of today.

    Raises:
        ReplayMismatch: It was recorded with other surfaces or operations.
    """
    by_name = {cls.__name__: cls for cls in surfaces}
    missing = sorted(set(plain["surfaces"]) - by_name.keys())
    if missing:
        raise ReplayMismatch(
            f"The example was recorded with the surface {', '.join(missing)}, and the check has "
            f"{', '.join(by_name)}.\nTo fix this, replay it with the test that found it."
        )
    classes = tuple(by_name[name] for name in plain["surfaces"])
    calls = tuple(_call(call) for call in plain["calls"])
    for call in calls:
        operations = operations_of(classes[call.user])
        operation = operations.get(call.operation)
        if operation is None or list(operation.arguments) != [name for name, _ in call.arguments]:
            raise ReplayMismatch(
                f"The example calls {classes[call.user].__name__}.{call.operation}("
                f"{', '.join(name for name, _ in call.arguments)}), which the surface does not have today.\n"
                "To fix this, undo the change of the surface, or delete the recorded example."
            )
    strategies = drawn_arguments([operations_of(cls) for cls in classes])
    values = tuple(plain.get("values", (0, 0)))
    more = tuple(plain["more_values"]) if plain.get("more_values") else None
    pools = _pools(strategies, values)
    if more is not None:
        others = _pools(strategies, more)
        pools = {name: pool[:POOL] + others[name][:POOL] for name, pool in pools.items()}
    script = Script(
        number=0,
        program=Program(calls=calls, sequential=plain.get("sequential", False)),
        surfaces=classes,
        plan=(JoinedPlan if "joined" in plain["cast"] else CastPlan).from_plain(plain["cast"]),
        pools=pools,
        serial=plain.get("serial", 1),
        values=(values[0], values[1]),
        more_values=(more[0], more[1]) if more is not None else None,
    )
    schedule = Schedule(
        anchors=tuple(Anchor(_place(at), to) for at, to in plain.get("anchors", ())),
        faults=tuple(Fault(*fault) for fault in plain.get("faults", ())),
        in_flight=tuple(_place(p) for p in plain.get("in_flight", ())),
        together=tuple(_place(p) for p in plain.get("together", ())),
        picks=tuple(Pick(_place(at), place) for at, place in plain.get("picks", ())),
        blocked=tuple(
            Blocked(_place(at), tuple((lane[0], lane[1]) for lane in lanes))
            for at, lanes in plain.get("blocked", ())
        ),
    )
    return Recording(
        example=Example(script, schedule),
        seed=plain["seed"],
        boundary=plain.get("boundary", "user"),
        finding=tuple(plain.get("finding", ())),
        trace=tuple((user, lane) for user, lane in plain.get("trace", ())),
        steps=plain.get("steps", ""),
    )
