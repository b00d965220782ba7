"""The scripted upstream keeps to its script and its capacity; open-loop arrivals come when they should."""

import asyncio
import json
from pathlib import Path

import jsonschema_rs
import pytest
from bench import bodies, overload, scripted, seed
from bench.client import Answer, Client
from bench.processes import cores
from bench.streams import compose

HEADERS = {"content-type": "application/json"}


def text(answer: Answer) -> str:
    content: str = json.loads(answer.body)["choices"][0]["message"]["content"]
    return content


async def together(url: str, requests: list[bytes]) -> list[Answer]:
    client = Client(url)
    answers = await asyncio.gather(*(client.ask(request) for request in requests))
    client.close()
    return answers


def test_answers_come_in_turn_by_the_word_in_the_request(tmp_path: Path) -> None:
    told = {name: [scripted.completion(f"{name} {turn}") for turn in range(2)] for name in ("cat", "dog")}
    both, other = [scripted.completion("both")], [scripted.completion("?")]
    script = scripted.Script({**told, "cat&&dog": both, scripted.ALWAYS: other})

    async def ask(url: str) -> list[str]:
        client, said = Client(url), []
        for word in ("cat", "dog", "cat", "cat dog", "cat", "bird"):
            answer = await client.ask(compose(url, bodies.CHAT, word.encode(), HEADERS))
            assert (answer.status, answer.took_s > 0) == (200, True)
            said.append(text(answer))
        assert len(client.idle) == 1, "a connection was not used again"
        client.close()
        return said

    with scripted.scripted(tmp_path, script, core=cores().load) as upstream:
        assert asyncio.run(ask(upstream.url)) == ["cat 0", "dog 0", "cat 1", "both", "cat 0", "?"]


class Caller:
    """Stands in for a connection of the upstream."""

    def __init__(self) -> None:
        self.answered, self.transport = 0, self

    def is_closing(self) -> bool:
        return False

    def answer(self) -> None:
        self.answered += 1


async def test_what_is_beyond_the_slots_waits_and_what_is_beyond_the_queue_is_refused() -> None:
    capacity = scripted.Capacity(scripted.Script({}, 2, 0.0, 3))
    capacity.serve = lambda caller: None  # type: ignore[method-assign]  # the test says when a service ends
    callers = [Caller() for _ in range(8)]
    assert [capacity.enter(each) for each in callers] == [True] * 5 + [False] * 3  # type: ignore[arg-type]  # a stand-in
    for place, each in enumerate(callers[:5]):
        assert len(capacity.line) == max(0, 3 - place)
        capacity.leave(each)  # type: ignore[arg-type]  # a stand-in
        assert each.answered == 1
    assert (capacity.free, len(capacity.line)) == (2, 0)


async def test_a_caller_that_went_away_while_it_waited_is_not_served() -> None:
    capacity = scripted.Capacity(scripted.Script({}, 1, 0.0, 3))
    served: list[object] = []
    capacity.serve = served.append  # type: ignore[method-assign,assignment]  # the test says when a service ends
    first, gone, last = Caller(), Caller(), Caller()
    gone.is_closing = lambda: True  # type: ignore[method-assign]  # it left
    for each in (first, gone, last):
        assert capacity.enter(each)  # type: ignore[arg-type]  # a stand-in
    capacity.leave(first)  # type: ignore[arg-type]  # a stand-in
    assert served == [first, last]


def test_a_request_beyond_the_capacity_is_answered_429(tmp_path: Path) -> None:
    script = scripted.Script({scripted.ALWAYS: [scripted.completion("done")]}, slots=0, queue=0)
    with scripted.scripted(tmp_path, script, core=cores().load) as upstream:
        request = compose(upstream.url, bodies.CHAT, b"{}", HEADERS)
        (answer,) = asyncio.run(together(upstream.url, [request]))
    assert answer.status == 429
    assert b"rate_limit_error" in answer.body


def test_a_server_that_is_not_there_is_an_answer_too() -> None:
    (answer,) = asyncio.run(together("http://127.0.0.1:1", [b"GET / HTTP/1.1\r\n\r\n"]))
    assert answer.status == 0
    assert answer.body


def test_arrivals_have_the_rate_and_the_shares_that_are_asked_for() -> None:
    plan = overload.schedule(500, 40, seed=1)
    assert plan == overload.schedule(500, 40, seed=1) != overload.schedule(500, 40, seed=2)
    times = [at for at, _ in plan]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 40
    assert len(plan) == pytest.approx(20_000, rel=0.05)
    for kind, share in overload.CLASSES.items():
        assert sum(each == kind for _, each in plan) / len(plan) == pytest.approx(share, abs=0.02)
    assert sum(overload.CLASSES.values()) == 1


