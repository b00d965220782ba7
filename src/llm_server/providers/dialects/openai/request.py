"""Calls as requests of OpenAI's dialect: the caller's own fields if it speaks it, else a translation.

Source: https://platform.openai.com/docs/api-reference (chat, completions, embeddings).
"""

from collections.abc import Mapping, Set
from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import Raw, json

from llm_server.contract import (
    Call,
    ChatCall,
    CountCall,
    EmbedCall,
    ErrorKind,
    Facts,
    HttpRequest,
    OutputFormat,
    Reasoning,
    Sampling,
    ServerError,
    TextCall,
    Tool,
    ToolChoice,
)
from llm_server.providers.dialects.openai.messages import patched_messages, translated_messages
from llm_server.providers.quirks import Quirks

Fields = dict[str, Any]
"""A request's top-level fields: values to encode, or ``Raw`` bytes of the caller."""

LOW_BUDGET_TOKENS, MEDIUM_BUDGET_TOKENS = 4096, 16384
"""Thinking budgets below these become effort ``low`` and ``medium``; larger ones ``high``."""

MAX_PASSAGES = 1024
"""Sets of fields that are remembered; they come from callers, so there is a bound."""
MAX_PASSAGE = 1024
"""Characters of one."""

OURS = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")
"""Words for the form of the answer that are written anew, as each server knows them: the old ones are
ignored without a word by newer servers, and all of them by most (https://docs.vllm.ai, structured
outputs)."""
_OWN_WORDS = frozenset({*OURS, "stream_structured"})
_TOOL_FIELDS = {"tools", "tool_choice", "parallel_tools"}
_OF = {
    "messages": ("messages",),
    "output": ("response_format", "structured_outputs"),
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
    "tool_choice": ("tools", "tool_choice", "parallel_tool_calls"),
    "parallel_tools": ("tools", "tool_choice", "parallel_tool_calls"),
    "sampling": ("n",),
}
"""The wire's fields of each of the call's fields that a stage may amend."""

_NULLS = {b"null", b"false"}
_encode = json.Encoder().encode
_READ_FIELDS = json.Decoder(dict[str, Raw])
_READ_TOOLS = json.Decoder(list[dict[str, Raw]])
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')


class Passage(NamedTuple):
    """How bodies with certain fields go on: where to, and which of the fields have another name there."""

    path: str
    renames: tuple[tuple[str, str], ...]


class Passages:
    """Passes on bodies of which only the model's name and names of fields change; how is remembered.

    That depends on the fields' names, the model, what it refuses and the server; of the values only messages
    are looked into.
    """

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._known: dict[tuple[Set[str], tuple[str, ...]], Passage | None] = {}

    def request(self, call: Call, facts: Facts) -> HttpRequest | None:
        """Return ``call`` as a request that :func:`encode` would make too; nothing if that has to."""
        if type(call) is not ChatCall or call.stream or call.tools or call.output or call.amended:
            return None
        if call.dialect != "openai" or not call.raw:
            return None
        fields: Fields = _READ_FIELDS.decode(call.raw)
        key = facts.refuses, (call.model, *fields)
        passage = self._known[key] if key in self._known else self._learned(*key)
        messages = fields["messages"]
        if passage is None or patched_messages(messages, self._quirks, []) is not messages:
            return None
        fields["model"] = call.model
        for old, new in passage.renames:
            fields[new] = fields.pop(old)
        return HttpRequest(path=passage.path, body=_encode(fields))

    def _learned(self, refuses: Set[str], names: tuple[str, ...]) -> Passage | None:
        model, *fields = names
        quirks = self._quirks
        renames = tuple((old, new) for old, new in quirks.chat_renames.items() if old in fields)
        written = {*fields, *(new for _, new in renames)} - {old for old, _ in renames}
        changed = _OWN_WORDS | refuses | quirks.refuses | {"stream_options"}
        passage = None
        if (
            changed.isdisjoint({*fields, *written})
            and len(written) == len(set(fields))
            and (quirks.accepts is None or written <= quirks.accepts)
        ):
            passage = Passage(_path("chat/completions", model, quirks), renames)
        if len(self._known) >= MAX_PASSAGES:
            self._known.clear()
        if sum(map(len, names)) <= MAX_PASSAGE:
            self._known[refuses, names] = passage
        return passage


