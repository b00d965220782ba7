"""``provider_batch``: batches that run through a vendor's own batch API, in front of all that have one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from llm_server.providers.rows import ROWS
from tests.end_to_end.batching import CHAT, ended, lines_of, request, upload
from tests.end_to_end.front import CANARY, Front, fronting, provider
from tests.end_to_end.sdks import openai_sdk
from tests.upstreams.batch_apis import VENDORS, Vendor
from tests.upstreams.server import upstream

TAGGED = [name for name in VENDORS if name != "anthropic"]
FILING = ["openai", "groq", "mistral"]


class Served(NamedTuple):
    """A server with one vendor ``up``."""

    client: openai.AsyncOpenAI
    vendor: Vendor
    front: Front


@asynccontextmanager
async def serving(name: str, tmp_path: Path, vendor: Vendor | None = None) -> AsyncGenerator[Served, None]:
    """Serve with a vendor's batch API as ``up``; its key is seen by it and by nobody else."""
    vendor = vendor or VENDORS[name]()
    sections: dict[str, Any] = {
        "storage": {"url": f"sqlite:///{tmp_path}/x.db"},
        "telemetry": {"request_log": False},
        "batches": {"provider_poll_s": 0.001, "poll_s": 0.001},
        "models": {"mine": ["local-only/x", "up/m"]},
    }
    async with (
        upstream(vendor) as up,
        fronting(
            {"up": provider(up, name), "local-only": {"base_url": f"{up.url}/nowhere"}}, **sections
        ) as front,
        openai_sdk(front.url) as client,
    ):
        yield Served(client, vendor, front)
    header = ROWS[name].key_header
    assert all(CANARY in asked.headers[header] for asked in up.requests)


async def begin(client: openai.AsyncOpenAI, *texts: str, **body: Any) -> str:
    """Begin a batch of chats by the provider; return its id."""
    lines = [request(f"weird id \u2603 {at}", text, **body) for at, text in enumerate(texts)]
    made = await client.batches.create(
        input_file_id=await upload(client, *lines),
        endpoint=CHAT,
        completion_window="24h",
        extra_body={"provider_batch": True},
    )
    assert made.model_extra == {"provider_batch": "up"}
    return made.id


def said(lines: list[Any]) -> list[tuple[str, str]]:
    """The ids and texts of answered lines."""
    return [
        (line["custom_id"], line["response"]["body"]["choices"][0]["message"]["content"]) for line in lines
    ]


@pytest.mark.parametrize("name", VENDORS)
async def test_a_vendor_runs_a_batch(name: str, tmp_path: Path) -> None:
    async with serving(name, tmp_path) as served:
        batch = await ended(served.client, await begin(served.client, "one", "bad", "two", "late", "three"))
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert (batch.request_counts.total, batch.request_counts.completed) == (5, 3)
        assert batch.usage is not None
        assert batch.usage.total_tokens == 15
        answers = await lines_of(served.client, batch.output_file_id)
        assert said(answers) == [
            ("weird id \u2603 0", "said: one"),
            ("weird id \u2603 2", "said: two"),
            ("weird id \u2603 4", "said: three"),
        ]
        bad, late = await lines_of(served.client, batch.error_file_id)
        assert (bad["custom_id"], bad["response"]["status_code"]) == ("weird id \u2603 1", 400)
        assert "this is bad" in bad["response"]["body"]["error"]["message"]
        assert (late["response"], late["error"]["code"]) == (None, "no_answer")
    assert (served.vendor.made, served.vendor.files) == (1, set())


@pytest.mark.parametrize("name", VENDORS)
async def test_cancelling_reaches_the_vendor_and_keeps_what_it_has(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]()
    vendor.polls = 10**9
    async with serving(name, tmp_path, vendor) as served:
        batch_id = await begin(served.client, "one", "late")
        while not vendor.made:
            await served.client.batches.retrieve(batch_id)
        await served.client.batches.cancel(batch_id)
        batch = await ended(served.client, batch_id)
        assert batch.status == "cancelled"
        assert vendor.cancelled
        assert said(await lines_of(served.client, batch.output_file_id)) == [
            ("weird id \u2603 0", "said: one")
        ]
    assert vendor.files == set()


@pytest.mark.parametrize("name", FILING)
async def test_a_file_that_the_vendor_keeps_is_counted(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]()
    vendor.keeps = {"out"}
    async with serving(name, tmp_path, vendor) as served:
        batch = await ended(served.client, await begin(served.client, "one"))
        assert len(said(await lines_of(served.client, batch.output_file_id))) == 1
        counted = served.front.metric
        name = "llm_server_batch_provider_files_total"
        assert await counted(name, provider="up", outcome="deleted") == 2
        assert await counted(name, provider="up", outcome="left") == 1
    assert vendor.files == {"out"}


