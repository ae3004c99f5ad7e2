"""Run by `tox -e dist` with the interpreter of an environment that has the built wheel and not the sources."""

from __future__ import annotations

from importlib.metadata import entry_points, files
from importlib.resources import files as resources
from pathlib import Path

import pytest_ssot_isolation

DISTRIBUTION = "pytest-ssot-isolation"


def main() -> None:
    """Say what is wrong with the installed package, or how much of it there is."""
    sources = Path(__file__).parents[2]
    home = Path(pytest_ssot_isolation.__file__)
    if sources in home.parents and ".tox" not in home.parts:
        raise SystemExit(
            f"The package was imported from the sources, {home}, and so the wheel was not tested."
        )
    listed = files(DISTRIBUTION) or []
    strangers = {
        path.parts[0]
        for path in listed
        if path.parts[0] not in ("pytest_ssot_isolation", "..") and not path.parts[0].endswith(".dist-info")
    }
    if strangers:
        raise SystemExit(f"The wheel holds more than the package: {sorted(strangers)}.")
    held = {entry.name for entry in resources(pytest_ssot_isolation).iterdir()}
    missing = sorted({"py.typed", "_data"} - held)
    if missing:
        raise SystemExit(f"The wheel lacks {missing}.")
    (plugin,) = entry_points(group="pytest11", name="ssot_isolation")
    plugin.load()
    for name in pytest_ssot_isolation.__all__:
        getattr(pytest_ssot_isolation, name)
    print(
        f"{DISTRIBUTION} {pytest_ssot_isolation.__version__}: {len(listed)} files, every public name is there"
    )


if __name__ == "__main__":
    main()
