"""The corpus is faithful: each vendor's own SDK reads every scripted response of its vendor.

If the vendor's SDK cannot read it, or reads another answer than ``answers.yaml`` states, the script is wrong.
Vendors without an SDK here are spoken to with OpenAI's, as their documentation tells their users to do.
"""

from typing import Any

import pytest

from tests.upstreams import told
from tests.upstreams.cases import VENDORS, Case, cases
from tests.upstreams.clients import (
    anthropic_client,
    cohere_client,
    collect,
    gemini_client,
    groq_client,
    mistral_client,
    ollama_client,
    openai_client,
)
from tests.upstreams.told import assert_tells

OWN_SDK = {"anthropic", "gemini", "cohere", "mistral", "groq"}
OPENAI_SPOKEN = tuple(vendor for vendor in VENDORS if vendor not in OWN_SDK)
HELLO: Any = [{"role": "user", "content": "Hello"}]


def each(*vendors: str, operation: str) -> pytest.MarkDecorator:
    """Parametrise over these vendors' cases of an operation; broken and blocked ones have their own tests."""
    special = {"error_midstream", "error_as_success", "prompt_block"}
    found = [
        case
        for case in cases(*vendors, operation=operation)
        if case.name not in special and not case.name.startswith("native_")
    ]
    assert found, f"no case of {vendors} for {operation}"
    return pytest.mark.parametrize("case", found, ids=lambda case: case.id)


@each(*OPENAI_SPOKEN, operation="chat")
async def test_openai_sdk_reads_chat(case: Case) -> None:
    async with openai_client(case, case.path) as client:
        stream = case.form == "stream"
        answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=stream)
        assert_tells(told.openai_chunks(await collect(answer) if stream else [answer]), case.answer)


@each(*OPENAI_SPOKEN, operation="completions")
async def test_openai_sdk_reads_completions(case: Case) -> None:
    async with openai_client(case, case.path) as client:
        stream = case.form == "stream"
        answer = await client.completions.create(model="instruct", prompt="Say this", stream=stream)
        assert_tells(told.openai_texts(await collect(answer) if stream else [answer]), case.answer)


@each(*OPENAI_SPOKEN, operation="embeddings")
async def test_openai_sdk_reads_embeddings(case: Case) -> None:
    async with openai_client(case, case.path) as client:
        form = {} if "base64" in case.name else {"encoding_format": "float"}
        answer = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], **form)
    assert [row.embedding for row in answer.data] == case.answer["vectors"]
    assert answer.usage.prompt_tokens == case.answer["usage"]["input"]


@each(*(v for v in OPENAI_SPOKEN if v != "together"), operation="models")
async def test_openai_sdk_reads_models(case: Case) -> None:
    async with openai_client(case, case.path) as client:
        assert [model.id for model in (await client.models.list()).data] == case.answer["models"]


@each("together", operation="models")
async def test_a_bare_array_of_models_is_reachable_with_openai_sdk(case: Case) -> None:
    async with openai_client(case, case.path) as client:
        listed = (await client.models.with_raw_response.list()).http_response.json()
    assert [model["id"] for model in listed] == case.answer["models"]


@each("groq", operation="chat")
async def test_groq_sdk_reads_chat(case: Case) -> None:
    async with groq_client(case) as client:
        stream = case.form == "stream"
        answer: Any = await client.chat.completions.create(model="llama", messages=HELLO, stream=stream)
        chunks = await collect(answer) if stream else [answer]
    read = told.openai_chunks(chunks)
    if stream:
        told.openai_usage(read, chunks[-1].x_groq.usage)
    assert_tells(read, case.answer)


@each("groq", operation="models")
async def test_groq_sdk_reads_models(case: Case) -> None:
    async with groq_client(case) as client:
        assert [model.id for model in (await client.models.list()).data] == case.answer["models"]


@each("anthropic", operation="messages")
async def test_anthropic_sdk_reads_messages(case: Case) -> None:
    ask: Any = {"model": "claude-sonnet-5", "max_tokens": 1024, "messages": HELLO}
    async with anthropic_client(case) as client:
        if case.form == "whole":
            message = await client.messages.create(**ask)
        else:
            async with client.messages.stream(**ask) as stream:
                message = await stream.get_final_message()
    assert_tells(told.anthropic_message(message), case.answer)


@each("anthropic", operation="models")
async def test_anthropic_sdk_reads_models(case: Case) -> None:
    async with anthropic_client(case) as client:
        assert [model.id for model in (await client.models.list()).data] == case.answer["models"]


@each("anthropic", operation="count_tokens")
async def test_anthropic_sdk_reads_a_token_count(case: Case) -> None:
    async with anthropic_client(case) as client:
        counted = await client.messages.count_tokens(model="claude-sonnet-5", messages=HELLO)
    assert counted.input_tokens == case.answer["usage"]["input"]


