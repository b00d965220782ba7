"""Files and batches through the whole server, asked by OpenAI's SDK."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import openai
import pytest
from yarl import URL

from tests.end_to_end.batching import CHAT, ended, jsonl, lines_of, request, upload
from tests.end_to_end.front import Front, fronting, provider
from tests.end_to_end.sdks import openai_sdk
from tests.upstreams.cases import load, refusal
from tests.upstreams.script import Hold, Script
from tests.upstreams.server import upstream
from tests.upstreams.upstream import Answer, Request, Upstream

QUIET: dict[str, Any] = {"telemetry": {"request_log": False}}


class Served(NamedTuple):
    """A server with one upstream ``up``, and clients of it."""

    front: Front
    client: openai.AsyncOpenAI
    up: Upstream


def answer(asked: Request) -> Answer:
    """The upstream: text for all, but for what says that it is to fail."""
    said = asked.json()["messages"][-1]["content"]
    if said == "refuse":
        return refusal("openai", "context_length")
    return load("openai", "text")


async def serve(stack: AsyncExitStack, tmp_path: Path, responder: Any = answer, **batches: Any) -> Served:
    up = await stack.enter_async_context(upstream(responder))
    storage = {"url": f"sqlite:///{tmp_path}/x.db"}
    front = await stack.enter_async_context(
        fronting({"up": provider(up, "openai")}, storage=storage, batches=batches, **QUIET)
    )
    return Served(front, await stack.enter_async_context(openai_sdk(front.url)), up)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncGenerator[Served, None]:
    async with AsyncExitStack() as stack:
        yield await serve(stack, tmp_path, max_file_bytes=3_000_000, max_line_bytes=4096)


async def test_the_life_of_a_batch(served: Served) -> None:
    client = served.client
    lines = [request(f"r{at}", "refuse" if at == 3 else "Hello") for at in range(20)]
    file = await client.files.create(file=("my input.jsonl", jsonl(*lines)), purpose="batch")
    assert (file.filename, file.purpose, file.status) == ("my input.jsonl", "batch", "processed")
    assert file.bytes == len(jsonl(*lines))
    assert (await client.files.content(file.id)).content == jsonl(*lines)
    made = await client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"job": "nightly"}
    )
    assert made.expires_at == made.created_at + 86_400
    batch = await ended(client, made.id)
    assert (batch.status, batch.metadata, batch.model) == ("completed", {"job": "nightly"}, "up/m")
    counts = batch.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (20, 19, 1)
    assert batch.usage is not None
    assert batch.usage.total_tokens == 19 * 29
    assert batch.in_progress_at
    assert batch.completed_at
    assert batch.finalizing_at
    answers = await lines_of(client, batch.output_file_id)
    assert [each["custom_id"] for each in answers] == [f"r{at}" for at in range(20) if at != 3]
    bodies = {json.dumps(each["response"]["body"]) for each in answers}
    assert [json.loads(body) for body in bodies] == [json.loads(load("openai", "text").body)]
    (error,) = await lines_of(client, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("r3", 400)
    assert error["response"]["body"]["error"]["code"] == "context_length_exceeded"
    files = [each async for each in client.files.list()]
    assert {each.id for each in files} == {file.id, batch.output_file_id, batch.error_file_id}
    assert {each.purpose for each in files} == {"batch", "batch_output"}
    for each in files:
        assert (await client.files.retrieve(each.id)) == each
        assert (await client.files.delete(each.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.content(file.id)
    assert [each.id async for each in client.batches.list()] == [made.id]
    assert await served.front.metric("llm_server_batch_lines_total", outcome="completed") == 19
    assert await served.front.metric("llm_server_batch_lines_total", outcome="failed") == 1
    assert await served.front.metric("llm_server_batches_total", status="completed") == 1
    assert await served.front.metric("llm_server_batches_running") == 0


async def test_a_large_file_goes_through_in_pieces(served: Served) -> None:
    data = jsonl(*(request(f"r{at}", "x" * 3000) for at in range(900)))
    assert 2_500_000 < len(data) < 3_000_000
    file = await served.client.files.create(file=io.BytesIO(data), purpose="batch")
    assert file.bytes == len(data)
    assert (await served.client.files.content(file.id)).content == data


async def test_a_batch_in_progress_is_cancelled(tmp_path: Path) -> None:
    hold = Hold()

    def slow(asked: Request) -> Answer:
        said = asked.json()["messages"][-1]["content"]
        return Script((hold,)) if said == "wait" else load("openai", "text")

    async with AsyncExitStack() as stack:
        served = await serve(stack, tmp_path, slow, concurrency=2)
        client = served.client
        lines = [request("a", "go"), *(request(f"w{at}", "wait") for at in range(9))]
        file_id = await upload(client, *lines)
        made = await client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
        await hold.reached.wait()
        with pytest.raises(openai.ConflictError, match=made.id):
            await client.files.delete(file_id)
        await client.batches.cancel(made.id)
        batch = await ended(client, made.id)
        assert batch.status == "cancelled"
        assert batch.cancelling_at
        assert batch.cancelled_at
        assert [each["custom_id"] for each in await lines_of(client, batch.output_file_id)] == ["a"]
        await served.up.until(lambda: served.up.in_flight == 0)
        with pytest.raises(openai.ConflictError, match="cancelled"):
            await client.batches.cancel(made.id)


async def test_a_file_of_garbage_fails_with_its_lines_named(served: Served) -> None:
    file = await served.client.files.create(
        file=("a.zip", b"PK\x03\x04" + bytes(range(256)) * 40), purpose="batch"
    )
    made = await served.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    batch = await ended(served.client, made.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == "invalid_json_line"
    assert batch.errors.data[0].line == 1


async def test_lists_are_paged(served: Served) -> None:
    client = served.client
    files = [await upload(client, request("a", "b")) for _ in range(5)]
    batches = []
    for each in files:
        made = await client.batches.create(input_file_id=each, endpoint=CHAT, completion_window="24h")
        await ended(client, made.id)
        batches.append(made.id)
    assert [each.id async for each in client.batches.list(limit=2)] == batches[::-1]
    assert [each.id async for each in client.files.list(limit=2, order="asc", purpose="batch")] == files
    page = await client.batches.list(limit=2, after=batches[3])
    assert ([each.id for each in page.data], page.has_more) == ([batches[2], batches[1]], True)
    for nonsense in ("x", batches[0] + "0", files[0], "batch_" + "f" * 32):
        with pytest.raises(openai.NotFoundError, match="There is no batch"):
            await client.batches.list(after=nonsense)
        with pytest.raises(openai.NotFoundError, match="There is no file"):
            await client.files.list(after="file-" + nonsense)


async def test_batches_survive_the_server(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        served = await serve(stack, tmp_path)
        file_id = await upload(served.client, *(request(f"r{at}", "Hello") for at in range(300)))
        made = await served.client.batches.create(
            input_file_id=file_id, endpoint=CHAT, completion_window="24h"
        )
        await served.up.until(lambda: len(served.up.requests) > 20)
        first = served.up
    assert len(first.requests) < 300
    async with AsyncExitStack() as stack:
        served = await serve(stack, tmp_path)
        batch = await ended(served.client, made.id)
        answers = await lines_of(served.client, batch.output_file_id)
        assert [each["custom_id"] for each in answers] == [f"r{at}" for at in range(300)]
        assert len(first.requests) + len(served.up.requests) <= 300 + 32


@pytest.mark.parametrize(
    ("order", "param"),
    [
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "25"}, "completion_window"),
        ({"completion_window": "8d"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {f"k{at}": "" for at in range(17)}}, "metadata"),
        ({"metadata": {"k": 5}}, "metadata"),
        ({"metadata": {"k\ud800": "v"}}, ""),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after"),
        ({"input_file_id": 5}, "input_file_id"),
        ({"tenant": "other"}, "tenant"),
        ({"status": "completed"}, "status"),
        ({"provider_batch": "yes"}, "provider_batch"),
    ],
)
async def test_a_wrong_order_names_its_field(served: Served, order: dict[str, Any], param: str) -> None:
    file_id = await upload(served.client, request("a", "b"))
    good = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    async with served.front.http.post("/v1/batches", json={**good, **order}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["type"]) == (400, "invalid_request_error")
    assert (error["param"] or "").startswith(param)
    assert [each async for each in served.client.batches.list()] == []


async def test_a_batch_of_no_file_or_of_an_output_is_refused(served: Served) -> None:
    client = served.client
    with pytest.raises(openai.NotFoundError) as raised:
        await client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h")
    assert raised.value.param == "input_file_id"
    made = await client.batches.create(
        input_file_id=await upload(client, request("a", "b")), endpoint=CHAT, completion_window="24h"
    )
    output = (await ended(client, made.id)).output_file_id
    assert output is not None
    with pytest.raises(openai.BadRequestError, match="batch_output"):
        await client.batches.create(input_file_id=output, endpoint=CHAT, completion_window="24h")


FORM = {"content-type": "multipart/form-data; boundary=b"}


def form(*fields: tuple[str, str], file: bytes | None = b"{}\n", filename: str = "a.jsonl") -> bytes:
    """An upload as somebody may write it."""
    parts = [(f'name="{name}"', value.encode()) for name, value in fields]
    if file is not None:
        parts.append((f'name="file"; filename="{filename}"', file))
    each = (
        b"--b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), body)
        for head, body in parts
    )
    return b"".join(each) + b"--b--\r\n"


async def posted(served: Served, data: bytes, path: str = "/v1/files") -> Any:
    """Upload a form; return the file."""
    async with served.front.http.post(path, data=io.BytesIO(data), headers=FORM) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(each.name for each in folder.iterdir())


NAMES = (
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "/etc/passwd",
    "C:\\x.jsonl",
    "a\r\nX-Evil: 1",
    "nul\0byte",
    "%2e%2e%2f",
    "x" * 5000,
    '"; name="purpose',
    "\u202egnp.exe",
    "",
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_files_name_is_only_ever_shown(served: Served, tmp_path: Path, name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    file = await posted(served, form(("purpose", "batch"), filename=escaped))
    assert 0 < len(file["filename"]) <= 255
    assert file["filename"].isprintable()
    assert not set("/\\") & set(file["filename"])
    async with served.front.http.get(f"/v1/files/{file['id']}/content") as response:
        assert await response.read() == b"{}\n"
        assert response.headers["content-disposition"] == f'attachment; filename="{file["id"]}.jsonl"'
        assert response.headers["x-content-type-options"] == "nosniff"
    assert set(names(tmp_path)) <= {"x.db", "x.db-shm", "x.db-wal"}


@pytest.mark.parametrize(
    "path", ["..", "%2e%2e%2fx", "%00", "a%0ab", "x'%20OR%201=1--", "%25", "%ff", "a" * 3000, "batch_%F0%9F"]
)
@pytest.mark.parametrize("place", ["files/{}", "files/{}/content", "batches/{}"])
async def test_hostile_ids_are_not_found(served: Served, place: str, path: str) -> None:
    url = URL(served.front.url + "/v1/" + place.format(path), encoded=True)
    async with served.front.http.get(url) as response:
        assert response.status in {400, 404}
        assert len(await response.read()) < 1000


@pytest.mark.parametrize(
    ("data", "status", "param"),
    [
        (form(), 400, "purpose"),
        (form(("purpose", "fine-tune")), 400, "purpose"),
        (form(("purpose", "batch"), file=None), 400, "file"),
        (form(("purpose", "batch"), ("purpose", "batch")), 400, "purpose"),
        (form(("purpose", "x" * 2000)), 400, "purpose"),
        (form(("purpose", "batch"), ("expires_after[seconds]", "5")), 400, "expires_after.anchor"),
        (
            form(
                ("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "5")
            ),
            400,
            "expires_after.seconds",
        ),
        (form(("purpose", "batch"), file=b"x" * 3_000_001), 413, "file"),
        (form(*((f"f{at}", "") for at in range(50))), 400, "file"),
        (form(("purpose", "batch"))[:-20], 400, "file"),
        (b"not a form", 400, "file"),
        (b"", 400, "file"),
    ],
)
async def test_an_upload_that_is_wrong_leaves_nothing(
    served: Served, data: bytes, status: int, param: str
) -> None:
    async with served.front.http.post("/v1/files", data=io.BytesIO(data), headers=FORM) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (status, param)
    assert [each async for each in served.client.files.list()] == []
    assert await upload(served.client, request("a", "b"))


async def test_a_form_that_is_announced_too_large_is_refused_unread(served: Served) -> None:
    url = URL(served.front.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n"
    writer.write(f"{head}Content-Type: {FORM['content-type']}\r\n\r\n".encode())
    assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_an_upload_whose_client_leaves_leaves_nothing(served: Served) -> None:
    async def half() -> AsyncGenerator[bytes, None]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 2_500_000
        raise ConnectionError("the client leaves")

    with pytest.raises((ConnectionError, aiohttp.ClientError)):
        await served.front.http.post("/v1/files", data=half(), headers=FORM)
    assert [each async for each in served.client.files.list()] == []


async def test_a_file_expires_when_its_owner_says(served: Served) -> None:
    file = await served.client.files.create(
        file=("a.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
    )
    assert file.expires_at == file.created_at + 7200


async def test_the_space_for_files_has_an_end(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        served = await serve(stack, tmp_path, quota_bytes=4000)
        line = request("a", "x" * 1500)
        ids = [await upload(served.client, line) for _ in range(3)]
        with pytest.raises(openai.APIStatusError) as raised:
            await upload(served.client, line)
        assert raised.value.status_code == 413
        await served.client.files.delete(ids[0])
        assert await upload(served.client, line)


@pytest.mark.parametrize("mount", ["/v1", "", "/openai/v1"])
async def test_files_and_batches_are_under_every_mount(served: Served, mount: str) -> None:
    for path in ("/files", "/batches"):
        async with served.front.http.get(mount + path) as response:
            assert (response.status, (await response.json())["object"]) == (200, "list")
    large = form(("purpose", "batch"), file=b"x" * 2_500_000)  # above the limit of other control routes
    assert (await posted(served, large, f"{mount}/files"))["bytes"] == 2_500_000


async def test_without_batches_there_are_no_routes(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        served = await serve(stack, tmp_path, enabled=False)
        with pytest.raises(openai.NotFoundError):
            await served.client.batches.list()
    assert names(tmp_path) == []


async def test_a_server_that_nobody_gave_a_batch_opens_no_database(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        served = await serve(stack, tmp_path, poll_s=0.001)
        await served.front.metric("llm_server_batches_running")
        for _ in range(100):
            await asyncio.sleep(0)
    assert names(tmp_path) == []
