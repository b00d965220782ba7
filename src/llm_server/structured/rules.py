"""What answers must hold to beyond their schemas: rules of the configuration, some written in Python."""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import msgspec

from llm_server.contract import ErrorKind, Problem, ServerError
from llm_server.structured.config import RuleConfig
from llm_server.structured.expressions import Expression
from llm_server.structured.languages import classifier
from llm_server.structured.patterns import Pattern
from llm_server.structured.problems import pointer, shortened
from llm_server.structured.registered import registered
from llm_server.structured.validation import MAX_PROBLEMS

Check = Callable[[Any, Any], str | None]
"""Given the value at a rule's place and the whole answer, returns what was expected instead, or ``None``."""

MIN_JUDGED = 20
"""Characters from which on a text's language is judged: of a word or two nobody could tell."""
REMEMBERED = 1_000
"""Names of formats whose rules are remembered; callers choose names, so there is a bound."""


class Rule:
    """One rule, ready to check: its configuration was tried when it was read."""

    def __init__(self, config: RuleConfig) -> None:
        self._config = config
        self._steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in config.at.split("/")[1:])
        self._checks = tuple(_checks(config))

    def covers(self, name: str) -> bool:
        """Whether the rule is about the format called ``name``."""
        return fnmatchcase(name, self._config.schemas)

    def problems(self, answer: Any) -> Iterator[Problem]:
        """Yield what is wrong with ``answer``."""
        for path, value in _places(answer, self._steps, ()):
            for keyword, check in self._checks:
                expected = check(value, answer)
                if expected is not None:
                    told = self._config.message or expected
                    yield Problem(pointer(path), keyword, shortened(told), _found(value))


class Rules:
    """All rules of a configuration."""

    def __init__(self, configs: Iterable[RuleConfig] = ()) -> None:
        self._rules = [Rule(config) for config in configs]
        self._known: dict[str, Rules] = {}

    def of(self, name: str) -> "Rules":
        """Return the rules about the format called ``name``."""
        if not self._rules:
            return self
        if name not in self._known:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            some = Rules()
            some._rules = [rule for rule in self._rules if rule.covers(name)]
            self._known[name] = some
        return self._known[name]

    def problems(self, answer: Any) -> tuple[Problem, ...]:
        """Return what is wrong with ``answer``, at most :data:`MAX_PROBLEMS`; nothing if it holds to all.

        Raises:
            ServerError: ``INTERNAL``: a rule's Python function failed.
        """
        if not self._rules:
            return ()
        found = (problem for rule in self._rules for problem in rule.problems(answer))
        return tuple(islice(found, MAX_PROBLEMS))


def _places(value: Any, steps: tuple[str, ...], path: tuple[str | int, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield every place that ``steps`` lead to, with what stands there; ``*`` leads to all inside."""
    if not steps:
        yield path, value
        return
    step, *rest = steps
    inside: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inside = value.items() if step == "*" else [(step, value[step])] if step in value else ()
    elif isinstance(value, list):
        inside = ((at, each) for at, each in enumerate(value) if step in {"*", str(at)})
    for key, each in inside:
        yield from _places(each, tuple(rest), (*path, key))


def _found(value: Any) -> str:
    return shortened(msgspec.json.encode(value).decode())


def _checks(config: RuleConfig) -> Iterator[tuple[str, Check]]:
    if config.check is not None:
        yield "check", _expressed(config.check)
    if config.python is not None:
        yield "python", _python(config.python)
    if config.one_of is not None:
        yield "one_of", _one_of(config.one_of)
    if config.min_length is not None or config.max_length is not None:
        yield "length", _length(config.min_length or 0, config.max_length)
    if config.forbidden:
        yield "forbidden", _forbidden(config.forbidden)
    if config.language is not None:
        yield "language", _language(config.language)


def _expressed(text: str) -> Check:
    expression = Expression(text)

    def check(value: Any, answer: Any) -> str | None:
        try:
            holds = expression({"value": value, "answer": answer})
        except Exception as error:  # noqa: BLE001 - whatever an answer does to an expression, the rule does not hold
            return f"{text} (which cannot be said of it: {error})"
        return None if holds else text

    return check


def _python(name: str) -> Check:
    function = registered(name, alone=True)

    def check(value: Any, _answer: Any) -> str | None:
        try:
            said = function(value)
        except Exception as error:  # the operator's code may raise anything; the answer is not to blame
            message = "A rule of this server failed; see its log."
            raise ServerError(ErrorKind.INTERNAL, message, detail=f"{name}: {error!r}") from error
        return str(said) if said else None

    return check


def _one_of(values: tuple[Any, ...]) -> Check:
    words = f"one of {', '.join(_found(value) for value in values)}"

    def check(value: Any, _answer: Any) -> str | None:
        same = (value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)
        return None if any(same) else words

    return check


def _length(least: int, most: int | None) -> Check:
    words = f"a length of {least} or more" if most is None else f"a length from {least} to {most}"

    def check(value: Any, _answer: Any) -> str | None:
        if not isinstance(value, str | list | dict):
            return None
        return None if least <= len(value) and (most is None or len(value) <= most) else words

    return check


def _forbidden(patterns: tuple[str, ...]) -> Check:
    compiled = {pattern: Pattern(f"(?i:{pattern})") for pattern in patterns}

    def check(value: Any, _answer: Any) -> str | None:
        texts = list(_texts(value))
        hits = (name for name, pattern in compiled.items() if any(map(pattern.found, texts)))
        hit = next(hits, None)
        return None if hit is None else f"no text that matches '{hit}'"

    return check


def _language(wanted: str) -> Check:
    classify = classifier(wanted)

    def check(value: Any, _answer: Any) -> str | None:
        text = " ".join(_texts(value))
        if len(text) < MIN_JUDGED or (found := classify(text)) == wanted:
            return None
        return f"a text in the language '{wanted}', not '{found}'"

    return check


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in ``value``, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