def arrival(at_s: float, kind: str, status: int, took_s: float) -> overload.Arrival:
    return overload.Arrival(at_s, kind, Answer(status, b"odd" if status == 500 else b"", took_s))


def test_goodput_counts_answers_in_time_after_the_warm_up() -> None:
    found = [
        arrival(0.5, "interactive", 200, 0.1),
        arrival(1.0, "interactive", 200, 0.1),
        arrival(1.5, "interactive", 200, overload.PATIENCE_S + 1),
        arrival(2.0, "batch", 429, 0.004),
        arrival(2.5, "default", 500, 0.001),
    ]
    row = overload.summary(found, seconds=3, warm_up_s=1)
    assert row["arrivals"] == 4
    assert row["goodput"] == 0.5
    assert row["served"] == {"interactive": 0.5, "default": 0.0, "batch": 0.0}
    assert row["statuses"] == {"200": 2, "429": 1, "500": 1}
    assert (row["refused"], row["refused_p99_ms"]) == (1, 4.0)
    assert row["unserved_p99_ms"] == (overload.PATIENCE_S + 1) * 1000
    assert row["odd"] == ["odd"]


def test_the_overload_is_judged_against_the_best_that_was_seen() -> None:
    served = {"interactive": 0.995, "default": 0.5, "batch": 0.0}
    rows = [
        {"goodput": 200.0, "refused": 0, "refused_p99_ms": 0.0, "unserved_p99_ms": 0.0, "served": served},
        {"goodput": 190.0, "refused": 9, "refused_p99_ms": 11.0, "unserved_p99_ms": 900.0, "served": served},
    ]
    goodput, rejection, interactive = overload.goals(rows)
    assert goodput.value == pytest.approx(0.95)
    assert rejection.value == 11
    assert (goodput.met, rejection.met, interactive.met) == (True, False, True)
    rows[-1]["refused"] = 0
    assert overload.goals(rows)[1].value == 900, "nobody was refused, so those that were late count"


def test_open_arrivals_do_not_wait_for_answers(tmp_path: Path) -> None:
    script = scripted.Script({scripted.ALWAYS: [scripted.completion("done")]}, 1, 0.05, 0)
    with scripted.scripted(tmp_path, script, core=cores().load) as upstream:
        requests = {
            kind: compose(upstream.url, bodies.CHAT, kind.encode(), HEADERS) for kind in overload.CLASSES
        }
        found = overload.arrive(upstream.url, requests, 200, 1.0)
    assert len(found) == len(overload.schedule(200, 1.0, seed=1))
    row = overload.summary(found, 1.0, 0.0)
    assert row["refused"] > row["statuses"]["200"] > 0
    assert row["odd"] == []


@pytest.mark.parametrize("case", seed.cases(), ids=lambda case: case.name)
def test_a_structured_case_has_its_tokens_and_only_some_answers_are_valid(case: seed.Case) -> None:
    validator = jsonschema_rs.validator_for(case.schema)
    assert validator.is_valid(case.answer)
    assert len(bodies.encode(case.answer)) == pytest.approx(case.tokens[1] * seed.CHARS_PER_TOKEN, rel=0.02)
    prompt = json.loads(case.question("m"))["messages"][0]["content"]
    assert len(prompt) == case.tokens[0] * seed.CHARS_PER_TOKEN
    answers = [Answer(200, bodies.encode(each), 0.1) for each in seed.told(case)]
    assert sum(seed.valid(answer, validator) for answer in answers) == 17
    assert not seed.valid(Answer(429, answers[0].body, 0.1), validator)
    assert not seed.valid(Answer(200, b"{}", 0.1), validator)


def test_the_prompts_name_one_case_each() -> None:
    words = [word for word in seed.script().answers if "&&" not in word]
    for case in seed.cases():
        assert [word.encode() in case.question("m") for word in words].count(True) == 1


def test_structured_answers_count_only_when_they_are_valid() -> None:
    rows = [
        {"target": "direct", "valid": 1, "asked": 10},
        {"target": "full", "valid": 9, "asked": 10},
        {"target": "full", "valid": 10, "asked": 10},
    ]
    (goal,) = seed.goals(rows)
    assert goal.value == pytest.approx(0.95)
    assert not goal.met
