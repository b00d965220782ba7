"""What a model can be held to, and in which ways: planned as for a call, with the simplest demands."""

from collections.abc import Mapping
from typing import get_args

from msgspec import Raw

from llm_server.contract import ChatCall, FormKind, OutputFormat, ServerError, Way
from llm_server.structured.stage import Structured

_SCHEMA = (
    b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
)
_SIMPLEST: Mapping[FormKind, OutputFormat] = {
    "json_schema": OutputFormat(kind="json_schema", schema=Raw(_SCHEMA)),
    "json_object": OutputFormat(kind="json_object"),
    "regex": OutputFormat(kind="regex", pattern="a+"),
    "choice": OutputFormat(kind="choice", choices=("a", "b")),
    "grammar": OutputFormat(kind="grammar", grammar='start: "a"'),
}


async def abilities(provider: Structured, model: str) -> Mapping[FormKind, tuple[Way, ...]]:
    """Return, for every kind of form, how ``model`` is held to it, the first way first.

    Empty for a kind that it cannot be held to. A particular schema may have fewer ways: not every provider
    takes every schema.
    """
    if not provider.facts(model).chat:
        return dict.fromkeys(get_args(FormKind), ())
    return {kind: await _ways(provider, model, output) for kind, output in _SIMPLEST.items()}


async def _ways(provider: Structured, model: str, output: OutputFormat) -> tuple[Way, ...]:
    try:
        plan = await provider.plan(ChatCall(model=model, messages=(), output=output))
    except ServerError:
        return ()
    return tuple(dict.fromkeys(Way(method.name, method.guarantee) for method in plan.methods))
