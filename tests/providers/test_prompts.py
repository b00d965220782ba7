"""Text calls to models that only chat."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from llm_server.contract import (
    Answer,
    Call,
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Context,
    ErrorKind,
    Events,
    Facts,
    Finish,
    FinishReason,
    Message,
    Role,
    Sampling,
    ServerError,
    Started,
    Text,
    TextCall,
    TextDelta,
    Usage,
    fold,
)
from llm_server.providers import prompts
from llm_server.testing import FakeProvider, collect, outcome


def text_call(*prompts: Any, **fields: Any) -> TextCall:
    return TextCall(model="m", dialect="openai", raw=b"{}", prompts=prompts or ("a",), **fields)


def asker(fake: FakeProvider) -> Callable[[ChatCall], Events]:
    return lambda call: fake(call, Context(request_id="r"))


def spoken(call: Call) -> tuple[Answer, ...]:
    assert isinstance(call, ChatCall)
    text = call.messages[0].text
    choices = tuple(Choice(index=at, parts=(Text(f"{text}{at}"),)) for at in range(call.sampling.n))
    return (
        Completion(id=f"id-{text}", model="m", choices=choices, usage=Usage(input_tokens=1, output_tokens=2)),
    )


def streamed(call: Call) -> tuple[Chunk, ...]:
    assert isinstance(call, ChatCall)
    text = call.messages[0].text
    return (
        Chunk((Started(id=f"id-{text}"),), b"frame"),
        Chunk((TextDelta(text),), b"frame"),
        Chunk((Finish(FinishReason.STOP), Usage(input_tokens=1, output_tokens=2))),
    )


def test_each_prompt_becomes_a_turn_and_nothing_of_the_callers_bytes_goes_on() -> None:
    sampling = Sampling(max_tokens=5)
    first, second = prompts.as_chats(text_call("a", "b", sampling=sampling, stream=True, user="u"), Facts())
    assert first == ChatCall(
        model="m", stream=True, messages=(Message(Role.USER, (Text("a"),)),), sampling=sampling, user="u"
    )
    assert second.messages[0].text == "b"


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (text_call((1, 2)), ErrorKind.UNSUPPORTED),
        (text_call(suffix="x"), ErrorKind.UNSUPPORTED),
        (text_call(echo=True), ErrorKind.UNSUPPORTED),
        (text_call(sampling=Sampling(logprobs=1)), ErrorKind.UNSUPPORTED),
        (text_call(*["a"] * (prompts.MAX_PROMPTS + 1)), ErrorKind.INVALID_REQUEST),
    ],
)
def test_what_has_no_place_in_a_chat_is_refused(call: TextCall, kind: ErrorKind) -> None:
    with pytest.raises(ServerError) as caught:
        prompts.as_chats(call, Facts())
    assert caught.value.kind is kind


def test_ids_are_refused_even_where_embeddings_take_them() -> None:
    with pytest.raises(ServerError) as caught:
        prompts.as_chats(text_call((1, 2)), Facts(token_ids=True))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_whole_answers_are_one_with_choices_numbered_through() -> None:
    chats = prompts.as_chats(text_call("a", "b", sampling=Sampling(n=2)), Facts())
    (answer,) = await collect(prompts.answer(chats, asker(FakeProvider(script=spoken))))
    assert isinstance(answer, Completion)
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, "a0"),
        (1, "a1"),
        (2, "b0"),
        (3, "b1"),
    ]
    assert (answer.id, answer.usage) == ("id-a", Usage(input_tokens=2, output_tokens=4))


async def test_all_prompts_are_asked_at_once() -> None:
    fake = FakeProvider(script=spoken)
    fake.gate = asyncio.Event()
    chats = prompts.as_chats(text_call("a", "b", "c"), Facts())
    task = asyncio.create_task(collect(prompts.answer(chats, asker(fake))))
    await fake.asked.wait()
    fake.gate.set()
    await task
    assert len(fake.calls) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_many_prompts_are_asked_some_at_a_time_and_answered_in_order(stream: bool) -> None:
    fake = FakeProvider(script=streamed if stream else spoken)
    fake.gate = asyncio.Event()
    texts = [f"p{at}" for at in range(prompts.MAX_PROMPTS)]
    chats = prompts.as_chats(text_call(*texts, stream=stream), Facts())
    task = asyncio.create_task(collect(prompts.answer(chats, asker(fake))))
    await fake.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert fake.open == len(fake.calls) == prompts.AT_ONCE
    fake.gate.set()
    answers = await task
    whole = fold([each for each in answers if isinstance(each, Chunk)]) if stream else answers[0]
    assert isinstance(whole, Completion)
    assert [choice.text for choice in whole.choices] == [text if stream else f"{text}0" for text in texts]
    assert whole.usage == Usage(input_tokens=len(texts), output_tokens=2 * len(texts))
    assert fake.open == 0


async def test_streams_are_interleaved_under_their_own_numbers_without_frames() -> None:
    chats = prompts.as_chats(text_call("a", "b", "c", stream=True), Facts())
    answers = await collect(prompts.answer(chats, asker(FakeProvider(script=streamed))))
    chunks = [answer for answer in answers if isinstance(answer, Chunk)]
    whole = fold(chunks)
    assert [choice.text for choice in whole.choices] == ["a", "b", "c"]
    assert whole.usage == Usage(input_tokens=3, output_tokens=6)
    assert {chunk.frame for chunk in chunks} == {b""}
    assert sum(isinstance(event, Started) for chunk in chunks for event in chunk.events) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_first_failure_is_everyones_and_the_others_are_given_up(stream: bool) -> None:
    idle = asyncio.Event()
    opened: list[str] = []

    async def ask(call: ChatCall) -> Events:
        name = call.messages[0].text
        opened.append(name)
        try:
            if name == "bad":
                raise ServerError(ErrorKind.UPSTREAM_ERROR, "no")
            await idle.wait()
            yield Completion()
        finally:
            opened.remove(name)

    chats = prompts.as_chats(text_call("good", "bad", stream=stream), Facts())
    _, error = await outcome(prompts.answer(chats, ask))
    assert error is not None
    assert error.kind is ErrorKind.UPSTREAM_ERROR
    assert opened == []


async def test_leaving_a_stream_gives_all_of_them_up() -> None:
    fake = FakeProvider(script=streamed)
    chats = prompts.as_chats(text_call("a", "b", stream=True), Facts())
    answers = prompts.answer(chats, asker(fake))
    await anext(answers)
    await answers.aclose()
    assert fake.open == 0


async def test_silence_instead_of_an_answer_is_an_error() -> None:
    chats = prompts.as_chats(text_call("a"), Facts())
    _, error = await outcome(prompts.answer(chats, asker(FakeProvider(script=lambda _: ()))))
    assert error is not None
    assert error.kind is ErrorKind.UPSTREAM_INVALID
