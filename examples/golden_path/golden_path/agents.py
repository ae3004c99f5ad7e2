"""Agents: each works for one user, with that user's notes at hand and a memory of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from golden_path.context import UserExecutionContext, require
from golden_path.notes import Note

LookUp = Callable[[UserExecutionContext, str], Awaitable[Note]]


class Agent:
    """Works for one user.

    Args:
        context: The user.
        look_up: Reads a note of the user named by a context; left out, the agent has no notes.
    """

    def __init__(self, context: UserExecutionContext, look_up: LookUp | None = None) -> None:
        self.context = context
        self.memory: list[str] = []
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


def create_agent_instance_factory(
    context: UserExecutionContext, *, look_up: LookUp | None = None
) -> AgentInstanceFactory:
    """Return a factory of agents for one user.

    Raises:
        ValueError: The context is missing or something else.
    """
    return AgentInstanceFactory(require(context), look_up)
