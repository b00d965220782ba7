"""Fixed order: a name stands for a list of targets, tried as written."""

import difflib
from collections.abc import Mapping, Set

from llm_server.contract import Call, ErrorKind, Facts, Plan, ServerError, Target
from llm_server.contract.facts import WORDS, needs_lacking, unsupported
from llm_server.routing.config import RoutingConfig


class FixedOrder:
    """Resolves names and keeps the configured order.

    A name is looked up as an alias, then as ``provider/model``, then among ``bare`` names, then among aliases
    that end in ``*``, longest first; a ``*`` at the end of the target takes what the name has in its place.

    Args:
        config: aliases and the default model.
        providers: names of the providers that exist.
        bare: model names that need no provider in front.
    """

    def __init__(self, config: RoutingConfig, providers: Set[str], bare: Mapping[str, Target]) -> None:
        self._providers = providers
        self._bare = bare
        self._default = config.default_model
        exact = {name: targets for name, targets in config.aliases.items() if not name.endswith("*")}
        self._aliases = {name: tuple(map(self._target, targets)) for name, targets in exact.items()}
        patterns = (name for name in config.aliases if name.endswith("*"))
        self._patterns = {
            name[:-1]: tuple(map(self._target, config.aliases[name]))
            for name in sorted(patterns, key=len, reverse=True)
        }

    @property
    def aliases(self) -> Mapping[str, tuple[Target, ...]]:
        """The names that stand for targets, patterns left out."""
        return self._aliases

    def candidates(self, model: str) -> tuple[Target, ...]:
        """Return the targets of ``model`` in order; raises ``MODEL_NOT_FOUND`` with near names."""
        found = self._find(model)
        if not found and self._default is not None:
            found = self._find(self._default)
        if found:
            return found
        raise ServerError(ErrorKind.MODEL_NOT_FOUND, self._unknown(model), param="model")

    def plan(self, call: Call, candidates: tuple[Target, ...], facts: Mapping[Target, Facts]) -> Plan:
        """Return the candidates that can answer ``call``; raises ``UNSUPPORTED`` if that leaves none."""
        lacking = {target: needs_lacking(call, facts[target]) for target in candidates}
        attempts = tuple(target for target in candidates if not lacking[target])
        if attempts:
            why = {target: ", ".join(WORDS[need] for need in needs) for target, needs in lacking.items()}
            return Plan(attempts=attempts, dropped={target: words for target, words in why.items() if words})
        raise unsupported(call, {str(target): needs for target, needs in lacking.items()})

    def _find(self, model: str) -> tuple[Target, ...]:
        if model in self._aliases:
            return self._aliases[model]
        provider, slash, name = model.partition("/")
        if slash and name and provider in self._providers:
            return (Target(provider, name),)
        if model in self._bare:
            return (self._bare[model],)
        return self._match(model)

    def _match(self, model: str) -> tuple[Target, ...]:
        for prefix, targets in self._patterns.items():
            if model.startswith(prefix):
                rest = model[len(prefix) :]
                return tuple(
                    Target(t.provider, t.model[:-1] + rest) if t.model.endswith("*") else t for t in targets
                )
        return ()

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