def encode(call: Call, facts: Facts, quirks: Quirks) -> HttpRequest:
    """Return ``call`` as this server wants it; fields that it would refuse are named in ``dropped``.

    Raises:
        ServerError: ``UNSUPPORTED`` for content that cannot be said, and for counting tokens.
    """
    dropped: list[str] = []
    path, renames, fields = _asked(call, facts, quirks, dropped)
    fields["model"] = call.model
    if call.stream:
        _ask_for_usage(fields, quirks)
    _leave_out(fields, facts.refuses, dropped)
    _leave_out(fields, quirks.refuses, dropped)
    _rename(fields, renames)
    if quirks.accepts is not None:
        _leave_out(fields, fields.keys() - quirks.accepts, dropped)
    return HttpRequest(
        path=_path(path, call.model, quirks),
        body=_encode(fields),
        dropped=tuple(dict.fromkeys(dropped)) if dropped else (),
    )


def _path(path: str, model: str, quirks: Quirks) -> str:
    prefix = quirks.prefix
    if "{" in prefix:
        prefix = prefix.replace("{model}", quote(model, safe=""))
    return f"{prefix}{path}{quirks.query}"


def models_request(quirks: Quirks) -> HttpRequest:
    """Return the request that lists models."""
    return HttpRequest(
        method="GET", path=quirks.models_path or f"{quirks.prefix}models{quirks.query}", headers=()
    )


def _asked(
    call: Call, facts: Facts, quirks: Quirks, dropped: list[str]
) -> tuple[str, Mapping[str, str], Fields]:
    """Return where ``call`` goes, which fields have another name there, and its fields."""
    match call:
        case CountCall():
            raise ServerError(ErrorKind.UNSUPPORTED, "This provider cannot count tokens.")
        case ChatCall():
            fields = _own(call, facts, quirks, dropped) or _chat(call, facts, quirks, dropped)
            return "chat/completions", quirks.chat_renames, fields
        case TextCall():
            return "completions", {}, _own(call, facts, quirks, dropped) or _text(call)
        case EmbedCall():
            return "embeddings", quirks.embed_renames, _embeddings(call, facts, quirks, dropped)
        case _:
            raise ServerError(ErrorKind.UNSUPPORTED, "This provider cannot answer this kind of request.")


def _own(call: Call, facts: Facts, quirks: Quirks, dropped: list[str]) -> Fields:
    """Return the caller's own fields, none when it speaks another dialect or its call was altered."""
    if not call.raw or call.dialect != "openai":
        return {}
    fields: Fields = _READ_FIELDS.decode(call.raw)
    if isinstance(call, ChatCall):
        if "messages" not in call.amended:
            fields["messages"] = patched_messages(fields["messages"], quirks, dropped)
        if call.tools and not call.amended & _TOOL_FIELDS and not quirks.bare_tools:
            fields["tools"] = [_clothed(tool) for tool in _READ_TOOLS.decode(fields["tools"])]
        _amend(fields, call, facts, quirks, dropped)
    return fields


def _amend(fields: Fields, call: ChatCall, facts: Facts, quirks: Quirks, dropped: list[str]) -> None:
    """Write over the caller's ``fields`` what a stage changed, and what every server calls differently."""
    if _OWN_WORDS.isdisjoint(fields) and not call.amended and call.output is None:
        return
    fields.pop("stream_structured", None)
    worded = [name for name in OURS if fields.pop(name, None) is not None]
    amended = call.amended | ({"output"} if worded or _is_named(call.output) else set())
    if not amended:
        return
    for name in amended:
        for theirs in _OF.get(name, ()):
            fields.pop(theirs, None)
    if "messages" in amended:
        fields["messages"] = translated_messages(call.messages, quirks, dropped)
    if "output" in amended and call.output:
        fields |= _format(call.output, facts)
    if amended & _TOOL_FIELDS:
        fields |= _tools(call, dropped)
    if "sampling" in amended and call.sampling.n > 1:
        fields["n"] = call.sampling.n


def _is_named(output: OutputFormat | None) -> bool:
    """Whether the caller named a registered schema, which only this server knows."""
    return output is not None and bool(output.schema_id)


def _clothed(tool: dict[str, Raw]) -> Fields:
    """Return the caller's tool, with parameters if it is a function without."""
    function = tool.get("function")
    if function is None or "parameters" in (said := _READ_FIELDS.decode(function)):
        return tool
    return {**tool, "function": {**said, "parameters": _NO_PARAMETERS}}


def _ask_for_usage(fields: Fields, quirks: Quirks) -> None:
    """Ask for usage whoever asked for it or not: it is settled and counted."""
    options = fields.pop("stream_options", None)
    if not quirks.stream_options:
        return
    own = _READ_FIELDS.decode(options) if isinstance(options, Raw) and bytes(options) not in _NULLS else {}
    fields["stream_options"] = {**own, "include_usage": True}


def _rename(fields: Fields, renames: Mapping[str, str]) -> None:
    """Give fields the names that the server knows; where both are there, the right one counts."""
    for old, new in renames.items():
        if old in fields:
            value = fields.pop(old)
            fields.setdefault(new, value)


