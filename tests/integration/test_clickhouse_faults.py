"""A server that cannot be used is told in one clear error, with the remedy, and never with a password."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import clickhouse
from pytest_ssot_isolation.provisioning.base import Wanted

SECRET = "open-sesame"


@pytest.fixture
def pretender() -> Iterator[Callable[[int, str], str]]:
    """Start a web server that gives one answer to everything, and return a DSN to it."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, text: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, form: str, *args: object) -> None: ...

            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"clickhouse://u:{SECRET}@127.0.0.1:{server.server_address[1]}/app_test"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refusal(dsn: str, version: str | None = None) -> str:
    with pytest.raises(ServerFailed) as told:
        clickhouse.lease(Wanted(engine="clickhouse", spec=dsn, version=version, run_id=dsn))
    assert SECRET not in str(told.value)
    return str(told.value)


def test_a_server_that_is_too_old_is_told_before_the_driver_meets_it(
    pretender: Callable[[int, str], str],
) -> None:
    text = refusal(pretender(200, "18.16.1\n"))

    assert "is version 18.16.1; 24.3 is the oldest that is supported." in text
    assert "--ssot-clickhouse=container or embedded" in text


def test_another_version_than_was_asked_for_is_told(pretender: Callable[[int, str], str]) -> None:
    text = refusal(pretender(200, "26.3.4.5\n"), version="26.8")

    assert "is version 26.3.4.5, and 26.8 was asked for" in text


def test_a_server_that_is_no_clickhouse_is_told(pretender: Callable[[int, str], str]) -> None:
    assert "answers, but not as ClickHouse does" in refusal(pretender(200, "<html>It works!</html>"))


def test_wrong_credentials_are_told_with_the_servers_own_words(pretender: Callable[[int, str], str]) -> None:
    answer = f"Code: 516. DB::Exception: u: Authentication failed: {SECRET}. (AUTHENTICATION_FAILED)"

    text = refusal(pretender(403, answer))

    assert "refuses user or password (Code: 516. DB::Exception: u: Authentication failed: ***." in text
    assert "Correct them in the DSN." in text


def test_an_error_of_the_server_is_told_with_its_own_words(pretender: Callable[[int, str], str]) -> None:
    text = refusal(pretender(500, "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)"))

    assert "answered with an error: Code: 241. DB::Exception: Memory limit exceeded." in text


@pytest.mark.parametrize(
    "place",
    [
        "clickhouse://u:{secret}@127.0.0.1:1/app_test",
        "clickhouse://u:{secret}@127.0.0.1:1/live",
        "clickhouse://u:{secret}@127.0.0.1:port/app_test",
        "ftp://u:{secret}@127.0.0.1/app_test",
        "https://u:{secret}@127.0.0.1:9000/app_test",
    ],
)
def test_a_password_is_nowhere_in_the_output_however_much_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for name in ("CI", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSOT_CLICKHOUSE", place.format(secret=SECRET))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("def test_it(clickhouse): pass")

    result = pytester.runpytest_subprocess(
        "-p", "ssot_isolation", "-p", "no:cacheprovider", "-vv", "--showlocals", "--tb=long", "-rA"
    )

    result.assert_outcomes(errors=1)
    assert SECRET not in result.stdout.str() + result.stderr.str()
