"""A provider's key is seen by the provider and by nobody else, even when the provider repeats it."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from tests.end_to_end.front import CANARY, ONCE, UNDAUNTED, before, fronting
from tests.upstreams.cases import VENDORS, Refusal, load, refusals
from tests.upstreams.script import Close, Head, Raw, Script, garbage_event, play

HELLO: Any = [{"role": "user", "content": "Hello"}]
ASK: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/messages": {"messages": HELLO, "max_tokens": 5},
}
TELLTALE = f"your key {CANARY} (Bearer {CANARY})"


def tattling(row: Refusal) -> Refusal:
    """Return a refusal that repeats the key in its message, its code and its headers."""
    body = row.body.replace(b'"message":"', b'"message":"%b ' % TELLTALE.encode())
    body = body.replace(b'"code":"', b'"code":"%b' % CANARY.encode())
    return replace(row, body=body, headers={**row.headers, "x-request-id": f"req-{CANARY}", "x-echo": CANARY})


STREAMS: list[Script] = [
    Script((Head(200, {"content-type": "text/event-stream"}), f"data: {TELLTALE}\n\n".encode())),
    Script((Head(200, {"content-type": "application/json"}), TELLTALE.encode())),
    Script((Head(302, {"location": f"http://127.0.0.1:1/{CANARY}"}), b"")),
    Script((Raw(TELLTALE.encode()),)),
    Script((Close(),)),
    garbage_event(load("openai", "text", "stream"), at=3),
    play(load("openai", "error_midstream", "stream")),
]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_key_is_in_no_answer_no_metric_and_no_log(
    vendor: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [tattling(row) for row in refusals(vendor)] + STREAMS
    seen: list[str] = []
    scripts = [each for each in answers for _ in ASK]
    async with before(vendor, *scripts, scripts[-1], pool=UNDAUNTED) as (front, up):
        for at in range(len(answers)):
            for path, body in ASK.items():
                asked = {**body, "model": f"{vendor}/x", "stream": bool(at % 2)}
                async with front.http.post(path, json=asked) as response:
                    seen += [str(response.headers), await response.text()]
        for path in ("/metrics", "/health/ready", "/v1/models", "/openapi.json"):
            async with front.http.get(path) as response:
                seen += [str(response.headers), await response.text()]
        assert all(CANARY in str(request.raw_headers) for request in up.requests), "the canary was sent"
        assert len(up.requests) > len(answers)
    told = capfd.readouterr()
    assert told.out.count('"event":"request"') == len(answers) * len(ASK)
    for text in (*seen, told.out, told.err, caplog.text):
        assert CANARY not in text


async def test_the_key_is_in_no_answer_when_nobody_listens(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nowhere: dict[str, Any] = {
        "base_url": "http://127.0.0.1:1/v1",
        "api_key": CANARY,
        "headers": {"x-extra": CANARY},
    }
    async with fronting({"gone": nowhere}, retry=ONCE) as front:
        for path, body in ASK.items():
            async with front.http.post(path, json={**body, "model": "gone/x"}) as response:
                assert response.status == 502
                assert CANARY not in await response.text() + str(response.headers)
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err + caplog.text
