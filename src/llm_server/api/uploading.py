"""Store a file while it is being uploaded, from the form that OpenAI's clients send."""

from collections.abc import AsyncGenerator
from typing import Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect

from llm_server.api.body import headers_of
from llm_server.contract import ErrorKind, ServerError, StoredFile
from llm_server.wire.multipart import MAX_HEADER_BYTES, MAX_PARTS, Multipart, Part, boundary_of

MAX_FIELD_BYTES = 1024
SHORTEST_S, LONGEST_S = 3600, 2_592_000
"""How long a caller may have a file kept (openai-python 3.54, ``file_create_params.py``)."""


class Upload(Protocol):
    """A file that is coming in. Implemented in batching/; all raise ``ServerError``."""

    async def write(self, data: bytes) -> None:
        """Take more of it."""
        ...

    async def finish(self, lasting_s: int | None = None) -> StoredFile:
        """Let it be seen."""
        ...

    async def abandon(self) -> None:
        """Forget it."""
        ...


class Uploads(Protocol):
    """Where uploads go."""

    @property
    def max_bytes(self) -> int:
        """The largest file that is taken."""
        ...

    async def begin(self, tenant: str, name: str) -> Upload:
        """Begin a file that the caller calls ``name``."""
        ...


async def uploaded(request: Request, uploads: Uploads, tenant: str) -> StoredFile:
    """Return the file that ``request`` brings; whatever goes wrong leaves nothing behind.

    Raises:
        ServerError: ``INVALID_REQUEST`` naming the field, ``TOO_LARGE``, ``CLIENT_CLOSED``.
    """
    headers = headers_of(request.scope["headers"])
    form = Multipart(boundary_of(headers.get("content-type", "")))
    announced = headers.get("content-length", "")
    around = MAX_PARTS * (MAX_HEADER_BYTES + MAX_FIELD_BYTES)
    if announced.isdigit() and int(announced) > uploads.max_bytes + around:
        message = f"The file is larger than the limit of {uploads.max_bytes} bytes."
        raise ServerError(ErrorKind.TOO_LARGE, message, param="file")
    fields = _Fields(uploads, tenant)
    try:
        async for data in _body(request):
            for found in form.feed(data):
                await fields.take(found)
        form.end()
        return await fields.finish()
    except BaseException:
        await fields.abandon()
        raise


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    try:
        async for data in request.stream():
            yield data
    except ClientDisconnect:
        raise ServerError(ErrorKind.CLIENT_CLOSED, "The client left while sending.") from None


class _Fields:
    """What the form has told so far."""

    def __init__(self, uploads: Uploads, tenant: str) -> None:
        self._uploads = uploads
        self._tenant = tenant
        self._upload: Upload | None = None
        self._fields: dict[str, bytes] = {}
        self._current = ""

    async def take(self, found: Part | bytes) -> None:
        """Take the beginning of a part, or more of its content."""
        if isinstance(found, Part):
            await self._begin(found)
        elif self._current == "file" and self._upload is not None:
            await self._upload.write(found)
        else:
            value = self._fields[self._current] + found
            if len(value) > MAX_FIELD_BYTES:
                raise _wrong(self._current[:64], f"expected at most {MAX_FIELD_BYTES} bytes")
            self._fields[self._current] = value

    async def finish(self) -> StoredFile:
        """Return the file, with what the other fields say of it."""
        purpose = self._text("purpose")
        if purpose != "batch":
            raise _wrong("purpose", f"expected 'batch', got '{purpose[:64]}'")
        if self._upload is None:
            raise _wrong("file", "missing")
        return await self._upload.finish(self._lasting_s())

    async def abandon(self) -> None:
        """Forget what was stored."""
        if self._upload is not None:
            await self._upload.abandon()

    async def _begin(self, part: Part) -> None:
        if part.name in self._fields or (part.name == "file" and self._upload is not None):
            raise _wrong(part.name[:64], "given twice")
        self._current = part.name
        if part.name == "file":
            self._upload = await self._uploads.begin(self._tenant, part.filename or "upload")
        else:
            self._fields[part.name] = b""

    def _lasting_s(self) -> int | None:
        """Return for how many seconds the file is to be kept, if that is said."""
        seconds, anchor = self._text("expires_after[seconds]"), self._text("expires_after[anchor]")
        if not seconds and not anchor:
            return None
        if anchor != "created_at":
            raise _wrong("expires_after.anchor", "expected 'created_at'")
        digits = seconds.isascii() and seconds.isdigit() and len(seconds) < 10
        if not digits or not SHORTEST_S <= int(seconds) <= LONGEST_S:
            raise _wrong("expires_after.seconds", f"expected {SHORTEST_S} to {LONGEST_S}")
        return int(seconds)

    def _text(self, name: str) -> str:
        return self._fields.get(name, b"").decode("utf-8", "replace")


def _wrong(param: str, words: str) -> ServerError:
    return ServerError(ErrorKind.INVALID_REQUEST, f"{param}: {words}.", param=param)
