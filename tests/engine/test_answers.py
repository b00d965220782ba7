"""What a model answers, the same for both runtimes."""

import asyncio
from contextlib import aclosing

import pytest
from msgspec import Raw

from llm_server.contract import (
    Chunk,
    Context,
    EmbedCall,
    ErrorKind,
    Finish,
    FinishReason,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Role,
    ServerError,
    Started,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    fold,
)
from llm_server.engine.provider import EngineProvider
from tests.engine.calling import chat, chunks, completion, events, inside, tokens, whole

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_answers_a_chat(provider: EngineProvider) -> None:
    call = chat(temperature=0.0, max_tokens=24)
    answer = await whole(provider, call)
    (choice,) = answer.choices
    assert choice.text
    assert answer.model == call.model
    assert answer.created > 0
    assert answer.usage.input_tokens == await tokens(provider, call)


async def test_knows_what_it_was_trained_on(provider: EngineProvider) -> None:
    answer = await whole(provider, completion("The capital of France is", temperature=0.0, max_tokens=2))
    assert answer.choices[0].text.startswith(" Paris")


async def test_a_stream_is_the_whole_answer_for_the_same_seed(provider: EngineProvider) -> None:
    sampling = {"temperature": 0.9, "seed": 11, "max_tokens": 20}
    await whole(provider, chat(max_tokens=1))  # what is cached of the prompt is now the same for both
    unstreamed = await whole(provider, chat(**sampling))
    streamed = await chunks(provider, chat(stream=True, **sampling))
    assert fold(streamed).choices == unstreamed.choices
    assert fold(streamed).usage.output_tokens == unstreamed.usage.output_tokens
    assert len(streamed) > unstreamed.usage.output_tokens // 2


async def test_another_seed_is_another_answer(provider: EngineProvider) -> None:
    texts = {
        (await whole(provider, chat(temperature=1.5, seed=seed, max_tokens=8))).choices[0].text
        for seed in range(3)
    }
    assert len(texts) > 1


async def test_a_stream_begins_with_started_and_ends_with_finish_and_usage(provider: EngineProvider) -> None:
    told = await events(provider, chat(stream=True, max_tokens=4))
    assert isinstance(told[0], Started)
    assert isinstance(told[-2], Finish)
    assert isinstance(told[-1], Usage)
    assert all(isinstance(event, TextDelta) for event in told[1:-2])


async def test_max_tokens_is_kept(provider: EngineProvider) -> None:
    answer = await whole(provider, completion("One, two, three,", temperature=0.0, max_tokens=7))
    assert answer.usage.output_tokens == 7
    assert answer.choices[0].finish is FinishReason.LENGTH


async def test_output_usage_is_the_tokenizers_count(provider: EngineProvider) -> None:
    answer = await whole(provider, completion("One, two, three,", temperature=0.0, max_tokens=12))
    assert await inside(provider).count(answer.choices[0].text) == answer.usage.output_tokens


async def test_ends_where_the_model_says_so(provider: EngineProvider) -> None:
    prompt = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\nYes."
    answer = await whole(provider, completion(prompt, temperature=0.0, max_tokens=100))
    assert answer.choices[0].finish is FinishReason.STOP
    assert answer.usage.output_tokens < 100
    assert "<|im_end|>" not in answer.choices[0].text


async def test_stops_at_a_sequence_that_spans_tokens(provider: EngineProvider) -> None:
    free = (
        (await whole(provider, completion("One, two, three,", temperature=0.0, max_tokens=16)))
        .choices[0]
        .text
    )
    stop = free[7:13]
    expected = free[: free.index(stop)]
    call = completion("One, two, three,", temperature=0.0, max_tokens=16, stop=("never", stop))
    answer = await whole(provider, call)
    (choice,) = answer.choices
    assert (choice.text, choice.finish, choice.stop_sequence) == (expected, FinishReason.STOP, stop)
    assert 0 < answer.usage.output_tokens < 16
    assert answer.usage.input_tokens == await inside(provider).count("One, two, three,")
    streamed = completion("One, two, three,", temperature=0.0, max_tokens=16, stop=(stop,), stream=True)
    assert fold(await chunks(provider, streamed)).choices == answer.choices


