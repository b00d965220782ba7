"""Where caller and upstream speak one dialect the caller's bytes go on: every value as it was written."""

import msgspec
import pytest
from msgspec import Raw

from llm_server.contract import ChatCall, Facts, Opaque
from tests.conformance.calls import ASKED, Asked
from tests.conformance.enrolled import ENROLLED, Enrolled

FIELDS = msgspec.json.Decoder(dict[str, Raw])
ABLE = Facts(embeddings=True, completions=True, token_ids=True, count_tokens=True)

OURS = {"model", "stream_options"}
"""Fields that the server answers for: the model's name is the upstream's, and usage is always asked for."""

SAME = [(who, asked) for who in ENROLLED for asked in ASKED if who.row.dialect == asked.caller]
MEANT = [
    (who, asked)
    for who, asked in SAME
    if isinstance(call := asked.call("a-model"), ChatCall)
    if not any(isinstance(part, Opaque) for message in call.messages for part in message.parts)
]


def over(pairs: list[tuple[Enrolled, Asked]]) -> pytest.MarkDecorator:
    """Parametrise ``who, asked`` over these pairs."""
    named = [pytest.param(who, asked, id=f"{who.id}/{asked.name}") for who, asked in pairs]
    return pytest.mark.parametrize(("who", "asked"), named)


def renamed(who: Enrolled, asked: Asked) -> dict[str, str]:
    """Return the fields that this row's server knows under another name."""
    if asked.embeds:
        return dict(who.row.quirks.embed_renames)
    completes = asked.name.startswith("completion")
    return {} if completes or who.row.dialect != "openai" else dict(who.row.quirks.chat_renames)


def patched(who: Enrolled) -> set[str]:
    """Return the fields in which this row's server refuses something; the golden requests show the change."""
    quirks = who.row.quirks
    if who.row.dialect != "openai":
        return set()
    strict = not (quirks.developer and quirks.names) or quirks.tool_id_length != type(quirks)().tool_id_length
    return ({"messages"} if strict else set()) | (set() if quirks.bare_tools else {"tools"})


def both(who: Enrolled, asked: Asked) -> tuple[dict[str, bytes], dict[str, bytes], tuple[str, ...]]:
    """Return the caller's fields under the row's names, the upstream's fields, and what was left out."""
    call = asked.call("a-model")
    request = who.dialect.encode(call, ABLE)
    names = renamed(who, asked)
    given = {names.get(name, name): bytes(value) for name, value in FIELDS.decode(call.raw).items()}
    got = {name: bytes(value) for name, value in FIELDS.decode(request.body).items()}
    return _without_ours(given), _without_ours(got), request.dropped


def laid_out(name: str, value: bytes) -> bytes:
    """Return a value's bytes; the space between messages, which are taken apart to fit ids, means nothing."""
    return msgspec.json.format(value, indent=0) if name == "messages" else value


def _without_ours(fields: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in fields.items() if name not in OURS}


@over(SAME)
def test_what_goes_on_is_what_was_written_byte_for_byte(who: Enrolled, asked: Asked) -> None:
    given, got, _ = both(who, asked)
    exact = got.keys() - patched(who)
    for name in exact:
        assert laid_out(name, got[name]) == laid_out(name, given[name]), name


@over(SAME)
def test_what_does_not_go_on_is_named(who: Enrolled, asked: Asked) -> None:
    given, got, dropped = both(who, asked)
    missing = {name for name in given.keys() - got.keys() if given[name] not in {b"null", b"false"}}
    # Vectors come as numbers from a server without base64, and are packed on their way out: nothing is lost.
    assert missing - {"encoding_format"} <= set(dropped)


@over(SAME)
def test_fields_stay_in_the_callers_order(who: Enrolled, asked: Asked) -> None:
    given, got, _ = both(who, asked)
    moved = set(renamed(who, asked).values())
    assert [name for name in got if name not in moved] == [
        name for name in given if name in got and name not in moved
    ]


@over(MEANT)
def test_a_changed_call_is_translated_without_the_bytes(who: Enrolled, asked: Asked) -> None:
    altered = asked.call("a-model").altered(user="somebody-else")
    assert altered.raw == b""
    body = who.dialect.encode(altered, ABLE).body
    assert not [mark for mark in (b"x_new", b"x_note", b"context_management") if mark in body]


def test_there_are_calls_of_both_dialects() -> None:
    assert {asked.caller for asked in ASKED} == {"openai", "anthropic"}
    assert len(ASKED) > 40
