"""The port of a method, and what most of them share."""

from typing import Any, Literal, Protocol

from llm_server.contract import ChatCall, Choice, Message, Refusal, Role, Text

Guarantee = Literal["exact", "relaxed", "validated"]


class Method(Protocol):
    """One way to ask for one demand. Shared by requests, so it keeps nothing of any."""

    @property
    def name(self) -> Literal["native", "tool", "prompt", "grammar"]:
        """Which of the four it is."""
        ...

    @property
    def guarantee(self) -> Guarantee:
        """What is promised of an answer before it is checked."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """Keywords that the model is not held to."""
        ...

    @property
    def constrained(self) -> bool:
        """Whether the model cannot but keep the form: its words may go on before they are checked."""
        ...

    @property
    def json(self) -> bool:
        """Whether the words are JSON; otherwise they are the answer itself."""
        ...

    @property
    def direct(self) -> bool:
        """Whether the words, when they are valid, are the caller's answer as they stand."""
        ...

    @property
    def calls(self) -> bool:
        """Whether the words are the arguments of a tool call."""
        ...

    def prepare(self, call: ChatCall) -> ChatCall:
        """Return ``call`` as it is asked this way."""
        ...

    def unwrap(self, value: Any) -> Any:
        """Return the answer in what was said."""
        ...

    def unwrap_partial(self, value: Any) -> Any:
        """Return the answer so far in what was said so far; raises ``Undecided``."""
        ...

    def said(self, choice: Choice) -> tuple[str, ...]:
        """Return the words that should be the answer, one for each tool call, none if there are none."""
        ...

    def again(self, choice: Choice, complaint: str) -> tuple[Message, ...]:
        """Return the turns that follow a wrong answer: what was said, and what is wrong with it."""
        ...


def said_in_text(choice: Choice) -> tuple[str, ...]:
    """Return the text of an answer, if it has any."""
    parts = choice.parts
    text = parts[0].text if len(parts) == 1 and type(parts[0]) is Text else choice.text
    return (text,) if text and not text.isspace() else ()


def again_in_text(choice: Choice, complaint: str) -> tuple[Message, ...]:
    """Return the answer as the model's turn, unless it is empty, and the complaint as the user's."""
    text = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
    before = (Message(Role.ASSISTANT, (Text(text),)),) if text.strip() else ()
    return (*before, Message(Role.USER, (Text(complaint),)))


def without_tools(call: ChatCall) -> dict[str, Any]:
    """Return the changes that take the tools out of a call which forces one; none for any other."""
    if call.forced_tool is None:
        return {}
    return {"tools": (), "tool_choice": None, "parallel_tools": None}


def instructed(call: ChatCall, instruction: Message) -> tuple[Message, ...]:
    """Return the conversation with ``instruction`` after the system turns at its beginning."""
    messages, start = call.messages, 0
    while start < len(messages) and messages[start].role is Role.SYSTEM:
        start += 1
    return (*messages[:start], instruction, *messages[start:])
