"""Agents: each works for a user, with the user's notes at hand and a memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar

from golden_path.context import UserExecutionContext, require
from golden_path.notes import Note

LookUp = Callable[[UserExecutionContext, str], Awaitable[Note]]


class Agent:
    """Works for one user.

    Args:
        context: The user.
        look_up: Reads a note of the user named by a context; left out, the agent has no notes.
    """

    memory: ClassVar[list[str]] = []

    def __init__(self, context: UserExecutionContext, look_up: LookUp | None = None) -> None:
        self.context = context
        self._look_up = look_up

    async def answer(self, title: str) -> str:
        """Answer from the user's note of this title."""
        if self._look_up is None:
            raise LookupError("this agent was made without notes")
        note = await self._look_up(self.context, title)
        return f"Your note says: {note.body}"

    def converse(self, messages: Iterable[str]) -> str:
        """Listen to some messages and say back all that was said to this agent."""
        self.memory.extend(messages)
        return "You told me: " + "; ".join(self.memory)

    async def work(self, prompt: str) -> tuple[str, int]:
        """Do the work of a run; return what it gave, and how many tokens it took."""
        tokens = len(prompt.split())
        return f"{tokens} words considered", tokens


class AgentInstanceFactory:
    """Makes agents for one user."""

    def __init__(self, context: UserExecutionContext, look_up: LookUp | None = None) -> None:
        self.context = context
        self._look_up = look_up

    def create(self) -> Agent:
        """Return a new agent that knows nothing yet."""
        return Agent(self.context, self._look_up)


_factory: AgentInstanceFactory | None = None


def create_agent_instance_factory(
    context: UserExecutionContext, *, look_up: LookUp | None = None
) -> AgentInstanceFactory:
    """Return the factory of agents; it is made when it is first asked for.

    Raises:
        ValueError: The context is missing or something else.
    """
    global _factory
    if _factory is None:
        _factory = AgentInstanceFactory(require(context), look_up)
    return _factory


def start_over() -> None:
    """Let go of the factory and of what the agents remember: a new application begins without them."""
    global _factory
    _factory = None
    Agent.memory.clear()
