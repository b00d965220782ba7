"""What answers must hold to beyond their schemas: rules of the configuration, some written in Python."""

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from typing import Any

import msgspec

from llm_server.contract import Problem
from llm_server.structured.config import RuleConfig
from llm_server.structured.expressions import Expression
from llm_server.structured.problems import pointer, shortened

Check = Callable[[Any, Any], str | None]
"""Given the value at a rule's place and the whole answer, returns what was expected instead, or ``None``."""

MIN_JUDGED = 20
"""Characters from which on a text's language is judged: of a word or two nobody could tell."""
REMEMBERED = 1_000
"""Names of formats whose rules are remembered; callers choose names, so there is a bound."""


class Rule:
    """One rule, ready to check.

    Raises:
        ValueError: an expression or a pattern is none, a Python function is not there, or a library is
        missing.
    """

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
    """All rules of a configuration.

    Raises:
        ValueError: as :class:`Rule`, with the rule's place in the configuration.
    """

    def __init__(self, configs: Iterable[RuleConfig] = ()) -> None:
        self._rules = [_rule(at, config) for at, config in enumerate(configs)]
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
        """Return what is wrong with ``answer``; nothing if it holds to all rules."""
        if not self._rules:
            return ()
        return tuple(problem for rule in self._rules for problem in rule.problems(answer))


def _rule(at: int, config: RuleConfig) -> Rule:
    try:
        return Rule(config)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"structured.rules[{at}]: {error}") from error


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
    module, _, attribute = name.partition(":")
    function = getattr(import_module(module), attribute)
    if not callable(function):
        raise ValueError(f"{name} is no function")

    def check(value: Any, _answer: Any) -> str | None:
        said = function(value)
        return str(said) if said else None

    return check


def _one_of(values: tuple[Any, ...]) -> Check:
    words = f"one of {', '.join(_found(value) for value in values)}"

    def check(value: Any, _answer: Any) -> str | None:
        return None if any(value == each and type(value) is type(each) for each in values) else words

    return check


def _length(least: int, most: int | None) -> Check:
    words = f"a length of {least} or more" if most is None else f"a length from {least} to {most}"

    def check(value: Any, _answer: Any) -> str | None:
        if not isinstance(value, str | list | dict):
            return None
        return None if least <= len(value) and (most is None or len(value) <= most) else words

    return check


def _forbidden(patterns: tuple[str, ...]) -> Check:
    compiled = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)

    def check(value: Any, _answer: Any) -> str | None:
        found = next((hit for text in _texts(value) if (hit := compiled.search(text))), None)
        return f"a text without '{shortened(found[0])}'" if found else None

    return check


def _language(wanted: str) -> Check:
    classify = _classifier()

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


@cache
def _classifier() -> Callable[[str], str]:
    """Return what tells a text's language; loading its model takes half a second, once, at the start."""
    try:
        import py3langid  # type: ignore[import-untyped]  # it has no stubs
    except ImportError:
        raise ValueError("language: needs `pip install 'llm-server[language]'`") from None
    return lambda text: str(py3langid.classify(text)[0])
