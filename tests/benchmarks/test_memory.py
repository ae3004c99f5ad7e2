"""Whether a long check grows: the objects that are alive, and the memory of the process, as examples go by."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest

from pytest_ssot_isolation import Surface, keys, operation, secrets

EXAMPLES = 10_000
SETTLED = 2_000
"""Examples after which everything that is kept by design is full."""


class Notes(Surface[dict[Any, Any]]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        await asyncio.sleep(0)
        self.world[self.user.user_id, title] = body

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        await asyncio.sleep(0)
        return self.world.get((self.user.user_id, title))


def resident() -> int:
    """Bytes of memory that the process holds; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def test_ten_thousand_examples_do_not_grow_memory(
    isolation: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What is kept on purpose is trimmed in bulk, which would hide or feign a growth: with few it is full sooner.
    monkeypatch.setattr("pytest_ssot_isolation.model.known.KEPT", 100)
    seen: dict[int, tuple[int, int]] = {}

    def progress(examples: int, _findings: int) -> None:
        if examples % SETTLED == 0 and examples not in seen:
            gc.collect()
            seen[examples] = (len(gc.get_objects()), resident())

    isolation.check(
        Notes, world=dict, calls=8, oracles=["canary"], examples=EXAMPLES, seed=1, progress=progress
    )

    with capsys.disabled():
        print()
        for examples, (objects, size) in seen.items():
            print(f"{examples:6} examples: {objects:7} objects alive, {size / 2**20:.1f} MB")
    first, last = seen[SETTLED], seen[EXAMPLES]
    # A single object kept of each example would be 8,000.
    assert last[0] - first[0] < (EXAMPLES - SETTLED) / 4
