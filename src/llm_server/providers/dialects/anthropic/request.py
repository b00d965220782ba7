"""Calls as requests of Anthropic's dialect: the caller's own fields if it speaks it, else a translation.

Source: https://platform.claude.com/docs/en/api/messages, /messages-count-tokens; ``anthropic`` SDK 2.12.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, json

from llm_server.contract import (
    JSON_BODY,
    Call,
    ChatCall,
    CountCall,
    ErrorKind,
    Facts,
    HttpRequest,
    Reasoning,
    ServerError,
    Tool,
)
from llm_server.providers.dialects.anthropic.messages import conversation

Fields = dict[str, Any]

VERSION = "2023-06-01"
"""The version that a translation writes (https://platform.claude.com/docs/en/api/versioning)."""
_VERSIONED = (*JSON_BODY, ("anthropic-version", VERSION))
CARRIED = ("anthropic-version", "anthropic-beta")
"""A caller's headers that go on byte for byte (https://code.claude.com/docs/en/llm-gateway)."""

DEFAULT_MAX_TOKENS = 4096
"""The API demands a limit; every model can write this much."""
MAX_DEFAULT_MAX_TOKENS = 16384
"""Of a model's known limit, what is asked for when the caller set none."""

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
"""Effort as thinking tokens, for models that only know budgets; 1,024 is the least that is allowed."""
MIN_BUDGET_TOKENS = 1024
ROOM_FOR_ANSWER = 1024
"""Tokens that a budget leaves of ``max_tokens``, which counts thinking too."""

EFFORTS = {"minimal": "low", "default": "", "none": ""}
"""OpenAI's words that are not among ``output_config.effort``'s: low, medium, high, xhigh, max."""

_BUDGET_MODELS = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:$|[-@]\d{8}|-latest))")
"""Models before Claude 4.6 think by budget, later ones adaptively
(https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking)."""

_OF = {
    "messages": ("messages", "system"),
    "output": ("output_config", "output_format"),
    "tools": ("tools", "tool_choice", "thinking"),
    "tool_choice": ("tools", "tool_choice", "thinking"),
    "parallel_tools": ("tools", "tool_choice", "thinking"),
}
"""The wire's fields of each of the call's fields that a stage may amend; forced tools exclude thinking."""

_SAMPLING = ("temperature", "top_p", "top_k")
_UNSAID = ("seed", "frequency_penalty", "presence_penalty", "logit_bias")
_READ_FIELDS = json.Decoder(dict[str, Raw])
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')


def encode(call: Call, facts: Facts) -> HttpRequest:
    """Return ``call`` as this API wants it; what it cannot carry is named in ``dropped``.

    Raises:
        ServerError: ``UNSUPPORTED`` for what cannot be said.
    """
    if not isinstance(call, ChatCall):
        raise ServerError(
            ErrorKind.UNSUPPORTED, "This provider has only chat; no embeddings or text completions."
        )
    dropped: list[str] = []
    counting = isinstance(call, CountCall)
    if call.raw and call.dialect == "anthropic":
        fields: Fields = dict(_READ_FIELDS.decode(call.raw))
        fields.pop("stream_structured", None)
        if call.amended:
            _amend(fields, call, facts, dropped)
    else:
        fields = _conversation(call, dropped) if counting else _message(call, facts, dropped)
    fields["model"] = call.model
    if facts.refuses:
        refused = [name for name in _SAMPLING if name in facts.refuses]
        dropped.extend(name for name in refused if fields.pop(name, None) is not None)
    return HttpRequest(
        path="v1/messages/count_tokens" if counting else "v1/messages",
        headers=_headers(call) if call.headers else _VERSIONED,
        body=json.encode(fields),
        dropped=tuple(dict.fromkeys(dropped)) if dropped else (),
    )


def _amend(fields: Fields, call: ChatCall, facts: Facts, dropped: list[str]) -> None:
    """Write over the caller's ``fields`` what a stage changed; the rest is not translated, nor lost."""
    said = call if "messages" in call.amended else msgspec.structs.replace(call, messages=())
    translated = _message(said, facts, [])
    for name in {theirs for changed in call.amended for theirs in _OF.get(changed, ())}:
        before = fields.pop(name, None)
        if name in translated:
            fields[name] = translated[name]
        elif name == "thinking" and before is not None:
            dropped.append("reasoning")


def models_request() -> HttpRequest:
    """Return the request for the model list: one page, of the largest size that there is."""
    return HttpRequest(method="GET", path="v1/models?limit=1000", headers=(("anthropic-version", VERSION),))


def _headers(call: Call) -> tuple[tuple[str, str], ...]:
    own = call.headers if call.dialect == "anthropic" else ()
    carried = tuple((name, value) for name, value in own if name in CARRIED)
    given = any(name == "anthropic-version" for name, _ in carried)
    return (*JSON_BODY, *carried) if given else (*_VERSIONED, *carried)


def _message(call: ChatCall, facts: Facts, dropped: list[str]) -> Fields:
    _refuse_unsayable(call)
    fields = _conversation(call, dropped)
    fields["max_tokens"] = _max_tokens(call.sampling.max_tokens, facts.max_output_tokens)
    if call.stream:
        fields["stream"] = True
    fields |= _sampling(call, dropped)
    if call.user:
        fields["metadata"] = {"user_id": call.user}
    if call.output:
        # The API takes the schema alone.
        fields["output_config"] = {"format": {"type": "json_schema", "schema": call.output.schema}}
    _think(fields, call, facts, dropped)
    return fields


