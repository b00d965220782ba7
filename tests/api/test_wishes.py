"""What callers may ask of the server by headers: how long they wait, and how urgent it is."""

import asyncio
from typing import Any

import aiohttp
import pytest

from llm_server.api.wishes import note_wishes
from llm_server.contract import Context, ErrorKind, Priority, ServerError
from llm_server.testing import FakeObserver, FakeProvider
from tests.api.conftest import Serve

CHAT = {"model": "fake/echo", "messages": [{"role": "user", "content": "hello there"}]}
PATHS = {"/v1/chat/completions": CHAT, "/v1/messages": {**CHAT, "max_tokens": 9}}


def noted(allowed: Any = "lower", **headers: str) -> Context:
    ctx = Context(request_id="x", started_s=100.0, deadline_s=700.0)
    note_wishes({name.replace("_", "-"): value for name, value in headers.items()}, ctx, allowed)
    return ctx


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("2.5", 2.5),
        ("30s", 30),
        ("500ms", 0.5),
        (" 1 ", 1),
        ("1ms", 0.001),
        ("600", 600),
        ("86400", 600),
    ],
)
def test_a_timeout_makes_the_deadline_earlier_and_never_later(value: str, seconds: float) -> None:
    assert noted(x_llm_server_timeout=value).deadline_s == pytest.approx(100 + seconds)


BAD = [
    "",
    "0",
    "-1",
    "+1",
    "0ms",
    "0.0001",
    "1e3",
    "nan",
    "inf",
    "1m",
    "1 s",
    "86401",
    "9" * 5000,
    "1,2",
    "\u0661",
]


@pytest.mark.parametrize("value", BAD)
def test_a_bad_timeout_is_refused(value: str) -> None:
    with pytest.raises(ServerError) as raised:
        noted(x_llm_server_timeout=value)
    assert (raised.value.kind, raised.value.param) == (ErrorKind.INVALID_REQUEST, "x-llm-server-timeout")
    assert len(raised.value.message) < 200


def test_without_headers_nothing_changes() -> None:
    ctx = noted()
    assert (ctx.deadline_s, ctx.priority) == (700.0, Priority.DEFAULT)


@pytest.mark.parametrize(
    ("allowed", "value", "priority"),
    [
        ("lower", "batch", Priority.BATCH),
        ("lower", "default", Priority.DEFAULT),
        ("lower", "interactive", Priority.DEFAULT),
        ("any", "interactive", Priority.INTERACTIVE),
        ("any", "Batch ", Priority.BATCH),
        ("ignore", "batch", Priority.DEFAULT),
        ("ignore", "nonsense", Priority.DEFAULT),
    ],
)
def test_a_priority_is_taken_as_far_as_it_is_allowed(allowed: str, value: str, priority: Priority) -> None:
    assert noted(allowed, x_llm_server_priority=value).priority is priority


@pytest.mark.parametrize("allowed", ["lower", "any"])
@pytest.mark.parametrize("value", ["", "urgent", "0", "batch, batch"])
def test_a_bad_priority_is_refused(allowed: str, value: str) -> None:
    with pytest.raises(ServerError) as raised:
        noted(allowed, x_llm_server_priority=value)
    assert raised.value.param == "x-llm-server-priority"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_callers_timeout_ends_the_request(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver, path: str, stream: bool
) -> None:
    provider.gate = asyncio.Event()
    asked = {**PATHS[path], "stream": stream}
    async with client.post(path, json=asked, headers={"x-llm-server-timeout": "20ms"}) as response:
        body = await response.json()
    assert response.status == 504
    assert "within 0.02 seconds" in body["error"]["message"]
    assert observer.told[-1][2] == "deadline"
    assert provider.open == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["x-llm-server-timeout", "x-llm-server-priority"])
async def test_a_bad_value_is_a_400_in_the_callers_dialect(
    client: aiohttp.ClientSession, provider: FakeProvider, observer: FakeObserver, path: str, name: str
) -> None:
    async with client.post(path, json=PATHS[path], headers={name: "soon"}) as response:
        body = await response.json()
    assert (response.status, name in body["error"]["message"]) == (400, True)
    assert provider.calls == []
    assert [what for what, _, _ in observer.told] == ["started", "finished"]


async def test_the_priority_reaches_the_pipeline(serve: Serve, provider: FakeProvider) -> None:
    seen: list[Priority] = []
    original = FakeProvider.__call__

    class Noting(FakeProvider):
        def __call__(self, call: Any, ctx: Context) -> Any:
            seen.append(ctx.priority)
            return original(self, call, ctx)

    provider.__class__ = Noting
    client = await serve(priority_header="any")
    for value in ("interactive", "batch"):
        async with client.post(
            "/v1/messages", json=PATHS["/v1/messages"], headers={"x-llm-server-priority": value}
        ):
            pass
    assert seen == [Priority.INTERACTIVE, Priority.BATCH]
