"""Put registered schemas in the place of their names."""

from contextlib import aclosing

import msgspec

from llm_server.contract import Call, ChatCall, Context, Events, Handler, SchemaSource


class Registered:
    """Fills in the schema of a call that names one by ``schema_id``, and which version that is."""

    def __init__(self, handler: Handler, schemas: SchemaSource) -> None:
        self._handler = handler
        self._schemas = schemas

    async def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises ``NOT_FOUND`` for a schema that is not registered, or no longer."""
        if isinstance(call, ChatCall) and call.output is not None and call.output.schema_id:
            found = await self._schemas.resolve(call.output.schema_id, call.output.schema_version)
            ctx.schema = found
            output = msgspec.structs.replace(
                call.output,
                schema=found.schema,
                schema_version=found.version,
                name=call.output.name or found.schema_id,
            )
            call = call.amend(output=output)
        async with aclosing(self._handler(call, ctx)) as answers:
            async for answer in answers:
                yield answer
