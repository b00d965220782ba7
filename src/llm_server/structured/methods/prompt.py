"""Prompt: the form in words, for models that have neither schemas nor tools."""

from typing import Any, Literal

from llm_server.contract import ChatCall, Choice, Message, OutputFormat, Role, Text
from llm_server.structured.demand import Demand, shown
from llm_server.structured.methods.port import (
    Guarantee,
    again_in_text,
    instructed,
    said_in_text,
    without_tools,
)


class Prompt:
    """Instructions before the conversation, and the provider's JSON mode where there is one."""

    name: Literal["prompt"] = "prompt"
    guarantee: Guarantee = "validated"
    dropped: tuple[str, ...] = ()
    constrained = False
    direct = True
    calls = False

    def __init__(self, demand: Demand, *, json_mode: bool) -> None:
        self.json = not demand.bare
        self._instruction = Message(Role.SYSTEM, (Text(shown(demand)),))
        an_object = demand.schema is not None and demand.schema.value.get("type") == "object"
        mode = OutputFormat(kind="json_object") if json_mode and an_object and not demand.bare else None
        self._output = mode

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call`` with the instructions."""
        messages = instructed(call, self._instruction)
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
