"""Hypothesis strategies: whole answers as each dialect can say them without loss."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from llm_server.contract import (
    Choice,
    Completion,
    FinishReason,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

TEXT = st.text(min_size=1, max_size=12)
NAME = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-9, 9), st.none()), max_size=2).map(
    lambda value: msgspec.json.encode(value).decode()
)
TEXTS = TEXT.map(Text)
THOUGHTS = st.builds(Thinking, text=TEXT, signature=st.one_of(st.just(""), NAME))
REDACTED = st.builds(Thinking, signature=NAME, redacted=st.just(True))
CALLS = st.builds(ToolCall, NAME, NAME, ARGUMENTS)
COUNT = st.integers(0, 10_000)
LOGPROBS = st.lists(TEXT, min_size=1, max_size=2).map(
    lambda tokens: Raw(
        msgspec.json.encode(
            {
                "content": [
                    {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []} for token in tokens
                ],
                "refusal": None,
            },
            order="sorted",
        )
    )
)


def up_to_one(part: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(part, max_size=1)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, fresh = draw(COUNT), draw(COUNT), draw(COUNT)
    return Usage(
        input_tokens=cached + written + fresh,
        output_tokens=draw(COUNT),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=draw(COUNT),
    )


@st.composite
def openai_choices(draw: st.DrawFn, index: int) -> Choice:
    thoughts = draw(up_to_one(st.builds(Thinking, text=TEXT)))
    texts = draw(up_to_one(TEXTS))
    refusals = draw(up_to_one(st.builds(Refusal, TEXT)))
    calls = draw(st.lists(CALLS, max_size=3))
    return Choice(
        index=index,
        parts=(*thoughts, *texts, *refusals, *calls),
        finish=draw(
            st.sampled_from(
                [FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS, FinishReason.CONTENT_FILTER]
            )
        ),
        logprobs=draw(LOGPROBS) if texts and draw(st.booleans()) else Raw(b""),
    )


@st.composite
def openai_completions(draw: st.DrawFn) -> Completion:
    count = draw(st.integers(1, 3))
    return Completion(
        id="chatcmpl-" + draw(NAME),
        model=draw(NAME),
        created=draw(st.integers(1, 2**31)),
        choices=tuple(draw(openai_choices(index)) for index in range(count)),
        usage=draw(usages()),
    )


@st.composite
def anthropic_completions(draw: st.DrawFn) -> Completion:
    finish = draw(
        st.sampled_from([reason for reason in FinishReason if reason is not FinishReason.CONTENT_FILTER])
    )
    stop = draw(TEXT) if finish is FinishReason.STOP and draw(st.booleans()) else ""
    parts = draw(st.lists(st.one_of(TEXTS, THOUGHTS, REDACTED, CALLS), max_size=5))
    return Completion(
        id="msg_" + draw(NAME),
        model=draw(NAME),
        choices=(Choice(parts=tuple(parts), finish=finish, stop_sequence=stop),),
        usage=draw(usages()),
    )
