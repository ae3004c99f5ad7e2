"""The pytest hooks, each a few lines that hand over."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_ssot_isolation import options
from pytest_ssot_isolation.fixtures import canaries as canaries
from pytest_ssot_isolation.fixtures import clickhouse as clickhouse
from pytest_ssot_isolation.fixtures import clickhouse_server as clickhouse_server
from pytest_ssot_isolation.fixtures import database_timeouts as database_timeouts
from pytest_ssot_isolation.fixtures import isolation as isolation
from pytest_ssot_isolation.fixtures import make_user_context as make_user_context
from pytest_ssot_isolation.fixtures import postgres as postgres
from pytest_ssot_isolation.fixtures import postgres_server as postgres_server
from pytest_ssot_isolation.fixtures import ssot_servers as ssot_servers
from pytest_ssot_isolation.fixtures import user_context as user_context
from pytest_ssot_isolation.fixtures import user_contexts as user_contexts


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_ssot_isolation import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in options.MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[options.SETTINGS] = options.read(config)
    config.stash[options.REPORT] = []
    config.stash[options.SERVERS] = {}
    config.stash[options.DATABASES] = []
    if known := config.stash[options.SETTINGS].known:
        from pytest_ssot_isolation import known_findings

        config.stash[options.KNOWN] = known_findings.at_start(known)
    if not hasattr(config, "workerinput"):
        from pytest_ssot_isolation.gathering import Gatherer

        config.pluginmanager.register(Gatherer(config), "ssot_isolation_gatherer")
        if papers := [path for path in config.stash[options.SETTINGS].report if path.suffix == ".md"]:
            from pytest_ssot_isolation.proof import ProofWriter

            config.pluginmanager.register(ProofWriter(config, papers), "ssot_isolation_proof")


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    from pytest_ssot_isolation.gate_loops import given_to

    with given_to(metafunc.definition):
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of xdist the seed that the header shows."""
    node.workerinput["ssot_seed"] = node.config.stash[options.SETTINGS].seed


def pytest_report_header(config: pytest.Config) -> str:
    return options.header(config.stash[options.SETTINGS])


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Keep pytest from writing out two DSNs to show where they differ."""
    from pytest_ssot_isolation.provisioning import secret_text

    return secret_text.compared(left, right)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    if session.config.hook.pytest_ssot_value_kinds.get_hookimpls():
        from pytest_ssot_isolation import extensions

        extensions.add_value_kinds(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Any:
    from pytest_ssot_isolation.together import items_of

    return items_of(collector, name, obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    from pytest_ssot_isolation.together import run

    __tracebackhide__ = True
    return run(pyfuncitem) or None


def pytest_itemcollected(item: pytest.Item) -> None:
    # Not in pytest_collection_modifyitems: pytest's own, which carries out -m, may come first there.
    if "isolation" in getattr(item, "fixturenames", ()):
        item.add_marker("isolation")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    settings = config.stash[options.SETTINGS]
    if settings.audit:
        from pytest_ssot_isolation.audit import items as audit

        items += audit.collect(
            session,
            packages=settings.packages,
            canonical=settings.canonical,
            import_budget=settings.import_budget,
            directory=settings.directory,
            fail_on=settings.fail_on,
            reports=options.REPORT,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    test_report = yield
    if item.get_closest_marker("proves"):
        from pytest_ssot_isolation import proof

        proof.attach(item, call, test_report)
    # Attributes of a test report reach the controller of xdist as well, also when the worker dies later.
    if servers := item.config.stash[options.SERVERS]:
        vars(test_report)["ssot_servers"] = list(servers)
    if test_report.when == "call" and (reports := item.stash.get(options.REPORT, None)):
        vars(test_report)["ssot_reports"] = [report.to_json() for report in reports]
    return test_report


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.pluginmanager.has_plugin("dsession"):  # xdist's controller: its workers are gone by now.
        from pytest_ssot_isolation.provisioning import breaker

        breaker.forget()
