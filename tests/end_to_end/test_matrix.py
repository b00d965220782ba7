"""Every answer of the corpus, asked for through both dialects by their SDKs, whole and streamed.

One server stands in front of one scripted upstream per vendor; the model's name says which case is wanted.
"""

import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.expectations import expected
from tests.upstreams.cases import Case, cases
from tests.upstreams.clients import collect
from tests.upstreams.told import Told, anthropic_message, assert_tells, openai_chunks

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO: Any = [{"role": "user", "content": "Hello"}]
NO_ANSWER = {
    "error_midstream",
    "error_as_success",
    "prompt_block",
    "malformed_call",
    "interrupted",
    "count_tokens",
}
"""Cases that tell of a failure, or answer another question."""
CHAT = {"chat", "messages", "generate"}
CASES = [
    case
    for case in cases()
    if case.operation in CHAT and case.name not in NO_ANSWER and not case.name.startswith("native_")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_openai_client_is_told(world: World, case: Case) -> None:
    ask: dict[str, Any] = {"model": f"{case.vendor}/{case.name}", "messages": HELLO}
    if case.form == "stream":
        ask |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = await world.openai.chat.completions.create(**ask)
    chunks = await collect(answer) if case.form == "stream" else [answer]
    if (case.vendor, case.name) == ("mistral", "reasoning"):
        chunks = [_with_objects(chunk) for chunk in chunks]
    read = openai_chunks(chunks)
    _agree(read, expected("openai", case), case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_anthropic_client_is_told(world: World, case: Case) -> None:
    ask: dict[str, Any] = {"model": f"{case.vendor}/{case.name}", "messages": HELLO, "max_tokens": 1000}
    if case.form == "whole":
        message = await world.anthropic.messages.create(**ask)
    else:
        async with world.anthropic.messages.stream(**ask) as stream:
            message = await stream.get_final_message()
    assert message.role == "assistant"
    _agree(anthropic_message(message), expected("anthropic", case), case)


def _with_objects(chunk: Any) -> Any:
    """Return a chunk whose every part is an object: lists of parts are no type of OpenAI's SDK."""
    return json.loads(
        chunk.model_dump_json(warnings=False), object_hook=lambda fields: SimpleNamespace(**fields)
    )


def _agree(read: Told, answer: Mapping[str, Any], case: Case) -> None:
    read.signatures = [signature for signature in read.signatures if signature]
    if case.vendor == "gemini":
        _split_ids(read, answer)
    assert_tells(read, answer)


def _split_ids(read: Told, answer: Mapping[str, Any]) -> None:
    """Take out of Gemini's ids what carries its signatures, and what it did not name itself."""
    ids = [call["id"] for call in read.tools.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", call_id) for call_id in ids)
    for call, stated in zip(read.tools.values(), answer.get("tools", ()), strict=True):
        if stated["id"] is None:
            del call["id"]
        else:
            call["id"] = call["id"].partition("__sig_")[0]
