"""The native structured endpoint, inference of schemas, and what models can be held to."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, Request, Response

from llm_server.api import headers
from llm_server.api.endpoint import Door
from llm_server.api.identity import IDENTITY
from llm_server.api.models import Listing
from llm_server.api.presence import Presence
from llm_server.api.registry import to_raw
from llm_server.api.schemas import structured as shapes
from llm_server.api.schemas.errors import ErrorProblem, OpenAIError
from llm_server.contract import (
    Call,
    ChatCall,
    Completion,
    Context,
    Conversion,
    ErrorKind,
    FormKind,
    Handler,
    Message,
    OutputFormat,
    Role,
    Sampling,
    ServerError,
    StructuredNote,
    Text,
    TransformStep,
    Way,
)

ROUTE = "/v1/structured-completions"
INFER = "/v1/schemas/infer"

Abilities = Callable[[str], Awaitable[Mapping[FormKind, Sequence[Way]]]]
"""Takes a model as it is listed, returns what it can be held to; empty for one that is not known."""


class Inference(Protocol):
    """Proposes schemas. Implemented in structured/."""

    async def from_examples(self, examples: Sequence[Any], *, closed: bool) -> bytes:
        """Return a schema that every example follows; raises ``INVALID_REQUEST``."""
        ...

    async def from_description(self, handler: Handler, model: str, description: str, ctx: Context) -> bytes:
        """Return the schema that a model makes of a description; raises ``ServerError``."""
        ...


class Structure(msgspec.Struct, frozen=True):
    """What the routes work with, besides the pipeline."""

    conversion: Conversion
    inference: Inference
    abilities: Abilities
    listing: Listing


def router(door: Door, structure: Structure) -> APIRouter:
    """Return the routes for structured completions, inference and what models can be held to."""
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": OpenAIError, "description": words} for status, words in _REFUSALS.items()
    }
    routes = APIRouter(tags=["structured"])

    @routes.post(ROUTE, response_model=shapes.StructuredCompletion, responses=refusals)
    async def structured_completion(request: Request, body: shapes.StructuredRequest) -> Any:
        """Answer in a schema, by whatever method the model allows, then convert the answer."""
        ctx = _context(request, door, ROUTE, body.model)
        call = _call(body)
        target = _optional(body.target_schema, "target_schema")
        convert = await asyncio.to_thread(structure.conversion.plan, _steps(body), target)
        ctx.max_attempts = body.max_attempts
        async with Presence(request.receive, ctx):
            completion = await _whole(door, call, ctx)
        return _told(ctx, _completion(ctx, call, completion, convert))

    @routes.post(INFER, responses=refusals)
    async def infer_schema(request: Request, body: shapes.InferenceRequest) -> shapes.InferredSchema:
        """Propose a schema, from examples of answers or, by asking a model, from a description."""
        if (body.examples is None) == (body.description is None):
            raise _invalid("description", "give either 'examples' or a 'description'.")
        ctx = _context(request, door, INFER, body.model or "")
        async with Presence(request.receive, ctx):
            if body.examples is not None:
                to_raw(body.examples, "examples")
                schema = await structure.inference.from_examples(body.examples, closed=body.closed)
            else:
                asked = body.description or ""
                schema = await _described(structure, door, ctx, asked)
        return shapes.InferredSchema(schema_=msgspec.json.decode(schema))

    @routes.get("/v1/outlines-models")
    async def structured_models() -> shapes.StructuredModels:
        """List the models that can be held to a form, each with the ways in the order of their trial."""
        data = []
        for model in await structure.listing.models():
            ways = await structure.abilities(model.id)
            if any(ways.values()):
                listed = {kind: [_way(each) for each in found] for kind, found in ways.items()}
                data.append(shapes.StructuredModel(id=model.id, owned_by=model.provider, **listed))
        return shapes.StructuredModels(data=data)

    return routes


async def _described(structure: Structure, door: Door, ctx: Context, description: str) -> bytes:
    try:
        return await structure.inference.from_description(door.handler, ctx.model, description, ctx)
    except ServerError as error:
        if error.kind is ErrorKind.MODEL_NOT_FOUND and not ctx.model:
            raise _invalid(
                "model", "name the model that reads the description: there is no default."
            ) from None
        raise


_REFUSALS = {
    400: "The request, the schema or a transformer is not right.",
    404: "There is no such model or schema.",
    413: "The body is too large.",
    422: "No answer was valid, or it could not be converted; `problems` and `raw_text` say why.",
    502: "The provider failed.",
    504: "The answer took too long.",
}


def _context(request: Request, door: Door, route: str, model: str) -> Context:
    """Return the story of ``request``, where an error's answer finds it too."""
    now_s, identity = time.perf_counter(), request.scope[IDENTITY]
    deadline_s = now_s + door.config.request_timeout_s
    ctx = Context(request_id=identity, route=route, model=model, started_s=now_s, deadline_s=deadline_s)
    request.state.context = ctx
    return ctx


