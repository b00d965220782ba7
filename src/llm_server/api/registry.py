"""The schema registry: register, list, show, change, compare and delete schemas."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
from fastapi import APIRouter, Path, Query, Response
from msgspec import Raw
from pydantic import Field

from llm_server.api.schemas.errors import OpenAIError
from llm_server.api.schemas.structured import (
    BreakingChange,
    CompatibilityReport,
    Described,
    NewSchema,
    SchemaChange,
    SchemaDeleted,
    SchemaDetails,
    SchemaList,
    SchemaSummary,
)
from llm_server.contract import (
    Compatibility,
    ErrorKind,
    Problem,
    RegisteredSchema,
    SchemaComparison,
    SchemaDraft,
    SchemaEntry,
    ServerError,
)

Language = Literal["pydantic", "typescript"]

_LARGEST = 2**31 - 1
Number = Annotated[int, Field(ge=1, le=_LARGEST)]
SchemaId = Annotated[str, Path(description="The schema's id.", examples=["person"])]
VersionName = Annotated[
    str, Path(pattern=r"^(latest|[1-9][0-9]{0,8})$", description="A version's number, or `latest`.")
]


class Schemas(Protocol):
    """What the routes need of the registry. Implemented in structured/; all raise ``ServerError``."""

    async def create(self, draft: SchemaDraft) -> SchemaEntry:
        """Register a new schema."""
        ...

    async def change(self, schema_id: str, draft: SchemaDraft) -> SchemaEntry:
        """Add the next version, unless the latest has this schema."""
        ...

    async def show(self, schema_id: str, version: int | None = None) -> SchemaEntry:
        """Return a version, the latest by default."""
        ...

    async def page(self, after: str, limit: int) -> Sequence[RegisteredSchema]:
        """Return up to ``limit`` schemas in order of id, with ids above ``after``; ``NOT_FOUND`` for it."""
        ...

    async def remove(self, schema_id: str, version: int | None = None) -> int:
        """Delete a version, or all."""
        ...

    async def compare(self, schema_id: str, before: int, after: int) -> SchemaComparison:
        """Return what changes from one version to another."""
        ...

    async def render(self, schema_id: str, version: int | None, language: Language) -> str:
        """Return the source of types for a version."""
        ...


def to_raw(value: Any, param: str) -> Raw:
    """Return JSON as bytes; ``INVALID_REQUEST`` for a number that is too large."""
    try:
        return Raw(msgspec.json.encode(value))
    except (UnicodeEncodeError, OverflowError, RecursionError) as error:
        message = f"{param}: this cannot be written as JSON in UTF-8."
        raise ServerError(ErrorKind.INVALID_REQUEST, message, param=param) from error


def router(schemas: Schemas) -> APIRouter:
    """Return the routes below ``/v1/schemas``."""
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": OpenAIError, "description": words} for status, words in _REFUSALS.items()
    }
    routes = APIRouter(tags=["schemas"], responses=refusals)
    _writing(routes, schemas)
    _reading(routes, schemas)
    _comparing(routes, schemas)
    return routes


_REFUSALS = {
    400: "The schema, an example or a parameter is not right.",
    404: "There is no such schema or version, or it was deleted.",
    409: "The id is in use, or a change breaks the compatibility that is owed; `problems` lists each.",
    413: "The body is too large.",
    503: "The database cannot be used now.",
}


def _writing(routes: APIRouter, schemas: Schemas) -> None:
    @routes.post("/v1/schemas", status_code=201)
    async def create(body: NewSchema) -> SchemaDetails:
        """Register a schema as version 1, under an id of your choice or one made of its name."""
        return _details(await schemas.create(_draft(body, body.id or "")))

    @routes.put("/v1/schemas/{schema_id}", responses={201: {"model": SchemaDetails}})
    async def change(schema_id: SchemaId, body: SchemaChange, response: Response) -> SchemaDetails:
        """Add the next version: 201. With the latest version's schema nothing is added: 200."""
        entry = await schemas.change(schema_id, _draft(body))
        response.status_code = 201 if entry.added else 200
        return _details(entry)

    @routes.delete("/v1/schemas/{schema_id}")
    async def delete(schema_id: SchemaId) -> SchemaDeleted:
        """Delete all versions of a schema. Calls that use it are refused from now on."""
        await schemas.remove(schema_id)
        return SchemaDeleted(id=schema_id, version=None)

    @routes.delete("/v1/schemas/{schema_id}/versions/{version}")
    async def delete_version(schema_id: SchemaId, version: VersionName) -> SchemaDeleted:
        """Delete one version. Its number is never used again."""
        chosen = (await schemas.show(schema_id, _number(version))).version.version
        await schemas.remove(schema_id, chosen)
        return SchemaDeleted(id=schema_id, version=chosen)


