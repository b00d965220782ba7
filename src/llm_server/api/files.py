"""Files: upload, list, show, download and delete."""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from llm_server.api.identity import tenant_of
from llm_server.api.schemas.batches import FileDeleted, FileList, FileObject
from llm_server.api.schemas.errors import OpenAIError
from llm_server.api.uploading import Upload, uploaded
from llm_server.contract import FileQuery, StoredFile

FileId = Annotated[str, Path(max_length=128, description="The file's id.")]
After = Annotated[str | None, Query(max_length=128, description="The last id of the page before.")]
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                    },
                }
            }
        },
    }
}
_REFUSALS = {
    400: "A field or parameter is not right.",
    404: "There is no such file.",
    409: "An unfinished batch still reads the file.",
    413: "The file is too large, or the space for files is used up.",
    503: "The database cannot be used now.",
}


class Files(Protocol):
    """What the routes need of files. Implemented in batching/; all raise ``ServerError``."""

    @property
    def max_bytes(self) -> int:
        """The largest file that is taken."""
        ...

    async def begin(self, tenant: str, name: str) -> Upload:
        """Begin a file that is called ``name``."""
        ...

    async def show(self, tenant: str, file_id: str) -> StoredFile:
        """Return a file."""
        ...

    async def page(self, query: FileQuery) -> Sequence[StoredFile]:
        """Return files; ``query.now`` is set there. ``NOT_FOUND`` when ``query.after`` is none."""
        ...

    async def content(self, tenant: str, file_id: str) -> tuple[StoredFile, AsyncGenerator[bytes, None]]:
        """Return a file and what is in it."""
        ...

    async def remove(self, tenant: str, file_id: str) -> None:
        """Delete a file."""
        ...


def refusals(words: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return documentation of error answers."""
    return {status: {"model": OpenAIError, "description": told} for status, told in words.items()}


def router(files: Files) -> APIRouter:
    """Return the routes below ``/v1/files``."""
    routes = APIRouter(tags=["files"], responses=refusals(_REFUSALS))
    _writing(routes, files)
    _reading(routes, files)
    return routes


def _writing(routes: APIRouter, files: Files) -> None:
    @routes.post("/v1/files", openapi_extra=FORM)
    async def upload(request: Request) -> FileObject:
        """Upload a file of requests, one in a line, for a batch (OpenAI dialect)."""
        return _shown(await uploaded(request, files, tenant_of(request)))

    @routes.delete("/v1/files/{file_id}")
    async def delete_file(request: Request, file_id: FileId) -> FileDeleted:
        """Delete a file."""
        await files.remove(tenant_of(request), file_id)
        return FileDeleted(id=file_id)


def _reading(routes: APIRouter, files: Files) -> None:
    @routes.get("/v1/files")
    async def file_list(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        after: After = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: Annotated[str | None, Query(max_length=64)] = None,
    ) -> FileList:
        """List files, newest first."""
        query = FileQuery(
            tenant=tenant_of(request),
            purpose=purpose,
            after=after or None,
            limit=limit + 1,
            ascending=order == "asc",
            now=0,
        )
        found = await files.page(query)
        data = [_shown(file) for file in found[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)

    @routes.get("/v1/files/{file_id}")
    async def file(request: Request, file_id: FileId) -> FileObject:
        """Show a file."""
        return _shown(await files.show(tenant_of(request), file_id))

    @routes.get(
        "/v1/files/{file_id}/content",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    async def content(request: Request, file_id: FileId) -> Response:
        """Download a file."""
        file, pieces = await files.content(tenant_of(request), file_id)
        headers = {
            "content-length": str(file.size),
            "content-disposition": f'attachment; filename="{file.id}.jsonl"',
            # Whatever a caller put into it, a browser must not run it.
            "x-content-type-options": "nosniff",
        }
        return StreamingResponse(pieces, headers=headers, media_type="application/octet-stream")


def _shown(file: StoredFile) -> FileObject:
    return FileObject.model_validate(
        {
            "id": file.id,
            "bytes": file.size,
            "created_at": file.created,
            "expires_at": file.expires,
            "filename": file.name,
            "purpose": file.purpose,
        }
    )
