"""Server-sent events: what is written is read back, wherever the bytes are cut."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError
from llm_server.wire.sse import Parser, ServerSentEvent, frame

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.one_of(
    st.text(max_size=6).map(str.encode),
    st.sampled_from(
        [b"data: x", b"data:", b"data: \xc3\xa9", b"event: ping", b": note", b"id: 1", b"retry: 5", b"", b""]
    ),
)


def whole(stream: bytes) -> list[ServerSentEvent]:
    parser = Parser()
    return [*parser.feed(stream), *parser.end()]


def in_pieces(stream: bytes, cuts: list[int]) -> list[ServerSentEvent]:
    parser, events, last = Parser(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        events += parser.feed(stream[last:cut])
        last = cut
    return events + parser.end()


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    end = draw(st.one_of(LINE_ENDS.map(st.just), st.just(LINE_ENDS)))
    lines = draw(st.lists(LINES, max_size=12))
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return bom + b"".join(line + draw(end) for line in lines)


@given(stream=streams(), data=st.data())
@example(stream=b"data: a\r\n\r\ndata: b\r\n\r\n", data=None)
def test_where_the_bytes_are_cut_changes_nothing(stream: bytes, data: st.DataObject | None) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8)) if data else list(range(len(stream)))
    assert in_pieces(stream, cuts) == whole(stream)


@given(stream=streams())
def test_raw_bytes_together_are_the_stream(stream: bytes) -> None:
    joined = b"".join(event.raw for event in whole(stream))
    rest = stream[len(joined) :]
    assert stream.startswith(joined)
    assert not rest.endswith((b"\n", b"\r"))


@given(st.lists(st.tuples(st.text(), st.sampled_from(["", "ping", "message_start"])), max_size=5))
def test_written_events_are_read_back(items: list[tuple[str, str]]) -> None:
    stream = b"".join(frame(text.encode(), event) for text, event in items)
    expected = [(event, text.replace("\r\n", "\n").replace("\r", "\n").encode()) for text, event in items]
    assert [(event.event, event.data) for event in whole(stream)] == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("", b"YHOO\n+2\n10")]),
        (b": test stream\n\ndata: first event\nid: 1\n\n", [("", b""), ("", b"first event")]),
        (b"data:  two spaces\n\n", [("", b" two spaces")]),
        (b"data\n\ndata\ndata\n\n", [("", b""), ("", b"\n")]),
        (b"data:test\n\ndata: test\n\n", [("", b"test"), ("", b"test")]),
        (b"event: a\nevent: b\ndata: x\n\n", [("b", b"x")]),
        (b"\xef\xbb\xbfdata: x\n\n", [("", b"x")]),
        (b"data: x\rdata: y\r\r", [("", b"x\ny")]),
        (b"data: x\r\n\r\ndata: y\n\n", [("", b"x"), ("", b"y")]),
        (b"data: [DONE]\n", [("", b"[DONE]")]),
        (b'data: {"cut', []),
    ],
)
def test_reads_as_the_standard_says(stream: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert [(event.event, event.data) for event in whole(stream)] == expected


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    parser = Parser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b") == [ServerSentEvent("", b"a", b"data: a\n\n")]


@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_one_event_has_a_bound(end: bytes) -> None:
    parser = Parser(max_event_bytes=100)
    parser.feed(b"data: " + b"x" * 50 + b"\n\n")
    with pytest.raises(ServerError) as raised:
        parser.feed(b"data: " + b"x" * 100 + end)
    assert raised.value.kind is ErrorKind.UPSTREAM_INVALID


def test_many_events_together_may_be_larger_than_the_bound() -> None:
    assert len(Parser(max_event_bytes=100).feed((b"data: " + b"x" * 50 + b"\n\n") * 10)) == 10