def _reading(routes: APIRouter, schemas: Schemas) -> None:
    @routes.get("/v1/schemas")
    async def schema_list(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[
            str, Query(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="The last id of the page before.")
        ] = "",
    ) -> SchemaList:
        """List the registered schemas in order of id."""
        found = await schemas.page(after, limit + 1)
        data = [SchemaSummary(**_summary(about)) for about in found[:limit]]
        return SchemaList(data=data, has_more=len(found) > limit, last_id=data[-1].id if data else None)

    @routes.get("/v1/schemas/{schema_id}")
    async def schema(schema_id: SchemaId) -> SchemaDetails:
        """Show the latest version of a schema."""
        return _details(await schemas.show(schema_id))

    @routes.get(
        "/v1/schemas/{schema_id}/versions/{version}",
        response_model=SchemaDetails,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def schema_version(
        schema_id: SchemaId,
        version: VersionName,
        language: Annotated[
            Language | None, Query(alias="as", description="Render types in this language.")
        ] = None,
    ) -> Any:
        """Show one version, or with `as` the source of a Pydantic model or TypeScript types for it."""
        number = _number(version)
        if language is None:
            return _details(await schemas.show(schema_id, number))
        source = await schemas.render(schema_id, number, language)
        return Response(source, media_type="text/plain; charset=utf-8")


def _comparing(routes: APIRouter, schemas: Schemas) -> None:
    @routes.get("/v1/schemas/{schema_id}/compatibility")
    async def compatibility(
        schema_id: SchemaId,
        before: Annotated[
            Number | None, Query(alias="from", description="Default: the one before `to`.")
        ] = None,
        after: Annotated[Number | None, Query(alias="to", description="Default: the latest.")] = None,
    ) -> CompatibilityReport:
        """Tell what breaks from one version to another."""
        about = (await schemas.show(schema_id)).about
        later = after or about.versions[-1]
        earlier = before or max((each for each in about.versions if each < later), default=later)
        found = await schemas.compare(schema_id, earlier, later)
        return CompatibilityReport(
            id=schema_id,
            from_=earlier,
            to=later,
            backward_compatible=not found.backward,
            forward_compatible=not found.forward,
            backward_breaking=_changes(found.backward),
            forward_breaking=_changes(found.forward),
        )


def _number(version: str) -> int | None:
    return None if version == "latest" else int(version)


def _draft(body: Described, schema_id: str = "") -> SchemaDraft:
    examples = None if body.examples is None else [to_raw(each, "examples") for each in body.examples]
    return SchemaDraft(
        schema=to_raw(body.schema_, "schema"),
        id=schema_id,
        name=body.name,
        description=body.description,
        examples=None if examples is None else tuple(examples),
        compatibility=None if body.compatibility is None else Compatibility(body.compatibility),
    )


def _summary(about: RegisteredSchema) -> dict[str, Any]:
    return {
        "id": about.id,
        "name": about.name,
        "description": about.description,
        "compatibility": about.compatibility.value,
        "created_at": about.created,
        "latest_version": about.latest,
        "versions": list(about.versions),
    }


def _details(entry: SchemaEntry) -> SchemaDetails:
    version = entry.version
    return SchemaDetails(
        **_summary(entry.about),
        version=version.version,
        schema_=msgspec.json.decode(version.schema),
        examples=[msgspec.json.decode(each) for each in version.examples],
        digest=version.digest,
        version_created_at=version.created,
    )


def _changes(found: Sequence[Problem]) -> list[BreakingChange]:
    return [
        BreakingChange(pointer=each.pointer, change=each.keyword, before=each.expected, after=each.found)
        for each in found
    ]
