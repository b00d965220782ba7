"""Calls as Gemini wants them: generate, stream, count, embed.

Source: https://ai.google.dev/api/generate-content, /api/tokens and /api/embeddings (v1beta); the forms were
checked against ``google.genai`` 3.4 (``models.py``, the ``_to_mldev`` functions).
"""

import re
from typing import Any
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
    Tool,
    ToolChoice,
)
from llm_server.providers.dialects.gemini.messages import conversation

MAX_STOP = 5
"""``generationConfig.stopSequences`` takes "up to 5" (https://ai.google.dev/api/generate-content)."""

SAMPLING = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
"""Sampling parameters that have one number here and there."""

BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Effort as thinking tokens, for models before Gemini 3 (https://ai.google.dev/gemini-api/docs/openai#thinking)."""

LEVELS = {"minimal": "LOW", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
"""Effort as ``thinkingLevel``, from Gemini 3 on (https://ai.google.dev/gemini-api/docs/thinking#thinking-levels).

``LOW`` is the least that every model takes: only some small ones know ``MINIMAL``, others answer 400.
"""

_GENERATION = re.compile(r"gemini-(\d+)")


def encode(call: Call, facts: Facts) -> HttpRequest:
    """Return ``call`` as a request to this API; what it cannot carry is named in ``dropped``.

    Raises:
        ServerError: ``UNSUPPORTED`` for what cannot be said, ``INVALID_REQUEST`` for a conversation that does
            not hang together.
    """
    match call:
        case CountCall():
            return _count(call)
        case ChatCall():
            return _generate(call, facts)
        case EmbedCall():
            return _embed(call)
        case _:
            raise ServerError(ErrorKind.UNSUPPORTED, "This provider has no text completions; use chat.")


def models_request() -> HttpRequest:
    """Return the request for the model list: one page, of the largest size that there is."""
    return HttpRequest(method="GET", path="models?pageSize=1000", headers=())


def _resource(model: str) -> str:
    """Return the resource name of ``model``, which may come with its ``models/`` or ``tunedModels/``."""
    folder, _, name = model.partition("/")
    if not name or folder not in {"models", "tunedModels"}:
        folder, name = "models", model
    return f"{folder}/{quote(name, safe='')}"


def _generate(call: ChatCall, facts: Facts) -> HttpRequest:
    dropped: list[str] = []
    body = _prompt(call, dropped)
    if config := _generation_config(call, facts, dropped):
        body["generationConfig"] = config
    if call.user:
        dropped.append("user")
    method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
    return _post(f"{_resource(call.model)}:{method}", body, dropped)


def _count(call: CountCall) -> HttpRequest:
    """System instruction and tools count too, and only ``generateContentRequest`` has room for them."""
    dropped: list[str] = []
    resource = _resource(call.model)
    body = {"generateContentRequest": {"model": resource, **_prompt(call, dropped)}}
    return _post(f"{resource}:countTokens", body, dropped)


def _embed(call: EmbedCall) -> HttpRequest:
    resource = _resource(call.model)
    size = {} if call.dimensions is None else {"outputDimensionality": call.dimensions}
    requests = []
    for at, text in enumerate(call.inputs):
        if not isinstance(text, str):
            message = "This provider embeds text, not arrays of token ids."
            raise ServerError(ErrorKind.UNSUPPORTED, message, param=f"input[{at}]")
        requests.append({"model": resource, "content": {"parts": [{"text": text}]}, **size})
    return _post(f"{resource}:batchEmbedContents", {"requests": requests}, ["user"] if call.user else [])


def _post(path: str, body: dict[str, Any], dropped: list[str]) -> HttpRequest:
    return HttpRequest(path=path, body=json.encode(body), dropped=tuple(dict.fromkeys(dropped)))


def _prompt(call: ChatCall, dropped: list[str]) -> dict[str, Any]:
    """Return what the model reads: system instruction, contents and tools."""
    system, contents = conversation(call.messages, dropped, third=_third_generation(call.model))
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    if declarations := _declarations(call.tools, dropped):
        body["tools"] = [{"functionDeclarations": declarations}]
        if call.tool_choice:
            body["toolConfig"] = {"functionCallingConfig": _choice(call.tool_choice)}
    if call.parallel_tools is False:
        dropped.append("parallel_tool_calls")
    return body


def _declarations(tools: tuple[Tool, ...], dropped: list[str]) -> list[dict[str, Any]]:
    declarations = []
    for tool in tools:
        if tool.type != "function":
            dropped.append(f"tools[{tool.type}]")
            continue
        if tool.strict:
            dropped.append("tools.strict")
        declaration: dict[str, Any] = {"name": tool.name}
        if tool.description:
            declaration["description"] = tool.description
        if tool.parameters:
            declaration["parametersJsonSchema"] = tool.parameters
        declarations.append(declaration)
    return declarations


def _choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.mode == "tool":
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    return {"mode": {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]}


def _generation_config(call: ChatCall, facts: Facts, dropped: list[str]) -> dict[str, Any]:
    config = _sampling(call.sampling, facts, dropped)
    if call.output:
        config |= _output(call.output, dropped)
    if call.reasoning and not facts.reasoning:
        dropped.append("reasoning")
    elif call.reasoning:
        config["thinkingConfig"] = _thinking(call.reasoning, call.model, dropped)
    return config


def _sampling(sampling: Sampling, facts: Facts, dropped: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, theirs in SAMPLING.items():
        value = getattr(sampling, name)
        if value is not None and name in facts.refuses:
            dropped.append(name)
        elif value is not None:
            config[theirs] = value
    if sampling.logit_bias:
        dropped.append("logit_bias")
    if sampling.stop:
        config["stopSequences"] = sampling.stop[:MAX_STOP]
    if len(sampling.stop) > MAX_STOP:
        dropped.append(f"stop[{MAX_STOP}:]")
    if sampling.n > 1:
        config["candidateCount"] = sampling.n
    return config | _logprobs(sampling.logprobs)


def _logprobs(alternatives: int | None) -> dict[str, Any]:
    if alternatives is None:
        return {}
    return {"responseLogprobs": True} | ({"logprobs": alternatives} if alternatives else {})


def _output(output: OutputFormat, dropped: list[str]) -> dict[str, Any]:
    if output.kind not in {"json_object", "json_schema"}:
        raise ServerError(
            ErrorKind.UNSUPPORTED, f"This provider takes no {output.kind} for the answer's form."
        )
    if output.description:
        dropped.append("response_format.description")
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if output.kind == "json_schema":
        config["responseJsonSchema"] = output.schema or Raw(b"{}")
    return config


def _third_generation(model: str) -> bool:
    """Whether ``model`` is a Gemini 3 or later; a Gemini name without a number is one of the latest."""
    found = _GENERATION.search(model)
    return int(found[1]) >= 3 if found else "gemini" in model


def _thinking(reasoning: Reasoning, model: str, dropped: list[str]) -> dict[str, Any]:
    """Return the thinking configuration: a level or a budget, never both, as the generation prefers."""
    levels = _third_generation(model)
    if not reasoning.enabled or reasoning.effort == "none":
        return _no_thinking(dropped) if levels else {"thinkingBudget": 0}
    config: dict[str, Any] = {"includeThoughts": True}
    if reasoning.effort and reasoning.effort not in LEVELS:
        dropped.append("reasoning")  # more than the most that can be asked for
    if reasoning.effort and (levels or reasoning.budget_tokens is None):
        name, scale = ("thinkingLevel", LEVELS) if levels else ("thinkingBudget", BUDGETS)
        config[name] = scale.get(reasoning.effort, scale["high"])
    elif reasoning.budget_tokens is not None:
        config["thinkingBudget"] = reasoning.budget_tokens
    return config


def _no_thinking(dropped: list[str]) -> dict[str, Any]:
    """Gemini 3 cannot be kept from thinking: its least level is the nearest."""
    dropped.append("reasoning")
    return {"thinkingLevel": LEVELS["low"]}
