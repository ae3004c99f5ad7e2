"""The options: one table, read once into one frozen `Settings`; and our keys in pytest's stash."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pytest_ssot_isolation.extensions import Extensions
    from pytest_ssot_isolation.known_findings import KnownFindings
    from pytest_ssot_isolation.model.report import Report

PROFILES: Final = ("quick", "default", "deep")
SEVERITIES: Final = ("leak", "low", "hint")
REPORT_SUFFIXES: Final = (".json", ".md")
DEEP_BUDGET: Final = 600.0
"""Seconds for all checks of a run in the profile ``deep``, where no budget is given."""
WAYS: Final = ("auto", "embedded", "container")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line, the environment and the ini file say, in this order of weight.

    Attributes:
        postgres: ``"auto"``, ``"embedded"``, ``"container"`` or a DSN.
        clickhouse: The same for ClickHouse.
        postgres_image: Image of the container; empty for the pinned one.
        clickhouse_image: The same for ClickHouse.
        profile: ``"quick"``, ``"default"`` or ``"deep"``: how much each check may cost.
        budget: Seconds for the checks of the whole run; None for the profile's own.
        report: Files to write the run's reports to; the suffix gives the format.
        replay: A recorded example as text, or the path of one; None runs new examples.
        seed: The seed of the run; each check draws its own from it.
        seed_origin: Where the seed came from, in words, for the header of the run.
        fail_on: The least severity that fails a test: ``"leak"``, ``"low"`` or ``"hint"``.
        audit: Collect the source audit.
        directory: Folder in which failing examples are kept.
        packages: Packages that the source audit reads.
        canonical: Names that the source audit expects to be defined once.
        import_budget: Lines ``NAME = SECONDS``: what importing a package or module may take.
        claims: TOML file of the claims of the proof.
        known: TOML file of accepted findings.
    """

    # Not shown: a DSN holds a password, and pytest prints these settings with a failing fixture's values.
    postgres: str = field(default="auto", repr=False)
    clickhouse: str = field(default="auto", repr=False)
    postgres_image: str = ""
    clickhouse_image: str = ""
    profile: str = "default"
    budget: float | None = None
    report: tuple[Path, ...] = ()
    replay: str | None = None
    seed: int = 0
    seed_origin: str = "default"
    fail_on: str = "leak"
    audit: bool = False
    directory: Path = field(default_factory=lambda: Path(".ssot"))
    packages: tuple[str, ...] = ()
    canonical: tuple[str, ...] = ()
    import_budget: tuple[str, ...] = ()
    claims: Path | None = None
    known: Path | None = None


SETTINGS: Final = pytest.StashKey[Settings]()
REPORT: Final = pytest.StashKey[list["Report"]]()
"""On the config: the reports of all checks of the run. On an item: those of this test."""
SERVERS: Final = pytest.StashKey[dict[str, None]]()
"""A line on each server that was used, in the order of first use."""
DATABASES: Final = pytest.StashKey[list[tuple[pytest.Item | pytest.Collector, Any]]]()
"""Open databases, each with the node in whose scope it lives."""
KNOWN: Final[pytest.StashKey[KnownFindings]] = pytest.StashKey()
"""The accepted findings of the run; where there are any."""
EXTENSIONS: Final[pytest.StashKey[Extensions]] = pytest.StashKey()
"""What other plugins added; from the first check on."""

MARKERS: Final = (
    "isolation(**defaults): defaults for `isolation.check` in this test; every test that requests the fixture"
    " `isolation` carries this marker.",
    "concurrency(users=4, examples=None, faults=(), reset=None, loop=None): run this `async def` test once for each"
    " user at the same time, interleaved.",
    "postgres(schema=None, version=None, image=None): this test's PostgreSQL database and its server.",
    "clickhouse(schema=None, version=None, image=None): this test's ClickHouse database and its server.",
    "proves(*claims, controls=()): this test covers these claims of the proof.",
    "ssot: an item of the source audit.",
)


class BadValue(ValueError):
    """A value that an option cannot take; says why and what it can take."""


def _text(value: str, _base: Path) -> str:
    return value


