"""Take, list, give and delete files."""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence

import msgspec

from llm_server.batching.offline.config import BatchesConfig
from llm_server.batching.offline.names import made_at_s, new_id
from llm_server.batching.offline.working import DAY_S
from llm_server.contract import ErrorKind, FileQuery, FileStore, ServerError, StoredFile
from llm_server.contract.batches import PIECE_BYTES

PURPOSE = "batch"
"""What files may be uploaded for."""
MAX_NAME = 255
LONGEST_S = 30 * DAY_S
"""How long a caller may have a file kept, whatever the retention is."""


class Files:
    """What callers do with files.

    Args:
        store: opens where they are kept.
        config: the limits.
        clock: Unix seconds.
    """

    def __init__(
        self,
        store: Callable[[], Awaitable[FileStore]],
        config: BatchesConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock

    @property
    def max_bytes(self) -> int:
        """The largest file that is taken."""
        return self._config.max_file_bytes

    async def begin(self, tenant: str, name: str) -> "Upload":
        """Begin a file that is called ``name``; raises ``TOO_LARGE`` when the quota is used up."""
        now = int(self._clock())
        file = StoredFile(
            id=new_id("file-"),
            tenant=tenant,
            name=plain(name),
            purpose=PURPOSE,
            created=now,
            expires=now + self._config.retention_days * DAY_S,
        )
        upload = Upload(await self._store(), file, self._config)
        await upload.begin()
        return upload

    async def show(self, tenant: str, file_id: str) -> StoredFile:
        """Return a file; ``NOT_FOUND`` if there is none, or no longer."""
        found = await (await self._store()).find(tenant, file_id)
        if found is None or (found.expires is not None and found.expires <= self._clock()):
            raise unknown(file_id)
        return found

    async def page(self, query: FileQuery) -> Sequence[StoredFile]:
        """Return files; ``query.now`` is set here.

        Raises:
            ServerError: ``NOT_FOUND`` when ``query.after`` is no file. One that was deleted or expired since
                it was listed keeps its place, so that whoever deletes what is listed comes to the end.
        """
        if query.after is not None and not self._may_be_gone(query.after):
            store = await self._store()
            if await store.find(query.tenant, query.after) is None:
                raise unknown(query.after, "after")
        return await (await self._store()).page(msgspec.structs.replace(query, now=int(self._clock())))

    def _may_be_gone(self, file_id: str) -> bool:
        made_s, now_s = made_at_s("file-", file_id), self._clock()
        longest_s = max(self._config.retention_days * DAY_S, LONGEST_S)
        # Another server, whose clock is not this one's, may have made it.
        return made_s is not None and now_s - longest_s <= made_s <= now_s + DAY_S

    async def content(self, tenant: str, file_id: str) -> tuple[StoredFile, AsyncGenerator[bytes, None]]:
        """Return a file and what is in it; ``NOT_FOUND`` as :meth:`show`."""
        file = await self.show(tenant, file_id)
        return file, (await self._store()).content(file)

    async def remove(self, tenant: str, file_id: str) -> None:
        """Delete a file; ``NOT_FOUND``, or ``CONFLICT`` while an unfinished batch reads it."""
        if not await (await self._store()).remove(tenant, file_id):
            raise unknown(file_id)


class Upload:
    """A file that is coming in. Whoever began it calls :meth:`finish` or :meth:`abandon`."""

    def __init__(self, store: FileStore, file: StoredFile, config: BatchesConfig) -> None:
        self._store = store
        self._file = file
        self._config = config
        self._held = bytearray()
        self._size = 0
        self._pieces = 0

    async def begin(self) -> None:
        """Write down that it begins."""
        await self._check()
        await self._store.begin(self._file)

    async def take(self, content: AsyncIterable[bytes]) -> None:
        """Take all of ``content``; see :meth:`write`."""
        async for data in content:
            await self.write(data)

    async def write(self, data: bytes) -> None:
        """Take more of it; ``TOO_LARGE`` above the limit of a file or of all files."""
        self._size += len(data)
        if self._size > self._config.max_file_bytes:
            message = f"The file is larger than the limit of {self._config.max_file_bytes} bytes."
            raise ServerError(ErrorKind.TOO_LARGE, message, param="file")
        self._held += data
        while len(self._held) >= PIECE_BYTES:
            await self._piece(PIECE_BYTES)

    async def finish(self, lasting_s: int | None = None) -> StoredFile:
        """Let the file be seen, to expire ``lasting_s`` seconds after it began, by default as configured."""
        if self._held:
            await self._piece(len(self._held))
        expires = None if lasting_s is None else self._file.created + lasting_s
        return await self._store.finish(self._file.id, expires)

    async def abandon(self) -> None:
        """Forget it."""
        await self._store.remove(self._file.tenant, self._file.id)

    async def _piece(self, size: int) -> None:
        await self._check()
        await self._store.append(self._file.id, self._pieces, bytes(self._held[:size]))
        self._pieces += 1
        del self._held[:size]

    async def _check(self) -> None:
        if await self._store.used(self._file.tenant) >= self._config.quota_bytes:
            message = "The space for files is used up; delete some first."
            raise ServerError(ErrorKind.TOO_LARGE, message, param="file")


def plain(name: str) -> str:
    """Return a file's name to show: its last part, printable and bounded. It is never a path here."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(letter if letter.isprintable() else "_" for letter in last)[:MAX_NAME]
    return shown.encode("utf-8", "replace").decode() or "upload"


def unknown(file_id: str, param: str = "file_id") -> ServerError:
    """Return the refusal of a file that is not there, or is another's."""
    return ServerError(ErrorKind.NOT_FOUND, f"There is no file '{file_id[:64]}'.", param=param)