async def test_fills_its_context_and_no_more(provider: EngineProvider) -> None:
    answer = await whole(provider, completion("a b c d " * 60, temperature=0.0))
    assert answer.choices[0].finish is FinishReason.LENGTH
    assert answer.usage.input_tokens + answer.usage.output_tokens in {255, 256, 257}


async def test_a_prompt_beyond_the_context_is_refused_with_the_counts(provider: EngineProvider) -> None:
    call = chat("word " * 400)
    count = await tokens(provider, call)
    with pytest.raises(ServerError, match=rf"{count} tokens.*256 tokens") as caught:
        await whole(provider, call)
    assert caught.value.kind is ErrorKind.CONTEXT_OVERFLOW
    assert inside(provider).scheduler.active == 0


async def test_characters_of_many_tokens_come_whole(provider: EngineProvider) -> None:
    call = completion("😀" * 10, temperature=0.0, max_tokens=11, stream=True)
    texts = [event.text for event in await events(provider, call) if isinstance(event, TextDelta)]
    assert "😀😀" in "".join(texts)
    assert "\ufffd" not in "".join(texts)
    assert len(texts) < 11  # some tokens were only a part of a character


async def test_many_prompts_and_choices_are_numbered_in_order(provider: EngineProvider) -> None:
    prompts = ("The capital of France is", "One, two, three,")
    call = completion(*prompts, n=2, temperature=0.0, max_tokens=3, echo=True)
    answer = await whole(provider, call)
    texts = [choice.text for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [text.startswith(prompts[at // 2]) for at, text in enumerate(texts)] == [True] * 4
    counts = [await inside(provider).count(prompt) for prompt in prompts]
    assert answer.usage.input_tokens == sum(counts)
    assert answer.usage.output_tokens == 12


async def test_more_prompts_than_could_ever_wait_are_refused(provider: EngineProvider) -> None:
    with pytest.raises(ServerError) as caught:
        await whole(provider, completion(*["x"] * 6, max_tokens=1))
    assert caught.value.kind is ErrorKind.TOO_LARGE


async def test_penalties_change_the_answer(provider: EngineProvider) -> None:
    prompt = "😀" * 10
    plain = await whole(provider, completion(prompt, temperature=0.0, max_tokens=12))
    call = completion(prompt, temperature=0.0, max_tokens=12, frequency_penalty=2.0, presence_penalty=2.0)
    penalised = await whole(provider, call)
    assert plain.choices[0].text.count("😀") > penalised.choices[0].text.count("😀")


async def test_leaving_frees_the_slot(provider: EngineProvider) -> None:
    for _ in range(4):  # more often than there are slots
        async with aclosing(provider(chat(stream=True), Context(request_id="test"))) as answers:
            assert isinstance(await anext(answers), Chunk)
            assert inside(provider).scheduler.active == 1
        assert inside(provider).scheduler.active == 0


async def test_a_full_queue_turns_away_and_cancelling_empties_it(provider: EngineProvider) -> None:
    scheduler = inside(provider).scheduler
    asked = [asyncio.create_task(whole(provider, chat("Tell a story."))) for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert (scheduler.active, scheduler.waiting) == (3, 2)
    with pytest.raises(ServerError) as caught:
        await whole(provider, chat())
    assert (caught.value.kind, caught.value.kind.status) == (ErrorKind.OVERLOADED, 429)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 1
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert (scheduler.active, scheduler.waiting) == (0, 0)


async def test_many_streams_at_once_while_the_loop_stays_free(provider: EngineProvider) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    calls = [completion(f"{at} plus one is", temperature=0.0, max_tokens=10, stream=True) for at in range(5)]
    answers = [fold(answer) for answer in await asyncio.gather(*(chunks(provider, call) for call in calls))]
    ticking.cancel()
    assert [answer.usage.output_tokens for answer in answers] == [10] * 5
    # Two rounds of ten steps at the least: a loop blocked by each step would tick about once a step.
    assert ticks > 60


async def test_what_it_cannot_do_is_refused_before_it_computes(provider: EngineProvider) -> None:
    weather = Tool(name="weather")
    base = chat()
    for call in (
        base.altered(tools=(weather,)),
        base.altered(output=OutputFormat(kind="json_object")),
        base.altered(output=OutputFormat(kind="json_schema", schema=Raw(b"{}"))),
        base.altered(output=OutputFormat(kind="regex", pattern="a")),
        base.altered(output=OutputFormat(kind="choice", choices=("a", "b"))),
        chat(logprobs=2),
        completion("a").altered(suffix="b"),
        EmbedCall(model=base.model, inputs=("a",)),
    ):
        with pytest.raises(ServerError) as caught:
            await whole(provider, call)
        assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_an_unknown_model_is_not_found(provider: EngineProvider) -> None:
    with pytest.raises(ServerError, match="smollm2-135m") as caught:
        await whole(provider, chat().addressed("gpt"))
    assert caught.value.kind is ErrorKind.MODEL_NOT_FOUND


async def test_what_is_left_out_is_named(provider: EngineProvider) -> None:
    ctx = Context(request_id="test")
    call = chat(max_tokens=1, logit_bias={"5": 1.0})
    assert len([answer async for answer in provider(call, ctx)]) == 1
    assert ctx.dropped == ["logit_bias"]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_tokens_are_an_empty_answer(provider: EngineProvider, stream: bool) -> None:
    call = chat(max_tokens=0, stream=stream)
    answer = fold(await chunks(provider, call)) if stream else await whole(provider, call)
    (choice,) = answer.choices
    assert (choice.text, choice.finish) == ("", FinishReason.LENGTH)
    assert answer.usage == Usage(input_tokens=await tokens(provider, call))
    with pytest.raises(ServerError) as caught:
        await whole(provider, chat("word " * 400, max_tokens=0))
    assert caught.value.kind is ErrorKind.CONTEXT_OVERFLOW


async def test_log_probabilities_of_a_completion_are_refused(provider: EngineProvider) -> None:
    with pytest.raises(ServerError, match="Leave out `logprobs`") as caught:
        await whole(provider, completion("a", logprobs=1))
    assert caught.value.param == "logprobs"


async def test_choices_with_a_seed_have_a_seed_each(provider: EngineProvider) -> None:
    answer = await whole(provider, chat(n=3, seed=7, temperature=1.5, max_tokens=12))
    assert len({choice.text for choice in answer.choices}) == 3


@pytest.mark.parametrize(
    ("part", "words", "param"),
    [
        (Opaque("input_audio"), "'input_audio'", "messages[0].content[1]"),
        (ToolCall(id="1", name="f", arguments="{}"), "tool calls", "messages[0]"),
        (ToolResult(call_id="1", parts=()), "tool results", "messages[0]"),
    ],
)
async def test_a_part_that_is_not_text_is_named_as_the_caller_knows_it(
    provider: EngineProvider, monkeypatch: pytest.MonkeyPatch, part: Part, words: str, param: str
) -> None:
    call = chat().altered(messages=(Message(Role.USER, (Text("a"), part)),))
    # The turn that the model adds in front is not counted.
    model = inside(provider)
    monkeypatch.setattr(model, "config", model.config.model_copy(update={"system": "Be brief."}))
    with pytest.raises(ServerError, match=f"reads text only, not {words}") as caught:
        await whole(provider, call)
    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, param)


async def test_lists_its_models(provider: EngineProvider) -> None:
    (model,) = await provider.models()
    assert (model.id, model.provider, model.context_tokens) == ("smollm2-135m", "local", 256)
    facts = provider.facts("smollm2-135m")
    assert (facts.chat, facts.completions, facts.embeddings, facts.tools) == (True, True, False, False)
    assert facts.capabilities == ("chat", "completions")
