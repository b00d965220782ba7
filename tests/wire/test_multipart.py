"""Forms as they arrive: whole, cut anywhere, and made by somebody who means harm."""

from itertools import pairwise

import aiohttp
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import ErrorKind, ServerError
from llm_server.wire.multipart import MAX_HEADER_BYTES, MAX_PARTS, Multipart, Part, boundary_of

MARK = b"xYzZY"


def form(*parts: tuple[str, bytes], before: bytes = b"", after: bytes = b"\r\n") -> bytes:
    """A form whose parts have these headers and contents."""
    bodies = (b"--%b\r\n%b\r\n\r\n%b\r\n" % (MARK, head.encode(), body) for head, body in parts)
    return before + b"".join(bodies) + b"--%b--" % MARK + after


def field(name: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"'


def upload(name: str) -> str:
    return f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/plain'


def read(*pieces: bytes, mark: bytes = MARK) -> list[tuple[Part, bytes]]:
    """The parts of a form that comes in these pieces."""
    reader = Multipart(mark)
    parts: list[Part] = []
    bodies: list[bytes] = []
    for piece in pieces:
        for each in reader.feed(piece):
            if isinstance(each, Part):
                parts.append(each)
                bodies.append(b"")
            else:
                bodies[-1] += each
    reader.end()
    return list(zip(parts, bodies, strict=True))


def refusal(*pieces: bytes) -> ServerError:
    with pytest.raises(ServerError) as raised:
        read(*pieces)
    assert raised.value.kind is ErrorKind.INVALID_REQUEST
    return raised.value


def test_fields_and_files_are_told_apart() -> None:
    whole = form((field("purpose"), b"batch"), (upload("a.jsonl"), b"{}\r\n{}\r\n"))
    assert read(whole) == [
        (Part("purpose", None), b"batch"),
        (Part("file", "a.jsonl"), b"{}\r\n{}\r\n"),
    ]


CONTENT = st.binary(max_size=60) | st.sampled_from([b"", b"\r\n--xYz", b"--", b"\r\n", b"\r\n--xYzZ\r\n"])


@given(
    contents=st.lists(CONTENT.filter(lambda body: b"\r\n--xYzZY" not in b"\r\n" + body), max_size=4),
    cuts=st.lists(st.integers(0, 600), max_size=12),
    before=st.sampled_from([b"", b"\r\n", b"a preamble\r\n"]),
)
def test_it_does_not_matter_where_a_form_is_cut(
    contents: list[bytes], cuts: list[int], before: bytes
) -> None:
    whole = form(*((field(f"f{at}"), body) for at, body in enumerate(contents)), before=before)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    wanted = [(Part(f"f{at}", None), body) for at, body in enumerate(contents)]
    assert read(*pieces) == wanted
    assert read(*(whole[at : at + 1] for at in range(len(whole)))) == wanted


@given(st.lists(st.binary(max_size=50) | st.sampled_from([b"--xYzZY\r\n", b"\r\n\r\n"]), max_size=8))
def test_garbage_is_never_taken_for_a_whole_form(pieces: list[bytes]) -> None:
    if b"--xYzZY--" not in b"".join(pieces):
        refusal(*pieces)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        ('content-disposition: FORM-DATA; NAME="a"', Part("a", None)),
        ("Content-Disposition: form-data; name=a; filename=b.txt", Part("a", "b.txt")),
        (r'Content-Disposition: form-data; name="a\"b"; filename="c;name=d"', Part('a"b', "c;name=d")),
        ('Content-Disposition: form-data; filename="x; name=evil"; name="a"', Part("a", "x; name=evil")),
        ('Content-Disposition: form-data; name="a%22b"', Part('a"b', None)),
        ("Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''%e2%82%ac", Part("a", "\u20ac")),
        ('X: y\r\nContent-Disposition: form-data; name="\u00e4"; filename=""', Part("\u00e4", "")),
    ],
)
def test_names_are_read_however_they_are_quoted(head: str, part: Part) -> None:
    assert read(form((head, b"1"))) == [(part, b"1")]


