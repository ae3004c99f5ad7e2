"""The command line ``ssot-isolation``: each subcommand hands over to a module of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_ssot_isolation import __version__
from pytest_ssot_isolation.errors import IsolationError

LATER: Final = {
    "report": "To keep a run's reports, use: pytest --ssot-report=reports.json",
    "probe": "To check an application, write a surface for it: ssot-isolation init",
}
"""Subcommands that have their name already, and what to do until they are there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: Those of the command line by default.

    Returns:
        The exit code: 0 for success, 1 for a leak or an error, 2 for wrong usage.
    """
    parser = _parser()
    # What replay does not know is for pytest; argparse's own way for the rest would swallow its options too.
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.command == "replay":
        chosen.pytest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        return run(chosen)
    except IsolationError as error:
        print(f"ssot-isolation {chosen.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ssot-isolation {chosen.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssot-isolation",
        description="Proves that one user never sees, changes or disturbs another's things.",
    )
    parser.add_argument("--version", action="version", version=f"pytest-ssot-isolation {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="find the leaks of an example application, and none in its better twin"
    )
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser(
        "doctor", help="tell which database engines can be used here, and how to get others"
    )
    doctor.set_defaults(run=_doctor)

    init = commands.add_parser("init", help="write a first test for your own application")
    init.add_argument(
        "path", nargs="?", type=Path, default=Path("test_isolation.py"),
        help="the file to write (default: %(default)s); never overwritten",
    )  # fmt: skip
    init.set_defaults(run=_init)

    replay = commands.add_parser(
        "replay", help="run one recorded example again, in the test that found it",
        epilog="Further arguments are given to pytest, such as the id of a test.",
    )  # fmt: skip
    replay.add_argument("file", help="a recorded example: a file of .ssot, or its text")
    replay.add_argument(
        "--write-test", type=Path, metavar="PATH",
        help="write a test that runs it again, beside the test that found it; never overwritten",
    )  # fmt: skip
    replay.set_defaults(run=_replay)

    for name in LATER:
        later = commands.add_parser(name, help="not in this version")
        later.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
        later.set_defaults(run=_not_yet)
    return parser


def _demo(_: argparse.Namespace) -> int:
    from pytest_ssot_isolation import demo

    return int(demo.run())


def _doctor(_: argparse.Namespace) -> int:
    from pytest_ssot_isolation.provisioning import doctor

    findings = doctor.examine()
    print(doctor.render(findings))
    return 0 if all(engine.is_usable for engine in findings) else 1


def _init(chosen: argparse.Namespace) -> int:
    from importlib.resources import files

    path: Path = chosen.path
    template = (
        files("pytest_ssot_isolation").joinpath("_data", "first_test.py.txt").read_text(encoding="utf-8")
    )
    try:
        # Exclusive creation: between a look and a write, somebody else may have made the file.
        with path.open("x", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError:
        print(
            f"ssot-isolation init: {path} exists already, and is left as it is.\n"
            f"To write elsewhere: ssot-isolation init {path.with_stem(path.stem + '_first')}",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"ssot-isolation init: {path} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    print(
        f"Wrote {path}. It runs as it is and finds a leak, on purpose:\n"
        f"  pytest {path}\n"
        "Then put your own application in the place marked there."
    )
    return 0


def _replay(chosen: argparse.Namespace) -> int:
    from pytest_ssot_isolation.engine import record

    text = record.text_of(chosen.file, Path.cwd())
    document = record.parse(text)
    if chosen.write_test is not None:
        return _write_test(chosen.write_test, document)
    import pytest

    test = [str(document["test"])] if "test" in document and not chosen.pytest else []
    return int(pytest.main([f"--ssot-replay={chosen.file}", *test, *chosen.pytest]))


def _write_test(path: Path, document: dict[str, Any]) -> int:
    from pytest_ssot_isolation.engine import record
    from pytest_ssot_isolation.report import test_file

    code = test_file.render(document, record.packed(document))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(code)
    except OSError as error:
        print(f"ssot-isolation replay: {path} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"Wrote {path}. Run it beside the test that found the leak:\n  pytest {path}")
    return 0


def _not_yet(chosen: argparse.Namespace) -> int:
    print(
        f"ssot-isolation {chosen.command}: not in this version ({__version__}).\n{LATER[chosen.command]}",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
