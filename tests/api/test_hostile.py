"""Schemas made to cost much, over HTTP: each is a clear 400 wherever a schema can be given."""

import io
import json
from typing import Any

import aiohttp
import pytest

from llm_server.testing import FakeProvider
from tests.structured.hostile import REFUSED

LARGE = 2 * 1024 * 1024
"""Bytes from which on a body may be refused for its size alone."""
MESSAGES = [{"role": "user", "content": "Who?"}]


def bodies(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a request with ``schema`` for every route that takes one."""
    chat = {"model": "fake/echo", "messages": MESSAGES}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    tool = {"type": "function", "function": {"name": "x", "parameters": schema}}
    messages = {**chat, "max_tokens": 9}
    return {
        "/v1/schemas": {"id": "x", "schema": schema},
        "/v1/structured-completions": {"model": "fake/echo", "prompt": "Who?", "schema": schema},
        "/v1/chat/completions": {**chat, "response_format": form},
        "/v1/chat/completions?tool": {**chat, "tools": [tool], "tool_choice": "required"},
        "/v1/messages": {**messages, "output_config": {"format": {"type": "json_schema", "schema": schema}}},
    }


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_a_clear_400_at_every_route(
    client: aiohttp.ClientSession, provider: FakeProvider, name: str
) -> None:
    for route, body in bodies(REFUSED[name]).items():
        data = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        async with client.post(route, data=io.BytesIO(data), headers=headers) as response:
            error = (await response.json())["error"]
        assert error["type"] == "invalid_request_error"
        if response.status == 413:
            assert len(data) > LARGE
            continue
        assert (response.status, route) == (400, route)
        assert "refused at #" in error["message"] or "nested" in error["message"]
        assert len(error["message"]) < 400
    assert provider.calls == []