def _one_of(choices: Sequence[str]) -> Parse:
    def parse(value: str, _base: Path) -> str:
        if value not in choices:
            raise BadValue(f"is not one of {', '.join(choices)}")
        return value

    return parse


def _server(value: str, _base: Path) -> str:
    # The value may hold a password: an error about it must not repeat it.
    if value in WAYS or "://" in value:
        return value
    raise BadValue(f"must be {', '.join(WAYS)} or a DSN such as postgresql://user@host:5432/app_test")


def _seconds(value: str, _base: Path) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise BadValue("must be a number of seconds, such as 120 or 0.5") from None
    if not 0 < seconds < float("inf"):
        raise BadValue("must be a number of seconds above 0")
    return seconds


def _seed(value: str, _base: Path) -> int:
    if not value.isascii() or not value.isdigit():
        raise BadValue("must be a whole number from 0, such as the one in the header of the run to repeat")
    return int(value)


def _switch(value: str, _base: Path) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise BadValue("must be 1 or 0 (true, yes, on; false, no, off)")


def _path(value: str, base: Path) -> Path:
    return base / Path(value).expanduser()


def _reports(values: Sequence[str], base: Path) -> tuple[Path, ...]:
    paths = tuple(_path(value, base) for value in values)
    for path in paths:
        if path.suffix not in REPORT_SUFFIXES:
            raise BadValue(
                f"names {path.name}, and the suffix gives the format: this version writes"
                f" {', '.join(REPORT_SUFFIXES)}"
            )
    return paths


def _names(values: Sequence[str], _base: Path) -> tuple[str, ...]:
    return tuple(values)


