"""A stream means one thing: ``fold`` and ``unfold`` are inverse, and how deltas are cut changes nothing."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from llm_server.contract import (
    Choice,
    Chunk,
    Completion,
    ErrorKind,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    ServerError,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolCall,
    ToolDelta,
    Usage,
    fold,
    unfold,
)

TEXT = st.text(max_size=8)
COUNT = st.integers(0, 10_000)
PARTS = st.one_of(
    st.builds(Text, TEXT),
    st.builds(Thinking, text=TEXT, signature=TEXT, redacted=st.booleans()),
    st.builds(ToolCall, TEXT, TEXT, TEXT),
    st.builds(Refusal, TEXT),
)
LOGPROBS = st.lists(TEXT, min_size=1, max_size=3).map(
    lambda tokens: Raw(msgspec.json.encode({"content": [{"token": token} for token in tokens]}))
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        parts = tuple(draw(st.lists(PARTS, max_size=4)))
        told = any(isinstance(part, Text) for part in parts) and draw(st.booleans())
        choices.append(
            Choice(
                index=index,
                parts=parts,
                finish=draw(st.sampled_from(FinishReason)),
                stop_sequence=draw(TEXT),
                logprobs=draw(LOGPROBS) if told else Raw(b""),
            )
        )
    usage = Usage(input_tokens=draw(COUNT), output_tokens=draw(COUNT), reasoning_tokens=draw(COUNT))
    return Completion(
        id=draw(TEXT), model=draw(TEXT), created=draw(COUNT), choices=tuple(choices), usage=usage
    )


@given(completions())
def test_fold_is_the_inverse_of_unfold(completion: Completion) -> None:
    assert fold(unfold(completion)) == completion


@given(completions())
def test_unfold_says_one_event_in_each_chunk(completion: Completion) -> None:
    chunks = unfold(completion)
    assert all(len(chunk.events) == 1 and not chunk.frame for chunk in chunks)


def pieces(event: Event, cut: int) -> tuple[Event, ...]:
    """``event`` as two, its text cut; what comes once (names, proof) stays whole."""
    match event:
        case TextDelta():
            return (
                TextDelta(event.text[:cut], event.part, event.index, event.logprobs),
                TextDelta(event.text[cut:], event.part, event.index),
            )
        case RefusalDelta():
            return (
                RefusalDelta(event.text[:cut], event.part, event.index),
                RefusalDelta(event.text[cut:], event.part, event.index),
            )
        case ReasoningDelta():
            return (
                ReasoningDelta(event.text[:cut], event.part, event.index, "", event.redacted),
                ReasoningDelta(event.text[cut:], event.part, event.index, event.signature, event.redacted),
            )
        case ToolDelta():
            return (
                ToolDelta(event.part, event.id, event.name, event.arguments[:cut], event.index),
                ToolDelta(event.part, arguments=event.arguments[cut:], index=event.index),
            )
    return (event,)


@given(completions(), st.data())
def test_how_deltas_and_chunks_are_cut_changes_nothing(completion: Completion, data: st.DataObject) -> None:
    events = [
        piece
        for chunk in unfold(completion)
        for event in chunk.events
        for piece in pieces(event, data.draw(st.integers(0, 8)))
    ]
    stops = sorted({0, len(events), *data.draw(st.lists(st.integers(0, len(events)), max_size=4))})
    chunks = [Chunk(tuple(events[start:stop])) for start, stop in pairwise(stops)]
    assert fold(chunks) == completion


def test_interleaved_choices_come_apart() -> None:
    events: list[Event] = [
        TextDelta("b", index=1),
        TextDelta("a", index=0),
        TextDelta("B", index=1),
        Finish(FinishReason.LENGTH, 1),
        Finish(FinishReason.STOP, 0),
    ]
    whole = fold([Chunk((event,)) for event in events])
    assert [(choice.index, choice.text, choice.finish) for choice in whole.choices] == [
        (0, "a", FinishReason.STOP),
        (1, "bB", FinishReason.LENGTH),
    ]


def test_interleaved_tool_calls_come_apart() -> None:
    events = (
        ToolDelta(0, "1", "f"),
        ToolDelta(1, "2", "g"),
        ToolDelta(0, arguments="{}"),
        ToolDelta(1, arguments="[]"),
        Finish(FinishReason.TOOL_CALLS),
    )
    assert fold([Chunk(events)]).choices[0].parts == (ToolCall("1", "f", "{}"), ToolCall("2", "g", "[]"))


def test_log_probabilities_are_joined() -> None:
    def told(*tokens: str) -> Raw:
        return Raw(msgspec.json.encode({"content": [{"token": token} for token in tokens], "refusal": None}))

    chunks = [
        Chunk((TextDelta("a", logprobs=told("a")),)),
        Chunk((TextDelta("bc", logprobs=told("b", "c")), Finish(FinishReason.STOP))),
    ]
    assert fold(chunks).choices[0].logprobs == told("a", "b", "c")


def test_later_usage_replaces_earlier() -> None:
    chunks = [
        Chunk((Usage(input_tokens=5),)),
        Chunk((Finish(FinishReason.STOP), Usage(input_tokens=5, output_tokens=2))),
    ]
    assert fold(chunks).usage == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize(
    "events",
    [
        (),
        (Started(id="a"),),
        (TextDelta("a"),),
        (TextDelta("a"), Usage(output_tokens=1)),
        (TextDelta("a"), TextDelta("b", index=1), Finish(FinishReason.STOP, 0)),
    ],
)
def test_a_stream_without_its_end_is_an_error(events: tuple[Event, ...]) -> None:
    with pytest.raises(ServerError) as raised:
        fold([Chunk(events)])
    assert raised.value.kind is ErrorKind.UPSTREAM_TRUNCATED
