"""What the tests of batches share: input files, and waiting for an end."""

import json
from typing import Any

import openai

CHAT = "/v1/chat/completions"
OVER = {"completed", "failed", "expired", "cancelled"}


def request(custom_id: str, text: str, endpoint: str = CHAT, **body: Any) -> dict[str, Any]:
    """One line of an input file."""
    asked = {"model": "up/m", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": asked}


def jsonl(*lines: Any) -> bytes:
    """An input file."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def upload(client: openai.AsyncOpenAI, *lines: Any) -> str:
    """Upload an input file; return its id."""
    return (await client.files.create(file=("in.jsonl", jsonl(*lines)), purpose="batch")).id


async def ended(client: openai.AsyncOpenAI, batch_id: str) -> openai.types.Batch:
    """Ask for a batch until it is over."""
    while (batch := await client.batches.retrieve(batch_id)).status not in OVER:
        pass
    return batch


async def lines_of(client: openai.AsyncOpenAI, file_id: str | None) -> list[Any]:
    """What is in an output file."""
    if file_id is None:
        return []
    return [json.loads(line) for line in (await client.files.content(file_id)).text.splitlines()]
