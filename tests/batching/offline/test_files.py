"""Files as callers use them: their limits, names, ends and owners."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.batching.offline import BatchesConfig, Files
from llm_server.batching.offline.batches import seconds
from llm_server.batching.offline.files import MAX_NAME, plain
from llm_server.batching.offline.names import new_id
from llm_server.contract import BatchOrder, ErrorKind, FileQuery, ServerError
from llm_server.contract.batches import PIECE_BYTES
from llm_server.testing import FakeFiles, FakeProvider
from tests.batching.offline.world import CHAT, World, asked


class Kept:
    """Files over a fake store, at a time that can be changed."""

    def __init__(self, **config: Any) -> None:
        self.store = FakeFiles()
        self.now = 1000.0
        self.files = Files(self.store.opened, BatchesConfig(**config), lambda: self.now)

    async def put(self, *pieces: bytes, tenant: str = "", lasting_s: int | None = None) -> Any:
        upload = await self.files.begin(tenant, "x.jsonl")
        for piece in pieces:
            await upload.write(piece)
        return await upload.finish(lasting_s)


async def refused(kind: ErrorKind, asking: Any) -> ServerError:
    with pytest.raises(ServerError) as raised:
        await asking
    assert raised.value.kind is kind
    return raised.value


@given(pieces=st.lists(st.sampled_from([0, 1, 100_000, PIECE_BYTES - 1, PIECE_BYTES, 2_500_000]), max_size=5))
async def test_whatever_pieces_it_comes_in_a_file_is_kept_in_pieces_of_one_size(pieces: list[int]) -> None:
    kept = Kept()
    data = [bytes([at]) * size for at, size in enumerate(pieces)]
    file = await kept.put(*data)
    stored = kept.store._pieces[file.id]
    assert b"".join(stored) == b"".join(data)
    assert all(len(piece) == PIECE_BYTES for piece in stored[:-1])
    assert file.size == sum(pieces)


async def test_a_place_in_the_list_is_a_file_or_was_one_lately() -> None:
    kept = Kept(retention_days=2)
    first, second = await kept.put(b"1"), await kept.put(b"2")
    kept.now = time.time()

    async def after(file_id: str, tenant: str = "") -> list[str]:
        query = FileQuery(tenant=tenant, purpose=None, after=file_id, limit=9, ascending=True, now=0)
        return [each.id for each in await kept.files.page(query)]

    digits = first.id.removeprefix("file-")
    nonsense = [
        "x",
        "file-",
        digits,
        f"batch_{digits}",
        f"file-{digits}0",
        f"file-{digits[:-1]}g",
        first.id.upper(),
    ]
    strangers = [f"file-{'0' * 32}", f"file-{'f' * 32}", f"file-{'0' * 12}{digits[12:]}"]
    for each in nonsense + strangers:
        error = await refused(ErrorKind.NOT_FOUND, after(each))
        assert error.param == "after"
    await kept.files.remove("", first.id)
    kept.store._files.clear()
    kept.now += 29 * 86_400
    assert await after(first.id) == []
    kept.now += 2 * 86_400
    await refused(ErrorKind.NOT_FOUND, after(second.id))


async def test_whoever_deletes_what_is_listed_comes_to_the_end() -> None:
    kept = Kept()
    kept.now = time.time()
    for at in range(5):
        await kept.put(b"%d" % at)
    gone, after = 0, None
    while True:
        query = FileQuery(tenant="", purpose=None, after=after, limit=2, ascending=False, now=0)
        page = await kept.files.page(query)
        if not page:
            break
        for each in page:
            await kept.files.remove("", each.id)
            gone, after = gone + 1, each.id
    assert gone == 5


async def test_a_file_has_a_largest_size() -> None:
    kept = Kept(max_file_bytes=5000)
    assert (await kept.put(b"x" * 2500, b"x" * 2500)).size == 5000
    upload = await kept.files.begin("", "x")
    await upload.write(b"x" * 4000)
    error = await refused(ErrorKind.TOO_LARGE, upload.write(b"x" * 1001))
    assert error.param == "file"
    await upload.abandon()
    assert await kept.store.used("") == 5000


async def test_all_files_of_a_tenant_have_a_largest_size() -> None:
    kept = Kept(quota_bytes=3 * PIECE_BYTES)
    await kept.put(b"x" * 2 * PIECE_BYTES, tenant="a")
    upload = await kept.files.begin("a", "x")
    await upload.write(b"x" * PIECE_BYTES)
    await refused(ErrorKind.TOO_LARGE, upload.write(b"x" * PIECE_BYTES))
    await upload.abandon()
    await kept.put(b"x" * PIECE_BYTES, tenant="a")
    await refused(ErrorKind.TOO_LARGE, kept.files.begin("a", "x"))
    await kept.put(b"x", tenant="b")


async def test_a_file_ends_after_the_configured_days_or_when_it_is_told_to() -> None:
    kept = Kept(retention_days=2)
    usual, short = await kept.put(b"a"), await kept.put(b"b", lasting_s=3600)
    assert (usual.expires, short.expires) == (1000 + 2 * 86_400, 4600)
    kept.now = 4599.9
    assert await kept.files.show("", short.id) == short
    kept.now = 4600
    await refused(ErrorKind.NOT_FOUND, kept.files.show("", short.id))
    await refused(ErrorKind.NOT_FOUND, kept.files.content("", short.id))
    assert [each.id for each in await kept.files.page(FileQuery(limit=9, now=0))] == [usual.id]


async def test_another_tenants_file_is_not_there() -> None:
    kept = Kept()
    file = await kept.put(b"a", tenant="a")
    told = {
        (await refused(ErrorKind.NOT_FOUND, asking)).message
        for asking in (
            kept.files.show("b", file.id),
            kept.files.content("b", file.id),
            kept.files.remove("b", file.id),
        )
    }
    assert told == {f"There is no file '{file.id}'."}
    await kept.files.remove("a", file.id)
    await refused(ErrorKind.NOT_FOUND, kept.files.remove("a", file.id))


@given(st.text(max_size=400))
def test_a_name_is_printable_bounded_and_no_path(name: str) -> None:
    shown = plain(name)
    assert 0 < len(shown) <= MAX_NAME
    assert shown.isprintable()
    assert not {"/", "\\"} & set(shown)
    shown.encode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.jsonl", "a.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.txt", "y.txt"),
        ("a/", "upload"),
        ("", "upload"),
        ("a\0b\nc", "a_b_c"),
        ("\u00e4 \u2603", "\u00e4 \u2603"),
        ("\ud800", "_"),
    ],
)
def test_names_as_they_are_shown(name: str, shown: str) -> None:
    assert plain(name) == shown


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_id("file-") for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert [each[:17] for each in ids] == sorted(each[:17] for each in ids)
    assert {len(each) for each in ids} == {5 + 32}


@pytest.mark.parametrize(
    ("window", "length_s"),
    [("24h", 86_400), ("1h", 3600), ("7d", 604_800), ("168h", 604_800), ("1d", 86_400)],
)
def test_windows_are_hours_or_days(window: str, length_s: int) -> None:
    assert seconds(window) == length_s


@pytest.mark.parametrize(
    "window", ["", "24", "h", "0h", "-1h", "169h", "8d", "1w", "24H", "1.5h", "9999h", " 24h", "\u0661h"]
)
def test_other_windows_are_refused(window: str) -> None:
    with pytest.raises(ServerError) as raised:
        seconds(window)
    assert (raised.value.kind, raised.value.param) == (ErrorKind.INVALID_REQUEST, "completion_window")


async def test_a_batch_is_of_a_tenants_own_file_only() -> None:
    world = World(FakeProvider())
    file_id = await world.upload(asked("a"))
    order = BatchOrder(endpoint=CHAT, input_file=file_id)
    error = await refused(ErrorKind.NOT_FOUND, world.batches.create("other", order))
    assert error.param == "input_file_id"
    batch = await world.batches.create("", order)
    for asking in (world.batches.show("other", batch.id), world.batches.cancel("other", batch.id)):
        await refused(ErrorKind.NOT_FOUND, asking)
    assert await world.batches.page("other", None, 9) == ()


@pytest.mark.parametrize("first", [b"{\n", b"\n", b'{"custom_id": "a"}\n', b""])
async def test_a_provider_cannot_be_found_from_a_first_line_that_is_none(first: bytes) -> None:
    world = World(FakeProvider(), {"fake": None})  # type: ignore[dict-item]  # it is never asked
    error = await refused(ErrorKind.INVALID_REQUEST, world.order(first, provider_batch=True))
    assert error.param == "input_file_id"


async def test_a_provider_cannot_be_found_from_a_first_line_without_end() -> None:
    world = World(FakeProvider(), {"fake": None})  # type: ignore[dict-item]  # it is never asked
    line = asked("a", "x" * PIECE_BYTES)
    error = await refused(ErrorKind.UNSUPPORTED, world.order(line, provider_batch=True))
    assert error.param == "provider_batch"


async def test_an_alias_takes_its_first_target_with_a_batch_api() -> None:
    world = World(FakeProvider(), {"fake": None})  # type: ignore[dict-item]  # it is never asked
    batch = await world.show(await world.order(asked("a", model="alias"), provider_batch=True))
    assert batch.upstream is not None
    assert (batch.upstream.provider, batch.upstream.model) == ("fake", "b")