@pytest.mark.parametrize(
    "head", ["", "X: y", "Content-Disposition: attachment; name=a", "Content-Disposition: form-data", ": "]
)
def test_a_part_without_a_name_is_refused(head: str) -> None:
    assert "no name" in refusal(form((head, b"1"))).message


@pytest.mark.parametrize("at", range(1, len(form((field("a"), b"1"), after=b""))))
def test_a_form_that_is_cut_off_is_refused(at: int) -> None:
    refusal(form((field("a"), b"1"), after=b"")[:at])


def test_too_many_parts_are_refused() -> None:
    parts = [(field("a"), b"")] * MAX_PARTS
    assert len(read(form(*parts))) == MAX_PARTS
    assert "parts" in refusal(form(*parts, (field("a"), b""))).message


def test_of_a_million_parts_only_the_first_few_are_read() -> None:
    pieces = (b"--%b\r\n%b\r\n\r\n\r\n" % (MARK, field("a").encode()) * 1000 for _ in range(1000))
    reader, seen = Multipart(MARK), 0
    first = reader.feed(next(pieces))
    for _ in range(MAX_PARTS):
        seen += isinstance(next(first), Part)
    with pytest.raises(ServerError, match="parts"):
        next(first)
    assert seen == MAX_PARTS


@pytest.mark.parametrize(
    "pieces",
    [
        (b"x" * (MAX_HEADER_BYTES + 100),),
        (b"--xYzZY\r\n", b"a" * MAX_HEADER_BYTES, b"b" * 100),
        (form((field("a"), b"")), b"z" * (MAX_HEADER_BYTES + 1)),
        (b"--xYzZY", b" " * (MAX_HEADER_BYTES + 1)),
        (b"--xYzZYsome\r\n",),
        (b"--xYzZY\r\n" + b"a: b\r\n" * MAX_HEADER_BYTES + b"\r\n",),
    ],
    ids=["before", "headers", "after", "padding", "joined", "lines"],
)
def test_what_stands_around_parts_is_bounded(pieces: tuple[bytes, ...]) -> None:
    refusal(*pieces)


def test_of_a_part_only_the_beginning_of_a_boundary_is_held() -> None:
    reader = Multipart(MARK)
    start = form((upload("a"), b""), after=b"")[: -len(b"\r\n--xYzZY--")]
    assert [each for each in reader.feed(start) if isinstance(each, Part)]
    for _ in range(20):
        given_back = b"".join(each for each in reader.feed(b"x" * 65536) if isinstance(each, bytes))
        assert len(given_back) >= 65536 - len(MARK) - 4


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ("multipart/form-data;boundary=abc; x=y", b"abc"),
    ],
)
def test_the_boundary_is_found(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
    ],
)
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(ServerError, match="multipart"):
        boundary_of(content_type)


def test_the_form_of_a_real_client_is_read() -> None:
    files = {"file": ('q".jsonl', b"{}")}
    asked = httpx2.Request("POST", "http://x/", data={"purpose": "batch"}, files=files)
    assert read(asked.read(), mark=boundary_of(asked.headers["content-type"])) == [
        (Part("purpose", None), b"batch"),
        (Part("file", 'q".jsonl'), b"{}"),
    ]


async def test_the_form_of_another_real_client_is_read() -> None:
    data = aiohttp.FormData({"purpose": "batch"})
    data.add_field("file", b"{}", filename="\u00e4 b.jsonl", content_type="application/jsonl")
    encoded = data()
    assert read(await encoded.as_bytes(), mark=boundary_of(encoded.headers["content-type"])) == [
        (Part("purpose", None), b"batch"),
        (Part("file", "\u00e4 b.jsonl"), b"{}"),
    ]