def _refuse_unsayable(call: ChatCall) -> None:
    if call.sampling.n > 1:
        words = "more than one choice (n)"
    elif call.sampling.logprobs is not None:
        words = "log probabilities"
    elif call.output is not None and not bytes(call.output.schema):
        words = "a response format without a JSON Schema"
    else:
        return
    raise ServerError(ErrorKind.UNSUPPORTED, f"This provider does not support {words}.")


def _conversation(call: ChatCall, dropped: list[str]) -> Fields:
    system, turns = conversation(call, dropped)
    fields: Fields = {"messages": turns}
    if system:
        fields["system"] = system
    return fields | _tools(call, dropped)


def _max_tokens(asked: int | None, limit: int | None) -> int:
    if asked is None:
        return min(limit, MAX_DEFAULT_MAX_TOKENS) if limit else DEFAULT_MAX_TOKENS
    return asked


def _sampling(call: ChatCall, dropped: list[str]) -> Fields:
    """Return how to sample: models since Claude Opus 4.1 refuse temperature and ``top_p`` at once.

    Source: https://platform.claude.com/docs/en/about-claude/models/migration-guide.
    """
    sampling = call.sampling
    fields = {name: value for name in _SAMPLING if (value := getattr(sampling, name)) is not None}
    if {"temperature", "top_p"} <= fields.keys():
        del fields["top_p"]
        dropped.append("top_p")
    if fields.get("temperature", 0) > 1:
        fields["temperature"] = 1
        dropped.append("temperature:clamped")
    # Only white space is refused as a stop sequence.
    if stop := [one for one in sampling.stop if one.strip()]:
        fields["stop_sequences"] = stop
    if len(stop) < len(sampling.stop):
        dropped.append("stop")
    dropped.extend(name for name in _UNSAID if getattr(sampling, name) is not None)
    return fields


def _tools(call: ChatCall, dropped: list[str]) -> Fields:
    functions = [tool for tool in call.tools if tool.type == "function"]
    dropped.extend(f"tools[{tool.type}]" for tool in call.tools if tool.type != "function")
    if not functions:
        return {}
    fields: Fields = {"tools": [_tool(tool) for tool in functions]}
    if choice := _choice(call):
        fields["tool_choice"] = choice
    return fields


def _tool(tool: Tool) -> Fields:
    fields: Fields = {"name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    fields["input_schema"] = _schema(tool.parameters)
    if tool.strict:
        fields["strict"] = True
    return fields


def _schema(parameters: Raw) -> Raw | Fields:
    """Return a tool's schema, which must say that it is an object; OpenAI also takes ``{}``."""
    if not bytes(parameters):
        return _NO_PARAMETERS
    said = _READ_FIELDS.decode(parameters)
    return parameters if "type" in said else {"type": "object", **said}


def _choice(call: ChatCall) -> Fields:
    mode = call.tool_choice.mode if call.tool_choice else "auto"
    if mode == "none":
        return {"type": "none"}
    choice: Fields = {"type": "any" if mode == "required" else mode}
    if mode == "tool" and call.tool_choice:
        choice["name"] = call.tool_choice.name
    if call.parallel_tools is False:
        choice["disable_parallel_tool_use"] = True
    return choice if call.tool_choice or call.parallel_tools is False else {}


def _think(fields: Fields, call: ChatCall, facts: Facts, dropped: list[str]) -> None:
    """Say how much to think, and leave out what the API refuses beside thinking."""
    budgets = bool(_BUDGET_MODELS.search(call.model))
    thinking = _thinking(call.reasoning, fields["max_tokens"], budgets=budgets)
    if not thinking:
        return
    if thinking["type"] == "disabled":
        fields |= {"thinking": thinking} if facts.reasoning else {}
        return
    forced = fields.get("tool_choice", {}).get("type") in {"any", "tool"}
    if not facts.reasoning or forced or (budgets and _amid_tools(fields["messages"])):
        dropped.append("reasoning")
        return
    fields["thinking"] = thinking
    effort = call.reasoning.effort if call.reasoning and not budgets else ""
    if effort := EFFORTS.get(effort, effort):
        fields["output_config"] = {**fields.get("output_config", {}), "effort": effort}
    dropped.extend(name for name in _SAMPLING if fields.pop(name, None) is not None)


def _thinking(reasoning: Reasoning | None, max_tokens: int, *, budgets: bool) -> Fields:
    """Return the ``thinking`` field, empty when the model's own default is asked for."""
    if reasoning is None or reasoning.effort == "default":
        return {}
    if not reasoning.enabled:
        return {"type": "disabled"}
    if not budgets:
        return {"type": "adaptive"}
    wanted = reasoning.budget_tokens or BUDGETS.get(reasoning.effort, 0)
    budget = min(wanted, max_tokens - ROOM_FOR_ANSWER)
    return {"type": "enabled", "budget_tokens": budget} if budget >= MIN_BUDGET_TOKENS else {}


def _amid_tools(turns: list[Fields]) -> bool:
    """Whether the model is between a call and its answer without its thinking, which a budget demands.

    Source: https://platform.claude.com/docs/en/build-with-claude/extended-thinking (preserving blocks).
    """
    if len(turns) < 2 or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    return turns[-2]["content"][0]["type"] not in {"thinking", "redacted_thinking"}