@each("gemini", operation="generate")
async def test_genai_sdk_reads_generated_content(case: Case) -> None:
    async with gemini_client(case) as models:
        ask = {"model": "gemini-3-flash-preview", "contents": "Hello"}
        if case.form == "whole":
            responses = [await models.generate_content(**ask)]
        else:
            responses = await collect(await models.generate_content_stream(**ask))
    assert_tells(told.gemini_responses(responses), case.answer)


@pytest.mark.parametrize("form", ["whole", "stream"])
async def test_genai_sdk_reads_a_blocked_prompt(form: str) -> None:
    case = next(case for case in cases("gemini") if case.id == f"gemini/prompt_block.{form}")
    async with gemini_client(case) as models:
        ask = {"model": "gemini-3-flash-preview", "contents": "Hello"}
        if form == "whole":
            response = await models.generate_content(**ask)
        else:
            (response,) = await collect(await models.generate_content_stream(**ask))
    assert response.prompt_feedback.block_reason.value == case.answer["block"]
    assert not response.candidates


@each("gemini", operation="embeddings")
async def test_genai_sdk_reads_embeddings(case: Case) -> None:
    async with gemini_client(case) as models:
        answer = await models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    assert [row.values for row in answer.embeddings] == case.answer["vectors"]


@each("gemini", operation="models")
async def test_genai_sdk_reads_models(case: Case) -> None:
    async with gemini_client(case) as models:
        assert [model.name async for model in await models.list()] == case.answer["models"]


@each("gemini", operation="count_tokens")
async def test_genai_sdk_reads_a_token_count(case: Case) -> None:
    async with gemini_client(case) as models:
        counted = await models.count_tokens(model="gemini-3-flash-preview", contents="Hello")
    assert counted.total_tokens == case.answer["usage"]["input"]


@each("cohere", operation="chat")
async def test_cohere_sdk_reads_chat(case: Case) -> None:
    async with cohere_client(case) as client:
        ask: Any = {"model": "command-a-03-2025", "messages": HELLO}
        if case.form == "whole":
            read = told.cohere_response(await client.chat(**ask))
        else:
            read = told.cohere_events(await collect(client.chat_stream(**ask)))
    assert_tells(read, case.answer)


@each("cohere", operation="embeddings")
async def test_cohere_sdk_reads_embeddings(case: Case) -> None:
    async with cohere_client(case) as client:
        answer: Any = await client.embed(
            model="embed-v4.0", texts=["a", "b"], input_type="search_query", embedding_types=["float"]
        )
    assert answer.embeddings.float_ == case.answer["vectors"]
    assert answer.meta.billed_units.input_tokens == case.answer["usage"]["input"]


@each("cohere", operation="models")
async def test_cohere_sdk_reads_models(case: Case) -> None:
    async with cohere_client(case) as client:
        assert [model.name for model in (await client.models.list()).models] == case.answer["models"]


@each("mistral", operation="chat")
async def test_mistral_sdk_reads_chat(case: Case) -> None:
    ask: Any = {"model": "mistral-small-latest", "messages": HELLO}
    async with mistral_client(case) as client:
        if case.form == "whole":
            chunks: list[Any] = [await client.chat.complete_async(**ask)]
        else:
            async with await client.chat.stream_async(**ask) as stream:
                chunks = [event.data async for event in stream]
    read = told.openai_chunks(chunks)
    extra = chunks[-1].usage.model_extra
    read.count(cached=extra["num_cached_tokens"])
    assert_tells(read, case.answer)


@each("mistral", operation="embeddings")
async def test_mistral_sdk_reads_embeddings(case: Case) -> None:
    async with mistral_client(case) as client:
        answer = await client.embeddings.create_async(model="mistral-embed", inputs=["a", "b"])
    assert [row.embedding for row in answer.data] == case.answer["vectors"]
    assert answer.usage.prompt_tokens == case.answer["usage"]["input"]


@each("mistral", operation="models")
async def test_mistral_sdk_reads_models(case: Case) -> None:
    async with mistral_client(case) as client:
        listed: Any = await client.models.list_async()
    assert [model.id for model in listed.data] == case.answer["models"]


NATIVE = [case for case in cases("ollama", operation="chat") if case.name.startswith("native_")]


@pytest.mark.parametrize("case", NATIVE, ids=lambda case: case.id)
async def test_ollama_sdk_reads_its_native_chat(case: Case) -> None:
    async with ollama_client(case, case.path) as client:
        stream = case.form == "stream"
        ask: Any = {"model": "qwen3:8b", "messages": HELLO, "stream": stream}
        answer: Any = await client.chat(**ask)
        assert_tells(told.ollama_responses(await collect(answer) if stream else [answer]), case.answer)


@each("ollama", operation="tags")
async def test_ollama_sdk_reads_its_model_list(case: Case) -> None:
    async with ollama_client(case, case.path) as client:
        assert [model.model for model in (await client.list()).models] == case.answer["models"]
