"""Input files: cut into lines anywhere, checked line by line, read again where they stand."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.batching.offline.lines import (
    MAX_CUSTOM_ID,
    MAX_PROBLEMS,
    Checked,
    Checking,
    LineError,
    Lines,
    Splitter,
    parse,
)
from llm_server.contract import StoredFile
from llm_server.contract.batches import PIECE_BYTES
from llm_server.testing import FakeFiles

CHAT = "/v1/chat/completions"


def asked(custom_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m"}, **more}


def jsonl(*lines: Any) -> bytes:
    return b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


async def check(*data: bytes, max_lines: int = 100, max_line_bytes: int = 1000) -> Checked:
    return await Checking(CHAT, max_lines, max_line_bytes)(pieces(*data))


@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"bb", b"\r\n", b"c" * 9]), max_size=30).map(b"".join),
    cuts=st.lists(st.integers(0, 100), max_size=8),
    limit=st.integers(1, 12),
)
def test_lines_are_the_same_wherever_a_file_is_cut(data: bytes, cuts: list[int], limit: int) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    splitter, found = Splitter(limit), []
    for start, end in pairwise(edges):
        found += list(splitter.feed(data[start:end]))
    found += list(splitter.end())
    wanted = data.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    assert [line for _, _, line in found] == [each if len(each) <= limit else None for each in wanted]
    assert [data[at : at + size] for at, size, _ in found] == wanted


async def test_a_good_file_is_indexed() -> None:
    data = jsonl(asked("a"), b"\n", b"  \r\n", asked("b")) + json.dumps(asked("c")).encode()
    checked = await check(data)
    assert checked.problems == ()
    assert checked.model == "m"
    assert [number for number, _, _ in checked.index] == [1, 4, 5]
    assert [json.loads(data[at : at + size])["custom_id"] for _, at, size in checked.index] == ["a", "b", "c"]


async def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    data = b"\xef\xbb\xbf" + jsonl(asked("a"), asked("b")).replace(b"\n", b"\r\n")
    checked = await check(data)
    assert checked.problems == ()
    places = [data[at : at + size] for _, at, size in checked.index]
    assert [parse(each, CHAT).custom_id for each in places] == ["a", "b"]


async def test_models_may_differ_and_are_then_not_told() -> None:
    checked = await check(jsonl(asked("a"), asked("b", body={"model": "n"})))
    assert (checked.problems, checked.model) == ((), None)
    for body in ({}, {"model": 5}):
        assert (await check(jsonl(asked("a", body=body)))).model is None


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"{\n", "invalid_json_line", None),
        (b"PK\x03\x04\x00\xff\xfe\n", "invalid_json_line", None),
        (b'{"custom_id": "\xff"}\n', "invalid_json_line", None),
        (b"[" * 900 + b"\n", "invalid_request", None),
        (b'{"body": ' + b"[" * 800 + b"\n", "invalid_json_line", None),
        (b"NaN\n", "invalid_json_line", None),
        (b"[]\n", "invalid_request", None),
        (b"{}\n", "invalid_request", None),
        (asked(custom_id=7), "invalid_request", None),  # type: ignore[arg-type]  # that is what is tested
        (asked(custom_id=None), "invalid_request", None),  # type: ignore[arg-type]  # that is what is tested
        (asked(""), "invalid_custom_id", "custom_id"),
        (asked("x" * (MAX_CUSTOM_ID + 1)), "invalid_custom_id", "custom_id"),
        (asked(method="GET"), "invalid_method", "method"),
        (asked(url="/v1/embeddings"), "mismatched_url", "url"),
        (asked(url="http://evil/"), "mismatched_url", "url"),
        (asked(body=[]), "invalid_body", "body"),
        (asked(body=None), "invalid_body", "body"),
        (asked(), "duplicate_custom_id", "custom_id"),
        (asked("b", pad="x" * 1000), "line_too_large", None),
    ],
)
async def test_a_bad_line_is_named(line: Any, code: str, param: str | None) -> None:
    checked = await check(jsonl(asked("a"), line, asked("z")))
    assert [(each.code, each.param, each.line) for each in checked.problems] == [(code, param, 2)]
    assert len(checked.problems[0].message) < 300


async def test_every_bad_line_is_named_up_to_a_bound() -> None:
    checked = await check(jsonl(*[b"x\n"] * 3))
    assert [each.line for each in checked.problems] == [1, 2, 3]
    checked = await check(*[b"x\n"] * 5000)
    assert len(checked.problems) == MAX_PROBLEMS


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (b"\n \n", "empty_file")])
async def test_a_file_without_requests_is_refused(data: bytes, code: str) -> None:
    assert [(each.code, each.line) for each in (await check(data)).problems] == [(code, None)]


async def test_too_many_requests_are_refused() -> None:
    lines = [asked(str(at)) for at in range(101)]
    assert (await check(jsonl(*lines[:100]))).problems == ()
    assert [each.code for each in (await check(jsonl(*lines))).problems] == ["too_many_requests"]


async def test_a_line_without_an_end_is_not_held() -> None:
    checked = await check(*[b"x" * 4096] * 100)
    assert [(each.code, each.line) for each in checked.problems] == [("line_too_large", 1)]


@given(st.binary(max_size=80) | st.text(max_size=60).map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["custom_id", "method", "url", "body", "x"]), inner, max_size=5
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_a_line_is_it_is_a_request_or_a_problem(line: bytes) -> None:
    try:
        found = parse(line, CHAT)
    except LineError as error:
        assert error.at(3).message  # noqa: PT017 - either outcome is right
    else:
        assert (found.method, found.url) == ("POST", CHAT)


async def test_lines_are_read_again_across_pieces() -> None:
    files = FakeFiles()
    lines = [asked(str(at), body={"pad": "x" * (PIECE_BYTES // 3)}) for at in range(20)]
    data = jsonl(*lines)
    await files.begin(StoredFile(id="f", name="f", purpose="batch"))
    for number, at in enumerate(range(0, len(data), PIECE_BYTES)):
        await files.append("f", number, data[at : at + PIECE_BYTES])
    file = await files.finish("f")
    checked = await Checking(CHAT, 100, PIECE_BYTES)(files.content(file))
    again = Lines(files, "f", CHAT)
    order = [*checked.index, *list(checked.index)[::-1]]
    found = [(await again.read(at, size)).custom_id for _, at, size in order]
    assert found == [str(at) for at in [*range(20), *range(19, -1, -1)]]