def _call(body: shapes.StructuredRequest) -> ChatCall:
    if (body.prompt is None) == (body.messages is None):
        raise _invalid("messages", "give either a 'prompt' or 'messages'.")
    if (body.schema_ is None) == (body.schema_id is None):
        raise _invalid("schema", "give either a 'schema' or a 'schema_id'.")
    if body.schema_version is not None and body.schema_id is None:
        raise _invalid("schema_version", "needs a 'schema_id'.")
    turns = body.messages or [shapes.Turn(role="user", content=body.prompt or "")]
    return ChatCall(
        model=body.model,
        messages=tuple(Message(Role(turn.role), (Text(turn.content),)) for turn in turns),
        sampling=Sampling(
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            seed=body.seed,
            stop=tuple(body.stop or ()),
        ),
        output=OutputFormat(
            kind="json_schema",
            schema=msgspec.Raw(_optional(body.schema_, "schema")),
            schema_id=body.schema_id or "",
            schema_version=body.schema_version,
            name="" if body.schema_id else "answer",
            strict=True,
        ),
    )


def _optional(schema: Mapping[str, Any] | None, param: str) -> bytes:
    return b"" if schema is None else bytes(to_raw(schema, param))


def _steps(body: shapes.StructuredRequest) -> list[TransformStep]:
    return [TransformStep(step.name, step.parameters) for step in body.transformers]


async def _whole(door: Door, call: Call, ctx: Context) -> Completion:
    async with aclosing(door.handler(call, ctx)) as answers:
        got = [answer async for answer in answers]
    if len(got) != 1 or not isinstance(got[0], Completion) or not got[0].choices:
        raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail=f"not one whole answer: {got!r}")
    return got[0]


def _completion(
    ctx: Context, call: ChatCall, completion: Completion, convert: Callable[[Any], Any]
) -> shapes.StructuredCompletion:
    note = ctx.structured
    if note is None:
        raise ServerError(ErrorKind.INTERNAL, "Internal error.", detail="nobody took care of the schema")
    text = completion.choices[0].text
    answered = note.outcome in {"valid", "repaired"}
    usage = completion.usage
    return shapes.StructuredCompletion(
        id=ctx.request_id,
        created=completion.created or int(time.time()),
        model=completion.model or call.model,
        schema_=_used(ctx),
        raw_text=note.raw_text or text,
        structured_output=_converted(text, note, convert) if answered else None,
        method=note.method,
        guarantee=note.guarantee,
        outcome=note.outcome,
        attempts=note.attempts,
        problems=[ErrorProblem(**msgspec.structs.asdict(each)) for each in note.problems],
        usage=shapes.UsedTokens(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.input_tokens + usage.output_tokens,
        ),
    )


def _converted(text: str, note: StructuredNote, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(msgspec.json.decode(text))
    except ServerError as error:
        raise error.because(error.problems, note.raw_text or text) from None


def _used(ctx: Context) -> shapes.UsedSchema | None:
    if ctx.schema is None:
        return None
    return shapes.UsedSchema(id=ctx.schema.schema_id, version=ctx.schema.version)


def _told(ctx: Context, body: shapes.StructuredCompletion) -> Response:
    response = Response(body.model_dump_json(by_alias=True), media_type="application/json")
    response.raw_headers += headers.course(ctx)
    return response


def _way(way: Way) -> shapes.Way:
    return shapes.Way(method=way.method, guarantee=way.guarantee)


def _invalid(param: str, words: str) -> ServerError:
    return ServerError(ErrorKind.INVALID_REQUEST, f"{param}: {words}", param=param)
