"""Put registered schemas in the place of their names."""

from contextlib import aclosing
from typing import TypeGuard

import msgspec

from llm_server.contract import (
    Begun,
    Call,
    ChatCall,
    Context,
    Events,
    Handler,
    SchemaSource,
    Taker,
    begin_of,
)


class Registered:
    """Fills in the schema of a call that names one by ``schema_id``, and which version that is."""

    def __init__(self, handler: Handler, schemas: SchemaSource) -> None:
        self._handler = handler
        self._begin = begin_of(handler)
        self._schemas = schemas

    def begin(self, call: Call, ctx: Context, taker: Taker) -> Begun | None:
        """Take the inner short way for everything but a registered schema."""
        return None if _named(call) else self._begin(call, ctx, taker)

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises ``NOT_FOUND`` for a schema that is not registered, or no longer."""
        return self._filled(call, ctx) if _named(call) else self._handler(call, ctx)

    async def _filled(self, call: ChatCall, ctx: Context) -> Events:
        output = call.output
        assert output is not None
        found = await self._schemas.resolve(output.schema_id, output.schema_version)
        ctx.schema = found
        output = msgspec.structs.replace(
            output,
            schema=found.schema,
            schema_version=found.version,
            name=output.name or found.schema_id,
        )
        async with aclosing(self._handler(call.amend(output=output), ctx)) as answers:
            async for answer in answers:
                yield answer


def _named(call: Call) -> TypeGuard[ChatCall]:
    return isinstance(call, ChatCall) and call.output is not None and bool(call.output.schema_id)
