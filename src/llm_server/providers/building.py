"""From configuration to providers that can be called."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from typing import Any

import msgspec

from llm_server.contract import Dialect, Facts, Pool, Provider, Secret
from llm_server.contract.facts import CAPABILITIES
from llm_server.pool import PoolConfig, UpstreamPool, open_pool, shared, split
from llm_server.providers.config import ProviderConfig
from llm_server.providers.discovery import address
from llm_server.providers.http import HttpProvider
from llm_server.providers.quirks import Quirks
from llm_server.providers.row import Row
from llm_server.providers.rows import COMPATIBLE, ROWS

FactsLookup = Callable[[str, str, Facts], Facts]
"""The catalog's answer: provider's name, model's name and the facts to fall back on, to the model's facts."""

DIALECTS: dict[str, Callable[[Quirks], Dialect]] = {
    "openai": lambda quirks: _loaded("openai").OpenAI(quirks),
    "anthropic": lambda _: _loaded("anthropic").Anthropic(),
    "gemini": lambda _: _loaded("gemini").Gemini(),
    "cohere": lambda _: _loaded("cohere").Cohere(),
}
"""A dialect is loaded when a provider speaks it: the others would only make the start longer."""

REMEMBERED_MODELS = 1024
"""Models of a provider whose facts are kept at hand; names come from callers, so there is a bound."""


def _loaded(name: str) -> Any:
    return import_module(f"llm_server.providers.dialects.{name}")


def build(
    configs: Mapping[str, ProviderConfig], facts: FactsLookup, pool: PoolConfig | None = None
) -> dict[str, Provider]:
    """Return a provider for every enabled configuration, by its name there.

    ``pool`` is for providers that configure none of their own. Providers with the same origin, credentials
    and settings of the pool share one.

    Raises:
        ValueError: a provider that no row knows has no ``base_url``.
    """
    common = pool or PoolConfig()
    pools: dict[Hashable, UpstreamPool] = {}
    return {
        name: provider(name, config, facts, common, pools)
        for name, config in configs.items()
        if config.enabled
    }


def provider(
    name: str,
    config: ProviderConfig,
    facts: FactsLookup,
    common: PoolConfig,
    pools: dict[Hashable, UpstreamPool],
) -> HttpProvider:
    """Return one provider, whose pool is in ``pools`` or is put there; raises as :func:`build` does."""
    row = row_of(name, config)
    base_url = config.base_url or row.base_url
    if not base_url:
        raise ValueError(f"providers.{name}.base_url: required, since {row.title} has no usual place")
    dialect = DIALECTS[config.dialect or row.dialect](quirks(row, config.api_version))
    headers = dict(config.headers)
    if config.api_key:
        headers[row.key_header] = Secret(row.key_prefix + config.api_key.reveal())
    base_url, settings = address(row, base_url), pool_settings(row, common, config.pool)
    origin, path = split(base_url)
    sent = frozenset((header.lower(), secret.reveal()) for header, secret in headers.items())
    asked = path if settings.breaker.probe_path is not None else ""
    key = (origin.lower(), sent, settings, row.quotas, asked)
    if key not in pools:
        pools[key] = open_pool(base_url, settings, headers, row.quotas)
    made = HttpProvider(
        name,
        dialect,
        pools[key].below(path),
        config,
        lru_cache(REMEMBERED_MODELS)(lambda model: overlaid(model, facts(name, model, row.facts), config)),
    )
    made.batches = row.batches
    return made


def pool_settings(row: Row, common: PoolConfig, own: PoolConfig | None) -> PoolConfig:
    """Return the settings of a provider's pool: the row's, and over them what the operator has set.

    That is the provider's own section if it has one, else the ``common`` one.
    """
    if not row.pool:
        return own or common
    told = (own or common).model_dump(exclude_unset=True)
    return PoolConfig.model_validate({**row.pool, **told})


def upstreams(providers: Iterable[Provider]) -> list[tuple[tuple[str, ...], Pool]]:
    """Return every pool once, with the names of the providers that share it."""
    names: dict[int, list[str]] = {}
    pools: dict[int, Pool] = {}
    for each in providers:
        if isinstance(each, HttpProvider):
            pool = shared(each.pool)
            pools[id(pool)] = pool
            names.setdefault(id(pool), []).append(each.name)
    return [(tuple(names[key]), pool) for key, pool in pools.items()]


def row_of(name: str, config: ProviderConfig) -> Row:
    """Return the row that a configuration means: the one it names, its namesake, or its dialect's."""
    if config.row:
        return ROWS[config.row]
    namesake = ROWS.get(name)
    if namesake and config.dialect in {None, namesake.dialect}:
        return namesake
    if config.dialect in {None, COMPATIBLE.dialect}:
        return COMPATIBLE
    return ROWS[config.dialect]


def quirks(row: Row, version: str | None) -> Quirks:
    """Return the quirks of a row's API: of the dated one when a dated version is configured."""
    if row.dated is None or not version or not version[0].isdigit():
        return row.quirks
    return msgspec.structs.replace(
        row.dated,
        query=row.dated.query.replace("{version}", version),
        models_path=row.dated.models_path.replace("{version}", version),
    )


def overlaid(model: str, facts: Facts, config: ProviderConfig) -> Facts:
    """Return ``facts`` with what the configuration knows better about ``model``; later patterns win."""
    for pattern, known in config.facts.items():
        if fnmatchcase(model, pattern):
            told = known.model_dump(exclude_none=True)
            facts = msgspec.structs.replace(facts, **told, known=facts.known | (told.keys() & CAPABILITIES))
    return facts
