"""What no vendor has invented yet: unknown fields, parts and events are ignored, counted and passed on."""

import json
from collections import Counter
from typing import Any

import pytest

from llm_server.contract import Completion
from llm_server.providers.dialects import unmodelled
from tests.conformance.decoding import decode
from tests.conformance.enrolled import CHATS, Enrolled, ask, call_for, each, provider, rows
from tests.conformance.expected import answers
from tests.upstreams.cases import Case, load
from tests.upstreams.server import scripted

NEW = "x_invented_tomorrow"


def enriched(value: Any) -> Any:
    """Return a JSON value with an unknown field in every object."""
    match value:
        case dict():
            return {**{key: enriched(inner) for key, inner in value.items()}, NEW: {"deep": [1, None, "x"]}}
        case list():
            return [enriched(inner) for inner in value]
    return value


def enriched_body(case: Case) -> bytes:
    """Return the case's body with unknown fields everywhere but in what a model wrote itself."""
    if case.form == "whole":
        return json.dumps(_sparing(json.loads(case.body))).encode()
    lines = case.body.replace(b"\r\n", b"\n").split(b"\n")
    return b"\n".join(map(_enriched_line, lines))


def _enriched_line(line: bytes) -> bytes:
    if not line.startswith(b"data: {"):
        return line
    return b"data: " + _compact(_sparing(json.loads(line[6:])))


def _compact(value: Any) -> bytes:
    """Write JSON as the vendors' streams do, so that what is passed on as bytes stays as it was."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _sparing(value: Any) -> Any:
    """Enrich a value, but not a tool's arguments, its log probabilities, or a Gemini function's."""
    match value:
        case dict():
            mine = {"input", "args", "arguments", "logprobs", "logprobsResult"}
            kept = {key: inner if key in mine else _sparing(inner) for key, inner in value.items()}
            return {**kept, NEW: {"deep": [1, None, "x"]}}
        case list():
            return [_sparing(inner) for inner in value]
    return value


def meaning(who: Enrolled, case: Case, body: bytes) -> object:
    """Return what a body comes to: an answer without its bytes, or the events and how they ended."""
    call = call_for(case)
    if case.form == "stream":
        decoded = decode(who, call, [body])
        return tuple(chunk.events for chunk in decoded.chunks if chunk.events), decoded.failed
    return who.dialect.decode(call, body)


@each(*CHATS, "completions", "embeddings", "count_tokens", where=answers)
def test_unknown_fields_change_nothing(who: Enrolled, case: Case) -> None:
    assert meaning(who, case, enriched_body(case)) == meaning(who, case, case.body)


@each("models")
def test_unknown_fields_of_models_change_nothing(who: Enrolled, case: Case) -> None:
    body = json.dumps(enriched(json.loads(case.body))).encode()
    assert who.dialect.decode_models(body) == who.dialect.decode_models(case.body)


@rows()
def test_unknown_fields_are_counted(who: Enrolled) -> None:
    case = load(who.vendor, "text")
    before = Counter(unmodelled.seen())
    who.dialect.decode(call_for(case), enriched_body(case))
    new = Counter(unmodelled.seen()) - before
    assert new[f"{who.row.dialect}.{NEW}"] == 1


EVENTS = {
    "openai": b'event: brand_new\ndata: {"object":"x.brand_new","choices":[]}\n\n',
    "anthropic": b'event: brand_new\ndata: {"type":"brand_new","x":1}\n\n',
    "cohere": b'event: brand-new\ndata: {"type":"brand-new","x":1}\n\n',
    "gemini": b'data: {"brandNew":{"x":1}}\n\n',
}
"""An event of a type that does not exist yet, as each dialect would write it."""


@rows()
def test_unknown_events_are_ignored_counted_and_passed_on(who: Enrolled) -> None:
    case = load(who.vendor, "text", "stream")
    event = EVENTS[who.row.dialect]
    head, sep, tail = case.body.replace(b"\r\n", b"\n").rpartition(
        b"\n\ndata: " if b"event:" not in case.body else b"\n\nevent: "
    )
    body = head + b"\n\n" + event + sep[2:] + tail
    before = Counter(unmodelled.seen())
    assert meaning(who, case, body) == meaning(who, case, case.body)
    counted = Counter(unmodelled.seen()) - before
    assert sum(counted.values()) >= 1, counted
    if who.row.dialect in {"openai", "anthropic"}:
        assert event in decode(who, call_for(case, who.row.dialect), [body]).frames


@pytest.mark.parametrize("case_name", ["unknown", "text"])
@rows("openai", "anthropic")
async def test_a_whole_body_survives_byte_for_byte_for_a_caller_of_the_dialect(
    who: Enrolled, case_name: str
) -> None:
    cases = [case for case in who.cases(form="whole") if case.name == case_name]
    for case in cases:
        async with scripted(case) as up, provider(who, up) as given:
            (answer,) = await ask(given, call_for(case, who.row.dialect))
            (translated,) = await ask(given, call_for(case, "another"))
        assert isinstance(answer, Completion)
        assert answer.raw == case.body
        assert isinstance(translated, Completion)
        assert translated.raw == b""


def test_the_counter_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmodelled, "_seen", Counter())  # full, it would count no other test's names
    unmodelled.note("conformance", (f"field{at}" for at in range(2 * unmodelled.MAX_NAMES)))
    unmodelled.note("conformance", ["y" * 10_000])
    assert len(unmodelled.seen()) <= unmodelled.MAX_NAMES + 1
    assert max(map(len, unmodelled.seen())) < 200
