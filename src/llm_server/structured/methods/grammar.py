"""Grammar: decoding itself is held to the form, in an engine that takes our compiled grammars."""

from typing import Any, Literal

from llm_server.contract import ChatCall, Choice, Message, OutputFormat, Role, Text
from llm_server.structured.demand import Demand, shown
from llm_server.structured.grammar import Compiled
from llm_server.structured.methods.port import (
    Guarantee,
    again_in_text,
    instructed,
    said_in_text,
    without_tools,
)

MAX_SHOWN = 1_500
"""Characters of instructions beside the grammar: they help a small model to fill the form with sense, but its
context is small too."""


class Grammar:
    """A grammar that was compiled before the engine sees it, and the form in words where that is short.

    Args:
        demand: what is demanded.
        compiled: the same as a grammar.
        exact: whether the engine holds to this grammar, not to one that it makes of the form by itself.
    """

    name: Literal["grammar"] = "grammar"
    direct = True
    calls = False

    def __init__(self, demand: Demand, compiled: Compiled, *, exact: bool) -> None:
        self.json = not demand.bare
        self.constrained = exact
        self.guarantee: Guarantee = compiled.guarantee if exact else "relaxed"
        self.dropped = compiled.dropped if exact else ()
        self._output = OutputFormat(kind="grammar", grammar=compiled.text, made_of=demand.output)
        told = "" if demand.output.kind == "grammar" else shown(demand)
        short = 0 < len(told) <= MAX_SHOWN
        self._instruction = Message(Role.SYSTEM, (Text(told),)) if short else None

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call`` with the grammar."""
        messages = instructed(call, self._instruction) if self._instruction else call.messages
        return call.amend(messages=messages, output=self._output, **without_tools(call))

    def unwrap(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def unwrap_partial(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def said(self, choice: Choice) -> tuple[str, ...]:
        """Return the answer's text."""
        return said_in_text(choice)

    def again(self, choice: Choice, complaint: str) -> tuple[Message, ...]:
        """Return what was said and what is wrong with it."""
        return again_in_text(choice, complaint)