def _leave_out(fields: Fields, names: Set[str], dropped: list[str]) -> None:
    if not names or names.isdisjoint(fields):
        return
    for name in sorted(names & fields.keys()):
        value = fields.pop(name, None)
        if value is not None and not (isinstance(value, Raw) and bytes(value) in _NULLS):
            dropped.append(name)


def _chat(call: ChatCall, facts: Facts, quirks: Quirks, dropped: list[str]) -> Fields:
    fields: Fields = {"messages": translated_messages(call.messages, quirks, dropped)}
    if call.stream:
        fields["stream"] = True
    fields |= _sampling(call.sampling, quirks.max_stop, dropped)
    if call.sampling.logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": call.sampling.logprobs}
    fields |= _tools(call, dropped)
    if call.user:
        fields["user"] = call.user
    if call.output:
        fields |= _format(call.output, facts)
    if effort := _effort(call.reasoning):
        if facts.reasoning:
            fields["reasoning_effort"] = effort
        else:
            dropped.append("reasoning")
    return fields


def _sampling(sampling: Sampling, max_stop: int, dropped: list[str]) -> Fields:
    names = ("max_tokens", "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
    fields = {name: value for name in names if (value := getattr(sampling, name)) is not None}
    if sampling.stop:
        fields["stop"] = sampling.stop[:max_stop]
    if len(sampling.stop) > max_stop:
        dropped.append(f"stop[{max_stop}:]")
    if sampling.n > 1:
        fields["n"] = sampling.n
    if sampling.logit_bias:
        fields["logit_bias"] = sampling.logit_bias
    return fields


def _tools(call: ChatCall, dropped: list[str]) -> Fields:
    functions = [tool for tool in call.tools if tool.type == "function"]
    dropped.extend(f"tools[{tool.type}]" for tool in call.tools if tool.type != "function")
    if not functions:
        return {}
    fields: Fields = {"tools": [_tool(tool) for tool in functions]}
    if call.tool_choice:
        fields["tool_choice"] = _choice(call.tool_choice)
    if call.parallel_tools is not None:
        fields["parallel_tool_calls"] = call.parallel_tools
    return fields


def _tool(tool: Tool) -> Fields:
    function: Fields = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters if bytes(tool.parameters) else _NO_PARAMETERS
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | Fields:
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _format(output: OutputFormat, facts: Facts) -> Fields:
    """Return the fields that ask for ``output``; ``UNSUPPORTED`` where this server has no word for it."""
    if output.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if output.kind != "json_schema":
        return {"structured_outputs": _guided(output, facts)}
    schema: Fields = {"name": output.name or "answer"}
    if output.description:
        schema["description"] = output.description
    if bytes(output.schema):
        schema["schema"] = output.schema
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _guided(output: OutputFormat, facts: Facts) -> Fields:
    if not facts.guided:
        raise ServerError(
            ErrorKind.UNSUPPORTED, f"This provider takes no {output.kind} for the answer's form."
        )
    said = {"regex": output.pattern, "choice": output.choices, "grammar": output.grammar}
    return {output.kind: said[output.kind]}


def _effort(reasoning: Reasoning | None) -> str:
    """Return OpenAI's word for how much to think; Anthropic's ``max`` is its ``xhigh``."""
    if reasoning is None:
        return ""
    if reasoning.effort:
        return "xhigh" if reasoning.effort == "max" else reasoning.effort
    if not reasoning.enabled or reasoning.budget_tokens is None:
        return ""
    if reasoning.budget_tokens < LOW_BUDGET_TOKENS:
        return "low"
    return "medium" if reasoning.budget_tokens < MEDIUM_BUDGET_TOKENS else "high"


def _text(call: TextCall) -> Fields:
    fields: Fields = {"prompt": call.prompts[0] if len(call.prompts) == 1 else call.prompts}
    if call.stream:
        fields["stream"] = True
    fields |= _sampling(call.sampling, len(call.sampling.stop), [])
    if call.sampling.logprobs is not None:
        fields["logprobs"] = call.sampling.logprobs
    optional = {"suffix": call.suffix, "echo": call.echo, "user": call.user}
    return fields | {name: value for name, value in optional.items() if value}


def _embeddings(call: EmbedCall, facts: Facts, quirks: Quirks, dropped: list[str]) -> Fields:
    fields = _own(call, facts, quirks, dropped)
    if not fields:
        fields = {"input": call.inputs}
        if call.dimensions is not None:
            fields["dimensions"] = call.dimensions
        if call.user:
            fields["user"] = call.user
        if call.base64:
            fields["encoding_format"] = "base64"
    elif "inputs" in call.amended:
        fields["input"] = call.inputs
    if not quirks.base64:
        fields.pop("encoding_format", None)  # numbers come then, and are packed on our way out
    return fields
