"""Calls as Cohere wants them: chat and embed.

Source: https://docs.cohere.com/reference/chat and /reference/embed (API v2); ``cohere`` 7.3,
``v2/client.py``.
"""

from typing import Any

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
    Tool,
    ToolChoice,
)
from llm_server.providers.dialects.cohere.messages import conversation

MAX_STOP = 5
"""``stop_sequences``: "a list of up to 5 strings"."""

P_RANGE = (0.01, 0.99)
"""The values of ``p`` that are taken; 1, which many clients always send, is brought to the nearest."""

SAMPLING = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""Sampling parameters that have one number here and there."""

INPUT_TYPE = "search_document"
"""What an embedding is for, which Cohere requires and no other API asks. Documents are what most callers
embed; Cohere's vectors of queries (``search_query``) and of documents are made to be compared with each
other."""

NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')


def encode(call: Call, facts: Facts) -> HttpRequest:
    """Return ``call`` as a request to this API; what it cannot carry is named in ``dropped``.

    Raises:
        ServerError: ``UNSUPPORTED`` for what cannot be said.
    """
    match call:
        case CountCall():
            raise ServerError(ErrorKind.UNSUPPORTED, "This provider cannot count tokens.")
        case ChatCall():
            return _chat(call, facts)
        case EmbedCall():
            return _embed(call)
        case _:
            raise ServerError(ErrorKind.UNSUPPORTED, "This provider has no text completions; use chat.")


def models_request() -> HttpRequest:
    """Return the request for the model list: one page, of the largest size that there is."""
    return HttpRequest(method="GET", path="v1/models?page_size=1000", headers=())


def _chat(call: ChatCall, facts: Facts) -> HttpRequest:
    dropped: list[str] = []
    body: dict[str, Any] = {"model": call.model, "messages": conversation(call.messages, dropped)}
    body |= _tools(call.tools, call.tool_choice, dropped)
    body |= _sampling(call.sampling, facts, dropped)
    if call.output:
        body["response_format"] = _output(call.output, dropped)
    if call.reasoning and not facts.reasoning:
        dropped.append("reasoning")
    elif call.reasoning:
        body["thinking"] = _thinking(call.reasoning, dropped)
    if call.stream:
        body["stream"] = True
    return _post("v2/chat", body, dropped + _unsayable(call))


def _unsayable(call: ChatCall) -> list[str]:
    """Name what ``call`` asks for that this API has no word for."""
    lost = {
        "parallel_tool_calls": call.parallel_tools is False,
        "user": bool(call.user),
        "logit_bias": bool(call.sampling.logit_bias),
        "logprobs": call.sampling.logprobs is not None,
        "n": call.sampling.n > 1,
    }
    return [name for name, is_lost in lost.items() if is_lost]


def _embed(call: EmbedCall) -> HttpRequest:
    for at, text in enumerate(call.inputs):
        if not isinstance(text, str):
            message = "This provider embeds text, not arrays of token ids."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param=f"input[{at}]")
    body: dict[str, Any] = {"model": call.model, "texts": call.inputs}
    body |= {"input_type": INPUT_TYPE, "embedding_types": ["float"]}
    if call.dimensions is not None:
        body["output_dimension"] = call.dimensions
    return _post("v2/embed", body, ["user"] if call.user else [])


def _post(path: str, body: dict[str, Any], dropped: list[str]) -> HttpRequest:
    return HttpRequest(path=path, body=json.encode(body), dropped=tuple(dict.fromkeys(dropped)))


def _tools(tools: tuple[Tool, ...], choice: ToolChoice | None, dropped: list[str]) -> dict[str, Any]:
    """Return tools and choice. None can be forced among others: it is offered alone, a call required."""
    dropped += [f"tools[{tool.type}]" for tool in tools if tool.type != "function"]
    offered = [tool for tool in tools if tool.type == "function"]
    if choice and choice.mode == "tool":
        offered = [_named(choice.name, offered)]
    if not offered:
        return {}
    body: dict[str, Any] = {"tools": [_tool(tool) for tool in offered]}
    # One switch for all tools: on only where every tool asks for it.
    if all(tool.strict for tool in offered):
        body["strict_tools"] = True
    elif any(tool.strict for tool in offered):
        dropped.append("tools.strict")
    if choice and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    return body


def _named(name: str, offered: list[Tool]) -> Tool:
    for tool in offered:
        if tool.name == name:
            return tool
    message = f"The tool {name!r} that is to be called is not among the tools."
    raise ServerError(ErrorKind.INVALID_REQUEST, message, param="tool_choice")


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or NO_PARAMETERS
    return {"type": "function", "function": function}


def _sampling(sampling: Sampling, facts: Facts, dropped: list[str]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, theirs in SAMPLING.items():
        value = getattr(sampling, name)
        if value is None or (name.endswith("_penalty") and not value):
            continue  # a penalty of 0 is none, and some models refuse two of them, even so
        if name in facts.refuses:
            dropped.append(name)
        else:
            body[theirs] = value
    if "p" in body and (near := min(max(body["p"], P_RANGE[0]), P_RANGE[1])) != body["p"]:
        body["p"] = near
        dropped.append("top_p:clamped")
    if sampling.stop:
        body["stop_sequences"] = sampling.stop[:MAX_STOP]
    if len(sampling.stop) > MAX_STOP:
        dropped.append(f"stop[{MAX_STOP}:]")
    return body


def _output(output: OutputFormat, dropped: list[str]) -> dict[str, Any]:
    if output.kind not in {"json_object", "json_schema"}:
        raise ServerError(
            ErrorKind.UNSUPPORTED, f"This provider takes no {output.kind} for the answer's form."
        )
    if output.description:
        dropped.append("response_format.description")
    schema = {"json_schema": output.schema} if output.kind == "json_schema" and output.schema else {}
    return {"type": "json_object", **schema}


def _thinking(reasoning: Reasoning, dropped: list[str]) -> dict[str, Any]:
    """Return whether to think, and how long; words between "none" and "high" have no equal here."""
    if not reasoning.enabled or reasoning.effort == "none":
        return {"type": "disabled"}
    if reasoning.budget_tokens is not None:
        return {"type": "enabled", "token_budget": reasoning.budget_tokens}
    if reasoning.effort not in {"", "high"}:
        dropped.append("reasoning")
    return {"type": "enabled"}
