"""Files and batches: the database and the fake keep what the ports promise."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import pytest

from llm_server.contract import (
    Batch,
    BatchStatus,
    BatchStore,
    ErrorKind,
    FileQuery,
    FileStore,
    LineProblem,
    LineResult,
    ServerError,
    StoredFile,
    UpstreamBatch,
    UpstreamNote,
    Usage,
)
from llm_server.contract.batches import PIECE_BYTES, LineOutcome
from llm_server.storage import Storage, StorageConfig
from llm_server.testing import FakeBatches, FakeFiles


class Stores(NamedTuple):
    files: FileStore
    batches: BatchStore


@pytest.fixture(params=["database", "fake"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Stores, None]:
    if request.param == "fake":
        files = FakeFiles()
        yield Stores(files, FakeBatches(files))
        return
    storage = Storage(StorageConfig(), tmp_path)
    yield Stores(await storage.files(), await storage.batches())
    await storage.close()


def file(number: int = 1, **more: Any) -> StoredFile:
    return StoredFile(**{"id": f"file-{number:03}", "name": "in.jsonl", "purpose": "batch", **more})


def batch(number: int = 1, **more: Any) -> Batch:
    about: dict[str, Any] = {
        "id": f"batch_{number:03}",
        "endpoint": "/v1/chat/completions",
        "input_file": f"file-{number:03}",
        "times": {BatchStatus.VALIDATING: 100},
        "expires": 1000,
    }
    return Batch(**{**about, **more})


def line(number: int, outcome: LineOutcome = "completed", data: bytes = b"{}") -> LineResult:
    return LineResult(number=number, outcome=outcome, data=data, usage=Usage(input_tokens=2, output_tokens=1))


async def stored(files: FileStore, about: StoredFile, content: bytes = b"x") -> StoredFile:
    await files.begin(about)
    for number, at in enumerate(range(0, len(content), PIECE_BYTES)):
        await files.append(about.id, number, content[at : at + PIECE_BYTES])
    return await files.finish(about.id)


async def content(files: FileStore, about: StoredFile) -> bytes:
    async with aclosing(files.content(about)) as pieces:
        return b"".join([piece async for piece in pieces])


async def moved(stores: Stores, about: Batch, status: BatchStatus, **changes: Any) -> Batch:
    """Let a claimed batch (by ``me``) be in ``status``."""
    times = {**about.times, status: 200}
    changed = msgspec.structs.replace(about, status=status, times=times, **changes)
    assert await stores.batches.update(changed, "me", about.status)
    return changed


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_a_file_comes_back_as_it_was(stores: Stores, size: int) -> None:
    whole = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    kept = await stored(stores.files, file(created=5, expires=99), whole)
    assert kept == file(created=5, expires=99, size=size)
    assert await stores.files.find("", "file-001") == kept
    assert await content(stores.files, kept) == whole
    assert await stores.files.piece("file-001", size // PIECE_BYTES) == whole[size - size % PIECE_BYTES :]
    assert await stores.files.used("") == size


async def test_a_file_is_not_seen_before_it_is_whole(stores: Stores) -> None:
    await stores.files.begin(file())
    await stores.files.append("file-001", 0, b"a" * PIECE_BYTES)
    assert await stores.files.find("", "file-001") is None
    assert await stores.files.page(FileQuery(limit=9, now=0)) == ()
    assert await stores.files.used("") == PIECE_BYTES
    assert (await stores.files.finish("file-001", 77)).expires == 77


async def test_a_file_that_was_swept_away_takes_nothing_more(stores: Stores) -> None:
    await stores.files.begin(file())
    assert await stores.files.remove("", "file-001")
    for late in (stores.files.append("file-001", 0, b"a"), stores.files.finish("file-001")):
        with pytest.raises(ServerError) as raised:
            await late
        assert raised.value.kind is ErrorKind.NOT_FOUND
    assert not await stores.files.remove("", "file-001")


async def test_files_are_listed_in_either_order_page_by_page(stores: Stores) -> None:
    for number in range(1, 6):
        await stored(stores.files, file(number, purpose="batch" if number % 2 else "batch_output"))
    await stored(stores.files, file(6, expires=50))

    async def ids(**query: Any) -> list[str]:
        return [
            each.id[-1] for each in await stores.files.page(FileQuery(**{"limit": 9, "now": 50, **query}))
        ]

    assert await ids() == ["5", "4", "3", "2", "1"]
    assert await ids(now=49) == ["6", "5", "4", "3", "2", "1"]
    assert await ids(limit=2, after="file-004") == ["3", "2"]
    assert await ids(limit=2, after="file-003", ascending=True) == ["4", "5"]
    assert await ids(purpose="batch_output") == ["4", "2"]
    assert await ids(tenant="b") == []


async def test_another_tenant_sees_and_touches_nothing(stores: Stores) -> None:
    await stored(stores.files, file(tenant="a"))
    await stores.batches.add(batch(tenant="a"))
    assert await stores.files.find("b", "file-001") is None
    assert not await stores.files.remove("b", "file-001")
    assert await stores.files.used("b") == 0
    assert await stores.batches.find("b", "batch_001") is None
    assert await stores.batches.page("b", None, 9) == ()
    assert await stores.batches.cancel("b", "batch_001", 5) is None
    assert (await stores.batches.find("a", "batch_001") or batch()).status is BatchStatus.VALIDATING


async def test_an_input_file_stays_while_its_batch_is_unfinished(stores: Stores) -> None:
    await stored(stores.files, file(expires=10))
    await stores.batches.add(batch())
    with pytest.raises(ServerError) as raised:
        await stores.files.remove("", "file-001")
    assert raised.value.kind is ErrorKind.CONFLICT
    assert await stores.batches.sweep(999, 0, 0) == 0
    claimed = await stores.batches.claim("me", 0, 9)
    assert claimed is not None
    await moved(stores, claimed, BatchStatus.FAILED)
    assert await stores.files.remove("", "file-001")


async def test_a_batch_comes_back_as_it_was(stores: Stores) -> None:
    note = UpstreamNote(provider="p", model="m", sent=True, batch=UpstreamBatch(id="u", completed=3))
    problems = (LineProblem(code="c", message="m", param="p", line=3), LineProblem(code="d", message="n"))
    full = batch(
        metadata={"a": "b"}, problems=problems, upstream=note, model="m", total=7, output_expires_after_s=5
    )
    await stores.batches.add(full)
    assert await stores.batches.find("", "batch_001") == full
    assert full.created == 100


async def test_batches_are_listed_newest_first_page_by_page(stores: Stores) -> None:
    for number in range(1, 6):
        await stores.batches.add(batch(number))
    assert [each.id[-1] for each in await stores.batches.page("", None, 2)] == ["5", "4"]
    assert [each.id[-1] for each in await stores.batches.page("", "batch_004", 9)] == ["3", "2", "1"]


async def test_a_claim_is_one_owners_until_its_time_is_over(stores: Stores) -> None:
    await stores.batches.add(batch(2))
    await stores.batches.add(batch(1))
    first = await stores.batches.claim("a", now=0, until=10)
    second = await stores.batches.claim("b", now=0, until=10)
    assert [each and each.id for each in (first, second)] == ["batch_001", "batch_002"]
    assert await stores.batches.claim("c", now=9.9, until=20) is None
    assert await stores.batches.renew("batch_001", "a", 30) is not None
    taken = await stores.batches.claim("c", now=10, until=20)
    assert taken is not None
    assert taken.id == "batch_002"
    assert await stores.batches.renew("batch_002", "b", 99) is None
    await stores.batches.release("batch_002", "b")
    assert await stores.batches.claim("d", now=11, until=20) is None
    await stores.batches.release("batch_002", "c")
    assert await stores.batches.claim("d", now=11, until=20) is not None


async def test_those_given_up_can_be_claimed_alone(stores: Stores) -> None:
    for number in (1, 2, 3):
        await stores.batches.add(batch(number))
    assert await stores.batches.claim("a", now=0, until=10, given_up=True) is None
    await stores.batches.cancel("", "batch_002", 5)
    found = await stores.batches.claim("a", now=0, until=10, given_up=True)
    assert found is not None
    assert (found.id, found.status) == ("batch_002", BatchStatus.CANCELLING)
    assert await stores.batches.claim("b", now=0, until=10, given_up=True) is None


async def test_a_batch_that_is_over_is_not_claimed(stores: Stores) -> None:
    await stores.batches.add(batch())
    claimed = await stores.batches.claim("me", 0, 9)
    assert claimed is not None
    await moved(stores, claimed, BatchStatus.FAILED)
    assert await stores.batches.claim("you", 10, 20) is None


async def test_nothing_is_written_without_the_claim(stores: Stores) -> None:
    await stores.batches.add(batch())
    await stores.batches.claim("me", 0, 9)
    await stores.batches.claim("you", 10, 20)
    assert await stores.batches.record("batch_001", "me", [line(1)]) is None
    assert await stores.batches.recorded("batch_001") == ()
    assert not await stores.batches.update(batch(total=9), "me", BatchStatus.VALIDATING, [file(9)])
    assert await stores.batches.find("", "batch_001") == batch()
    assert await stores.files.find("", "file-009") is None


async def test_an_update_does_not_undo_a_cancellation_or_a_count(stores: Stores) -> None:
    await stores.batches.add(batch())
    claimed = await stores.batches.claim("me", 0, 9)
    assert claimed is not None
    running = await moved(stores, claimed, BatchStatus.IN_PROGRESS, total=3)
    await stores.batches.record("batch_001", "me", [line(1)])
    assert await stores.batches.update(running, "me", BatchStatus.IN_PROGRESS)
    cancelled = await stores.batches.cancel("", "batch_001", 300)
    assert cancelled is not None
    assert (cancelled.status, cancelled.completed) == (BatchStatus.CANCELLING, 1)
    assert not await stores.batches.update(running, "me", BatchStatus.IN_PROGRESS)
    seen = await stores.batches.renew("batch_001", "me", 20)
    assert seen == cancelled
    again = await stores.batches.cancel("", "batch_001", 400)
    assert again == cancelled


async def test_a_line_is_kept_and_counted_once(stores: Stores) -> None:
    await stores.batches.add(batch())
    await stores.batches.claim("me", 0, 9)
    first = [line(2, data=b'{"a":1}'), line(1, "failed", b'{"b":1}'), line(2, data=b"other")]
    counted = await stores.batches.record("batch_001", "me", first)
    assert counted is not None
    assert (counted.completed, counted.failed, counted.usage) == (
        1,
        1,
        Usage(input_tokens=4, output_tokens=2),
    )
    counted = await stores.batches.record("batch_001", "me", [line(1), line(3, "expired", b'{"c":1}')])
    assert counted is not None
    assert (counted.completed, counted.failed) == (1, 2)
    assert sorted(await stores.batches.recorded("batch_001")) == [1, 2, 3]
    assert await stores.batches.sizes("batch_001") == (8, 16)
    assert await stores.batches.find("", "batch_001") == counted


@pytest.mark.parametrize("size", [2, 5000, PIECE_BYTES + 7])
async def test_the_files_of_a_batch_are_its_lines_in_order(stores: Stores, size: int) -> None:
    count = 2500 if size == 2 else 5
    await stores.batches.add(batch())
    await stores.batches.claim("me", 0, 9)
    results = [
        line(n, "completed" if n % 5 else "failed", b"%0*d" % (size, n % 100)) for n in range(1, count + 1)
    ]
    for at in range(0, count, 500):
        await stores.batches.record("batch_001", "me", results[at : at + 500][::-1])
    outputs = [file(8, batch_id="batch_001"), file(9, batch_id="batch_001", failed=True)]
    done = batch(status=BatchStatus.FAILED)
    assert await stores.batches.update(done, "me", BatchStatus.VALIDATING, outputs)
    for about in outputs:
        wanted = [each.data for each in results if (each.outcome == "failed") == about.failed]
        assert await content(stores.files, about) == b"".join(each + b"\n" for each in wanted)
    assert await stores.files.remove("", "file-008")
    assert await content(stores.files, outputs[0]) == b""
    assert len(await stores.batches.recorded("batch_001")) == sum(
        each.outcome == "failed" for each in results
    )


async def test_what_is_over_is_swept(stores: Stores) -> None:
    for number, about in enumerate(
        (file(1, expires=50), file(2, expires=51), file(3), file(4, created=9)), 1
    ):
        await stores.files.begin(about)
        await stores.files.append(about.id, 0, b"abc")
        if number != 4:
            await stores.files.finish(about.id)
    await stores.batches.add(batch(7, input_file="file-003"))
    claimed = await stores.batches.claim("me", 0, 9)
    assert claimed is not None
    await stores.batches.record("batch_007", "me", [line(1)])
    made = [file(8, batch_id="batch_007", size=3)]
    times = {**claimed.times, BatchStatus.FAILED: 30}
    over = msgspec.structs.replace(claimed, status=BatchStatus.FAILED, times=times, output_file="file-008")
    assert await stores.batches.update(over, "me", BatchStatus.VALIDATING, made)
    assert await stores.batches.sweep(50, 30, 9) == 1
    assert [each.id for each in await stores.files.page(FileQuery(limit=9, now=0))] == [
        "file-008", "file-003", "file-002",
    ]  # fmt: skip
    assert await stores.batches.sweep(50, 31, 10) == 2
    assert [each.id for each in await stores.files.page(FileQuery(limit=9, now=0))] == [
        "file-003",
        "file-002",
    ]
    assert await stores.batches.find("", "batch_007") is None
    assert await stores.files.used("") == 6


async def test_of_many_that_claim_at_once_each_batch_goes_to_one(tmp_path: Path) -> None:
    storages = [Storage(StorageConfig(), tmp_path) for _ in range(4)]
    first = await storages[0].batches()
    for number in range(1, 31):
        await first.add(batch(number))

    async def claims(storage: Storage, owner: str) -> list[str]:
        mine, store = [], await storage.batches()
        while (found := await store.claim(owner, 0, 100)) is not None:
            mine.append(found.id)
        return mine

    found = await asyncio.gather(*(claims(each, f"o{at}") for at, each in enumerate(storages)))
    for each in storages:
        await each.close()
    assert sorted(each for mine in found for each in mine) == [
        f"batch_{number:03}" for number in range(1, 31)
    ]


Kind = Literal["files", "batches"]


@pytest.mark.parametrize("kind", ["files", "batches"])
async def test_a_look_says_whether_anything_is_kept_without_opening(tmp_path: Path, kind: Kind) -> None:
    storage = Storage(StorageConfig(), tmp_path)
    assert not storage.exists()
    await (storage.files() if kind == "files" else storage.batches())
    assert storage.exists()
    await storage.close()
    assert Storage(StorageConfig(), tmp_path).exists()
    assert not Storage(StorageConfig(url=f"sqlite:///{tmp_path}/other.db"), tmp_path).exists()
