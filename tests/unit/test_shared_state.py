"""The audit of shared state: each rule with a small package that breaks it and a sound twin that does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest

from pytest_ssot_isolation.audit.shared_state import judge
from pytest_ssot_isolation.audit.sources import read_package
from pytest_ssot_isolation.model.verdict import Finding

AGENT = """
    class Agent:
        def __init__(self, user_id):
            self.user_id = user_id
"""

REGISTRY = """
    class Connections:
        def __init__(self):
            self._open = {}

        def connect(self, user_id, socket):
            self._open[user_id] = socket
"""

LEAKS = {
    "a dict in a module that a function fills under a user's id": (
        "app.state._cache",
        """
        _cache = {}

        def remember(user_id, value):
            _cache[user_id] = value
        """,
    ),
    "a list in a module to which what was derived from a user is added": (
        "app.state.recent",
        """
        recent: list[str] = []

        def visit(request):
            name = request.user.name
            line = f"{name} was here"
            recent.append(line)
        """,
    ),
    "a set in a dict in a module, reached by setdefault": (
        "app.state.rooms",
        """
        from collections import defaultdict
        rooms = defaultdict(dict)

        def join(room, tenant_id):
            rooms[room].setdefault("members", set()).add(tenant_id)
        """,
    ),
    "a module's name that a function binds to the current user": (
        "app.state._current",
        """
        _current = None

        def sign_in(user):
            global _current
            _current = user
        """,
    ),
    "a module's name for the current user that another module binds": (
        "app.state.user",
        """
        from app import state
        user: "User | None"

        def sign_in(request):
            state.user = read(request)
        """,
    ),
    "one instance for all, made when it is first asked for": (
        "app.state._connections",
        REGISTRY
        + """
    _connections = None

    def connections():
        global _connections
        if _connections is None:
            _connections = Connections()
        return _connections
        """,
    ),
    "one instance for all, made at import": (
        "app.state.connections",
        REGISTRY + "\n    connections = Connections()\n",
    ),
    "instances of users kept in a module under any key": (
        "app.state._agents",
        AGENT
        + """
    _agents = {}

    def agent(key, who):
        _agents[key] = Agent(who)
        return _agents[key]
        """,
    ),
    "a class that keeps its one instance": (
        "app.state.Manager._instance",
        """
        class Manager:
            _instance = None

            def __new__(cls):
                if cls._instance is None:
                    cls._instance = super().__new__(cls)
                return cls._instance

            def attach(self, user_id):
                self.user_id = user_id
        """,
    ),
    "a list in a class to which each instance adds": (
        "app.state.Cart.items",
        """
        class Cart:
            items = []

            def add(self, item):
                self.items.append(item)
        """,
    ),
    "a dict in a base class, written through the class": (
        "app.state.Base.seen",
        """
        class Base:
            seen = {}

        class Service(Base):
            @classmethod
            def touch(cls, tenant):
                cls.seen[tenant] = True
        """,
    ),
    "a default argument that the function adds to": (
        "app.state.collect(found)",
        """
        def collect(item, found=[]):
            found.append(item)
            return found
        """,
    ),
    "a default argument that the instance keeps": (
        "app.state.Agent.__init__(tools)",
        """
        class Agent:
            def __init__(self, name, tools=[]):
                self.tools = tools
        """,
    ),
    "a cache of what was made for a context": (
        "app.state.service",
        """
        from functools import lru_cache

        @lru_cache(maxsize=None)
        def service(context):
            return object()
        """,
    ),
    "a cache that gives one instance to all": (
        "app.state.connections",
        REGISTRY
        + """
    import functools

    @functools.cache
    def connections():
        return Connections()
        """,
    ),
    "a cache of a user's method": (
        "app.state.Agent.history",
        """
        from functools import cache

        class Agent:
            def __init__(self, user):
                self.user = user

            @cache
            def history(self):
                return []
        """,
    ),
    "a context variable whose default all share": (
        "app.state._basket",
        """
        from contextvars import ContextVar
        _basket = ContextVar("basket", default=[])

        def put(user, item):
            _basket.get().append((user, item))
        """,
    ),
    "a thread's own state that a coroutine writes to": (
        "app.state._local",
        """
        import threading
        _local = threading.local()

        async def sign_in(user):
            _local.user = user
        """,
    ),
}

SOUND = {
    "constants that nobody writes to": """
        NAMES = ["alice", "bob"]
        BY_USER = {"alice": 1}

        def known(user):
            return user in BY_USER
    """,
    "a registry that is filled while modules are imported": """
        HANDLERS = {}

        def handler(request_type):
            def register(function):
                HANDLERS[request_type] = function
                return function
            return register

        @handler("get")
        def get(): ...
    """,
    "classes that register themselves": """
        class Plugin:
            plugins = []

            def __init_subclass__(cls):
                Plugin.plugins.append(cls)
    """,
    "loggers, context variables, type variables, __all__ and enumerations": """
        import enum, logging
        from contextvars import ContextVar
        from typing import TypeVar
        __all__ = ["sign_in"]
        T = TypeVar("T")
        log = logging.getLogger(__name__)
        current = ContextVar("current", default=None)

        class Colour(enum.Enum):
            RED = []

        def sign_in(user):
            current.set(user)
            log.info("in", extra={"user": user})
    """,
    "a local name that hides the module's": """
        cache = {}

        def work(user):
            cache = {}
            cache[user] = 1
            return cache
    """,
    "a list that each instance has of its own": """
        class Cart:
            items = []

            def __init__(self, user):
                self.items = []

            def add(self, item):
                self.items.append(item)
    """,
    "class attributes that describe instances": """
        from pydantic import BaseModel

        class Cart(BaseModel):
            items: list[str] = []

            def add(self, user):
                self.items.append(user)
    """,
    "a factory that gives a new instance each time": REGISTRY
    + """
    def connections(context):
        return Connections()
    """,
    "a default argument that is only read": """
        def send(headers={}, *, retries=[]):
            return dict(headers), len(retries)
    """,
    "a default argument that is replaced before it is written to": """
        def collect(user, found=[]):
            found = list(found)
            found.append(user)
            return len(found)
    """,
    "a cache of what is the same for everybody": """
        from functools import lru_cache

        @lru_cache
        def settings(path):
            return object()
    """,
    "a property that each instance keeps for itself": """
        from functools import cached_property

        class Agent:
            def __init__(self, user):
                self.user = user

            @cached_property
            def history(self):
                return []
    """,
    "one client for all, which knows nobody": """
        _session = None

        def session():
            global _session
            if _session is None:
                _session = open_session()
            return _session
    """,
    "names that only sound like a user's": """
        agents = {}
        ssl = {}

        def note(user_agent, ssl_context):
            agents["last"] = len(user_agent)
            ssl["on"] = bool(ssl_context)
    """,
}


def audited(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> Sequence[Finding]:
    package = folder / "app"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in modules.items():
        (package / f"{name}.py").write_text(dedent(text))
    monkeypatch.syspath_prepend(folder)
    return judge(read_package("app"))


@pytest.mark.parametrize(("place", "text"), LEAKS.values(), ids=LEAKS)
def test_a_leak_is_told_with_its_place(
    place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = audited(tmp_path, monkeypatch, state=text)

    assert (finding.severity, finding.operation) == ("leak", place)
    assert place in finding.explanation


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_sound_code_is_no_finding(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audited(tmp_path, monkeypatch, state=text) == ()


def test_a_write_from_another_module_is_told_at_the_place_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = "CACHE = {}\n"
    by_name = "from app.state import CACHE as kept\ndef put(user): kept[user] = 1\n"
    by_module = "from . import state\ndef put(user): state.CACHE.update({user: 1})\n"

    findings = audited(tmp_path, monkeypatch, state=state, by_name=by_name)
    (tmp_path / "app" / "by_name.py").write_text(by_module)
    again = judge(read_package("app"))

    assert [finding.operation for finding in (*findings, *again)] == ["app.state.CACHE", "app.state.CACHE"]
    assert "put() writes to it (by_name.py:2)" in findings[0].explanation


def test_objects_kept_at_run_time_with_nothing_to_tell_whose_they_are_weigh_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = audited(
        tmp_path, monkeypatch, state="PLUGINS = {}\ndef install(name, plugin):\n    PLUGINS[name] = plugin\n"
    )

    assert (finding.severity, finding.path) == ("low", "module")
    assert "objects are put there at run time: install() writes to it (state.py:3)" in finding.explanation


def test_of_several_writes_to_one_place_the_heaviest_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        kept = {}

        def first(value):
            kept["x"] = value

        def second(user):
            kept[user] = 1

        def third(tenant):
            kept[tenant] = 1
    """
    (finding,) = audited(tmp_path, monkeypatch, state=text)

    assert finding.severity == "leak"
    assert "second() writes to it" in finding.explanation


def test_a_module_that_does_not_parse_hides_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = audited(tmp_path, monkeypatch, broken="def (", state="x = {}\ndef f(user): x[user] = 1\n")

    assert [finding.operation for finding in findings] == ["app.state.x"]
