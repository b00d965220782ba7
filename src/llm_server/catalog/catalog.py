"""Facts about models, as data."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cached_property, reduce
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

from llm_server.contract import Facts
from llm_server.contract.facts import CAPABILITIES

CACHED = 4_096
"""Models whose facts are remembered. Callers choose names, so there is a bound; the oldest goes first."""
MAX_NAME = 256
"""Longer names are no model's: they get the provider's default facts, uncached."""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of ``models.toml``; what its fields mean stands at the head of that file."""

    at: tuple[str, ...]
    match: tuple[str, ...]
    facts: dict[str, Any]
    names: tuple[str, ...]
    sources: tuple[str, ...]


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]


class _Matcher(Struct, frozen=True):
    pattern: re.Pattern[str]
    changes: dict[str, Any]


def shipped() -> tuple[Rule, ...]:
    """Read the rules that come with the server, in order."""
    text = files("llm_server.catalog").joinpath("models.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Table).rules


def changes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``fields`` as values of ``Facts``; raises ``ValueError`` for an unknown name or a wrong type."""
    unknown = fields.keys() - set(Facts.__struct_fields__)
    if unknown:
        raise ValueError(f"unknown facts: {', '.join(sorted(unknown))}")
    facts = msgspec.convert(dict(fields), Facts)
    return {name: getattr(facts, name) for name in fields}


class Catalog:
    """What models can do, as far as is known here; the operator's own facts are the providers room's.

    ``rules`` are those that come with the server, unless others are given; read at the first look-up.
    """

    def __init__(self, rules: Iterable[Rule] | None = None) -> None:
        self._given = rules
        self._rules: dict[str, list[_Matcher]] = {}
        self._known: dict[tuple[str, str], tuple[Facts, Facts]] = {}

    @cached_property
    def _order(self) -> list[tuple[frozenset[str], _Matcher]]:
        rules = shipped() if self._given is None else self._given
        return [(frozenset(rule.at), _matcher(rule.match, rule.facts)) for rule in rules]

    def lookup(self, provider: str, model: str, default: Facts) -> Facts:
        """Return the facts of ``model`` at ``provider`` (a row): ``default`` with what is known better.

        Costs a dictionary look-up for a name that was asked before with the same ``default``.
        """
        key = (provider, model)
        known = self._known.get(key)
        if known is not None and known[0] is default:
            return known[1]
        if len(model) > MAX_NAME:
            return default
        facts = self._resolve(provider, model, default)
        if len(self._known) >= CACHED:
            del self._known[next(iter(self._known))]
        self._known[key] = (default, facts)
        return facts

    def _resolve(self, provider: str, model: str, default: Facts) -> Facts:
        found = (matcher.changes for matcher in self._matchers(provider) if matcher.pattern.match(model))
        return reduce(_better, found, default)

    def _matchers(self, row: str) -> list[_Matcher]:
        if row not in self._rules:
            self._rules[row] = [matcher for at, matcher in self._order if at & {row, "*"}]
        return self._rules[row]


def _better(facts: Facts, told: Mapping[str, Any]) -> Facts:
    """Return ``facts`` corrected by a rule.

    A rule that tells a model's context window describes that model: what it leaves as the provider's default
    is known to be so. Any other rule corrects a family, and the rest of it stays a guess.
    """
    known = CAPABILITIES if "context_tokens" in told else CAPABILITIES & told.keys()
    return msgspec.structs.replace(facts, **told, known=facts.known | known)


def _matcher(globs: Iterable[str], fields: Mapping[str, Any]) -> _Matcher:
    pattern = "|".join(translate(glob) for glob in globs)
    return _Matcher(re.compile(pattern, re.IGNORECASE), changes(fields))
