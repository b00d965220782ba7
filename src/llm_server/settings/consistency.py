"""What no section can check alone: are providers complete, do the names of models lead to one of them?"""

import difflib
from collections.abc import Iterator

from llm_server.providers import ROWS, ProviderConfig
from llm_server.settings.model import LOCAL, Settings
from llm_server.settings.problems import Problem
from llm_server.settings.tree import Node, Path, nearest, written


def inconsistencies(settings: Settings, layers: Node) -> Iterator[Problem]:
    """Yield a problem for every provider that cannot be called and every name that leads nowhere."""
    for name, provider in settings.providers.items():
        if provider.enabled:
            for path, words in _incomplete(name, provider, settings):
                yield Problem(nearest(layers, path).origin, path, words)
    for path, target in _targets(settings):
        if words := _lost(target, settings):
            place = written(layers, path)
            yield Problem(nearest(layers, place).origin, place, words)


def _incomplete(name: str, provider: ProviderConfig, settings: Settings) -> Iterator[tuple[Path, str]]:
    here: Path = ("providers", name)
    row = ROWS.get(provider.row or name)
    if "/" in name or not name:
        yield here, "is no name for a provider: it stands before a slash, so it must have none"
    if name == LOCAL and settings.engine.enabled:
        yield here, "has the name of the engine; choose another, or set engine.enabled: false"
    if not provider.base_url and not (row and row.base_url):
        yield (*here, "base_url"), "is required: it is no known provider with an address of its own"
    if row and "key" in row.needs and not provider.api_key and not provider.headers:
        yield (*here, "api_key"), f"is required{_or_set(row.key_env)}"


def _targets(settings: Settings) -> Iterator[tuple[Path, str]]:
    for name, route in settings.models.items():
        for setting in ("targets", "on_context_overflow", "on_content_rejected"):
            for place, target in enumerate(getattr(route, setting) or ()):
                yield ("models", name, setting, place), target
    bare = {model for provider in settings.providers.values() for model in provider.models}
    if settings.default_model and settings.default_model not in {*settings.models, *bare}:
        yield ("default_model",), settings.default_model


def _lost(target: str, settings: Settings) -> str:
    """Return why ``target`` leads to no provider, and what to do about it; nothing if it does."""
    provider, slash, model = target.partition("/")
    if not slash or not model:
        return f"should be provider/model, got '{target}'"
    if provider in settings.provider_names:
        return ""
    if provider == LOCAL:
        return f"names '{target}', but the engine is not enabled (engine.enabled)"
    if provider in settings.providers:
        return f"names '{target}', but providers.{provider} is not enabled"
    if provider in ROWS:
        row = ROWS[provider]
        hint = _or_set((*row.key_env, *row.url_env))
        return f"names '{target}', but providers.{provider} is not configured{hint}"
    names = sorted(settings.provider_names)
    near = difflib.get_close_matches(provider, {*names, *ROWS}, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names) or 'none'}"
    return f"names '{target}', but there is no provider '{provider}'; {hint}"


def _or_set(variables: tuple[str, ...]) -> str:
    return f" (the environment variable {variables[0]} sets it)" if variables else ""
