"""What a person sees of embedded ClickHouse at the terminal: through the plugin, with workers, after a crash."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip(
    "chdb", reason="chdb-core is not installed: pip install 'pytest-ssot-isolation[embedded]'"
)

INI = """
[pytest]
addopts = --strict-markers --strict-config
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""


@pytest.fixture(autouse=True)
def _a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    pytester.makeini(INI)
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess(
        "-p", "ssot_isolation", "-p", "no:cacheprovider", "--ssot-clickhouse=embedded", *options
    )


def folders_told(pytester: pytest.Pytester) -> set[Path]:
    """The folders of the engines whose DSN a test has written to a file."""
    return {Path(urlsplit(file.read_text()).path).parent for file in pytester.path.glob("*.dsn")}


def test_each_test_has_an_empty_database_and_the_run_says_where(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("schema.sql").write_text("CREATE TABLE t (x Int8) ENGINE = Memory;")
    result = run(
        pytester,
        """
        import pytest
        from pathlib import Path

        @pytest.mark.clickhouse(schema="schema.sql")
        @pytest.mark.parametrize("turn", [1, 2])
        def test_empty(clickhouse, turn):
            client = clickhouse.connect()
            assert client.command("SELECT count() FROM t") == 0
            client.command("INSERT INTO t VALUES (1)")
            Path("engine.dsn").write_text(clickhouse.dsn)
        """,
    )

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*clickhouse 2*.* embedded*"])
    (folder,) = folders_told(pytester)
    assert not folder.exists()


def test_each_worker_has_an_engine_in_a_folder_of_its_own_and_none_is_left(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    result = run(
        pytester,
        """
        import os, time
        from pathlib import Path

        def meet(clickhouse):
            Path(os.environ["PYTEST_XDIST_WORKER"] + ".dsn").write_text(clickhouse.dsn)
            # Each waits for the other, so that they are sure to be on two workers at the same time.
            deadline = time.monotonic() + 60
            while len(list(Path().glob("*.dsn"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            clickhouse.apply("CREATE TABLE t (x Int8) ENGINE = Memory")
            assert clickhouse.connect().command("SELECT count() FROM t") == 0

        def test_one(clickhouse):
            meet(clickhouse)

        def test_other(clickhouse):
            meet(clickhouse)
        """,
        "-n2",
    )

    result.assert_outcomes(passed=2)
    told = folders_told(pytester)
    assert len(told) == 2
    assert not [folder for folder in told if folder.exists()]


def test_a_test_that_crashes_ends_the_run_with_a_traceback_where_pytest_puts_it(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
        import ctypes

        def test_crash(clickhouse):
            clickhouse.connect().query("SELECT 1")
            ctypes.string_at(0)
        """,
    )

    assert result.ret == -signal.SIGSEGV
    result.stderr.fnmatch_lines(["Fatal Python error: Segmentation fault", "*in test_crash"])


def test_what_the_engine_lacks_is_skipped_at_the_tests_own_line_with_the_remedy(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
        def test_needs_users(clickhouse):
            clickhouse.require("users")
        """,
        "-rs",
    )

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*test_what*.py:2: ClickHouse * (embedded) lacks users. To get it: *"]
    )
