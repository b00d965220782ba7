"""Tool: the form as the arguments of a tool that must be called."""

from typing import Any, Literal

from msgspec import Raw

from llm_server.contract import ChatCall, Choice, Message, Role, Text, Tool, ToolCall, ToolChoice, ToolResult
from llm_server.structured.demand import Demand
from llm_server.structured.methods.port import Guarantee, again_in_text, said_in_text
from llm_server.structured.rewriting import Rewritten

NAME = "answer"
PURPOSE = "Gives the final answer. Call it once, with the whole answer."


class _Calling:
    """What both ways of calling share."""

    name: Literal["tool"] = "tool"
    guarantee: Guarantee = "validated"
    dropped: tuple[str, ...] = ()
    constrained = False
    json = True
    calls = True

    def __init__(self, tool: str) -> None:
        self._tool = tool

    def said(self, choice: Choice) -> tuple[str, ...]:
        """Return the arguments of every call of the tool; the text, if the model wrote there instead."""
        calls = [part for part in choice.parts if type(part) is ToolCall and part.name == self._tool]
        return tuple([call.arguments or "{}" for call in calls]) or said_in_text(choice)

    def again(self, choice: Choice, complaint: str) -> tuple[Message, ...]:
        """Return the call, and the complaint as the tool's error."""
        calls = tuple(part for part in choice.parts if isinstance(part, ToolCall))
        if not calls:
            return again_in_text(choice, complaint)
        results = tuple(
            ToolResult(call_id=call.id, parts=(Text(complaint),), is_error=True) for call in calls
        )
        return Message(Role.ASSISTANT, calls), *(Message(Role.TOOL, (result,)) for result in results)


class AnswerTool(_Calling):
    """A tool of our own, whose parameters are the schema: for models with tools and without a schema mode."""

    def __init__(self, demand: Demand, rewritten: Rewritten) -> None:
        super().__init__(NAME)
        self.direct = rewritten.direct
        self.unwrap = rewritten.unwrap
        self.unwrap_partial = rewritten.restorer.partial
        purpose = demand.output.description or PURPOSE
        self._tools = (Tool(name=NAME, description=purpose, parameters=Raw(rewritten.source)),)

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call`` with the tool forced instead of the form."""
        return call.amend(
            output=None, tools=self._tools, tool_choice=ToolChoice("tool", NAME), parallel_tools=False
        )


class OwnTool(_Calling):
    """The caller's own tool, forced by the caller: asked as it is."""

    direct = True

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call``."""
        return call

    def unwrap(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def unwrap_partial(self, value: Any) -> Any:
        """Return ``value``."""
        return value
