"""Put registered schemas in the place of their names."""

from contextlib import aclosing

import msgspec

from llm_server.contract import Call, ChatCall, Context, Events, Handler, OutputFormat, SchemaSource


class Registered:
    """Fills in the schema of a call that names one by ``schema_id``, and which version that is."""

    def __init__(self, handler: Handler, schemas: SchemaSource) -> None:
        self._handler = handler
        self._schemas = schemas

    def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer ``call``; raises ``NOT_FOUND`` for a schema that is not registered, or no longer."""
        if isinstance(call, ChatCall) and call.output is not None and call.output.schema_id:
            return self._filled(call, call.output, ctx)
        return self._handler(call, ctx)

    async def _filled(self, call: ChatCall, output: OutputFormat, ctx: Context) -> Events:
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
