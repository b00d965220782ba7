"""Ask in either dialect and read the answer as a client would, without an SDK's own retries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.front import Front

HELLO: Any = [{"role": "user", "content": "Hello"}]
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


@dataclass(frozen=True)
class Told:
    """What a caller was told. ``ended`` is whether the answer said that it was complete."""

    status: int
    headers: Mapping[str, str]
    text: str = ""
    error: str = ""
    ended: bool = False

    @property
    def attempted(self) -> list[tuple[str, str]]:
        """Each attempt: the target, and how it ended."""
        listed = self.headers.get("x-llm-server-attempted", "")
        return [(each.split(";")[0], each.split(";")[1]) for each in listed.split(", ") if each]


async def ask(front: Front, caller: str, model: str, *, stream: bool, **more: Any) -> Told:
    """Send a short question and return what came back."""
    body = {"model": model, "messages": HELLO, "stream": stream, "max_tokens": 100, **more}
    async with front.http.post(PATHS[caller], json=body) as response:
        data = await response.read()
        if response.status != 200:
            return Told(response.status, response.headers, error=_error(json.loads(data)["error"]))
        read = _streamed if stream else _whole
        return Told(response.status, response.headers, **read(caller, data))


def _error(error: Any) -> str:
    return str(error.get("code") or error["type"])


def _whole(caller: str, data: bytes) -> dict[str, Any]:
    answer = json.loads(data)
    if caller == "openai":
        choice = answer["choices"][0]
        return {"text": choice["message"]["content"], "ended": choice["finish_reason"] is not None}
    text = "".join(block.get("text", "") for block in answer["content"])
    return {"text": text, "ended": answer["stop_reason"] is not None}


def _streamed(caller: str, data: bytes) -> dict[str, Any]:
    lines = (line[6:] for line in data.decode().split("\n") if line.startswith("data: "))
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    errors = [_error(event["error"]) for event in events if "error" in event]
    told = {"error": errors[0] if errors else "", "ended": False}
    if caller == "openai":
        choices = [event["choices"][0] for event in events if event.get("choices")]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        return told | {"text": text, "ended": data.rstrip().endswith(b"[DONE]") and not errors}
    text = "".join(
        event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"
    )
    return told | {"text": text, "ended": events[-1]["type"] == "message_stop"}
