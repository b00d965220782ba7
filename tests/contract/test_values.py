"""Values: frozen, and changed only by copies that say so."""

import pytest

from llm_server.contract import (
    Attempt,
    ChatCall,
    Choice,
    Context,
    Message,
    Role,
    Target,
    Text,
    Thinking,
)

CALL = ChatCall(
    model="m", dialect="openai", raw=b"{}", messages=(Message(Role.USER, (Text("a"), Text("b"))),)
)


def test_a_changed_call_loses_the_bytes_that_no_longer_say_it() -> None:
    changed = CALL.altered(user="u")
    assert (changed.raw, changed.user, changed.messages) == (b"", "u", CALL.messages)
    assert CALL.raw == b"{}"


def test_an_addressed_call_keeps_its_bytes() -> None:
    assert (CALL.addressed("other").model, CALL.addressed("other").raw) == ("other", b"{}")


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        CALL.model = "other"  # type: ignore[misc]  # the point of the test


def test_text_is_all_text_and_only_text() -> None:
    assert CALL.messages[0].text == "ab"
    assert Choice(parts=(Thinking(text="hm"), Text("a"), Text("b"))).text == "ab"


def test_a_target_is_written_as_it_is_asked_for() -> None:
    assert str(Target("acme", "x/y")) == "acme/x/y"


def test_upstream_time_is_until_the_end_or_else_the_first_byte() -> None:
    attempt = Attempt(provider="p", model="m", started_s=1.0)
    assert attempt.upstream_s == 0.0
    attempt.first_byte_s = 1.5
    assert attempt.upstream_s == 0.5
    attempt.ended_s = 3.0
    assert attempt.upstream_s == 2.0


def test_the_latest_attempt_is_the_attempt_and_contexts_share_nothing() -> None:
    ctx, other = Context(request_id="1"), Context(request_id="2")
    assert ctx.attempt is None
    ctx.attempts += [Attempt(provider="a", model="m"), Attempt(provider="b", model="m")]
    assert ctx.attempt is ctx.attempts[1]
    assert other.attempts == []
