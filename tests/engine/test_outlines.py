"""Outlines' own engines, on arrays: what they hold a text to, and that each text is held by itself."""

import json
import random
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from msgspec import Raw

from llm_server.contract import ErrorKind, OutputFormat, ServerError
from llm_server.engine.runtime import Backend, Form, Generation
from llm_server.engine.sampling import Sampler
from llm_server.engine.steering import Rein, Steering
from llm_server.structured.grammar import compile_output
from tests.engine.scripted import WORDS, steerable

VOCABULARY = len(WORDS.get_vocab())
BACKENDS: tuple[Backend, ...] = ("llguidance", "outlines_core")
"""Those that compute with arrays; xgrammar needs tensors."""

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "kind": {"enum": ["home", "work"]}},
    "required": ["name", "kind"],
    "additionalProperties": False,
}
FORMS: dict[str, tuple[OutputFormat, Callable[[str], bool]]] = {
    "json_schema": (
        OutputFormat(kind="json_schema", schema=Raw(json.dumps(PERSON).encode())),
        lambda text: jsonschema_rs.is_valid(PERSON, json.loads(text)),
    ),
    "regex": (
        OutputFormat(kind="regex", pattern="^[0-9]{3}-[a-z]{1,4}x$"),
        lambda text: text[:3].isdecimal() and text[3] == "-" and text.endswith("x"),
    ),
    "choice": (
        OutputFormat(kind="choice", choices=("a.b", "red (dark)", "C:\\x $1")),
        {"a.b", "red (dark)", "C:\\x $1"}.__contains__,
    ),
}


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """outlines_core's masks for arrays are Python that numba would compile: here they just run."""
    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(njit=lambda function: function))


@pytest.fixture(scope="module", params=BACKENDS)
def steering(request: pytest.FixtureRequest) -> Steering:
    return Steering(steerable(), request.param)


def asked(output: OutputFormat, seed: int = 0) -> Generation:
    """A request as it comes to a runtime: compiled, with what it was compiled from."""
    return Generation(prompt="", constraint=compile_output(output).text, form=Form.of(output), seed=seed)


class Text:
    """A text that a model without an opinion writes, token by token."""

    def __init__(self, rein: Rein | None, seed: int) -> None:
        self.tokens: list[int] = []
        self._rein = rein
        self._sampler = Sampler(Generation(prompt="", seed=seed))

    def step(self) -> bool:
        """Write a token; return whether it was the last."""
        logits = np.zeros(VOCABULARY, np.float32)
        logits[WORDS.eos_token_id] = 3.0  # so that texts end
        assert self._rein is not None
        self._rein.hold(self.tokens[-1] if self.tokens else 0, logits)
        self.tokens.append(self._sampler.draw(logits))
        return self.tokens[-1] == WORDS.eos_token_id

    def __str__(self) -> str:
        return str(WORDS.decode(self.tokens, skip_special_tokens=True))


def written(rein: Rein | None, seed: int) -> str:
    text = Text(rein, seed)
    while not text.step():
        assert len(text.tokens) < 400
    return str(text)


@pytest.mark.parametrize("kind", FORMS)
def test_every_text_has_its_form(steering: Steering, kind: str) -> None:
    output, right = FORMS[kind]
    texts = [written(steering.rein(asked(output)), seed) for seed in range(12)]
    assert [text for text in texts if not right(text)] == []
    assert len(set(texts)) > 1


def test_texts_that_are_written_in_turns_do_not_mix(steering: Steering) -> None:
    generations = [
        asked(FORMS[kind][0]) for kind in ("json_schema", "regex", "json_schema", "choice", "regex")
    ]
    alone = [written(steering.rein(each), seed) for seed, each in enumerate(generations)]
    texts = [Text(steering.rein(each), seed) for seed, each in enumerate(generations)]
    left, order = list(texts), random.Random(5)
    while left:
        text = order.choice(left)
        if text.step():
            left.remove(text)
    assert [str(text) for text in texts] == alone


