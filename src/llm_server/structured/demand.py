"""What an answer must be, whatever way it was asked for."""

from collections.abc import Hashable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import ChatCall, ErrorKind, OutputFormat, Problem, ServerError, Tool
from llm_server.structured.grammar import Compiled, accepts
from llm_server.structured.problems import shortened
from llm_server.structured.schema import Schema, load
from llm_server.structured.validation import Validator

MAX_CHOICES = 2_000
"""Choices of one demand; the same bound as of grammars."""

_ANY_OBJECT = b'{"type":"object"}'


class Demand(Struct, frozen=True, eq=False):
    """One demand on an answer.

    ``schema`` is what the answer is judged by, as the caller wrote it; ``None`` where it is a ``grammar``.
    ``bare``: the answer is a text that is not written as JSON. ``tool``: the answer is the
    arguments of a call of it.
    """

    output: OutputFormat
    schema: Schema | None
    validator: Validator | None
    grammar: Compiled | None = None
    bare: bool = False
    tool: Tool | None = None

    def problems(self, value: Any, chars: int) -> tuple[Problem, ...]:
        """Return what is wrong with ``value``, as ``parsing`` reads one from so many ``chars``."""
        if self.validator is not None:
            return self.validator.problems(value, chars=chars)
        if self.grammar is None or accepts(self.grammar, str(value)):
            return ()
        return (Problem("", "grammar", "a text that follows the grammar", shortened(repr(value))),)

    @property
    def name(self) -> str:
        """The name that the caller gave it, for rules."""
        return self.tool.name if self.tool else self.output.schema_id or self.output.name


def checked_tools(call: ChatCall) -> tuple[Tool, ...]:
    """Return the tools whose calls are judged where none is forced: strict ones; all if one must be called.

    Tools of the caller's dialect alone are its upstream's to judge.
    """
    if not call.tools:
        return ()
    mode = call.tool_choice.mode if call.tool_choice else "auto"
    if mode == "none":
        return ()
    every = mode == "required"
    return tuple([tool for tool in call.tools if (every or tool.strict) and tool.type == "function"])


def key_of(call: ChatCall, tool: Tool | None, checked: tuple[Tool, ...]) -> Hashable:
    """Return what tells the demand of ``call`` from others, cheaply."""
    if tool is not None:
        return "tool", _key_of_tool(tool)
    form, output = None, call.output
    if output is not None:
        names = (output.kind, output.name, output.description, output.schema_id, output.strict)
        form = *names, bytes(output.schema), output.pattern, output.choices, output.grammar
    if not checked:
        return form
    return form, must_call(call), tuple([_key_of_tool(each) for each in checked])


def must_call(call: ChatCall) -> bool:
    """Whether ``call`` demands that one of its tools is called, and none of them is its upstream's own."""
    required = call.tool_choice is not None and call.tool_choice.mode == "required"
    return required and all(tool.type == "function" for tool in call.tools)


def _key_of_tool(tool: Tool) -> Hashable:
    return tool.name, tool.description, tool.strict, bytes(tool.parameters)


def demand_of(call: ChatCall, tool: Tool | None, *, formats: bool) -> Demand:
    """Return the demand of ``call``, which has an output format, or that of its forced ``tool``.

    Raises:
        ServerError: ``INVALID_REQUEST`` for a schema or a pattern that is none, or too large.
    """
    if tool is not None:
        own = bytes(tool.parameters) or _ANY_OBJECT
        schema = load(own)
        output = OutputFormat(
            kind="json_schema", schema=Raw(own), name=tool.name, description=tool.description
        )
        return Demand(output, schema, Validator.of(schema, formats), tool=tool)
    assert call.output is not None
    source = _source(call.output)
    if source is None:
        return Demand(call.output, None, None, bare=True)  # its grammar takes time to compile
    loaded = load(source)
    bare = call.output.kind in {"regex", "choice"}
    return Demand(call.output, loaded, Validator.of(loaded, formats), bare=bare)


def _source(output: OutputFormat) -> bytes | dict[str, Any] | None:
    match output.kind:
        case "grammar":
            return None
        case "regex":
            return {"type": "string", "pattern": f"^(?:{output.pattern})$"}
        case "choice":
            if not 0 < len(output.choices) <= MAX_CHOICES:
                message = f"Give between 1 and {MAX_CHOICES} choices."
                raise ServerError(ErrorKind.INVALID_REQUEST, message, param="guided_choice")
            return {"type": "string", "enum": list(dict.fromkeys(output.choices))}
        case "json_object":
            return _ANY_OBJECT
        case "json_schema":
            return bytes(output.schema) or _ANY_OBJECT


def shown(demand: Demand) -> str:
    """Return the demand in words for a model."""
    match demand.output.kind:
        case "choice":
            return "Answer with exactly one of these, and nothing else:\n" + "\n".join(demand.output.choices)
        case "regex":
            return (
                "Answer with nothing but a text that matches this regular expression from beginning to end:\n"
                + demand.output.pattern
            )
        case "json_object":
            return "Answer with one JSON object and nothing else: no explanation, no code fence."
    assert demand.schema is not None
    schema = msgspec.json.encode(demand.schema.value).decode()
    purpose = _purpose(demand)
    return (
        f"{purpose}Answer with one JSON value and nothing else: no explanation, no code fence. It must be "
        f"valid by this JSON Schema:\n{schema}"
    )


def _purpose(demand: Demand) -> str:
    if demand.tool is None:
        return ""
    about = f": {demand.tool.description}" if demand.tool.description else ""
    return f"Your answer is the arguments of a call of the function '{demand.tool.name}'{about}.\n"