Parse = Callable[[Any, Path], Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    Attributes:
        name: The field of `Settings`.
        help: What it does, for ``pytest --help``.
        parse: Makes the field's value from text (or texts) and the folder that relative paths start from.
        metavar: What stands behind the flag in the help; empty for a switch.
        many: Takes several values: a repeatable flag, a variable split at the path separator, ini lines.
        flag: Without its leading ``--``; empty where the ini (and nothing else) holds it.
        ini: Name in the ini file, and in upper case that of the environment variable.
    """

    name: str
    help: str
    parse: Parse
    metavar: str
    many: bool = False
    flag: str = ""
    ini: str = ""

    @property
    def variable(self) -> str:
        """The environment variable; empty where there is none."""
        return self.ini.upper() if self.flag else ""


def _on_command_line(name: str, metavar: str, parse: Parse, help: str, *, many: bool = False) -> Option:
    flag = "ssot-" + name.replace("_", "-")
    return Option(name, help, parse, metavar, many, flag=flag, ini=f"ssot_{name}")


def _in_ini(name: str, parse: Parse, help: str, *, many: bool = False) -> Option:
    return Option(name, help, parse, "", many, ini=f"ssot_{name}")


TABLE: Final = (
    _on_command_line(
        "postgres", "WAY|DSN", _server, "auto, embedded, container, or the DSN of a PostgreSQL server."
    ),
    _on_command_line(
        "clickhouse", "WAY|DSN", _server, "auto, embedded, container, or the DSN of a ClickHouse server."
    ),
    _on_command_line("postgres_image", "IMAGE", _text, "Image of the PostgreSQL container."),
    _on_command_line("clickhouse_image", "IMAGE", _text, "Image of the ClickHouse container."),
    _on_command_line(
        "profile", "NAME", _one_of(PROFILES), "How much each check may cost: quick, default or deep."
    ),
    _on_command_line("budget", "SECONDS", _seconds, "Seconds for the checks of the whole run."),
    _on_command_line(
        "report",
        "PATH",
        _reports,
        "Write the reports of the run there (.json, .md); may be given several times.",
        many=True,
    ),
    _on_command_line(
        "replay", "TEXT|PATH", _text, "Run this recorded example again, and nothing else, in each check."
    ),
    _on_command_line("seed", "N", _seed, "The seed of the run; else --hypothesis-seed, else random."),
    _on_command_line(
        "fail_on", "SEVERITY", _one_of(SEVERITIES), "The least severity that fails a test: leak, low or hint."
    ),
    _on_command_line("directory", "PATH", _path, "Folder in which failing examples are kept (.ssot)."),
    Option("audit", "Collect the source audit.", _switch, "", flag="ssot", ini="ssot"),
    _in_ini("packages", _names, "Packages that the source audit reads.", many=True),
    _in_ini("canonical", _names, "Names that the source audit expects to be defined once.", many=True),
    _in_ini("import_budget", _names, "Lines NAME = SECONDS: what importing a package may take.", many=True),
    _in_ini("claims", _path, "TOML file of the claims of the proof."),
    _in_ini("known", _path, "TOML file of accepted findings."),
)


def shown_way(spec: str) -> str:
    """Return how a server was asked for, without what a DSN holds."""
    return spec if spec in WAYS else "by DSN"


def header(settings: Settings) -> str:
    """The line on this run at the head of pytest's output."""
    return (
        f"ssot-isolation: profile {settings.profile}, seed {settings.seed} ({settings.seed_origin});"
        f" on first use: postgres {shown_way(settings.postgres)},"
        f" clickhouse {shown_way(settings.clickhouse)}"
    )


def declare(parser: pytest.Parser) -> None:
    """Tell pytest of every option and ini value of the table."""
    group = parser.getgroup("ssot-isolation", "isolation of users (pytest-ssot-isolation)")
    for option in TABLE:
        if option.flag:
            also = f" Also {option.variable}, or {option.ini} in the ini file."
            shape: dict[str, Any] = {"default": None, "dest": option.ini, "help": option.help + also}
            if not option.metavar:
                shape |= {"action": "store_const", "const": "1"}
            else:
                shape |= {"action": "append" if option.many else "store", "metavar": option.metavar}
            group.addoption(f"--{option.flag}", **shape)
        kind: Any = "linelist" if option.many else "string"
        parser.addini(option.ini, option.help, type=kind, default=None)


def read(config: pytest.Config, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of this run.

    Args:
        config: Holds the command line and the ini file.
        environment: The environment variables.

    Raises:
        pytest.UsageError: A value cannot be taken; says where it stands and what can be taken.
    """
    values: dict[str, Any] = {"directory": config.rootpath / ".ssot"}
    for option in TABLE:
        origin, value, base = _find(option, config, environment)
        if not value:
            continue  # Nothing was said, or an empty value asks for the default.
        try:
            values[option.name] = option.parse(value, base)
        except BadValue as problem:
            secret = option.parse is _server
            said = origin if secret else f"{origin}={' '.join([value] if isinstance(value, str) else value)}"
            raise pytest.UsageError(
                f"{said}: the value {problem}.\n"
                f"An empty value ({origin}=) asks for the default, whatever other places say."
            ) from None
    if "seed" in values:
        values["seed_origin"] = "as given"
    else:
        values["seed"], values["seed_origin"] = _seed_of_run(config)
    return Settings(**values)


def _find(option: Option, config: pytest.Config, environment: Mapping[str, str]) -> tuple[str, Any, Path]:
    """Where the option's value stands, the value as it stands there, and where its relative paths start."""
    here = config.invocation_params.dir
    if option.flag:
        given = config.getoption(option.ini, None)
        if given is not None:
            # `--ssot-report=` among others asks for the default as well: what counts is what is named.
            return f"--{option.flag}", [one for one in given if one] if option.many else given, here
        if option.variable in environment:
            text = environment[option.variable].strip()
            values = [one for one in text.split(os.pathsep) if one] if option.many else text
            return option.variable, values, here
    beside = config.inipath.parent if config.inipath else config.rootpath
    return option.ini, config.getini(option.ini), beside


def _seed_of_run(config: pytest.Config) -> tuple[int, str]:
    passed_on = getattr(config, "workerinput", {}).get("ssot_seed")
    if passed_on is not None:
        # Each xdist worker must draw what the header, printed by the controller, says.
        return int(passed_on), "of the run"
    theirs = config.getoption("hypothesis_seed", None)
    if theirs is not None:
        text = str(theirs)
        # Hypothesis takes any text as a seed.
        number = int(text) if text.isascii() and text.isdigit() else int.from_bytes(text.encode(), "big")
        return number, "of --hypothesis-seed"
    return int.from_bytes(os.urandom(4), "big"), "random"
