"""Tool: the form as the arguments of a tool that must be called."""

from typing import Any, Literal

import msgspec
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Choice,
    Message,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
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
        """Return the calls with what was said before them, and the complaint as what their tools answered.

        Thoughts go back only signed: their model insists on them then, and no other may be given them.
        """
        turn = tuple(
            part
            for part in choice.parts
            if isinstance(part, ToolCall | Text) or (isinstance(part, Thinking) and part.signature)
        )
        results = tuple(
            ToolResult(call_id=call.id, parts=(Text(complaint),))
            for call in turn
            if isinstance(call, ToolCall)
        )
        if not results:
            return again_in_text(choice, complaint)
        return Message(Role.ASSISTANT, turn), *(Message(Role.TOOL, (result,)) for result in results)


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
    """The caller's own tool, forced by the caller; or any of its tools.

    Args:
        tool: the name of the one that is forced, empty where the model chooses.
        loose: whether the provider is not to hold to the schemas of strict tools, which it may refuse.
    """

    direct = True

    def __init__(self, tool: str = "", *, loose: bool = False) -> None:
        super().__init__(tool)
        self._loose = loose

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call`` as it is, or with no tool strict."""
        if not self._loose or any(tool.type != "function" for tool in call.tools):
            return call  # tools of its upstream's own are known to nobody else, and would not be said again
        return call.amend(tools=tuple(msgspec.structs.replace(tool, strict=None) for tool in call.tools))

    def unwrap(self, value: Any) -> Any:
        """Return ``value``."""
        return value

    def unwrap_partial(self, value: Any) -> Any:
        """Return ``value``."""
        return value