def test_two_texts_cannot_share_one(steering: Steering) -> None:
    """Why each has its own: the test above can fail."""
    rein = steering.rein(asked(OutputFormat(kind="regex", pattern="[0-9]{3}-[a-z]x")))
    one = Text(rein, 1)
    one.step()
    with pytest.raises((ValueError, UserWarning)):  # as outlines_core and llguidance say it
        Text(rein, 2).step()


def test_a_form_is_compiled_once(steering: Steering, monkeypatch: pytest.MonkeyPatch) -> None:
    output = OutputFormat(kind="regex", pattern="only [ab] once")
    written(steering.rein(asked(output)), 1)
    monkeypatch.setattr(steering, "_engine", None)
    assert written(steering.rein(asked(output)), 2).startswith("only ")


def test_what_is_compiled_is_not_kept_for_ever(steering: Steering) -> None:
    for at in range(70):
        steering.rein(asked(OutputFormat(kind="choice", choices=(f"a{at}", "b"))))
    assert len(steering._compiled) == 64


def test_nothing_demanded_is_nothing_held(steering: Steering) -> None:
    assert steering.rein(Generation(prompt="")) is None


def test_a_grammar_that_is_none_is_refused_by_every_engine(steering: Steering) -> None:
    with pytest.raises(ServerError, match="grammar is refused") as caught:
        steering.rein(Generation(prompt="", constraint="start: nowhere"))
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_grammars_are_held_by_llguidance_and_refused_by_outlines_core(steering: Steering) -> None:
    generation = asked(OutputFormat(kind="grammar", grammar='start: "a" start "b" | "x"'), 3)
    if steering.backend == "llguidance":
        text = written(steering.rein(generation), 3)
        assert text == "a" * (len(text) // 2) + "x" + "b" * (len(text) // 2)
        return
    with pytest.raises(ServerError, match="outlines_core cannot hold") as caught:
        steering.rein(generation)
    assert caught.value.kind is ErrorKind.UNSUPPORTED


@pytest.mark.parametrize("schema", [{"not": {"type": "string"}}, {"type": "string", "format": "ipv6"}])
def test_what_outlines_core_does_not_know_it_refuses(schema: dict[str, Any]) -> None:
    steering = Steering(steerable(), "outlines_core")
    form = Form(kind="json_schema", text=json.dumps(schema))
    with pytest.raises(ServerError) as caught:
        steering.rein(Generation(prompt="", constraint='start: "a"', form=form))
    assert caught.value.kind is ErrorKind.UNSUPPORTED


def test_objects_of_any_kind(steering: Steering) -> None:
    generation = asked(OutputFormat(kind="json_object"))
    assert generation.form == Form(kind="json_schema", text='{"type":"object"}')
    if steering.backend == "llguidance":  # the other one's automaton for it takes half a minute
        assert isinstance(json.loads(written(steering.rein(generation), 1)), dict)


def test_a_referee_follows_where_the_grammar_is_the_same() -> None:
    generation = asked(OutputFormat(kind="choice", choices=("red", "blue")))
    own, other = (Steering(steerable(), backend).rein(generation) for backend in BACKENDS)
    assert own is not None
    assert other is not None
    assert (own.strays("re"), own.open, own.strays("d"), own.open, own.strays("x")) == (
        False,
        True,
        False,
        False,
        True,
    )
    assert (other.strays("x"), other.open) == (False, False)


def test_what_no_engine_expects_becomes_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """As of Rust: no ``Exception``."""

    def panic(_: str) -> None:
        raise Panic("[20:17:37] /project/cpp/parser.cc:106: no such thing\nat line 3")

    steering = Steering(steerable(), "llguidance")
    monkeypatch.setattr(steering._engine, "get_cfg_logits_processor", panic)
    with pytest.raises(ServerError, match=r"this form: no such thing$"):
        steering.rein(Generation(prompt="", constraint='start: "a"'))
