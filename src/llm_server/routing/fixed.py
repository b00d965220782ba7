"""Fixed order: a name stands for a list of targets, tried as written."""

import difflib
from collections.abc import Callable, Mapping, Set
from functools import lru_cache

import msgspec

from llm_server.contract import (
    Call,
    ErrorKind,
    Facts,
    HedgePolicy,
    Plan,
    Priority,
    RetryPolicy,
    Route,
    ServerError,
    Target,
)
from llm_server.contract.facts import WORDS, needs_lacking, unsupported
from llm_server.routing.config import RetryConfig, RouteConfig, RoutingConfig

REMEMBERED_NAMES = 1024
"""Names whose route is kept at hand; they come from callers, so there is a bound."""
LONGEST_NAME = 256
"""Characters of such a name; no longer one is a model's."""


class FixedOrder:
    """Resolves names and keeps the configured order.

    A name is looked up as an alias, then as ``provider/model``, then among ``bare`` names, then among aliases
    that end in ``*``, longest first; a ``*`` at the end of the target takes what the name has in its place.
    Each alias has a retry budget of its own; all other names of one provider share one.

    Args:
        config: aliases, the default model and when to try again.
        providers: names of the providers that exist.
        bare: model names that need no provider in front.

    Raises:
        ValueError: an alias names no provider that exists.
    """

    def __init__(self, config: RoutingConfig, providers: Set[str], bare: Mapping[str, Target]) -> None:
        self._providers = providers
        self._bare = bare
        self._default = config.default_model
        self._retry = _retry(config.retry)
        routes = {name: self._configured(name, alias, config) for name, alias in config.aliases.items()}
        self._aliases = {name: route for name, route in routes.items() if not name.endswith("*")}
        patterns = (name for name in routes if name.endswith("*"))
        self._patterns = {name[:-1]: routes[name] for name in sorted(patterns, key=len, reverse=True)}
        self._remembered = lru_cache(REMEMBERED_NAMES)(self._resolved)

    @property
    def aliases(self) -> Mapping[str, tuple[Target, ...]]:
        """The names that stand for targets, patterns left out."""
        return {name: route.targets for name, route in self._aliases.items()}

    def route(self, model: str) -> Route:
        """Return what ``model`` stands for; raises ``MODEL_NOT_FOUND`` with near names."""
        return self._remembered(model) if len(model) <= LONGEST_NAME else self._resolved(model)

    def plan(self, call: Call, candidates: tuple[Target, ...], facts: Callable[[Target], Facts]) -> Plan:
        """Return the candidates that can answer ``call``; raises ``UNSUPPORTED`` if that leaves none."""
        for target in candidates:
            if needs_lacking(call, facts(target)):
                return _without(call, candidates, facts)
        return Plan(attempts=candidates)

    def _resolved(self, model: str) -> Route:
        found = self._find(model)
        if found is None and self._default is not None:
            found = self._find(self._default)
        if found is not None:
            return found
        raise ServerError(ErrorKind.MODEL_NOT_FOUND, self._unknown(model), param="model")

    def _find(self, model: str) -> Route | None:
        if model in self._aliases:
            return self._aliases[model]
        provider, slash, name = model.partition("/")
        if slash and name and provider in self._providers:
            return self._plain(Target(provider, name))
        if model in self._bare:
            return self._plain(self._bare[model])
        return self._match(model)

    def _plain(self, target: Target) -> Route:
        return Route(account=f"{target.provider}/", targets=(target,), retry=self._retry)

    def _match(self, model: str) -> Route | None:
        for prefix, route in self._patterns.items():
            if model.startswith(prefix):
                rest = model[len(prefix) :]
                instead = {kind: _filled(targets, rest) for kind, targets in route.instead.items()}
                targets = _filled(route.targets, rest)
                return msgspec.structs.replace(route, targets=targets, instead=instead)
        return None

    def _configured(self, name: str, alias: RouteConfig, config: RoutingConfig) -> Route:
        own = alias.retry.model_dump(exclude_unset=True)
        instead = {
            ErrorKind.CONTEXT_OVERFLOW: alias.on_context_overflow or (),
            ErrorKind.CONTENT_REJECTED: alias.on_content_rejected or (),
        }
        named = [*alias.targets, *(target for targets in instead.values() for target in targets)]
        return Route(
            account=name,
            targets=tuple(map(self._target, alias.targets)),
            retry=_retry(config.retry.model_copy(update=own)),
            hedge=HedgePolicy(**alias.hedge.model_dump()) if alias.hedge else None,
            priority=Priority[alias.priority.upper()] if alias.priority else None,
            timeout_s=alias.timeout_s,
            instead={kind: tuple(map(self._target, names)) for kind, names in instead.items() if names},
            spans=len({target.partition("/")[0] for target in named}) > 1,
        )

    def _target(self, name: str) -> Target:
        provider, _, model = name.partition("/")
        if provider not in self._providers or not model:
            known = ", ".join(sorted(self._providers)) or "none"
            raise ValueError(f"'{name}' is not provider/model of a configured provider (configured: {known})")
        return Target(provider, model)

    def _unknown(self, model: str) -> str:
        known = [*self._aliases, *self._bare]
        near = difflib.get_close_matches(model, known, n=3)
        provider, slash, _ = model.partition("/")
        if slash and provider not in self._providers and provider not in known:
            names = ", ".join(sorted(self._providers)) or "none"
            return f"No provider named '{provider[:64]}' is configured (configured: {names})."
        hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
        return f"Unknown model '{model[:128]}'.{hint} Name it as provider/model; GET /v1/models lists all."


def _retry(config: RetryConfig) -> RetryPolicy:
    return RetryPolicy(**config.model_dump())


def _filled(targets: tuple[Target, ...], rest: str) -> tuple[Target, ...]:
    """Return ``targets`` with ``rest`` in the place of a star at the end of a model."""
    return tuple(Target(t.provider, t.model[:-1] + rest) if t.model.endswith("*") else t for t in targets)


def _without(call: Call, candidates: tuple[Target, ...], facts: Callable[[Target], Facts]) -> Plan:
    """Return the plan without those that lack something; raises ``UNSUPPORTED`` if that is all of them."""
    lacking = {target: needs_lacking(call, facts(target)) for target in candidates}
    attempts = tuple(target for target in candidates if not lacking[target])
    if not attempts:
        raise unsupported(call, {str(target): needs for target, needs in lacking.items()})
    why = {target: ", ".join(WORDS[need] for need in needs) for target, needs in lacking.items()}
    return Plan(attempts=attempts, dropped={target: words for target, words in why.items() if words})
