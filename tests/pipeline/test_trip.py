"""Who is asked after a failure, when, and when nobody is any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_server.contract import (
    Again,
    Answer,
    Call,
    ChatCall,
    Chunk,
    Context,
    ErrorKind,
    Events,
    Facts,
    Finish,
    FinishReason,
    Image,
    Message,
    Priority,
    Role,
    ServerError,
    StructuredNote,
    Text,
    TextDelta,
)
from llm_server.testing import FakeProvider, collect, outcome
from tests.pipeline.routes import MODEL, VirtualTime, routing

HELLO = Chunk((TextDelta("hello"),))
END = Chunk((Finish(FinishReason.STOP),))
CALL = ChatCall(model=MODEL, stream=True, messages=(Message(Role.USER, (Text("hi"),)),))
OK: tuple[Answer, ...] = (HELLO, END)
ANYWHERE = [kind for kind in ErrorKind if kind.again is Again.ANYWHERE]
Step = Answer | ServerError


def failure(kind: ErrorKind, after_s: float | None = None) -> ServerError:
    """Return a failure as an upstream tells it, with a status; what is refused here has none."""
    return ServerError(kind, "no", retry_after_s=after_s).at("", kind.status)


def failing(
    name: str, *kinds: ErrorKind, after_s: float | None = None, then: tuple[Step, ...] = OK
) -> FakeProvider:
    """Return a provider that fails once with each of these kinds, and answers from then on."""
    left = list(kinds)

    def script(_: object) -> tuple[Step, ...]:
        return (failure(left.pop(0), after_s),) if left else then

    return FakeProvider(name, script)


def always(name: str, kind: ErrorKind, after_s: float | None = None) -> FakeProvider:
    """Return a provider that fails for ever."""
    return FakeProvider(name, lambda _: (failure(kind, after_s),))


def ctx(**more: object) -> Context:
    return Context(request_id="r", **more)  # type: ignore[arg-type]  # each test says what it means


def tried(context: Context) -> list[str]:
    return [attempt.provider for attempt in context.attempts]


@pytest.mark.parametrize("kind", ANYWHERE)
async def test_the_same_target_is_asked_again_after_a_back_off(kind: ErrorKind) -> None:
    handler, time = routing([failing("a", kind, kind)])
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == ["a", "a", "a"]
    base_s = 1.0 if "overloaded" in kind or "limited" in kind else 0.05
    assert time.slept_s == [pytest.approx(base_s / 2), pytest.approx(base_s)]


async def test_another_target_is_asked_at_once_and_the_first_comes_round_again() -> None:
    a = failing("a", ErrorKind.UPSTREAM_ERROR)
    b = always("b", ErrorKind.UPSTREAM_ERROR)
    handler, time = routing([a, b])
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == ["a", "b", "a"]
    assert time.slept_s == [pytest.approx(0.025)]


async def test_the_target_that_is_due_soonest_comes_round_first() -> None:
    a, b = (
        always("a", ErrorKind.UPSTREAM_RATE_LIMITED, 3.0),
        failing("b", ErrorKind.UPSTREAM_RATE_LIMITED, after_s=1.0),
    )
    handler, time = routing([a, b])
    await collect(handler(CALL, context := ctx()))
    assert tried(context) == ["a", "b", "b"]
    assert time.slept_s == [pytest.approx(1.0)]


@pytest.mark.parametrize(("after_s", "again"), [(2.0, True), (5.4, True), (5.6, False), (60.0, False)])
async def test_a_retry_after_is_waited_for_if_it_is_short(after_s: float, again: bool) -> None:
    handler, time = routing([failing("a", ErrorKind.UPSTREAM_RATE_LIMITED, after_s=after_s)])
    _, error = await outcome(handler(CALL, ctx()))
    assert (error is None) == again
    if again:
        assert time.slept_s == [pytest.approx(after_s)]
    else:
        assert error is not None
        assert error.retry_after_s == after_s


async def test_a_retry_after_beyond_the_deadline_goes_to_the_caller() -> None:
    handler, time = routing([failing("a", ErrorKind.UPSTREAM_RATE_LIMITED, after_s=4.0)])
    _, error = await outcome(handler(CALL, ctx(deadline_s=time.now_s + 4.0)))
    assert error is not None
    assert (error.retry_after_s, time.slept_s) == (4.0, [])


@given(st.floats(0, 2), st.floats(0, 1, exclude_max=True))
async def test_no_attempt_begins_when_its_time_is_over(left_s: float, chance: float) -> None:
    time = VirtualTime(chance)
    handler, _ = routing([always("a", ErrorKind.UPSTREAM_OVERLOADED)], time, attempts=20)
    context = ctx(deadline_s=time.now_s + left_s)
    _, error = await outcome(handler(CALL, context))
    assert error is not None
    assert context.deadline_s is not None
    assert all(attempt.started_s <= context.deadline_s for attempt in context.attempts)
    assert time.now_s <= context.deadline_s


async def test_attempts_are_counted_over_all_targets() -> None:
    handler, _ = routing(
        [always("a", ErrorKind.UPSTREAM_ERROR), always("b", ErrorKind.UPSTREAM_ERROR)], attempts=5
    )
    _, error = await outcome(handler(CALL, context := ctx()))
    assert error is not None
    assert tried(context) == ["a", "b", "a", "b", "a"]


async def test_every_target_of_a_long_list_is_tried_by_default() -> None:
    targets = [always(name, ErrorKind.UPSTREAM_ERROR) for name in "abcde"]
    handler, _ = routing([*targets, FakeProvider("f", lambda _: OK)])
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == list("abcdef")


async def test_a_refusal_without_a_call_counts_for_nothing() -> None:
    a, b = always("a", ErrorKind.UNAVAILABLE, 9.0), failing("b", ErrorKind.UPSTREAM_ERROR)
    handler, _ = routing([a, b], attempts=2)
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == ["a", "b", "b"]
    assert [attempt.refused for attempt in context.attempts] == [True, False, False]


@pytest.mark.parametrize("kind", [ErrorKind.OVERLOADED, ErrorKind.UNAVAILABLE])
async def test_an_attempt_that_was_refused_after_an_answer_was_a_call(kind: ErrorKind) -> None:
    class Asking(FakeProvider):
        """Has had an answer that was not good enough when it is refused."""

        async def __call__(self, call: Call, ctx: Context) -> Events:
            assert ctx.attempt is not None
            self.calls.append(call)
            ctx.attempt.first_byte_s = 1.0
            raise ServerError(kind, "full")
            yield END

    a, b, c = Asking("a"), failing("b", ErrorKind.UPSTREAM_ERROR), FakeProvider("c")
    handler, _ = routing([a, b, c], attempts=2)
    _, error = await outcome(handler(CALL, context := ctx()))
    assert error is not None
    assert (tried(context), c.calls) == (["a", "b"], [])
    assert not any(attempt.refused for attempt in context.attempts)


async def test_when_all_are_ejected_the_one_that_is_due_soonest_is_asked_all_the_same() -> None:
    def script(name: str, after_s: float) -> FakeProvider:
        provider = FakeProvider(name)
        provider.script = lambda _: (
            OK if seen.desperate else (ServerError(ErrorKind.UNAVAILABLE, "open", retry_after_s=after_s),)
        )
        return provider

    seen = ctx()
    handler, time = routing([script("a", 9.0), script("b", 2.0), script("c", 5.0)])
    assert await collect(handler(CALL, seen)) == list(OK)
    assert tried(seen) == ["a", "b", "c", "b"]
    assert (seen.desperate, time.slept_s) == (True, [])


async def test_a_target_that_is_held_back_here_is_not_asked_again_and_costs_nothing() -> None:
    held = FakeProvider(
        "a", lambda _: (ServerError(ErrorKind.UPSTREAM_RATE_LIMITED, "held", retry_after_s=1.0),)
    )
    handler, time = routing([held], budget_floor_per_s=0)
    _, error = await outcome(handler(CALL, context := ctx()))
    assert error is not None
    assert (error.retry_after_s, tried(context), time.slept_s) == (1.0, ["a"], [])
    assert context.attempts[0].refused
    ejected = FakeProvider("b", lambda _: (ServerError(ErrorKind.UNAVAILABLE, "open", retry_after_s=9.0),))
    handler, _ = routing([held, ejected])
    await outcome(handler(CALL, context := ctx()))
    assert (tried(context), context.desperate) == (["a", "b", "b", "a"], True)  # held: waited for at last


def held_back(name: str, until_s: float, seen: Context, time: VirtualTime) -> FakeProvider:
    """Return a provider whose pool is told to ask nothing before ``until_s``: it waits where it has to."""
    provider = FakeProvider(name)

    def script(_: object) -> tuple[Step, ...]:
        left_s = until_s - time.now_s
        if left_s <= 0 or not (seen.elsewhere or left_s > 10):
            return OK
        return (ServerError(ErrorKind.UPSTREAM_RATE_LIMITED, "held", retry_after_s=left_s),)

    provider.script = script
    return provider


async def test_a_target_is_told_whether_there_is_another_to_ask() -> None:
    told = []

    def note(_: object) -> tuple[Step, ...]:
        told.append(seen.elsewhere)
        return (failure(ErrorKind.UPSTREAM_ERROR),)

    seen = ctx()
    handler, _ = routing([FakeProvider(name, note) for name in "abc"], attempts=4)
    await outcome(handler(CALL, seen))
    assert told == [True, True, False, False]
    told.clear()
    handler, _ = routing([FakeProvider("a", note)])
    await outcome(handler(CALL, seen))
    assert not any(told)


async def test_a_hold_is_not_waited_for_where_another_target_answers() -> None:
    seen, time = ctx(), VirtualTime()
    handler, _ = routing([held_back("a", time.now_s + 3.0, seen, time), failing("b")], time)
    assert await collect(handler(CALL, seen)) == list(OK)
    assert (tried(seen), time.slept_s) == (["a", "b"], [])


async def test_a_hold_is_waited_for_where_no_other_target_answers() -> None:
    """An ejected one is asked all the same first, since that costs no time."""
    open_ = FakeProvider("b", lambda _: (ServerError(ErrorKind.UNAVAILABLE, "open", retry_after_s=9.0),))
    for other, asked in ((open_, ["a", "b", "b", "a"]), (None, ["a", "b", "a"])):
        seen, time = ctx(), VirtualTime()
        b = other or held_back("b", time.now_s + 60.0, seen, time)
        handler, _ = routing([held_back("a", time.now_s + 3.0, seen, time), b], time)
        assert await collect(handler(CALL, seen)) == list(OK)
        assert (tried(seen), time.slept_s) == (asked, [pytest.approx(3.0)])


async def test_one_ejected_target_alone_is_left_alone() -> None:
    handler, _ = routing([always("a", ErrorKind.UNAVAILABLE, 9.0)])
    _, error = await outcome(handler(CALL, context := ctx()))
    assert error is not None
    assert (error.retry_after_s, tried(context), context.desperate) == (9.0, ["a"], False)


async def test_desperate_calls_are_as_few_as_the_budget_allows() -> None:
    providers = [always(name, ErrorKind.UNAVAILABLE, 9.0) for name in "ab"]
    handler, _ = routing(providers, budget_floor_per_s=0.5)
    contexts = [ctx() for _ in range(50)]
    for context in contexts:
        await outcome(handler(CALL, context))
    assert sum(context.desperate for context in contexts) == 5


async def test_where_to_try_again_can_be_configured() -> None:
    where = {"upstream_timeout": "anywhere", "upstream_error": "never"}
    handler, _ = routing([failing("a", ErrorKind.UPSTREAM_TIMEOUT)], where=where)
    assert await collect(handler(CALL, ctx())) == list(OK)
    b = FakeProvider("b", lambda _: OK)
    handler, _ = routing([always("a", ErrorKind.UPSTREAM_ERROR), b], where=where)
    _, error = await outcome(handler(CALL, ctx()))
    assert error is not None
    assert b.calls == []


async def test_what_a_stage_below_asked_again_is_not_asked_again_here() -> None:
    context = ctx(structured=StructuredNote(method="prompt", guarantee="validated"))
    a = always("a", ErrorKind.UPSTREAM_INVALID)
    await outcome(routing([a])[0](CALL, context))
    assert len(a.calls) == 1


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (ErrorKind.CONTEXT_OVERFLOW, "on_context_overflow"),
        (ErrorKind.CONTENT_REJECTED, "on_content_rejected"),
    ],
)
async def test_some_failures_have_targets_of_their_own(kind: ErrorKind, setting: str) -> None:
    a, b, c = always("a", kind), FakeProvider("b", lambda _: OK), FakeProvider("c", lambda _: OK)
    handler, _ = routing([a, b, c], route={setting: ["c/m"]})
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == ["a", "c"]
    handler, _ = routing([a, b])
    _, error = await outcome(handler(CALL, ctx()))
    assert error is not None
    assert error.kind is kind


async def test_the_special_targets_are_taken_once_and_only_if_they_can() -> None:
    a, c = always("a", ErrorKind.CONTEXT_OVERFLOW), always("c", ErrorKind.CONTEXT_OVERFLOW)
    handler, _ = routing([a, c], route={"on_context_overflow": ["c/m"]})
    _, error = await outcome(handler(CALL, context := ctx()))
    assert error is not None
    assert tried(context) == ["a", "c"]
    unable = FakeProvider("c", lambda _: OK, Facts(chat=False))
    handler, _ = routing([a, unable], route={"on_context_overflow": ["c/m"]})
    _, error = await outcome(handler(CALL, ctx()))
    assert error is not None
    assert (error.kind, unable.calls) == (ErrorKind.CONTEXT_OVERFLOW, [])


async def test_a_detour_is_not_left_for_the_targets_before_it() -> None:
    a, b = always("a", ErrorKind.UPSTREAM_ERROR), always("b", ErrorKind.CONTEXT_OVERFLOW)
    c = failing("c", ErrorKind.UPSTREAM_OVERLOADED)
    handler, _ = routing([a, b, c], route={"on_context_overflow": ["c/m"]}, attempts=4)
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == ["a", "b", "c", "c"]


async def test_a_call_too_long_for_a_target_does_not_go_there_if_there_is_room_elsewhere() -> None:
    small = FakeProvider("a", lambda _: OK, Facts(context_tokens=100))
    large = FakeProvider("c", lambda _: OK, Facts(context_tokens=100_000))
    handler, _ = routing([small, large], route={"on_context_overflow": ["c/m"]})
    await collect(handler(CALL, short := ctx()))
    long = ChatCall(model=MODEL, stream=True, messages=(Message(Role.USER, (Text("word " * 500),)),))
    await collect(handler(long, context := ctx()))
    assert (tried(short), tried(context)) == (["a"], ["c"])


async def test_a_route_says_how_urgent_its_requests_are_unless_they_do() -> None:
    handler, _ = routing([FakeProvider("a", lambda _: OK)], route={"priority": "interactive"})
    await collect(handler(CALL, context := ctx()))
    await collect(handler(CALL, batch := ctx(priority=Priority.BATCH)))
    assert (context.priority, batch.priority) == (Priority.INTERACTIVE, Priority.BATCH)


async def test_a_route_s_time_shortens_the_caller_s_and_never_lengthens_it() -> None:
    handler, time = routing([FakeProvider("a", lambda _: OK)], route={"timeout_s": 30})
    await collect(handler(CALL, context := ctx(deadline_s=time.now_s + 100)))
    await collect(handler(CALL, hurried := ctx(deadline_s=time.now_s + 10)))
    assert (context.deadline_s, hurried.deadline_s) == (time.now_s + 30, time.now_s + 10)


async def test_a_target_that_lacks_something_is_no_target() -> None:
    blind = FakeProvider("a", lambda _: OK, Facts(images=False))
    handler, _ = routing([blind, FakeProvider("b", lambda _: OK)])
    seeing = ChatCall(model=MODEL, stream=True, messages=(Message(Role.USER, (Image(url="https://x/y"),)),))
    await collect(handler(seeing, context := ctx()))
    assert tried(context) == ["b"]


async def test_the_budget_ends_what_the_attempts_would_allow() -> None:
    a = always("a", ErrorKind.UPSTREAM_ERROR)
    handler, _ = routing([a], budget_share=0.1, budget_floor_per_s=0, transient_base_s=1e-9)
    for _ in range(200):
        await outcome(handler(CALL, ctx()))
    assert 200 <= len(a.calls) <= 200 * 1.1


async def test_requests_that_went_well_pay_for_those_that_do_not() -> None:
    a = failing("a")
    handler, _ = routing([a], budget_share=0.1, budget_floor_per_s=0)
    for _ in range(10):
        await collect(handler(CALL, ctx()))
    a.script = failing("a", ErrorKind.UPSTREAM_ERROR).script
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert tried(context) == ["a", "a"]


async def test_a_target_that_is_down_is_not_asked_for_nothing_until_it_has_answered() -> None:
    a, b = always("a", ErrorKind.UPSTREAM_ERROR), failing("b", *[ErrorKind.UPSTREAM_ERROR] * 3)
    handler, _ = routing([a, b], budget_share=0, budget_floor_per_s=0)
    for _ in range(5):
        _, error = await outcome(handler(CALL, ctx()))
        assert error is not None
    assert len(b.calls) == 3
    await collect(handler(ChatCall(model="b/m", stream=True, messages=CALL.messages), ctx()))
    assert await collect(handler(CALL, ctx())) == list(OK)


async def test_a_healthy_target_takes_over_whatever_the_budget_says() -> None:
    a, b = always("a", ErrorKind.UPSTREAM_ERROR), FakeProvider("b", lambda _: OK)
    handler, _ = routing([a, b], budget_share=0, budget_floor_per_s=0)
    for _ in range(100):
        assert await collect(handler(CALL, ctx())) == list(OK)
    assert (len(a.calls), len(b.calls)) == (100, 100)


async def test_when_all_fail_the_budget_bounds_the_calls() -> None:
    providers = [always(name, ErrorKind.UPSTREAM_ERROR) for name in "abc"]
    handler, _ = routing(providers, budget_share=0.2, budget_floor_per_s=0, transient_base_s=1e-9)
    for _ in range(500):
        await outcome(handler(CALL, ctx()))
    calls = sum(len(each.calls) for each in providers)
    assert calls <= 500 * 1.2 + 2 * 3, "and three to each until they are known to be down"


async def test_a_provider_that_refuses_at_once_is_an_attempt_like_any_other() -> None:
    class Hasty(FakeProvider):
        def __call__(self, call: Call, ctx: Context) -> Events:
            raise ServerError(ErrorKind.UPSTREAM_AUTH, "no key")

    handler, _ = routing([Hasty("a"), FakeProvider("b", lambda _: OK)])
    assert await collect(handler(CALL, context := ctx())) == list(OK)
    assert [attempt.error for attempt in context.attempts] == [ErrorKind.UPSTREAM_AUTH, None]


KINDS = st.sampled_from(["ok", "late", "silent", *(kind.value for kind in ErrorKind)])


@given(
    st.lists(st.lists(KINDS, max_size=4), min_size=1, max_size=4),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 6),
)
async def test_whatever_happens_there_is_one_answer_of_one_attempt_or_one_error(
    scripts: list[list[str]], chance: float, attempts: int
) -> None:
    def step(name: str, number: int, what: str) -> tuple[Step, ...]:
        said = Chunk((TextDelta(f"{name}{number}"),))
        match what:
            case "ok":
                return said, said, END
            case "late":
                return said, ServerError(ErrorKind.UPSTREAM_TRUNCATED, "cut")
            case "silent":
                return (END,)
        return (failure(ErrorKind(what), chance * 10),)

    providers = []
    for at, script in enumerate(scripts):
        provider = FakeProvider(f"p{at}")
        left = list(script)
        provider.script = lambda _, p=provider, rest=left: step(
            p.name, len(p.calls), rest.pop(0) if rest else "ok"
        )
        providers.append(provider)
    handler, time = routing(providers, VirtualTime(chance), attempts=attempts)
    context = ctx(deadline_s=time.now_s + 60)
    seen, error = await outcome(handler(CALL, context))
    texts = {e.text for a in seen if isinstance(a, Chunk) for e in a.events if isinstance(e, TextDelta)}
    assert len(texts) <= 1, "content of one attempt"
    assert all(provider.open == 0 for provider in providers)
    *earlier, last = context.attempts
    assert all(attempt.error is not None for attempt in earlier)
    assert all(attempt.ended_s is not None for attempt in context.attempts)
    assert (last.error is None) == (error is None)
    refusals = {ErrorKind.UNAVAILABLE, ErrorKind.OVERLOADED}
    assert all(attempt.refused == (attempt.error in refusals) for attempt in context.attempts)
    assert sum(not attempt.refused for attempt in context.attempts) <= attempts
    if texts:
        assert texts == {f"{last.provider}{len(next(p for p in providers if p.name == last.provider).calls)}"}


@given(st.integers(0, 12), st.lists(st.sampled_from(["ok", "bad"]), min_size=1, max_size=3))
async def test_leaving_at_any_point_closes_everything(steps: int, scripts: list[str]) -> None:
    def script(what: str) -> tuple[Step, ...]:
        return (HELLO, HELLO, END) if what == "ok" else (END, ServerError(ErrorKind.UPSTREAM_ERROR, "no"))

    providers = [FakeProvider(f"p{at}", lambda _, what=what: script(what)) for at, what in enumerate(scripts)]
    handler, _ = routing(providers)
    answers = handler(CALL, context := ctx())
    error = None
    for _ in range(steps):
        try:
            await anext(answers)
        except (StopAsyncIteration, ServerError) as end:
            error = end
            break
    await answers.aclose()
    assert all(provider.open == 0 for provider in providers)
    if steps > 0 and error is None:
        assert context.attempts[-1].error is ErrorKind.CLIENT_CLOSED