@pytest.mark.parametrize("name", FILING)
async def test_what_was_uploaded_for_a_batch_that_is_refused_is_deleted(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]()
    vendor.refuses = 400
    async with serving(name, tmp_path, vendor) as served:
        batch = await ended(served.client, await begin(served.client, "one"))
        assert batch.status == "failed"
    assert (vendor.made, vendor.files) == (0, set())
    assert vendor.seen[-1].startswith("DELETE ")


@pytest.mark.parametrize("name", VENDORS)
async def test_a_batch_at_a_vendor_survives_the_server(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]()
    vendor.polls = 10**9
    async with serving(name, tmp_path, vendor) as served:
        batch_id = await begin(served.client, "one", "two")
        while len(vendor.seen) < 6:
            await served.client.batches.retrieve(batch_id)
    vendor.polls = 1
    async with serving(name, tmp_path, vendor) as served:
        batch = await ended(served.client, batch_id)
        assert len(said(await lines_of(served.client, batch.output_file_id))) == 2
    assert vendor.made == 1


@pytest.mark.parametrize("name", TAGGED)
async def test_a_batch_whose_making_was_not_confirmed_is_found_again(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]()
    vendor.forgets_to_answer = True
    async with serving(name, tmp_path, vendor) as served:
        batch = await ended(served.client, await begin(served.client, "one"))
        assert len(said(await lines_of(served.client, batch.output_file_id))) == 1
    assert vendor.made == 1


@pytest.mark.parametrize("name", TAGGED)
async def test_a_batch_that_the_vendor_refuses_has_failed(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]()
    vendor.fails = "your quota of batches"
    async with serving(name, tmp_path, vendor) as served:
        batch = await ended(served.client, await begin(served.client, "one"))
        assert batch.status == "failed"
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [(each.code, each.message) for each in batch.errors.data] == [
            ("provider_refused", "your quota of batches")
        ]
    assert vendor.files == set()


async def test_lines_that_cannot_be_sent_fail_and_the_others_go(tmp_path: Path) -> None:
    lines = [
        request("good", "one"),
        request("typed", "two", temperature="hot"),
        request("named", "three", response_format={"type": "json_schema", "json_schema": {"schema_id": "x"}}),
    ]
    async with serving("anthropic", tmp_path) as served:
        made = await served.client.batches.create(
            input_file_id=await upload(served.client, *lines),
            endpoint=CHAT,
            completion_window="24h",
            extra_body={"provider_batch": True},
        )
        batch = await ended(served.client, made.id)
        errors = await lines_of(served.client, batch.error_file_id)
        assert [(each["custom_id"], each["response"]["status_code"]) for each in errors] == [
            ("typed", 400),
            ("named", 400),
        ]
        assert len(await lines_of(served.client, batch.output_file_id)) == 1
    assert list(served.vendor.lines.values()) == ["one"]


async def test_every_line_must_name_the_same_model(tmp_path: Path) -> None:
    async with serving("openai", tmp_path) as served:
        lines = [request("a", "one"), request("b", "two", model="mine")]
        made = await served.client.batches.create(
            input_file_id=await upload(served.client, *lines),
            endpoint=CHAT,
            completion_window="24h",
            extra_body={"provider_batch": True},
        )
        batch = await ended(served.client, made.id)
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [(each.code, each.line) for each in batch.errors.data] == [("mismatched_model", 2)]
    assert served.vendor.seen == []


async def test_an_alias_leads_to_its_first_provider_with_a_batch_api(tmp_path: Path) -> None:
    async with serving("openai", tmp_path) as served:
        batch = await ended(served.client, await begin(served.client, "one", model="mine"))
        assert batch.status == "completed"


@pytest.mark.parametrize(
    ("line", "error", "param"),
    [
        (request("a", "b", model="local-only/x"), openai.BadRequestError, "provider_batch"),
        (request("a", "b", model="nobody-knows"), openai.NotFoundError, "model"),
        ({"custom_id": "a"}, openai.BadRequestError, "input_file_id"),
    ],
)
async def test_a_model_without_a_batch_api_is_a_clear_refusal(
    tmp_path: Path, line: Any, error: type[openai.APIStatusError], param: str
) -> None:
    async with serving("openai", tmp_path) as served:
        file_id = await upload(served.client, line)
        with pytest.raises(error) as raised:
            await served.client.batches.create(
                input_file_id=file_id,
                endpoint=CHAT,
                completion_window="24h",
                extra_body={"provider_batch": True},
            )
        assert raised.value.param == param
        assert [each async for each in served.client.batches.list()] == []
